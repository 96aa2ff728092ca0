// Allocator, storage, reference counts, plan cache; the parts several threads share.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "core/allocator.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/profiler.h"
#include "ops/ops.h"

namespace tandem {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kCaches = false;  // every block goes back to the sanitizer
#else
constexpr bool kCaches = true;
#endif

TEST(Allocator, AlignsReusesAndCounts) {
  Allocator& a = cpu_allocator();
  EXPECT_EQ(a.allocate(0), nullptr);
  a.deallocate(nullptr, 0);
  a.trim();
  const AllocatorStats before = a.stats();
  EXPECT_EQ(before.cached, 0u);
  void* p = a.allocate(1000);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % kAlignment, 0u);
  std::memset(p, 1, 1000);
  EXPECT_GE(a.stats().in_use, before.in_use + 1000);
  EXPECT_EQ(a.stats().allocations, before.allocations + 1);
  EXPECT_EQ(a.stats().system_allocations, before.system_allocations + 1);
  a.deallocate(p, 1000);
  EXPECT_EQ(a.stats().in_use, before.in_use);
  if (kCaches) {
    EXPECT_GE(a.stats().cached, 1000u);
    EXPECT_EQ(a.allocate(1001), p);  // of the same size class
    EXPECT_EQ(a.stats().system_allocations, before.system_allocations + 1);
    a.deallocate(p, 1001);
  }
  a.trim();
  EXPECT_EQ(a.stats().cached, 0u);
}

TEST(Allocator, EverySizeFitsAndWastesLittle) {
  Allocator& a = cpu_allocator();
  for (std::size_t n = 1; n < (1u << 20); n = n * 9 / 8 + 1) {
    const std::size_t before = a.stats().in_use;
    void* p = a.allocate(n);
    const std::size_t took = a.stats().in_use - before;
    EXPECT_GE(took, n);
    EXPECT_LE(took, std::max<std::size_t>(align_up(n), n + n / 4 + kAlignment)) << n;
    static_cast<char*>(p)[n - 1] = 1;
    a.deallocate(p, n);
    EXPECT_EQ(a.stats().in_use, before);
  }
  a.trim();
}

TEST(Allocator, KnowsItsPeak) {
  Allocator& a = cpu_allocator();
  a.reset_peak();
  const std::size_t base = a.stats().in_use;
  EXPECT_EQ(a.stats().peak, base);
  { const Tensor x = zeros({1 << 16}), y = zeros({1 << 16}); }
  EXPECT_GE(a.stats().peak, base + 2 * 4 * (1 << 16));
  EXPECT_EQ(a.stats().in_use, base);
  a.reset_peak();
  EXPECT_EQ(a.stats().peak, base);
}

TEST(Allocator, ThreadsShareIt) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      std::mt19937 rng(static_cast<unsigned>(t));
      std::vector<std::pair<unsigned char*, std::size_t>> held;
      for (int i = 0; i < 3000; ++i) {
        if (held.size() < 20 && rng() % 2) {
          const std::size_t n = 1 + rng() % 5000;
          auto* p = static_cast<unsigned char*>(cpu_allocator().allocate(n));
          std::memset(p, t, n);
          held.push_back({p, n});
        } else if (!held.empty()) {
          auto [p, n] = held.back();
          held.pop_back();
          if (p[0] != t || p[n - 1] != t) ++wrong;  // somebody else was given the same block
          cpu_allocator().deallocate(p, n);
        }
      }
      for (auto [p, n] : held) cpu_allocator().deallocate(p, n);
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Tensors, AreAlignedAndFreed) {
  const std::size_t before = cpu_allocator().stats().in_use;
  {
    for (std::int64_t n : {1, 3, 1000}) {
      const Tensor t = Tensor::empty(TensorDesc(DType::u8, kCPU, {n}));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.raw_data()) % kAlignment, 0u);
    }
    Tensor x = zeros({100});
    Tensor view = x.slice(0, 10, 20);
    x = Tensor();
    EXPECT_EQ(view.to_vector<float>(), std::vector<float>(10, 0));  // keeps the storage alive
  }
  EXPECT_EQ(cpu_allocator().stats().in_use, before);
}

TEST(Parallel, CoversEachIndexOnce) {
  const int threads = num_threads();
  for (int n_threads : {1, 2, 3}) {
    set_num_threads(n_threads);
    for (std::int64_t n : {0, 1, 5, 64, 1000, 1001}) {
      for (std::int64_t grain : {1, 7, 64, 5000}) {
        std::vector<std::atomic<int>> hits(static_cast<std::size_t>(n));
        parallel_for(n, grain, [&](std::int64_t b, std::int64_t e) {
          for (std::int64_t i = b; i < e; ++i) ++hits[static_cast<std::size_t>(i)];
        });
        for (const auto& h : hits) ASSERT_EQ(h.load(), 1) << n << " by " << grain;
      }
    }
  }
  set_num_threads(threads);
  EXPECT_THROW(set_num_threads(0), ValueError);
}

TEST(Profiler, CountsAndRecordsLaunches) {
  const Tensor x = ones({4});
  const auto before = profiler::launches();
  const Tensor y = x + 1, v = y.slice(0, 1, 3);
  EXPECT_EQ(profiler::launches(), before + 1) << "a view launches nothing";
  EXPECT_FALSE(profiler::recording());
  profiler::start();
  EXPECT_TRUE(profiler::recording());
  const Tensor z = exp(v) * x.slice(0, 0, 2);
  const auto events = profiler::stop();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_STREQ(events[0].op, "exp");
  EXPECT_STREQ(events[1].op, "mul");
  EXPECT_FALSE(events[0].kernel.empty());
  EXPECT_LE(events[0].start_ns, events[0].end_ns);
  EXPECT_LE(events[0].end_ns, events[1].start_ns);
}

}  // namespace
}  // namespace tandem
