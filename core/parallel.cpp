#include "core/parallel.h"

#include <atomic>
#include <string>
#include <thread>

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
std::atomic<int>& setting() {
  static std::atomic<int> n{hardware_threads()};
  return n;
}
}  // namespace

int num_threads() {
  return setting().load(std::memory_order_relaxed);
}

void set_num_threads(int n) {
  if (n < 1) fail("set_num_threads", "needs at least one thread", std::to_string(n), ">= 1");
#ifdef TANDEM_OPENMP
  omp_set_num_threads(n);  // oneDNN asks OpenMP
  setting() = n;
#endif
}

}  // namespace tandem
