// What the allocator does when calls fail, and how many it makes: needs a device that can be told
// to fail.
#include <chrono>

#include "core/error.h"
#include "cuda/emulation/runtime.h"
#include "ops/ops.h"
#include "tests/cuda/kernels.h"

namespace tandem::cuda::testing {
namespace {

constexpr std::size_t kMiB = 1 << 20;

class FullMemory : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    a = &b->allocator(0);
    a->trim();
  }
  void TearDown() override {
    emulation::set_memory(8192 * kMiB);
    OnGpu::TearDown();
    a->trim();
  }
  Allocator* a = nullptr;
};

TEST_F(FullMemory, SaysWhereItAllIs) {
  emulation::set_memory(100 * kMiB);
  void* p = a->allocate(60 * kMiB);
  try {
    a->allocate(50 * kMiB);
    FAIL() << "nothing was thrown";
  } catch (const OutOfMemoryError& e) {
    EXPECT_STREQ(e.what(),
                 "[allocate] cuda:0 has no memory left; got a request for 50.00 MiB with 60.00 MiB "
                 "in use, 0 bytes cached (largest block 0 bytes) and 40.00 MiB free of the "
                 "device's 0.10 GiB");
  }
  void* q = a->allocate(30 * kMiB);  // goes on
  a->deallocate(q, 30 * kMiB);
  a->deallocate(p, 60 * kMiB);
}

TEST_F(FullMemory, GivesBackAndTriesAgain) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "nothing is cached";
#endif
  emulation::set_memory(100 * kMiB);
  // Cached: large blocks, small ones, and what another stream freed.
  std::vector<void*> small;
  for (int i = 0; i < 100; ++i) small.push_back(a->allocate(1000));
  void* p = a->allocate(60 * kMiB);
  const auto other = b->make_stream(0);
  b->set_stream(0, other.get());
  a->deallocate(p, 60 * kMiB);
  b->set_stream(0, nullptr);
  for (void* x : small) a->deallocate(x, 1000);
  void* q = a->allocate(90 * kMiB);
  EXPECT_EQ(a->stats().cached, 0u);
  a->deallocate(q, 90 * kMiB);
}

TEST_F(FullMemory, TakesNoMoreThanItMustWhenLittleIsLeft) {
  emulation::set_memory(10 * kMiB);  // less than one segment
  void* p = a->allocate(1000);
  void* q = a->allocate(4 * kMiB);
  a->deallocate(p, 1000);
  a->deallocate(q, 4 * kMiB);
}

TEST_F(FullMemory, AbsurdSizesAreRefused) {
  for (const std::size_t n : {std::size_t{1} << 47, ~std::size_t{0}, ~std::size_t{0} - 300}) {
    EXPECT_THROW(a->allocate(n), OutOfMemoryError) << n;
    EXPECT_THROW(b->host_allocator().allocate(n), OutOfMemoryError) << n;
  }
  EXPECT_EQ(a->stats().in_use, 0u);
}

TEST_F(FullMemory, InsideACaptureToo) {
  b->begin_capture(*s);
  Ints x(1000), y(20 << 20);  // the device is asked, which a capture forbids unless told otherwise
  fill(*s, x.get(), 1, 1000);
  emulation::set_memory(100 * kMiB);
  EXPECT_THROW(Ints(40 << 20), OutOfMemoryError);
  const auto g = b->end_capture(*s);
  g->launch(*s);
  EXPECT_EQ(x.read(), std::vector<int>(1000, 1));
}

TEST_F(FullMemory, ReachesTheUserAsAnError) {
  emulation::set_memory(64 * kMiB);
  const std::string m = message_of([] { zeros({1 << 20, 100}, {.device = gpu()}); });
  EXPECT_NE(m.find("has no memory left; got a request for 0.39 GiB"), std::string::npos) << m;
}

TEST_F(FullMemory, OfTheHostIsAnError) {
  emulation::fail_call("cudaHostAlloc", cudaErrorMemoryAllocation);
  void* p = b->host_allocator().allocate(12345);  // once: it gives back and tries again
  b->host_allocator().deallocate(p, 12345);
  emulation::fail_call("cudaHostAlloc", cudaErrorUnknown);
  EXPECT_THROW(b->host_allocator().allocate(1234567), DeviceError);
}

TEST_F(FullMemory, AHitCallsNothingAndIsFast) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "nothing is cached";
#endif
  for (const std::size_t n : {std::size_t{1000}, 3 * kMiB}) {
    a->deallocate(a->allocate(n), n);
    const auto before = emulation::calls();
    const auto t = std::chrono::steady_clock::now();
    constexpr int rounds = 100000;
    for (int i = 0; i < rounds; ++i) a->deallocate(a->allocate(n), n);
    const double ns =
        std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - t).count() /
        rounds;
    EXPECT_EQ(emulation::calls(), before);
    RecordProperty(n < kMiB ? "small_ns" : "large_ns", std::to_string(ns));
    std::printf("allocate and free %zu bytes: %.0f ns\n", n, ns);
  }
}

TEST_F(FullMemory, FailedCallsNameCallAndDevice) {
  emulation::fail_call("cudaStreamCreateWithFlags", cudaErrorUnknown);
  std::string m = message_of([&] { b->make_stream(0); });
  EXPECT_NE(m.find("[cuda] cudaStreamCreateWithFlags on cuda:0 failed; got cudaErrorUnknown: "),
            std::string::npos)
      << m;
  emulation::fail_call("cudaMalloc", cudaErrorUnknown);
  m = message_of([&] { a->allocate(40 * kMiB); });
  EXPECT_NE(m.find("cudaMalloc (41943040 bytes) on cuda:0"), std::string::npos) << m;
  emulation::fail_call("cudaGraphInstantiate", cudaErrorMemoryAllocation);
  Ints x(10);
  b->begin_capture(*s);
  fill(*s, x.get(), 3, 10);
  const auto g = b->end_capture(*s);
  EXPECT_THROW(g->launch(*s), DeviceError);
  g->launch(*s);  // and once it works, it works
  EXPECT_EQ(x.read(), std::vector<int>(10, 3));
  emulation::fail_call("cudaStreamBeginCapture", cudaErrorUnknown);
  EXPECT_THROW(b->begin_capture(*s), DeviceError);
  EXPECT_THROW(b->end_capture(*s), CaptureError) << "none was begun";
}

}  // namespace
}  // namespace tandem::cuda::testing
