// The plan cache under several threads, and its bound.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "core/dispatch.h"
#include "ops/ops.h"

namespace tandem {
namespace {

TEST(PlanCache, ServesManyThreadsAtOnce) {
  constexpr int kThreads = 8, kRounds = 60;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        // The same plans in all threads, some of one's own, and now and then none are left.
        const Tensor x = full({3, 4 + i % 5}, t), y = full({3, 4 + (i * t) % 7}, 1);
        const double a = (x + x * 2).sum().item(), b = (y * (t + i)).sum().item();
        if (a != 3.0 * t * static_cast<double>(x.numel())) ++wrong;
        if (b != static_cast<double>((t + i) * y.numel())) ++wrong;
        if (t == 0 && i % 16 == 0) dispatch::clear_plan_cache();
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(PlanCache, IsBoundedAndKeepsWhatIsUsed) {
  dispatch::clear_plan_cache();
  const Tensor x = ones({2});
  const auto always = [&] { return x + 0.5; };
  always();
  for (int i = 0; i < 50000; ++i) {
    x*(1.0 + i);  // a new scalar is a new plan
    if (i % 1000 == 0) always();
  }
  EXPECT_LE(dispatch::plan_cache_stats().entries, 2u << 14);
  const auto misses = dispatch::plan_cache_stats().misses;
  always();
  EXPECT_EQ(dispatch::plan_cache_stats().misses, misses);
}

}  // namespace
}  // namespace tandem
