#include "ops/index.h"

#include <cstring>

#include "cpu/index_check.h"
#include "ops/op_list.h"

namespace tandem::cpu {

// ------------------------------------------------------------------- concat, pad, flip and roll

RefPtr<Plan> plan_concat(const PlanRequest& r) {
  const TensorDesc& y = r.out[0];
  const int axis = wrap_axis(r.attrs<AxisAttrs>().axis, y.rank(), r.op.name);
  std::vector<BlockCopy> copies;
  std::int64_t at = 0;
  for (const TensorDesc& x : r.in) {
    copies.emplace_back(size_of(x.dtype), x.shape, y.strides, at * y.strides[axis], x.strides, 0);
    at += x.shape[axis];
  }
  return make_plan("cpu:concat", [copies](const LaunchArgs& a) {
    for (std::size_t i = 0; i < copies.size(); ++i) copies[i].run(a.out[0], a.in[i]);
  });
}

RefPtr<Plan> plan_pad(const PlanRequest& r) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  const auto& attrs = r.attrs<PadAttrs>();
  std::int64_t offset = 0;
  for (int i = 0; i < y.rank(); ++i) {
    offset += attrs.before_after[2 * static_cast<std::size_t>(i)] * y.strides[i];
  }
  const BlockCopy copy(size_of(x.dtype), x.shape, y.strides, offset, x.strides, 0);
  std::uint64_t bits = 0;
  visit_dtype(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T v = attrs.value.to<T>();
    std::memcpy(&bits, &v, sizeof(T));
  });
  const std::int64_t n = y.numel();
  return visit_size(size_of(x.dtype), [&](auto tag) -> RefPtr<Plan> {
    using U = typename decltype(tag)::type;
    U value;
    std::memcpy(&value, &bits, sizeof(U));
    return make_plan("cpu:pad", [copy, value, n](const LaunchArgs& a) {
      auto* out = static_cast<U*>(a.out[0]);
      parallel_for(n, 65536,
                   [&](std::int64_t b, std::int64_t e) { std::fill(out + b, out + e, value); });
      copy.run(a.out[0], a.in[0]);
    });
  });
}

RefPtr<Plan> plan_flip(const PlanRequest& r) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  Strides strides = x.strides;
  std::int64_t offset = 0;
  for (auto a : r.attrs<FlipAttrs>().axes) {
    const int i = wrap_axis(a, x.rank(), r.op.name);
    // An axis named twice is turned twice.
    offset += (x.shape[i] - 1) * strides[i];
    strides[i] = -strides[i];
  }
  const BlockCopy copy(size_of(x.dtype), x.shape, y.strides, 0, strides, offset);
  return make_plan("cpu:flip", [copy](const LaunchArgs& a) { copy.run(a.out[0], a.in[0]); });
}

RefPtr<Plan> plan_roll(const PlanRequest& r) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  const auto& attrs = r.attrs<RollAttrs>();
  const int rank = x.rank();
  Dims shift(rank, 0);
  for (int i = 0; i < attrs.axes.size(); ++i) {
    const int a = wrap_axis(attrs.axes[i], rank, r.op.name);
    const std::int64_t n = x.shape[a];
    if (n > 0) shift[a] = (shift[a] + attrs.shifts[i] % n + n) % n;
  }
  // Each shifted axis cuts the tensor in two, and every piece moves as a block.
  std::vector<BlockCopy> copies;
  for (unsigned piece = 0; piece < 1u << rank; ++piece) {
    Shape size = x.shape;
    std::int64_t from = 0, to = 0;
    bool exists = true;
    for (int i = 0; i < rank; ++i) {
      if (piece >> i & 1u) {  // the part that enters again in front
        exists = exists && shift[i] > 0;
        from += (x.shape[i] - shift[i]) * x.strides[i];
        size[i] = shift[i];
      } else {
        to += shift[i] * y.strides[i];
        size[i] -= shift[i];
      }
    }
    if (exists) copies.emplace_back(size_of(x.dtype), size, y.strides, to, x.strides, from);
  }
  return make_plan("cpu:roll", [copies](const LaunchArgs& a) {
    for (const BlockCopy& c : copies) c.run(a.out[0], a.in[0]);
  });
}

// -------------------------------------------------------------- gather, scatter and their kin

namespace {

// Where each element an index points from is, in three tensors walked together: the one indexed
// (its stride along the axis is `jump`, times the index), the index, and the other one, which has
// an element per index. An index of rank 1 is one whose strides along the other axes are 0.
struct IndexWalk {
  std::int64_t limit, jump;
  Axes<3> outer;                  // all axes but these two:
  std::int64_t n = 1, width = 1;  // along the axis; along the innermost other one
  std::array<std::int64_t, 3> step = {}, side = {};  // their strides

  IndexWalk(const TensorDesc& indexed, const TensorDesc& index, const TensorDesc& other, int axis)
      : limit(indexed.shape[axis]), jump(indexed.strides[axis]) {
    const bool slices = index.rank() == 1 && other.rank() != 1;
    for (int i = 0; i < other.rank(); ++i) {
      if (i == axis) {
        n = other.shape[i];
        step = {0, index.strides[slices ? 0 : i], other.strides[i]};
      } else {
        outer.add(other.shape[i],
                  {indexed.strides[i], slices ? 0 : index.strides[i], other.strides[i]});
      }
    }
    if (axis + 1 < other.rank() && outer.count != 0) width = outer.pop(side);
  }
};

template <class F>
RefPtr<Plan> visit_index(DType t, F&& f) {
  return t == DType::i32 ? f(type_tag<std::int32_t>{}) : f(type_tag<std::int64_t>{});
}

int axis_of(const PlanRequest& r) {
  return wrap_axis(r.attrs<AxisAttrs>().axis, r.in[0].rank(), r.op.name);
}

template <class T, class I>
void gather_slices(const IndexWalk& w, const T* x, const I* index, T* y, std::int64_t b,
                   std::int64_t e) {
  // Position b of [outer, n].
  Odometer<3> at(w.outer, b / w.n);
  for (std::int64_t i = b % w.n; b < e; at.next(), i = 0) {
    for (; i < w.n && b < e; ++i, ++b) {
      const T* from = x + at[0];
      const I* id = index + at[1] + i * w.step[1];
      T* to = y + at[2] + i * w.step[2];
      if (w.side[1] != 0) {
        for (std::int64_t j = 0; j < w.width; ++j) {
          to[j * w.side[2]] = from[j * w.side[0] + id[j * w.side[1]] * w.jump];
        }
      } else if (w.width == 1) {
        *to = from[*id * w.jump];
      } else if (w.side[0] == 1 && w.side[2] == 1) {
        std::memcpy(to, from + *id * w.jump, static_cast<std::size_t>(w.width) * sizeof(T));
      } else {
        from += *id * w.jump;
        for (std::int64_t j = 0; j < w.width; ++j) to[j * w.side[2]] = from[j * w.side[0]];
      }
    }
  }
}

RefPtr<Plan> plan_pick(const PlanRequest& r, const char* name) {
  const TensorDesc &x = r.in[0], &index = r.in[1], &y = r.out[0];
  const IndexWalk w(x, index, y, axis_of(r));
  const IndexCheck check(r.op.name, index, w.limit);
  return visit_index(index.dtype, [&](auto itag) {
    using I = typename decltype(itag)::type;
    return visit_size(size_of(x.dtype), [&](auto tag) -> RefPtr<Plan> {
      using T = typename decltype(tag)::type;
      return make_plan(name, [w, check](const LaunchArgs& a) {
        const auto* ids = static_cast<const I*>(a.in[1]);
        check(ids);
        parallel_for(w.outer.count * w.n, grain_for(w.width), [&](std::int64_t b, std::int64_t e) {
          gather_slices(w, static_cast<const T*>(a.in[0]), ids, static_cast<T*>(a.out[0]), b, e);
        });
      });
    });
  });
}

// Columns [c0, c1) of one outer position, in the order of the index: the order of additions.
template <class C, class T, class I>
void add_slices(const IndexWalk& w, C* y, const I* index, const T* src, std::int64_t c0,
                std::int64_t c1) {
  const auto value = [&](std::int64_t at) { return static_cast<C>(src[at]); };
  for (std::int64_t i = 0; i < w.n; ++i, index += w.step[1], src += w.step[2]) {
    if (w.side[1] != 0) {
      for (std::int64_t j = c0; j < c1; ++j) {
        y[j * w.side[0] + index[j * w.side[1]] * w.jump] += value(j * w.side[2]);
      }
      continue;
    }
    C* to = y + *index * w.jump;
    if (w.side[0] == 1 && w.side[2] == 1) {
      for (std::int64_t j = c0; j < c1; ++j) to[j] += value(j);
    } else {
      for (std::int64_t j = c0; j < c1; ++j) to[j * w.side[0]] += value(j * w.side[2]);
    }
  }
}

// Signed sums wrap around; as unsigned ones that is defined.
template <class T>
using Bits =
    std::conditional_t<std::is_same_v<T, std::int64_t>, std::uint64_t,
                       std::conditional_t<std::is_same_v<T, std::int32_t>, std::uint32_t, T>>;

RefPtr<Plan> plan_add_at(const PlanRequest& r, const char* name) {
  const TensorDesc &x = r.in[0], &index = r.in[1], &src = r.in[2], &y = r.out[0];
  const IndexWalk w(y, index, src, axis_of(r));
  const IndexCheck check(r.op.name, index, w.limit);
  const BlockCopy copy = copy_of(y, x);
  const bool same_layout = x == y;
  const std::int64_t count = y.numel();
  return visit_index(index.dtype, [&](auto itag) {
    using I = typename decltype(itag)::type;
    return visit_dtype(x.dtype, [&](auto tag) -> RefPtr<Plan> {
      using T = Bits<typename decltype(tag)::type>;
      using C = compute_t<T>;
      constexpr bool wider = !std::is_same_v<C, T>;  // 16-bit floats are summed as f32
      return make_plan(
          name,
          [=](const LaunchArgs& a) {
            const auto* ids = static_cast<const I*>(a.in[1]);
            check(ids);
            auto* out = static_cast<T*>(a.out[0]);
            if (a.in[0] != a.out[0] || !same_layout) copy.run(out, a.in[0]);
            C* sum;
            if constexpr (wider) {
              sum = static_cast<C*>(a.workspace);
              parallel_for(count, 32768, [&](std::int64_t b, std::int64_t e) {
                for (; b < e; ++b) sum[b] = static_cast<C>(out[b]);
              });
            } else {
              sum = out;
            }
            constexpr std::int64_t block = 64;
            const std::int64_t blocks = (w.width + block - 1) / block;
            parallel_for(w.outer.count * blocks, grain_for(w.n * std::min(block, w.width)),
                         [&](std::int64_t b, std::int64_t e) {
                           for (; b < e;) {
                             // As many blocks of one position as this thread has: longer rows to
                             // add.
                             const std::int64_t position = b / blocks, first = b % blocks;
                             const std::int64_t last = std::min(blocks, first + e - b);
                             const Odometer<3> at(w.outer, position);
                             add_slices(w, sum + at[0], ids + at[1],
                                        static_cast<const T*>(a.in[2]) + at[2], first * block,
                                        std::min(w.width, last * block));
                             b += last - first;
                           }
                         });
            if constexpr (wider) {
              parallel_for(count, 32768, [&](std::int64_t b, std::int64_t e) {
                for (; b < e; ++b) out[b] = static_cast<T>(sum[b]);
              });
            }
          },
          wider ? static_cast<std::size_t>(count) * sizeof(C) : 0);
    });
  });
}

}  // namespace

RefPtr<Plan> plan_gather(const PlanRequest& r) {
  return plan_pick(r, "cpu:gather");
}
RefPtr<Plan> plan_index_select(const PlanRequest& r) {
  return plan_pick(r, "cpu:index_select");
}
RefPtr<Plan> plan_scatter_add(const PlanRequest& r) {
  return plan_add_at(r, "cpu:scatter_add");
}
RefPtr<Plan> plan_index_add(const PlanRequest& r) {
  return plan_add_at(r, "cpu:index_add");
}

RefPtr<Plan> plan_one_hot(const PlanRequest& r) {
  const TensorDesc& ids = r.in[0];
  const std::int64_t classes = r.attrs<OneHotAttrs>().classes, count = r.out[0].numel();
  const IndexCheck check(r.op.name, ids, classes);
  Axes<1> axes;
  for (int i = 0; i < ids.rank(); ++i) axes.add(ids.shape[i], {ids.strides[i]});
  return visit_index(ids.dtype, [&](auto itag) {
    using I = typename decltype(itag)::type;
    return visit_dtype(r.out[0].dtype, [&](auto tag) -> RefPtr<Plan> {
      using T = typename decltype(tag)::type;
      return make_plan("cpu:one_hot", [=](const LaunchArgs& a) {
        const auto* in = static_cast<const I*>(a.in[0]);
        check(in);
        auto* out = static_cast<T*>(a.out[0]);
        std::fill_n(out, count, T{});
        Odometer<1> at(axes, 0);
        const T one = convert<T>(1.0f);
        for (std::int64_t i = 0; i < axes.count; ++i, at.next()) out[i * classes + in[at[0]]] = one;
      });
    });
  });
}

}  // namespace tandem::cpu
