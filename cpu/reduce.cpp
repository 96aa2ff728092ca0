#include "cpu/reduce.h"

#include <limits>
#include <type_traits>

#include "ops/op_list.h"
#include "ops/reduce.h"

namespace tandem::cpu {

ReduceLayout::ReduceLayout(const TensorDesc& in, unsigned mask) {
  // Strides of the output, which is row-major over the kept axes.
  Strides out(in.rank(), 0);
  for (int i = in.rank() - 1; i >= 0; --i) {
    if (mask >> i & 1u) {
      count *= in.shape[i];
    } else {
      out[i] = outputs;
      outputs *= in.shape[i];
    }
  }
  range = chunk = count;
  // In the order of memory, not of the axes. An axis of stride 0 repeats what is inside it.
  const auto rank_of = [&](int i) {
    return in.strides[i] == 0 ? std::numeric_limits<std::int64_t>::max() : in.strides[i];
  };
  Dims order;
  for (int i = 0; i < in.rank(); ++i) {
    if (in.shape[i] == 1) continue;
    int at = order.size();
    while (at > 0 && rank_of(static_cast<int>(order[at - 1])) < rank_of(i)) --at;
    order.insert(at, i);
  }
  for (auto a : order) {
    const int i = static_cast<int>(a);
    if (mask >> i & 1u) {
      reduced.add(in.shape[i], {in.strides[i]});
    } else {
      kept.add(in.shape[i], {in.strides[i], out[i]});
    }
  }
  if (outputs == 0) return;
  column = !order.empty() && !(mask >> order.back() & 1u);
  if (column) {
    std::array<std::int64_t, 2> step;
    inner = kept.pop(step);
    in_step = step[0];
    out_step = step[1];
    blocks = (inner + kBlock - 1) / kBlock;
  } else {
    std::array<std::int64_t, 1> step;
    inner = reduced.pop(step);
    in_step = step[0];
  }
  // Enough results keep every thread busy; few of many elements each are cut up. The numbers here
  // decide the order of additions, so they must not depend on the machine.
  const std::int64_t tasks = kept.count * blocks;
  if (tasks >= 32 || outputs * count < 65536) return;
  const auto round_up = [](std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; };
  if (column) {
    const std::int64_t least = 16384 / std::min(inner, kBlock);
    chunk = round_up(std::max((range + 31) / 32, least), 64);
  } else {
    chunk = round_up(std::max<std::int64_t>((range + 63) / 64, 16384), 4096);
  }
  chunks = (range + chunk - 1) / chunk;
}

namespace {

// Integers are added as unsigned: running over wraps around, as in NumPy, and is defined.
template <class T>
using Total = std::conditional_t<std::is_integral_v<T>, std::uint64_t, double>;

template <class T>
struct SumOp {
  using In = T;
  using Ctx = NoCtx;
  // Bytes fill no 32 bits before they are widened, and twice as many fit a vector.
  using Lane = std::conditional_t<!std::is_integral_v<T>, compute_t<T>,
                                  std::conditional_t<sizeof(T) == 1, std::uint32_t, std::uint64_t>>;
  using Wide = Total<T>;
  static Lane first() { return 0; }
  static Wide wide_first() { return 0; }
  static Lane load(T v, NoCtx) { return static_cast<Lane>(v); }
  static Lane combine(Lane a, Lane b) { return a + b; }
  static Wide widen(Lane v) { return v; }
  static Wide merge(Wide a, Wide b) { return a + b; }
};

template <class T>
struct SquareSumOp : SumOp<T> {
  using Ctx = compute_t<T>;
  static Ctx load(T v, Ctx mean) {
    const Ctx d = static_cast<Ctx>(v) - mean;
    return d * d;
  }
};

template <class T>
struct ProdOp {
  using In = T;
  using Ctx = NoCtx;
  using Lane = Total<T>;
  using Wide = Total<T>;
  static Lane first() { return 1; }
  static Wide wide_first() { return 1; }
  static Lane load(T v, NoCtx) { return static_cast<Lane>(static_cast<compute_t<T>>(v)); }
  static Lane combine(Lane a, Lane b) { return a * b; }
  static Wide widen(Lane v) { return v; }
  static Wide merge(Wide a, Wide b) { return a * b; }
};

template <class T, bool kMax>
struct ExtremumOp {
  using In = T;
  using Ctx = NoCtx;
  using Lane = compute_t<T>;
  using Wide = Lane;
  static Lane first() {
    using L = std::numeric_limits<Lane>;
    if constexpr (L::has_infinity) return kMax ? -L::infinity() : L::infinity();
    return kMax ? L::lowest() : L::max();
  }
  static Wide wide_first() { return first(); }
  static Lane load(T v, NoCtx) { return static_cast<Lane>(v); }
  // Selects only, no branches, or the loops would not vectorise.
  static Lane combine(Lane a, Lane v) {
    const Lane better = kMax ? (v > a ? v : a) : (v < a ? v : a);  // `a` if either is a NaN
    return v != v ? v : better;
  }
  static Wide widen(Lane v) { return v; }
  static Wide merge(Wide a, Wide b) { return combine(a, b); }
};
template <class T>
using MaxOp = ExtremumOp<T, true>;
template <class T>
using MinOp = ExtremumOp<T, false>;

template <class T, bool kAny>
struct LogicOp {
  using In = T;
  using Ctx = NoCtx;
  using Lane = std::uint8_t;
  using Wide = std::uint8_t;
  static Lane first() { return !kAny; }
  static Wide wide_first() { return !kAny; }
  static Lane load(T v, NoCtx) { return static_cast<compute_t<T>>(v) != 0; }
  static Lane combine(Lane a, Lane b) { return kAny ? a | b : a & b; }
  static Wide widen(Lane v) { return v; }
  static Wide merge(Wide a, Wide b) { return combine(a, b); }
};
template <class T>
using AnyOp = LogicOp<T, true>;
template <class T>
using AllOp = LogicOp<T, false>;

// A bool is a byte of 0 or 1, and as a byte it vectorises.
template <class F>
RefPtr<Plan> visit_element(DType t, const F& f) {
  return visit_dtype(t == DType::boolean ? DType::u8 : t, [&](auto tag) -> RefPtr<Plan> {
    if constexpr (std::is_same_v<typename decltype(tag)::type, bool>) {
      return nullptr;
    } else {
      return f(tag);
    }
  });
}

unsigned mask_of(const PlanRequest& r, const Dims& axes) {
  return axis_mask(axes, r.in[0].rank(), r.op.name);
}

// `Out` is the output's element type; a result is multiplied by nothing or divided by `divisor`.
template <class Op, class Out>
RefPtr<Plan> plan_simple(const PlanRequest& r) {
  const ReduceLayout l(r.in[0], mask_of(r, r.attrs<ReduceAttrs>().axes));
  return make_plan(
      "cpu:reduce",
      [l](const LaunchArgs& a) {
        auto* out = static_cast<Out*>(a.out[0]);
        reduce_all<Op>(l, static_cast<const typename Op::In*>(a.in[0]), nullptr,
                       static_cast<typename Op::Wide*>(a.workspace),
                       [out](std::int64_t i, auto w) { out[i] = convert<Out>(w); });
      },
      static_cast<std::size_t>(l.partials()) * sizeof(typename Op::Wide));
}

template <class T>
using SumOut = std::conditional_t<std::is_integral_v<T>, std::int64_t, T>;

}  // namespace

RefPtr<Plan> plan_sum(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return plan_simple<SumOp<T>, SumOut<T>>(r);
  });
}

RefPtr<Plan> plan_prod(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return plan_simple<ProdOp<T>, SumOut<T>>(r);
  });
}

RefPtr<Plan> plan_max(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return plan_simple<MaxOp<T>, T>(r);
  });
}

RefPtr<Plan> plan_min(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return plan_simple<MinOp<T>, T>(r);
  });
}

RefPtr<Plan> plan_any(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    return plan_simple<AnyOp<typename decltype(tag)::type>, bool>(r);
  });
}

RefPtr<Plan> plan_all(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    return plan_simple<AllOp<typename decltype(tag)::type>, bool>(r);
  });
}

RefPtr<Plan> plan_mean(const PlanRequest& r) {
  const ReduceLayout l(r.in[0], mask_of(r, r.attrs<ReduceAttrs>().axes));
  return visit_floating(r.in[0].dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:reduce",
        [l](const LaunchArgs& a) {
          auto* out = static_cast<T*>(a.out[0]);
          const double n = static_cast<double>(l.count);
          reduce_all<SumOp<T>>(l, static_cast<const T*>(a.in[0]), nullptr,
                               static_cast<double*>(a.workspace),
                               [out, n](std::int64_t i, double w) { out[i] = convert<T>(w / n); });
        },
        static_cast<std::size_t>(l.partials()) * sizeof(double));
  });
}

RefPtr<Plan> plan_var(const PlanRequest& r) {
  static constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const auto& attrs = r.attrs<VarAttrs>();
  const ReduceLayout l(r.in[0], mask_of(r, attrs.axes));
  const bool unbiased = attrs.unbiased;
  return visit_floating(r.in[0].dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const std::size_t means = align_up(static_cast<std::size_t>(l.outputs) * sizeof(C));
    return make_plan(
        "cpu:variance",
        [l, means, unbiased](const LaunchArgs& a) {
          const auto* in = static_cast<const T*>(a.in[0]);
          auto* out = static_cast<T*>(a.out[0]);
          auto* mean = static_cast<C*>(a.workspace);
          auto* partial = reinterpret_cast<double*>(static_cast<char*>(a.workspace) + means);
          const double n = static_cast<double>(l.count), d = unbiased ? n - 1 : n;
          reduce_all<SumOp<T>>(l, in, nullptr, partial, [mean, n](std::int64_t i, double w) {
            mean[i] = static_cast<C>(w / n);
          });
          reduce_all<SquareSumOp<T>>(l, in, mean, partial, [out, d](std::int64_t i, double w) {
            out[i] = convert<T>(d > 0 ? w / d : kNaN);
          });
        },
        means + static_cast<std::size_t>(l.partials()) * sizeof(double));
  });
}

// ------------------------------------------------------------------------------ argmax, argmin

namespace {

// Positions count in the order of the axes, so unlike above that order is kept.
struct ArgLayout {
  Axes<2> kept;     // input, output
  Axes<1> reduced;  // rows of `n` elements `step` apart
  std::int64_t n, step;
  // When neighbouring results are neighbours in the input: how many, and it pays to go row by row.
  std::int64_t columns = 0;

  ArgLayout(const TensorDesc& in, unsigned mask) {
    std::int64_t out = 1;
    Strides out_strides(in.rank(), 0);
    for (int i = in.rank() - 1; i >= 0; --i) {
      if (mask >> i & 1u) continue;
      out_strides[i] = out;
      out *= in.shape[i];
    }
    for (int i = 0; i < in.rank(); ++i) {
      if (mask >> i & 1u) {
        reduced.add(in.shape[i], {in.strides[i]});
      } else {
        kept.add(in.shape[i], {in.strides[i], out_strides[i]});
      }
    }
    std::array<std::int64_t, 1> s;
    n = reduced.pop(s);
    step = s[0];
    const int last = kept.rank() - 1;
    if (kept.count > 0 && last >= 0 && kept.stride[0][last] == 1 && kept.stride[1][last] == 1 &&
        step != 1 && reduced.rank() == 0 && n <= std::numeric_limits<std::int32_t>::max()) {
      std::array<std::int64_t, 2> unused;
      columns = kept.pop(unused);
    }
  }
};

// Whether `v`, further on, takes the place of `best`: not if they are equal, or best is a NaN.
template <class Op>
bool overtakes(typename Op::Lane v, typename Op::Lane best) {
  const bool same = (Op::combine(best, v) == best) | (best != best);
  return !same;
}

constexpr std::integral_constant<std::int64_t, 1> unit;

// Position of the first of `n` elements that is `value`, which is among them.
template <class Op, class Step>
std::int64_t find(const typename Op::In* p, std::int64_t n, Step step, typename Op::Lane value) {
  const auto hit = [p, step, value](std::int64_t i) {
    const auto v = Op::load(p[i * step], {});
    return static_cast<int>(v == value) |
           (static_cast<int>(v != v) & static_cast<int>(value != value));
  };
  // Block by block: a loop without a way out vectorises.
  constexpr std::int64_t block = 64;
  std::int64_t i = 0;
  for (; i + block < n; i += block) {
    int hits = 0;
    for (std::int64_t j = 0; j < block; ++j) hits |= hit(i + j);
    if (hits != 0) break;
  }
  while (i + 1 < n && hit(i) == 0) ++i;
  return i;
}

template <class Op>
std::int64_t arg_row(const ArgLayout& l, const typename Op::In* p) {
  Odometer<1> at(l.reduced, 0);
  auto best = reduce_row<Op>(p, l.n, l.step, {});
  std::int64_t row = 0, offset = 0;
  for (std::int64_t i = 1; i < l.reduced.count; ++i) {
    at.next();
    const auto v = reduce_row<Op>(p + at[0], l.n, l.step, {});
    if (overtakes<Op>(v, best)) {
      best = v;
      row = i;
      offset = at[0];
    }
  }
  p += offset;
  const std::int64_t i =
      l.step == 1 ? find<Op>(p, l.n, unit, best) : find<Op>(p, l.n, l.step, best);
  return row * l.n + i;
}

template <class Op>
void arg_columns(const ArgLayout& l, const typename Op::In* p, std::int64_t width,
                 std::int64_t* out) {
  typename Op::Lane best[ReduceLayout::kBlock];
  std::int32_t where[ReduceLayout::kBlock];
  for (std::int64_t j = 0; j < width; ++j) {
    best[j] = Op::load(p[j], {});
    where[j] = 0;
  }
  for (std::int64_t i = 1; i < l.n; ++i) {
    p += l.step;
    for (std::int64_t j = 0; j < width; ++j) {
      const auto v = Op::load(p[j], {});
      const bool better = overtakes<Op>(v, best[j]);
      best[j] = better ? v : best[j];
      where[j] = better ? static_cast<std::int32_t>(i) : where[j];
    }
  }
  for (std::int64_t j = 0; j < width; ++j) out[j] = where[j];
}

template <class Op>
RefPtr<Plan> plan_arg(const PlanRequest& r) {
  const ArgLayout l(r.in[0], mask_of(r, r.attrs<ReduceAttrs>().axes));
  return make_plan("cpu:arg_reduce", [l](const LaunchArgs& a) {
    const auto* in = static_cast<const typename Op::In*>(a.in[0]);
    auto* out = static_cast<std::int64_t*>(a.out[0]);
    if (l.columns == 0) {
      parallel_for(l.kept.count, grain_for(l.n * l.reduced.count),
                   [&](std::int64_t b, std::int64_t e) {
                     for (Odometer<2> at(l.kept, b); b < e; ++b, at.next()) {
                       out[at[1]] = arg_row<Op>(l, in + at[0]);
                     }
                   });
      return;
    }
    constexpr std::int64_t block = ReduceLayout::kBlock;
    const std::int64_t blocks = (l.columns + block - 1) / block;
    parallel_for(l.kept.count * blocks, grain_for(l.n * std::min(block, l.columns)),
                 [&](std::int64_t b, std::int64_t e) {
                   for (; b < e; ++b) {
                     const Odometer<2> at(l.kept, b / blocks);
                     const std::int64_t j = b % blocks * block;
                     arg_columns<Op>(l, in + at[0] + j, std::min(block, l.columns - j),
                                     out + at[1] + j);
                   }
                 });
  });
}

}  // namespace

RefPtr<Plan> plan_argmax(const PlanRequest& r) {
  return visit_element(r.in[0].dtype,
                       [&](auto tag) { return plan_arg<MaxOp<typename decltype(tag)::type>>(r); });
}

RefPtr<Plan> plan_argmin(const PlanRequest& r) {
  return visit_element(r.in[0].dtype,
                       [&](auto tag) { return plan_arg<MinOp<typename decltype(tag)::type>>(r); });
}

// -------------------------------------------------------------------------------------- cumsum

namespace {

template <class T>
RefPtr<Plan> plan_running_sum(const PlanRequest& r) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  Axes<2> lines;  // input, output: all axes but the summed one
  const int axis = wrap_axis(r.attrs<CumsumAttrs>().axis, x.rank(), r.op.name);
  for (int i = 0; i < x.rank(); ++i) {
    if (i != axis) lines.add(x.shape[i], {x.strides[i], y.strides[i]});
  }
  const std::int64_t n = x.shape[axis], in_step = x.strides[axis], out_step = y.strides[axis];
  // Lines that lie side by side are summed together; a single one is a strip of width 1.
  std::array<std::int64_t, 2> side = {};
  const std::int64_t width = out_step != 1 ? lines.pop(side) : 1;
  return make_plan("cpu:cumsum", [=](const LaunchArgs& a) {
    constexpr std::int64_t block = 256;
    const auto* in = static_cast<const T*>(a.in[0]);
    auto* out = static_cast<SumOut<T>*>(a.out[0]);
    const std::int64_t blocks = (width + block - 1) / block;
    parallel_for(lines.count * blocks, grain_for(n * std::min(width, block)),
                 [&](std::int64_t b, std::int64_t e) {
                   for (; b < e; ++b) {
                     const Odometer<2> at(lines, b / blocks);
                     const std::int64_t j0 = b % blocks * block, w = std::min(block, width - j0);
                     const T* p = in + at[0] + j0 * side[0];
                     SumOut<T>* q = out + at[1] + j0 * side[1];
                     Total<T> total[block];
                     std::fill_n(total, w, Total<T>{0});
                     for (std::int64_t i = 0; i < n; ++i, p += in_step, q += out_step) {
                       for (std::int64_t j = 0; j < w; ++j) {
                         total[j] +=
                             static_cast<Total<T>>(static_cast<compute_t<T>>(p[j * side[0]]));
                         q[j * side[1]] = convert<SumOut<T>>(total[j]);
                       }
                     }
                   }
                 });
  });
}

}  // namespace

RefPtr<Plan> plan_cumsum(const PlanRequest& r) {
  return visit_element(r.in[0].dtype,
                       [&](auto tag) { return plan_running_sum<typename decltype(tag)::type>(r); });
}

}  // namespace tandem::cpu
