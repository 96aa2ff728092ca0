#include "core/parallel.h"

#include <atomic>
#include <string>

#include "core/error.h"

namespace tandem {
namespace {
int hardware_threads() {
#ifdef TANDEM_OPENMP
  return std::max(1, omp_get_max_threads());
#else
  return 1;
#endif
}
}  // namespace

std::atomic<int> detail::thread_setting{hardware_threads()};

void set_num_threads(int n) {
  if (n < 1) fail("set_num_threads", "needs at least one thread", std::to_string(n), ">= 1");
#ifdef TANDEM_OPENMP
  omp_set_num_threads(n);  // oneDNN asks OpenMP
  detail::thread_setting = n;
#endif
}

}  // namespace tandem
