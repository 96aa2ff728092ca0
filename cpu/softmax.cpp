#include "cpu/softmax.h"

#include "ops/softmax.h"

namespace tandem::cpu {
namespace {

using i64 = std::int64_t;

Slices slices_of(const PlanRequest& r) {
  const int rank = std::max(1, r.out[0].rank());
  return {r.out[0], wrap_axis(r.attrs<SoftmaxAttrs>().axis, rank, r.op.name)};
}

template <bool Log>
RefPtr<Plan> forward_plan(const PlanRequest& r) {
  const Slices s = slices_of(r);
  std::size_t bytes = 0;
  const Operand in(r.in[0], r.out[0].strides, bytes);
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        Log ? "cpu:log_softmax" : "cpu:softmax",
        [s, in](const LaunchArgs& a) {
          softmax_slices<Log>(s, in.load<T>(a.in[0], a.workspace), static_cast<T*>(a.out[0]));
        },
        bytes);
  });
}

// softmax: gx = y (g - sum(g y)); log_softmax: gx = g - exp(y) sum(g). gx may be g or y.
template <bool Log, class A>
A term(A g, A y) {
  return Log ? g : g * y;
}
template <bool Log, class A>
A result(A g, A y, A sum) {
  return Log ? g - math::exp(y) * sum : y * (g - sum);
}

template <bool Log, class T>
void grad_slices(const Slices& s, const T* g, const T* y, T* gx) {
  using A = compute_t<T>;
  if (s.inner == 1) {
    parallel_for(s.outer, grain_for(4 * s.size), [&](i64 begin, i64 end) {
      for (i64 r = begin; r < end; ++r) {
        const T *gr = g + r * s.size, *yr = y + r * s.size;
        T* to = gx + r * s.size;
        const A sum = static_cast<A>(blocked_sum<A>(s.size, [=](i64 i) {
          return term<Log>(static_cast<A>(gr[i]), static_cast<A>(yr[i]));
        }));
#pragma GCC ivdep
        for (i64 i = 0; i < s.size; ++i) {
          to[i] = static_cast<T>(result<Log>(static_cast<A>(gr[i]), static_cast<A>(yr[i]), sum));
        }
      }
    });
    return;
  }
  each_column_block(s, [&](i64 at, i64 columns) {
    double sum[kColumns] = {};
    A total[kColumns];
    for (i64 i = 0; i < s.size; ++i) {
      const T *gr = g + at + i * s.inner, *yr = y + at + i * s.inner;
      for (i64 j = 0; j < columns; ++j) {
        sum[j] += static_cast<double>(term<Log>(static_cast<A>(gr[j]), static_cast<A>(yr[j])));
      }
    }
    for (i64 j = 0; j < columns; ++j) total[j] = static_cast<A>(sum[j]);
    for (i64 i = 0; i < s.size; ++i) {
      const T *gr = g + at + i * s.inner, *yr = y + at + i * s.inner;
      T* to = gx + at + i * s.inner;
#pragma GCC ivdep
      for (i64 j = 0; j < columns; ++j) {
        to[j] = static_cast<T>(result<Log>(static_cast<A>(gr[j]), static_cast<A>(yr[j]), total[j]));
      }
    }
  });
}

template <bool Log>
RefPtr<Plan> grad_plan(const PlanRequest& r) {
  const Slices s = slices_of(r);
  std::size_t bytes = 0;
  const Operand g(r.in[0], r.out[0].strides, bytes), y(r.in[1], r.out[0].strides, bytes);
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        Log ? "cpu:log_softmax_grad" : "cpu:softmax_grad",
        [s, g, y](const LaunchArgs& a) {
          const T* gp = g.load<T>(a.in[0], a.workspace);
          const T* yp = y.load<T>(a.in[1], a.workspace);
          grad_slices<Log>(s, gp, yp, static_cast<T*>(a.out[0]));
        },
        bytes);
  });
}

}  // namespace

RefPtr<Plan> plan_softmax(const PlanRequest& r) {
  return forward_plan<false>(r);
}
RefPtr<Plan> plan_log_softmax(const PlanRequest& r) {
  return forward_plan<true>(r);
}
RefPtr<Plan> plan_softmax_grad(const PlanRequest& r) {
  return grad_plan<false>(r);
}
RefPtr<Plan> plan_log_softmax_grad(const PlanRequest& r) {
  return grad_plan<true>(r);
}

}  // namespace tandem::cpu
