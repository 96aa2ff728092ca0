// Reductions across the threads of a block. Orders are fixed: the same bits at every run.
#pragma once
#include <algorithm>

#include "cuda/kernel.h"

namespace tandem::cuda {

inline constexpr int kBlockThreads = 256;

/// Blocks of kBlockThreads for n things, `each` per block, at most 2^20: kernels stride over what
/// is left.
inline Grid block_grid(std::int64_t n, std::int64_t each = 1) {
  const std::int64_t blocks = std::clamp<std::int64_t>((n + each - 1) / each, 1, 1 << 20);
  return {.blocks = dim3(static_cast<unsigned>(blocks)), .threads = dim3(kBlockThreads)};
}

namespace detail {
/// What `exchange` makes of a value, word by word.
template <class W, class F>
__device__ W shuffled(const W& v, const F& exchange) {
  constexpr int words = static_cast<int>((sizeof(W) + 3) / 4);
  unsigned w[words] = {};
  memcpy(w, &v, sizeof(W));
  for (int k = 0; k < words; ++k) w[k] = exchange(w[k]);
  W r;
  memcpy(&r, w, sizeof(W));
  return r;
}
}  // namespace detail

/// Combines the values of `parts` threads that are `step` apart (part = the thread's number among
/// them): a tree, parts a power of two. All threads of the block must call; every thread of a group
/// gets the result. `shared` holds kBlockThreads values, and is free again after the call.
template <class W, class F>
__device__ W combine_threads(W v, W* shared, int thread, int parts, int step, int part,
                             const F& f) {
  if (step == 1) {  // whole warps, or equal parts of one
    const int width = parts < 32 ? parts : 32;
    for (int h = width / 2; h > 0; h /= 2) {
      v = f(v, detail::shuffled(v, [=](unsigned w) { return __shfl_down_sync(~0u, w, h, width); }));
    }
    // What the other lanes have is the sum of too few.
    if (parts <= 32) {
      return detail::shuffled(v, [=](unsigned w) { return __shfl_sync(~0u, w, 0, width); });
    }
    const int warps = parts / 32, first = thread / parts * warps;
    if (thread % 32 == 0) shared[thread / 32] = v;
    __syncthreads();
    W result = shared[first];
    for (int k = 1; k < warps; ++k) result = f(result, shared[first + k]);
    __syncthreads();
    return result;
  }
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

/// How the threads of blocks share the making of `results` results of `count` elements each: a
/// block makes `across` of them, with `parts` threads for each. Few results of many elements are
/// cut into chunks. Nothing but the sizes decides, so neither does the order of additions.
struct Sharing {
  long long results = 0, count = 1;
  int parts = 1, across = kBlockThreads;
  bool column = false;  // neighbouring threads make neighbouring results, else read neighbours
  long long chunk = 1, chunks = 1;

  Grid grid() const { return block_grid((results + across - 1) / across * chunks); }

  /// This thread's number among those that make the same result.
  __device__ int part() const {
    const int t = static_cast<int>(threadIdx.x);
    return column ? t / across : t % parts;
  }
  /// Calls `f(result, chunk)` for all that is this block's: every thread alike, also where result
  /// >= results.
  template <class F>
  __device__ void each(const F& f) const {
    const int t = static_cast<int>(threadIdx.x), lane = column ? t % across : t / parts;
    const long long groups = (results + across - 1) / across;
    for (long long g = blockIdx.x; g < groups * chunks; g += gridDim.x) {
      f(g % groups * across + lane, g / groups);
    }
  }
  /// Calls `f(element)` for those of a chunk that are this thread's.
  template <class F>
  __device__ void each_element(long long of_chunk, const F& f) const {
    const long long end = chunk * (of_chunk + 1) < count ? chunk * (of_chunk + 1) : count;
    for (long long i = chunk * of_chunk + part(); i < end; i += parts) f(i);
  }
  /// The same, up to N at a time: `f(elements, how many)`.
  template <int N, class F>
  __device__ void each_batch(long long of_chunk, const F& f) const {
    const long long end = chunk * (of_chunk + 1) < count ? chunk * (of_chunk + 1) : count;
    for (long long i = chunk * of_chunk + part(); i < end; i += N * parts) {
      long long at[N];
      int n = 0;
      for (int k = 0; k < N; ++k) {
        at[k] = i + k * parts;
        n += at[k] < end;
      }
      f(at, n);
    }
  }
  /// Combines the values of the threads that make the same result.
  template <class W, class F>
  __device__ W combine(W v, W* shared, const F& f) const {
    return combine_threads(v, shared, static_cast<int>(threadIdx.x), parts, column ? across : 1,
                           part(), f);
  }
};

/// `least`: elements a thread has at least of a chunk; 0: no chunks.
inline Sharing share(long long results, long long count, bool column, int least = 0) {
  Sharing s;
  s.results = results;
  s.count = count;
  s.column = column;
  s.parts = power_of_two(count, column ? kBlockThreads / power_of_two(results, 64) : kBlockThreads);
  s.across = kBlockThreads / s.parts;
  s.chunk = std::max(count, 1ll);
  // Enough blocks for a large device, each with work for its threads.
  const long long groups = (results + s.across - 1) / s.across, wanted = 1024;
  if (least > 0 && groups > 0 && groups < wanted) {
    const long long each = (wanted + groups - 1) / groups;
    s.chunk = std::max<long long>(least * s.parts, (count + each - 1) / each);
    s.chunks = std::max(1ll, (count + s.chunk - 1) / s.chunk);
  }
  return s;
}

}  // namespace tandem::cuda
