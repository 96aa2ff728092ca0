// What kernels are written with. Included by .cu files only.
//
// Two compilers read them: nvcc, and (for tests on machines without a GPU) the host's, for which
// emulation/device.h stands in for the device: blocks one after the other, the threads of a block
// as fibers. So a kernel uses what is here and CUDA's own keywords, indices, __syncthreads,
// __syncwarp, __shfl_*_sync, __ballot_sync and atomics, and nothing else; no <<< >>>.
#pragma once
#include "core/axes.h"
#include "core/dtype.h"
#include "core/op.h"
#include "cuda/divisor.h"
#include "cuda/runtime.h"
#ifdef TANDEM_CUDA_EMULATED
#include "cuda/emulation/device.h"
#else
#include <cuda_runtime.h>
#endif

namespace tandem::cuda {

struct Grid {
  dim3 blocks, threads = 256;
  std::size_t shared = 0;  // bytes of dynamic shared memory
};

/// A launch's arguments and the line that launches, which the emulation names in its errors.
struct LaunchSite {
  const LaunchArgs& args;
  SrcLoc where;
  LaunchSite(const LaunchArgs& a, SrcLoc w = SrcLoc::current()) : args(a), where(w) {}
};

/// Puts a kernel into the launch's stream: `launch(args, grid, kernel<T>, a, b, …)`.
template <class... P, class... A>
void launch(const LaunchSite& site, const Grid& g, void (*kernel)(P...), A&&... values) {
  CudaStream& stream = stream_of(site.args);
#ifdef TANDEM_CUDA_EMULATED
  emulation::launch({stream.handle(), g.blocks, g.threads, g.shared,
                     reinterpret_cast<const void*>(kernel), site.where},
                    [=] { kernel(static_cast<P>(values)...); });
#else
  cudaLaunchConfig_t c{};
  c.gridDim = g.blocks;
  c.blockDim = g.threads;
  c.dynamicSmemBytes = g.shared;
  c.stream = stream.handle();
  const cudaError_t e = cudaLaunchKernelEx(&c, kernel, static_cast<P>(values)...);
  if (e != cudaSuccess) [[unlikely]]
    failed(e, "cudaLaunchKernelEx", str(site.where));
#endif
}

/// Blocks of `threads` for n elements, `each` per thread, at most `most` blocks: kernels stride
/// over what is left.
inline Grid grid_for(std::int64_t n, int each = 1, int threads = 256, std::int64_t most = 1 << 20) {
  const std::int64_t blocks =
      (n + std::int64_t{each} * threads - 1) / (std::int64_t{each} * threads);
  const std::int64_t used = blocks < 1 ? 1 : blocks < most ? blocks : most;
  return {.blocks = dim3(static_cast<unsigned>(used)),
          .threads = dim3(static_cast<unsigned>(threads))};
}

/// For what one thread does.
inline const Grid kOneThread{.blocks = 1, .threads = 1};

/// What lies at an offset of the launch's workspace.
template <class T>
T* workspace(const LaunchArgs& a, std::size_t at) {
  return reinterpret_cast<T*>(static_cast<char*>(a.workspace) + at);
}

/// Of an op that has nothing to do: without elements.
inline RefPtr<Plan> empty_plan(const char* name) {
  return make_plan(name, [](const LaunchArgs&) {});
}

/// The launch's dynamic shared memory.
template <class T>
__device__ T* dynamic_shared() {
#ifdef TANDEM_CUDA_EMULATED
  return static_cast<T*>(emulation::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char tandem_dynamic_shared[];
  return reinterpret_cast<T*>(tandem_dynamic_shared);
#endif
}

/// This thread's number in the grid, and how many there are. One-dimensional grids.
__device__ inline long long global_index() {
  return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline long long global_size() {
  return static_cast<long long>(gridDim.x) * blockDim.x;
}

/// Notes the first fault of a device's work.
__device__ inline void note_fault(Fault* f, FaultKind kind, const char* op, long long value,
                                  long long limit) {
  // The host may look at any time: the kind is last.
  if (atomicCAS(&f->kind, 0, -1) == 0) {
    f->op = op;
    f->value = value;
    f->limit = limit;
    __threadfence_system();
    *static_cast<volatile int*>(&f->kind) = static_cast<int>(kind);
  }
}

// ------------------------------------------------------------------------ strided tensors

/// Where the elements of N tensors lie, walked in row-major order of their common shape. Made from
/// core/axes.h on the host (walk_of), passed to kernels by value.
template <int N>
struct Walk {
  int rank = 0;
  bool small = false;  // element numbers are below 2^31: `by` divides them
  long long count = 1;
  long long size[kMaxRank];
  long long stride[N][kMaxRank];
  Divisor by[kMaxRank];

  /// Calls `f(axis, position)` for each axis, from the innermost.
  template <class F>
  __device__ void positions(long long i, F&& f) const {
    if (small) {
      unsigned u = static_cast<unsigned>(i);
      for (int d = rank - 1; d > 0; --d) {
        const unsigned q = by[d].quotient(u);
        f(d, static_cast<long long>(u - q * by[d].by));
        u = q;
      }
      i = u;
    } else {
      for (int d = rank - 1; d > 0; --d) {
        const long long q = i / size[d];
        f(d, i - q * size[d]);
        i = q;
      }
    }
    if (rank > 0) f(0, i);
  }
  __device__ void offsets(long long i, long long (&at)[N]) const {
    for (int k = 0; k < N; ++k) at[k] = 0;
    positions(i, [&](int d, long long p) {
      for (int k = 0; k < N; ++k) at[k] += p * stride[k][d];
    });
  }
};

/// Tensors of one shape (broadcast axes have stride 0), axes of size 1 dropped, neighbours merged.
template <int N>
Walk<N> walk_of(const Axes<N>& axes) {
  Walk<N> w;
  w.rank = axes.rank();
  w.count = axes.count;
  w.small = 0 < w.count && w.count <= std::int64_t{1} << 31;
  for (int d = 0; d < w.rank; ++d) {
    w.size[d] = axes.size[d];
    for (int k = 0; k < N; ++k) w.stride[k][d] = axes.stride[k][d];
    if (w.small) w.by[d] = divisor(static_cast<unsigned>(w.size[d]));
  }
  return w;
}

}  // namespace tandem::cuda
