// Joining, padding, moving and picking elements.
#include "cuda/index.h"

#include <cstring>

#include "cuda/block.h"
#include "cuda/loops.h"

namespace tandem::cuda {
namespace {

using i64 = long long;

// A thread takes kEach units that are as far apart as the block is wide: that many accesses are
// under way at a time.
constexpr int kEach = 4, kPerBlock = kEach * kBlockThreads;

constexpr i64 blocks_for(i64 units) {
  return (units + kPerBlock - 1) / kPerBlock;
}
Grid grid_of(i64 blocks) {
  return {.blocks = dim3(static_cast<unsigned>(blocks)), .threads = dim3(kBlockThreads)};
}
/// The unit that comes k-th for this thread, in a block's part of them.
__device__ i64 unit_of(i64 block, int k) {
  return block * kPerBlock + k * kBlockThreads + threadIdx.x;
}

// -------------------------------------------------------------------------- concat, flip and roll

/// What moves as a block: elements of an input, at `from` and on, to the output, at `to` and on.
struct Box {
  Axes<2> axes;  // output, input (strides may be negative)
  i64 to = 0, from = 0;
  int input = 0;
};

/// `size` elements along each axis; strides as of tensors.
Box box_of(const TensorDesc& y, i64 to, const Shape& size, const Strides& x, i64 from, int input) {
  Box b{{}, to, from, input};
  for (auto d : memory_order(y)) {
    const int i = static_cast<int>(d);
    b.axes.add(size[i], {y.strides[i], x[i]});
  }
  return b;
}

/// What one launch moves.
struct Boxes {
  static constexpr int kMost = 8;
  int count = 0;
  i64 first_block[kMost + 1] = {};
  Walk<2> walk[kMost];
  i64 to[kMost], from[kMost];
  int input[kMost];
  const void* data[kMost];  // of the input
};

template <class U>
__global__ void move_boxes(Boxes b, U* y) {
  int box = 0;
  while (blockIdx.x >= b.first_block[box + 1]) ++box;
  const Walk<2>& w = b.walk[box];
  const U* x = static_cast<const U*>(b.data[box]) + b.from[box];
  U unit[kEach];
  i64 to[kEach];
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const i64 i = unit_of(blockIdx.x - b.first_block[box], k);
    to[k] = -1;
    if (i >= w.count) continue;
    i64 at[2];
    w.offsets(i, at);
    to[k] = b.to[box] + at[0];
    unit[k] = x[at[1]];
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    if (to[k] >= 0) y[to[k]] = unit[k];
  }
}

class BoxMove {
 public:
  BoxMove(std::vector<Box> boxes, std::size_t size) : size_(static_cast<int>(size)) {
    std::erase_if(boxes, [](const Box& b) { return b.axes.count == 0; });
    const i64 u = widest(size, [&](i64 n) {
      for (const Box& b : boxes) {
        if (!in_units(b.axes, n) || b.to % n != 0 || b.from % n != 0) return false;
      }
      return true;
    });
    plain_ = launches(boxes, 1);
    wide_size_ = size_ * static_cast<int>(u);
    if (u > 1) wide_ = launches(boxes, u);
  }

  void run(const LaunchArgs& a) const {
    // A view may begin anywhere.
    bool wide = !wide_.empty() && aligned(a.out[0], wide_size_);
    for (const Boxes& b : wide_) {
      for (int i = 0; i < b.count; ++i) wide = wide && aligned(a.in[b.input[i]], wide_size_);
    }
    visit_unit(wide ? wide_size_ : size_, [&](auto tag) {
      using U = typename decltype(tag)::type;
      for (Boxes b : wide ? wide_ : plain_) {
        for (int i = 0; i < b.count; ++i) b.data[i] = a.in[b.input[i]];
        launch(a, grid_of(b.first_block[b.count]), move_boxes<U>, b, static_cast<U*>(a.out[0]));
      }
    });
  }

 private:
  static std::vector<Boxes> launches(const std::vector<Box>& boxes, i64 u) {
    std::vector<Boxes> all;
    for (const Box& b : boxes) {
      if (all.empty() || all.back().count == Boxes::kMost) all.emplace_back();
      Boxes& l = all.back();
      const int i = l.count++;
      l.walk[i] = walk_of(to_units(b.axes, u));
      l.to[i] = b.to / u;
      l.from[i] = b.from / u;
      l.input[i] = b.input;
      l.first_block[i + 1] = l.first_block[i] + blocks_for(l.walk[i].count);
    }
    return all;
  }

  int size_, wide_size_;
  std::vector<Boxes> plain_,
      wide_;  // by elements; by units of several, if that is possible
};

RefPtr<Plan> plan_boxes(const char* name, const std::vector<Box>& boxes, const TensorDesc& y) {
  return make_plan(name, [m = BoxMove(boxes, size_of(y.dtype))](const LaunchArgs& a) { m.run(a); });
}

// ---------------------------------------------------------------------------------------- padding

/// Along each axis of the walk over y, x's elements are those from `first` to `first + size`.
struct Border {
  i64 first[kMaxRank], size[kMaxRank];
};
struct PadWalk {
  Walk<2> y_and_x;
  Border border;
};

template <class U>
__global__ void pad_kernel(PadWalk p, U value, const U* x, U* y) {
  const Walk<2>& w = p.y_and_x;
  U unit[kEach];
  i64 to[kEach];
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const i64 i = unit_of(blockIdx.x, k);
    to[k] = -1;
    if (i >= w.count) continue;
    bool inside = true;
    i64 at = 0, from = 0;
    w.positions(i, [&](int d, i64 c) {
      at += c * w.stride[0][d];
      c -= p.border.first[d];
      from += c * w.stride[1][d];
      inside = inside && c >= 0 && c < p.border.size[d];
    });
    to[k] = at;
    unit[k] = value;
    if (inside) unit[k] = x[from];
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    if (to[k] >= 0) y[to[k]] = unit[k];
  }
}

/// y's axes in the order of its memory, and where x lies. An axis takes up the one inside it if
/// that has no border.
struct Padding {
  Axes<2> axes;  // y, x
  Border border;

  Padding(const TensorDesc& y, const TensorDesc& x, const std::vector<std::int64_t>& before_after) {
    for (auto axis : memory_order(y)) {
      const int i = static_cast<int>(axis), last = axes.rank() - 1;
      const i64 n = y.dim(i), size = x.dim(i), ys = y.strides[i], xs = x.strides[i];
      const i64 first = before_after[2 * static_cast<std::size_t>(i)];
      axes.count *= n;
      if (n == 1 && size == 1) continue;
      if (last >= 0 && n == size && axes.stride[0][last] == ys * n &&
          axes.stride[1][last] == xs * n) {
        axes.size[last] *= n;
        axes.stride[0][last] = ys;
        axes.stride[1][last] = xs;
        border.first[last] *= n;
        border.size[last] *= n;
      } else {
        axes.size.push_back(n);
        axes.stride[0].push_back(ys);
        axes.stride[1].push_back(xs);
        border.first[last + 1] = first;
        border.size[last + 1] = size;
      }
    }
  }
  bool in_units(i64 u) const {
    const int last = axes.rank() - 1;
    return cuda::in_units(axes, u) && border.first[last] % u == 0 && border.size[last] % u == 0;
  }
  Padding to_units(i64 u) const {
    Padding p = *this;
    p.axes = cuda::to_units(axes, u);
    if (u > 1) {
      p.border.first[axes.rank() - 1] /= u;
      p.border.size[axes.rank() - 1] /= u;
    }
    return p;
  }
};

// -------------------------------------------------------------------------- gather, index_select

// Tensors of the walk: y, x (which does not move along the axis, but by `jump` for each index), and
// the index.
template <class U>
__global__ void pick_kernel(Walk<3> w, Ids ids, i64 jump, const U* x, U* y) {
  i64 from[kEach], to[kEach];
  U unit[kEach];
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const i64 i = unit_of(blockIdx.x, k);
    to[k] = -1;
    if (i >= w.count) continue;
    i64 at[3];
    w.offsets(i, at);
    const i64 id = ids(at[2]);
    if (ids.allows(id)) to[k] = at[0];
    from[k] = at[1] + id * jump;
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    if (to[k] >= 0) unit[k] = x[from[k]];
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    if (to[k] >= 0) y[to[k]] = unit[k];
  }
}

RefPtr<Plan> plan_pick(const PlanRequest& r, const char* name) {
  const TensorDesc &x = r.in[0], &index = r.in[1], &y = r.out[0];
  if (y.numel() == 0) return empty_plan(name);
  const int axis = axis_of(r);
  Axes<3> axes;
  for (auto d : memory_order(y)) {
    const int i = static_cast<int>(d);
    axes.add(y.dim(i),
             {y.strides[i], i == axis ? 0 : x.strides[i], index_stride(index, y, i, axis)});
  }
  const i64 jump = x.strides[axis];
  const i64 u = widest(size_of(x.dtype), [&](i64 n) { return in_units(axes, n) && jump % n == 0; });
  const int size = static_cast<int>(size_of(x.dtype)), wide_size = size * static_cast<int>(u);
  return make_plan(name, [=, plain = walk_of(axes), wide = walk_of(to_units(axes, u)),
                          ids = IdsPlan(r, index, x.dim(axis))](const LaunchArgs& a) {
    const bool use_wide = aligned(a.in[0], wide_size) && aligned(a.out[0], wide_size);
    const Walk<3>& w = use_wide ? wide : plain;
    visit_unit(use_wide ? wide_size : size, [&](auto tag) {
      using U = typename decltype(tag)::type;
      launch(a, grid_of(blocks_for(w.count)), pick_kernel<U>, w, ids.bind(a, 1),
             use_wide ? jump / u : jump, static_cast<const U*>(a.in[0]), static_cast<U*>(a.out[0]));
    });
  });
}

// ---------------------------------------------------------------------------------------- one-hot

// A thread writes a pack at a time, which rows may begin and end in. N: a type that holds n.
template <class U, class N>
__global__ void one_hot_kernel(Walk<1> rows, Ids ids, N classes, N n, U one, U* y) {
  constexpr int kPack = 16 / sizeof(U);
  for (N i = static_cast<N>(global_index()) * kPack; i < n;
       i += static_cast<N>(global_size()) * kPack) {
    N row = i / classes, c = i - row * classes;
    i64 id = -1;
    Pack<U, kPack> p;
#pragma unroll
    for (int k = 0; k < kPack; ++k, ++c) {
      if (i + k >= n) continue;
      if (c == classes) ++row, c = 0;
      if (k == 0 || c == 0) {
        i64 at[1];
        rows.offsets(static_cast<i64>(row), at);
        id = ids(at[0]);
      }
      p.v[k] = static_cast<i64>(c) == id ? one : U(0);
    }
    store_pack(y + i, p, static_cast<i64>(n - i));
  }
}

}  // namespace

RefPtr<Plan> plan_concat(const PlanRequest& r) {
  const TensorDesc& y = r.out[0];
  const int axis = axis_of(r);
  std::vector<Box> boxes;
  i64 at = 0;
  for (std::size_t i = 0; i < r.in.size(); ++i) {
    const TensorDesc& x = r.in[i];
    boxes.push_back(box_of(y, at * y.strides[axis], x.shape, x.strides, 0, static_cast<int>(i)));
    at += x.shape[axis];
  }
  return plan_boxes("cuda:concat", boxes, y);
}

RefPtr<Plan> plan_flip(const PlanRequest& r) {
  const TensorDesc& x = r.in[0];
  Strides strides = x.strides;
  i64 from = 0;
  for (auto a : r.attrs<FlipAttrs>().axes) {
    const int i = wrap_axis(a, x.rank(), r.op.name);
    // An axis named twice is turned twice.
    from += (x.shape[i] - 1) * strides[i];
    strides[i] = -strides[i];
  }
  return plan_boxes("cuda:flip", {box_of(r.out[0], 0, x.shape, strides, from, 0)}, r.out[0]);
}

RefPtr<Plan> plan_roll(const PlanRequest& r) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  const auto& attrs = r.attrs<RollAttrs>();
  const int rank = x.rank();
  Dims shift(rank, 0);
  for (int i = 0; i < attrs.axes.size(); ++i) {
    const int a = wrap_axis(attrs.axes[i], rank, r.op.name);
    const i64 n = x.shape[a];
    if (n > 0) shift[a] = (shift[a] + attrs.shifts[i] % n + n) % n;
  }
  // Each shifted axis cuts the tensor in two, and every piece moves as a block.
  std::vector<Box> boxes;
  for (unsigned piece = 0; piece < 1u << rank; ++piece) {
    Shape size = x.shape;
    i64 from = 0, to = 0;
    for (int i = 0; i < rank; ++i) {
      if (piece >> i & 1u) {  // the part that enters again in front: none, if
                              // there is no shift
        from += (x.shape[i] - shift[i]) * x.strides[i];
        size[i] = shift[i];
      } else {
        to += shift[i] * y.strides[i];
        size[i] -= shift[i];
      }
    }
    boxes.push_back(box_of(y, to, size, x.strides, from, 0));
  }
  return plan_boxes("cuda:roll", boxes, y);
}

RefPtr<Plan> plan_pad(const PlanRequest& r) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  if (y.numel() == 0) return empty_plan("cuda:pad");
  const auto& attrs = r.attrs<PadAttrs>();
  const Padding plain(y, x, attrs.before_after);
  const i64 u = widest(size_of(x.dtype), [&](i64 n) { return plain.in_units(n); });
  const int size = static_cast<int>(size_of(x.dtype)), wide_size = size * static_cast<int>(u);
  std::array<unsigned char, 16> value;
  visit_dtype(x.dtype, [&](auto tag) {
    const auto v = attrs.value.to<typename decltype(tag)::type>();
    for (std::size_t at = 0; at < value.size(); at += sizeof v) {
      std::memcpy(&value[at], &v, sizeof v);
    }
  });
  return make_plan("cuda:pad", [=, wide = plain.to_units(u)](const LaunchArgs& a) {
    const bool use_wide = aligned(a.in[0], wide_size) && aligned(a.out[0], wide_size);
    const Padding& p = use_wide ? wide : plain;
    const PadWalk w{walk_of(p.axes), p.border};
    visit_unit(use_wide ? wide_size : size, [&](auto tag) {
      using U = typename decltype(tag)::type;
      U unit;
      std::memcpy(&unit, value.data(), sizeof unit);
      launch(a, grid_of(blocks_for(w.y_and_x.count)), pad_kernel<U>, w, unit,
             static_cast<const U*>(a.in[0]), static_cast<U*>(a.out[0]));
    });
  });
}

RefPtr<Plan> plan_gather(const PlanRequest& r) {
  return plan_pick(r, "cuda:gather");
}
RefPtr<Plan> plan_index_select(const PlanRequest& r) {
  return plan_pick(r, "cuda:index_select");
}
RefPtr<Plan> plan_one_hot(const PlanRequest& r) {
  const TensorDesc &index = r.in[0], &y = r.out[0];
  const i64 classes = r.attrs<OneHotAttrs>().classes, n = y.numel();
  if (n == 0) return empty_plan("cuda:one_hot");
  Axes<1> axes;
  for (int i = 0; i < index.rank(); ++i) axes.add(index.dim(i), {index.strides[i]});
  unsigned long long bits = 0;
  visit_dtype(y.dtype, [&](auto tag) {
    const auto one = convert<typename decltype(tag)::type>(1.0f);
    std::memcpy(&bits, &one, sizeof one);
  });
  const int size = static_cast<int>(size_of(y.dtype));
  return make_plan("cuda:one_hot", [=, rows = walk_of(axes),
                                    ids = IdsPlan(r, index, classes)](const LaunchArgs& a) {
    visit_unit(size, [&](auto tag) {
      using U = typename decltype(tag)::type;
      if constexpr (sizeof(U) <= 8) {
        const auto run = [&](auto count) {
          using N = decltype(count);
          launch(a, grid_for(n, 16 / sizeof(U)), one_hot_kernel<U, N>, rows, ids.bind(a, 0),
                 static_cast<N>(classes), count, static_cast<U>(bits), static_cast<U*>(a.out[0]));
        };
        if (n < i64{1} << 31) {
          run(static_cast<unsigned>(n));
        } else {
          run(static_cast<unsigned long long>(n));
        }
      }
    });
  });
}

}  // namespace tandem::cuda
