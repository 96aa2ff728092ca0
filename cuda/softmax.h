// Slices along one axis, and their softmax: shared by softmax and the losses.
#pragma once
#include "core/functors.h"
#include "cuda/block.h"

namespace tandem::cuda {

/// K tensors walked slice by slice: the slices in row-major order of the other axes, `size`
/// elements each, `step[k]` apart in tensor k.
template <int K>
struct Slices {
  Walk<K> kept;
  long long size = 1;
  long long step[K] = {};

  int parts() const { return power_of_two(size, kBlockThreads); }
  int across() const { return kBlockThreads / parts(); }
  Grid grid() const {
    const long long blocks = (kept.count + across() - 1) / across();
    return {.blocks = dim3(static_cast<unsigned>(std::min<long long>(blocks, 1 << 20))),
            .threads = dim3(kBlockThreads)};
  }
};

/// `strides` are those of tensors of this shape; with fewer, of tensors without the axis.
template <int K>
Slices<K> slices_of(const Shape& shape, int axis, const std::array<Strides, K>& strides) {
  Slices<K> s;
  Axes<K> kept;
  for (int i = 0; i < shape.size(); ++i) {
    std::array<std::int64_t, K> at = {};
    for (int k = 0; k < K; ++k) {
      const bool whole = strides[k].size() == shape.size();
      if (i == axis) {
        if (whole) s.step[k] = strides[k][i];
      } else {
        at[k] = strides[k][whole || i < axis ? i : i - 1];
      }
    }
    if (i == axis) {
      s.size = shape[i];
    } else {
      kept.add(shape[i], at);
    }
  }
  s.kept = walk_of(kept);
  return s;
}

/// softmax or its logarithm of slices of tensor 0, to tensor 1.
template <bool Log, class T, class Out, int K>
__global__ void softmax_kernel(Slices<K> s, int parts, const T* x, Out* y) {
  using A = compute_t<T>;
  __shared__ A shared[kBlockThreads];
  const int t = static_cast<int>(threadIdx.x), part = t % parts, across = kBlockThreads / parts;
  const long long groups = (s.kept.count + across - 1) / across;
  for (long long g = blockIdx.x; g < groups; g += gridDim.x) {
    const long long row = g * across + t / parts;
    const bool used = row < s.kept.count;
    long long at[K] = {};
    if (used) s.kept.offsets(row, at);
    const T* from = x + at[0];
    Out* to = y + at[1];
    const long long end = used ? s.size : 0;
    A top = -static_cast<A>(INFINITY);
    for (long long i = part; i < end; i += parts) {
      const A v = static_cast<A>(from[i * s.step[0]]);
      top = v > top || v != v ? v : top;
    }
    top = combine_threads(top, shared, t, parts, 1, part,
                          [](A a, A b) { return b > a || b != b ? b : a; });
    A sum = 0;
    for (long long i = part; i < end; i += parts) {
      sum += math::exp(static_cast<A>(from[i * s.step[0]]) - top);
    }
    sum = combine_threads(sum, shared, t, parts, 1, part, [](A a, A b) { return a + b; });
    const A shift = Log ? math::log(sum) : A(0);
    for (long long i = part; i < end; i += parts) {
      const A v = static_cast<A>(from[i * s.step[0]]) - top;
      to[i * s.step[1]] = static_cast<Out>(Log ? v - shift : math::exp(v) / sum);
    }
  }
}

}  // namespace tandem::cuda
