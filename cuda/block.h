// Reductions across the threads of a block. Orders are fixed: the same bits at every run.
#pragma once
#include "cuda/kernel.h"

namespace tandem::cuda {

inline constexpr int kBlockThreads = 256;

/// Combines the values of `parts` threads that are `step` apart (slot = thread number in the
/// block): a tree, parts a power of two. All threads of the block must call; every thread of a
/// group gets the result. `shared` holds kBlockThreads values.
template <class W, class F>
__device__ W combine_threads(W v, W* shared, int thread, int parts, int step, int part,
                             const F& f) {
  shared[thread] = v;
  __syncthreads();
  for (int h = parts / 2; h > 0; h /= 2) {
    if (part < h) shared[thread] = f(shared[thread], shared[thread + h * step]);
    __syncthreads();
  }
  const W result = shared[thread - part * step];
  __syncthreads();
  return result;
}

/// The smallest power of two >= n, at most `most`.
inline int power_of_two(std::int64_t n, int most) {
  int p = 1;
  while (p < n && p < most) p *= 2;
  return p;
}

}  // namespace tandem::cuda
