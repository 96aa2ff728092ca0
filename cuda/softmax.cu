#include "cuda/softmax.h"

#include "ops/softmax.h"

namespace tandem::cuda {
namespace {

template <int K>
Slices<K> slices(const PlanRequest& r, const std::array<Strides, K>& strides) {
  const int rank = r.out[0].rank();
  if (rank == 0) {  // one slice of one element
    std::array<Strides, K> one;
    one.fill({1});
    return slices_of<K>({1}, 0, one);
  }
  return slices_of<K>(r.out[0].shape, wrap_axis(r.attrs<SoftmaxAttrs>().axis, rank, r.op.name),
                      strides);
}

template <bool Log>
RefPtr<Plan> forward_plan(const PlanRequest& r) {
  const char* name = Log ? "cuda:log_softmax" : "cuda:softmax";
  if (r.out[0].numel() == 0) return empty_plan(name);
  const auto s = slices<2>(r, {r.in[0].strides, r.out[0].strides});
  return visit_floating(r.in[0].dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    return make_plan(name, [s](const LaunchArgs& a) {
      launch(a, s.share.grid(), softmax_kernel<Log, T, T>, s, static_cast<const T*>(a.in[0]),
             static_cast<T*>(a.out[0]));
    });
  });
}

// softmax: gx = y (g - sum(g y)); log_softmax: gx = g - exp(y) sum(g). gx may be g or y.
template <bool Log, class T>
__global__ void grad_kernel(Slices<3> s, const T* g, const T* y, T* gx) {
  using A = compute_t<T>;
  __shared__ A shared[kBlockThreads];
  s.share.each([&](long long slice, long long) {
    const bool used = slice < s.kept.count;
    long long at[3] = {};
    if (used) s.kept.offsets(slice, at);
    const auto each = [&](const auto& f) {
      if (!used) return;
      s.share.each_element(0, [&](long long i) {
        f(i, static_cast<A>(g[at[0] + i * s.step[0]]), static_cast<A>(y[at[1] + i * s.step[1]]));
      });
    };
    A sum = 0;
    each([&](long long, A gi, A yi) { sum += Log ? gi : gi * yi; });
    sum = s.share.combine(sum, shared, [](A a, A c) { return a + c; });
    each([&](long long i, A gi, A yi) {
      gx[at[2] + i * s.step[2]] = static_cast<T>(Log ? gi - math::exp(yi) * sum : yi * (gi - sum));
    });
  });
}

template <bool Log>
RefPtr<Plan> grad_plan(const PlanRequest& r) {
  const char* name = Log ? "cuda:log_softmax_grad" : "cuda:softmax_grad";
  if (r.out[0].numel() == 0) return empty_plan(name);
  const auto s = slices<3>(r, {r.in[0].strides, r.in[1].strides, r.out[0].strides});
  return visit_floating(r.in[0].dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    return make_plan(name, [s](const LaunchArgs& a) {
      launch(a, s.share.grid(), grad_kernel<Log, T>, s, static_cast<const T*>(a.in[0]),
             static_cast<const T*>(a.in[1]), static_cast<T*>(a.out[0]));
    });
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

}  // namespace tandem::cuda
