// Replay makes no heap allocation of its own: malloc and its relatives (and so operator new) are
// counted while a compiled training step runs on the plain kernels. (oneDNN 2.6 allocates inside
// its own calls: docs/performance.md.)
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "graph/compile.h"
#include "nn/nn.h"
#include "ops/ops.h"

namespace {
std::atomic<long> allocations{0};
}

// Sanitizers bring their own, and only glibc has the functions below under a second name.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TANDEM_COUNTS_ALLOCATIONS
extern "C" {
void* __libc_malloc(std::size_t n);                         // NOLINT(bugprone-reserved-identifier)
void* __libc_calloc(std::size_t n, std::size_t size);       // NOLINT(bugprone-reserved-identifier)
void* __libc_realloc(void* p, std::size_t n);               // NOLINT(bugprone-reserved-identifier)
void* __libc_memalign(std::size_t aligned, std::size_t n);  // NOLINT(bugprone-reserved-identifier)

void* malloc(std::size_t n) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(p, n);
}
void* memalign(std::size_t aligned, std::size_t n) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(aligned, n);
}
void* aligned_alloc(std::size_t aligned, std::size_t n) {
  return memalign(aligned, n);
}
int posix_memalign(void** p, std::size_t aligned, std::size_t n) {
  *p = memalign(aligned, n);
  return *p ? 0 : ENOMEM;
}
}
#endif

namespace tandem {
namespace {

TEST(Replay, MakesNoHeapAllocation) {
#ifndef TANDEM_COUNTS_ALLOCATIONS
  GTEST_SKIP() << "malloc belongs to somebody else";
#endif
  if (!default_device().is_cpu()) GTEST_SKIP() << "a device's driver makes allocations of its own";
  const PolicyScope plain({.vendor = false});
  manual_seed(1);
  const nn::Sequential net(nn::Conv2d(1, 4, 3, {.padding = 1}), nn::BatchNorm2d(4), nn::ReLU(),
                           nn::MaxPool2d(2), nn::Flatten(), nn::Dropout(0.3),
                           nn::Linear(4 * 4 * 4, 10));
  const optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const Tensor x = rand({8, 1, 8, 8}), y = randint(0, 10, {8}, {.dtype = DType::i64});
  auto step = compile([&](const Tensor& images, const Tensor& labels) {
    opt.zero_grad();
    Tensor loss = nn::cross_entropy(net(images), labels);
    loss.backward();
    opt.step();
    return loss;
  });
  for (int i = 0; i < 32; ++i) step(x, y);  // the 32nd call is the last that is checked for a while
  ASSERT_GT(allocations.load(), 0) << "they are counted";
  const long before = allocations.load();
  for (int i = 0; i < 20; ++i) step(x, y);
  EXPECT_EQ(allocations.load() - before, 0) << "in 20 steps";
}

}  // namespace
}  // namespace tandem
