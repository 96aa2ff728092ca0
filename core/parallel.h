// Threads for CPU kernels (OpenMP). Each element is computed by one thread; what is summed across
// elements is cut into pieces of fixed size by the kernel. So no result depends on their number.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#ifdef TANDEM_OPENMP
#include <omp.h>
#endif

namespace tandem {

namespace detail {
extern std::atomic<int> thread_setting;
}

/// Threads a kernel may use. Applies to oneDNN as well, whose kernels throw a ValueError where
/// there are several and the caller is inside a parallel region of OpenMP.
inline int num_threads() {
  return detail::thread_setting.load(std::memory_order_relaxed);
}
/// Throws ValueError unless 1 <= n <= max_threads(): more would only exhaust the system.
void set_num_threads(int n);
/// 64, or eight for each processor where that is more; OMP_THREAD_LIMIT where that is less.
int max_threads();

/// Calls `f(begin, end)` over [0, n) in chunks of at least `grain` (a multiple of it, but for the
/// last). One chunk, or one thread, runs in the calling thread without touching OpenMP.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& f) {
  if (n <= 0) return;
#ifdef TANDEM_OPENMP
  const int threads = num_threads();
  if (threads > 1 && n > grain && !omp_in_parallel()) {
    const std::int64_t grains = (n + grain - 1) / grain;
    const std::int64_t parts = std::min<std::int64_t>(grains, threads);
    const std::int64_t chunk = (grains + parts - 1) / parts * grain;
#pragma omp parallel for num_threads(static_cast <int>(parts)) schedule(static, 1)
    for (std::int64_t p = 0; p < parts; ++p) {
      const std::int64_t b = p * chunk, e = std::min(n, b + chunk);
      if (b < e) f(b, e);
    }
    return;
  }
#endif
  f(std::int64_t{0}, n);
}

}  // namespace tandem
