// Reductions over any axes, and the running sum.
//
// Where the innermost axis is reduced, neighbouring threads take neighbouring elements of one
// result; where it is kept, neighbouring results. Few results of many elements are cut into chunks
// (Sharing), whose partial results a second kernel combines in order.
#include "ops/reduce.h"

#include <limits>
#include <type_traits>

#include "core/half.h"
#include "cuda/slices.h"

namespace tandem::cuda {
namespace {

using i64 = long long;

struct NoCtx {};

// What T is summed in: integers wrap around.
template <class T>
using Total = std::conditional_t<std::is_integral_v<T>, std::uint64_t, double>;

template <class T>
struct SumOp {
  using In = T;
  using Ctx = NoCtx;
  using Lane = std::conditional_t<std::is_integral_v<T>, std::uint64_t, compute_t<T>>;
  using Wide = Total<T>;
  __device__ static Lane load(T v, i64, const NoCtx*, i64) { return static_cast<Lane>(v); }
  __device__ static Lane lane_first() { return 0; }
  __device__ static Lane combine(Lane a, Lane b) { return a + b; }
  __device__ static Wide widen(Lane v) { return static_cast<Wide>(v); }
  __device__ static Wide first() { return 0; }
  __device__ static Wide merge(Wide a, Wide b) { return a + b; }
};

template <class T>
struct SquareSumOp : SumOp<T> {
  using Ctx = compute_t<T>;  // the mean, for each result
  __device__ static Ctx load(T v, i64, const Ctx* mean, i64 result) {
    const Ctx d = static_cast<Ctx>(v) - mean[result];
    return d * d;
  }
};

template <class T>
struct ProdOp {
  using In = T;
  using Ctx = NoCtx;
  using Lane = Total<T>;
  using Wide = Total<T>;
  __device__ static Lane load(T v, i64, const NoCtx*, i64) {
    return static_cast<Lane>(static_cast<compute_t<T>>(v));
  }
  __device__ static Lane lane_first() { return 1; }
  __device__ static Lane combine(Lane a, Lane b) { return a * b; }
  __device__ static Wide widen(Lane v) { return v; }
  __device__ static Wide first() { return 1; }
  __device__ static Wide merge(Wide a, Wide b) { return a * b; }
};

// Whether v takes the place of best: if it is better, or a NaN and best is none.
template <bool kMax, class L>
__device__ bool better(L v, L best) {
  const bool nan = v != v;
  return nan ? best == best : (kMax ? v > best : v < best);
}

template <class T, bool kMax>
struct ExtremumOp {
  using In = T;
  using Ctx = NoCtx;
  using Lane = compute_t<T>;
  using Wide = Lane;
  __device__ static Lane load(T v, i64, const NoCtx*, i64) { return static_cast<Lane>(v); }
  __device__ static Lane lane_first() {
    using L = std::numeric_limits<Lane>;
    if constexpr (L::has_infinity) return kMax ? -L::infinity() : L::infinity();
    return kMax ? L::lowest() : L::max();
  }
  __device__ static Lane combine(Lane a, Lane v) { return better<kMax>(v, a) ? v : a; }
  __device__ static Wide widen(Lane v) { return v; }
  __device__ static Wide first() { return lane_first(); }
  __device__ static Wide merge(Wide a, Wide b) { return combine(a, b); }
};

template <class L>
struct Found {
  L value;
  i64 at;  // -1: nothing yet
};

// The first of equals, so the order in which positions are combined does not matter.
template <class T, bool kMax>
struct ArgOp {
  using In = T;
  using Ctx = NoCtx;
  using Lane = Found<compute_t<T>>;
  using Wide = Lane;
  __device__ static Lane load(T v, i64 at, const NoCtx*, i64) {
    return {static_cast<compute_t<T>>(v), at};
  }
  __device__ static Lane lane_first() { return {compute_t<T>(0), -1}; }
  __device__ static Lane combine(Lane a, Lane b) {
    if (a.at < 0 || b.at < 0) return a.at < 0 ? b : a;
    if (better<kMax>(b.value, a.value)) return b;
    if (better<kMax>(a.value, b.value)) return a;
    return a.at < b.at ? a : b;
  }
  __device__ static Wide widen(Lane v) { return v; }
  __device__ static Wide first() { return lane_first(); }
  __device__ static Wide merge(Wide a, Wide b) { return combine(a, b); }
};

template <class T, bool kAny>
struct LogicOp {
  using In = T;
  using Ctx = NoCtx;
  using Lane = unsigned;
  using Wide = unsigned;
  __device__ static Lane load(T v, i64, const NoCtx*, i64) {
    return static_cast<compute_t<T>>(v) != 0;
  }
  __device__ static Lane lane_first() { return !kAny; }
  __device__ static Lane combine(Lane a, Lane b) { return kAny ? a | b : a & b; }
  __device__ static Wide widen(Lane v) { return v; }
  __device__ static Wide first() { return !kAny; }
  __device__ static Wide merge(Wide a, Wide b) { return combine(a, b); }
};

// ---------------------------------------------------------------------------------- results

template <class Out>
struct Store {  // the result as it is
  Out* out;
  template <class W>
  __device__ void operator()(i64 i, W w) const {
    out[i] = convert<Out>(w);
  }
};
template <class Out>
struct StoreQuotient {  // NaN where there is nothing to divide by
  Out* out;
  double divisor;
  __device__ void operator()(i64 i, double w) const {
    out[i] = convert<Out>(divisor > 0 ? w / divisor : static_cast<double>(NAN));
  }
};
struct StorePosition {
  std::int64_t* out;
  template <class W>
  __device__ void operator()(i64 i, const W& w) const {
    out[i] = w.at;
  }
};

// ---------------------------------------------------------------------------------- kernels

struct Layout {
  Walk<2> kept;     // input, output
  Walk<1> reduced;  // `count` elements for each result
  Sharing share;
};

// So many elements are combined as lanes before they are widened, which bounds rounding errors.
constexpr int kBatch = 8;

template <class Op, class Finish>
__global__ void reduce_kernel(Layout l, const typename Op::In* in, const typename Op::Ctx* ctx,
                              typename Op::Wide* partial, Finish finish) {
  using Wide = typename Op::Wide;
  __shared__ Wide shared[kBlockThreads];
  l.share.each([&](i64 result, i64 chunk) {
    Wide w = Op::first();
    i64 at[2] = {0, 0};
    if (result < l.kept.count) {
      l.kept.offsets(result, at);
      if (l.reduced.rank <= 1) {
        const i64 step = l.reduced.rank == 0 ? 0 : l.reduced.stride[0][0];
        l.share.each_batch<kBatch>(chunk, [&](const i64(&i)[kBatch], int n) {
          typename Op::In v[kBatch];
#pragma unroll  // so that all are on their way at once
          for (int k = 0; k < kBatch; ++k) {
            if (k < n) v[k] = in[at[0] + i[k] * step];
          }
          auto lanes = Op::lane_first();
#pragma unroll
          for (int k = 0; k < kBatch; ++k) {
            if (k < n) lanes = Op::combine(lanes, Op::load(v[k], i[k], ctx, at[1]));
          }
          w = Op::merge(w, Op::widen(lanes));
        });
      } else {
        l.share.each_element(chunk, [&](i64 i) {
          i64 element[1];
          l.reduced.offsets(i, element);
          const auto v = Op::load(in[at[0] + element[0]], i, ctx, at[1]);
          w = Op::merge(w, Op::widen(Op::combine(Op::lane_first(), v)));
        });
      }
    }
    w = l.share.combine(w, shared, [](const Wide& a, const Wide& b) { return Op::merge(a, b); });
    if (l.share.part() != 0 || result >= l.kept.count) return;
    if (l.share.chunks == 1) {
      finish(at[1], w);
    } else {
      partial[at[1] * l.share.chunks + chunk] = w;
    }
  });
}

template <class Op, class Finish>
__global__ void combine_partials(i64 results, i64 chunks, const typename Op::Wide* partial,
                                 Finish finish) {
  for (i64 i = global_index(); i < results; i += global_size()) {
    auto w = Op::first();
    for (i64 c = 0; c < chunks; ++c) w = Op::merge(w, partial[i * chunks + c]);
    finish(i, w);
  }
}

/// `ordered`: positions count in the order of the axes, not of memory.
Layout layout_of(const TensorDesc& in, unsigned mask, bool ordered) {
  std::int64_t out = 1;
  Strides out_strides(in.rank(), 0);
  for (int i = in.rank() - 1; i >= 0; --i) {
    if (mask >> i & 1u) continue;
    out_strides[i] = out;
    out *= in.dim(i);
  }
  Dims order;
  for (int i = 0; i < in.rank(); ++i) {
    if (in.dim(i) == 1) continue;
    int at = order.size();
    // Largest stride first; an axis of stride 0 repeats what is inside it.
    const auto outer = [&](int a, int b) {
      return in.strides[a] == 0 || (in.strides[b] != 0 && in.strides[a] >= in.strides[b]);
    };
    while (!ordered && at > 0 && !outer(static_cast<int>(order[at - 1]), i)) --at;
    order.insert(at, i);
  }
  Axes<2> kept;
  Axes<1> reduced;
  for (auto a : order) {
    const int i = static_cast<int>(a);
    if (mask >> i & 1u) {
      reduced.add(in.dim(i), {in.strides[i]});
    } else {
      kept.add(in.dim(i), {in.strides[i], out_strides[i]});
    }
  }
  Layout l;
  l.kept = walk_of(kept);
  l.reduced = walk_of(reduced);
  std::int64_t kept_step = INT64_MAX, reduced_step = INT64_MAX;
  for (int i = 0; i < in.rank(); ++i) {
    if (in.dim(i) == 1 || in.strides[i] == 0) continue;
    std::int64_t& s = mask >> i & 1u ? reduced_step : kept_step;
    s = std::min(s, in.strides[i]);
  }
  l.share = share(l.kept.count, l.reduced.count, kept_step < reduced_step, 32);
  return l;
}

unsigned mask_of(const PlanRequest& r, const Dims& axes) {
  return axis_mask(axes, r.in[0].rank(), r.op.name);
}

template <class Op>
std::size_t partial_bytes(const Layout& l) {
  if (l.share.chunks == 1) return 0;
  return align_up(static_cast<std::size_t>(l.kept.count * l.share.chunks) *
                  sizeof(typename Op::Wide));
}

template <class Op, class Finish>
void run(const LaunchArgs& a, const Layout& l, const typename Op::Ctx* ctx, void* workspace,
         const Finish& finish) {
  if (l.kept.count == 0) return;
  auto* partial = static_cast<typename Op::Wide*>(workspace);
  launch(a, l.share.grid(), reduce_kernel<Op, Finish>, l,
         static_cast<const typename Op::In*>(a.in[0]), ctx, partial, finish);
  if (l.share.chunks > 1) {
    launch(a, grid_for(l.kept.count), combine_partials<Op, Finish>, l.kept.count, l.share.chunks,
           partial, finish);
  }
}

template <class Op, class Out>
RefPtr<Plan> plan_simple(const PlanRequest& r) {
  const Layout l = layout_of(r.in[0], mask_of(r, r.attrs<ReduceAttrs>().axes), false);
  return make_plan(
      "cuda:reduce",
      [l](const LaunchArgs& a) {
        run<Op>(a, l, nullptr, a.workspace, Store<Out>{static_cast<Out*>(a.out[0])});
      },
      partial_bytes<Op>(l));
}

template <class T>
using SumOut = std::conditional_t<std::is_integral_v<T>, std::int64_t, T>;

// A bool is a byte of 0 or 1.
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

template <template <class> class Op>
RefPtr<Plan> plan_total(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return plan_simple<Op<T>, SumOut<T>>(r);
  });
}

template <bool kMax>
RefPtr<Plan> plan_extremum(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return plan_simple<ExtremumOp<T, kMax>, T>(r);
  });
}

template <bool kAny>
RefPtr<Plan> plan_logic(const PlanRequest& r) {
  return visit_element(r.in[0].dtype, [&](auto tag) {
    return plan_simple<LogicOp<typename decltype(tag)::type, kAny>, bool>(r);
  });
}

template <bool kMax>
RefPtr<Plan> plan_arg(const PlanRequest& r) {
  const Layout l = layout_of(r.in[0], mask_of(r, r.attrs<ReduceAttrs>().axes), true);
  return visit_element(r.in[0].dtype, [&](auto tag) -> RefPtr<Plan> {
    using Op = ArgOp<typename decltype(tag)::type, kMax>;
    return make_plan(
        "cuda:arg_reduce",
        [l](const LaunchArgs& a) {
          run<Op>(a, l, nullptr, a.workspace, StorePosition{static_cast<std::int64_t*>(a.out[0])});
        },
        partial_bytes<Op>(l));
  });
}

// ------------------------------------------------------------------------------- running sum

// A block takes a row, a tile of as many elements as it has threads after the other.
template <class T, class Out>
__global__ void cumsum_kernel(Slices<2> s, const T* in, Out* out) {
  using Wide = Total<T>;
  __shared__ Wide shared[kBlockThreads];
  const int t = static_cast<int>(threadIdx.x);
  for (i64 row = blockIdx.x; row < s.kept.count; row += gridDim.x) {
    i64 at[2];
    s.kept.offsets(row, at);
    Wide before = 0;
    for (i64 i0 = 0; i0 < s.size; i0 += kBlockThreads) {
      const i64 i = i0 + t;
      shared[t] = i < s.size
                      ? static_cast<Wide>(static_cast<compute_t<T>>(in[at[0] + i * s.step[0]]))
                      : Wide(0);
      __syncthreads();
      for (int h = 1; h < kBlockThreads; h *= 2) {
        const Wide add = t >= h ? shared[t - h] : Wide(0);
        __syncthreads();
        shared[t] += add;
        __syncthreads();
      }
      if (i < s.size) out[at[1] + i * s.step[1]] = convert<Out>(before + shared[t]);
      before += shared[kBlockThreads - 1];
      __syncthreads();
    }
  }
}

}  // namespace

RefPtr<Plan> plan_sum(const PlanRequest& r) {
  return plan_total<SumOp>(r);
}
RefPtr<Plan> plan_prod(const PlanRequest& r) {
  return plan_total<ProdOp>(r);
}
RefPtr<Plan> plan_max(const PlanRequest& r) {
  return plan_extremum<true>(r);
}
RefPtr<Plan> plan_min(const PlanRequest& r) {
  return plan_extremum<false>(r);
}
RefPtr<Plan> plan_any(const PlanRequest& r) {
  return plan_logic<true>(r);
}
RefPtr<Plan> plan_all(const PlanRequest& r) {
  return plan_logic<false>(r);
}
RefPtr<Plan> plan_argmax(const PlanRequest& r) {
  return plan_arg<true>(r);
}
RefPtr<Plan> plan_argmin(const PlanRequest& r) {
  return plan_arg<false>(r);
}

RefPtr<Plan> plan_mean(const PlanRequest& r) {
  const Layout l = layout_of(r.in[0], mask_of(r, r.attrs<ReduceAttrs>().axes), false);
  return visit_floating(r.in[0].dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cuda:reduce",
        [l](const LaunchArgs& a) {
          run<SumOp<T>>(
              a, l, nullptr, a.workspace,
              StoreQuotient<T>{static_cast<T*>(a.out[0]), static_cast<double>(l.reduced.count)});
        },
        partial_bytes<SumOp<T>>(l));
  });
}

RefPtr<Plan> plan_var(const PlanRequest& r) {
  const auto& attrs = r.attrs<VarAttrs>();
  const Layout l = layout_of(r.in[0], mask_of(r, attrs.axes), false);
  const bool unbiased = attrs.unbiased;
  return visit_floating(r.in[0].dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const std::size_t means = align_up(static_cast<std::size_t>(l.kept.count) * sizeof(C));
    return make_plan(
        "cuda:variance",
        [l, means, unbiased](const LaunchArgs& a) {
          C* mean = static_cast<C*>(a.workspace);
          void* partial = workspace<char>(a, means);
          const double n = static_cast<double>(l.reduced.count);
          run<SumOp<T>>(a, l, nullptr, partial, StoreQuotient<C>{mean, n});
          run<SquareSumOp<T>>(a, l, mean, partial,
                              StoreQuotient<T>{static_cast<T*>(a.out[0]), unbiased ? n - 1 : n});
        },
        means + partial_bytes<SumOp<T>>(l));
  });
}

RefPtr<Plan> plan_cumsum(const PlanRequest& r) {
  const TensorDesc &in = r.in[0], &out = r.out[0];
  if (in.numel() == 0) return empty_plan("cuda:cumsum");
  const int axis = wrap_axis(r.attrs<CumsumAttrs>().axis, in.rank(), r.op.name);
  const auto s = slices_of<2>(in.shape, axis, {in.strides, out.strides});
  return visit_element(in.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    return make_plan("cuda:cumsum", [s](const LaunchArgs& a) {
      launch(a, block_grid(s.kept.count), cumsum_kernel<T, SumOut<T>>, s,
             static_cast<const T*>(a.in[0]), static_cast<SumOut<T>*>(a.out[0]));
    });
  });
}

}  // namespace tandem::cuda
