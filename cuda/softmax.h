// The softmax of slices: shared by softmax and the losses.
#pragma once
#include "core/functors.h"
#include "cuda/slices.h"

namespace tandem::cuda {

/// softmax or its logarithm of slices of tensor 0, to tensor 1.
template <bool Log, class T, class Out>
__global__ void softmax_kernel(Slices<2> s, const T* x, Out* y) {
  using A = compute_t<T>;
  __shared__ A shared[kBlockThreads];
  s.share.each([&](long long slice, long long) {
    const bool used = slice < s.kept.count;
    long long at[2] = {};
    if (used) s.kept.offsets(slice, at);
    const T* from = x + at[0];
    Out* to = y + at[1];
    const auto each = [&](const auto& f) {
      if (used) s.share.each_element(0, f);
    };
    A top = -static_cast<A>(INFINITY);
    each([&](long long i) {
      const A v = static_cast<A>(from[i * s.step[0]]);
      top = v > top || v != v ? v : top;
    });
    top = s.share.combine(top, shared, [](A a, A b) { return b > a || b != b ? b : a; });
    A sum = 0;
    each([&](long long i) { sum += math::exp(static_cast<A>(from[i * s.step[0]]) - top); });
    sum = s.share.combine(sum, shared, [](A a, A b) { return a + b; });
    const A shift = Log ? math::log(sum) : A(0);
    each([&](long long i) {
      const A v = static_cast<A>(from[i * s.step[0]]) - top;
      to[i * s.step[1]] = static_cast<Out>(Log ? v - shift : math::exp(v) / sum);
    });
  });
}

}  // namespace tandem::cuda
