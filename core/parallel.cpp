#include "core/parallel.h"

#include <atomic>
#include <string>
#include <thread>

#include "core/error.h"

namespace tandem {
namespace {
// OMP_THREAD_LIMIT: who asks OpenMP for more gets fewer.
#ifdef TANDEM_OPENMP
int thread_limit() {
  return std::max(1, omp_get_thread_limit());
}
#endif
int hardware_threads() {
#ifdef TANDEM_OPENMP
  return std::clamp(omp_get_max_threads(), 1, thread_limit());
#else
  return 1;
#endif
}
}  // namespace

std::atomic<int> detail::thread_setting{hardware_threads()};

int max_threads() {
  const int most = std::max(64, 8 * static_cast<int>(std::thread::hardware_concurrency()));
#ifdef TANDEM_OPENMP
  return std::min(most, thread_limit());
#else
  return most;
#endif
}

void set_num_threads(int n) {
  if (n < 1 || n > max_threads()) {
    fail("set_num_threads", "the number of threads is out of range", std::to_string(n),
         "1 to " + std::to_string(max_threads()));
  }
#ifdef TANDEM_OPENMP
  omp_set_num_threads(n);  // oneDNN asks OpenMP
  detail::thread_setting = n;
#endif
}

}  // namespace tandem
