// The plan cache: what it tells apart, several threads, its bound.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "core/dispatch.h"
#include "ops/ops.h"

namespace tandem {
namespace {

TEST(PlanCache, HitsForEqualCallsOnly) {
  dispatch::clear_plan_cache();
  const Tensor a = ones({3, 4}), b = ones({3, 4});
  const auto misses = [] { return dispatch::plan_cache_stats().misses; };
  add(a, b);
  auto m = misses();
  for (int i = 0; i < 5; ++i) add(a, b);
  EXPECT_EQ(misses(), m);
  const auto missed = [&](auto f) {
    f();
    const bool r = misses() != m;
    m = misses();
    f();
    EXPECT_EQ(misses(), m) << "the second time it is there";
    return r;
  };
  EXPECT_TRUE(missed([&] { add(a.t(), b.t()); })) << "strides";
  const Tensor wide_a = a.to(DType::f64), wide_b = b.to(DType::f64);
  m = misses();
  EXPECT_TRUE(missed([&] { add(wide_a, wide_b); })) << "dtype";
  EXPECT_TRUE(missed([&] { add(a, 2); })) << "attributes";
  EXPECT_TRUE(missed([&] { add(a, 2.0); })) << "kind of a scalar";
  EXPECT_TRUE(missed([&] { add(a, -0.0); })) << "sign of zero";
  EXPECT_TRUE(missed([&] { add(a, 0.0); })) << "sign of zero";
  EXPECT_TRUE(missed([&] {
    const PolicyScope scope({.vendor = false});
    add(a, b);
  })) << "policy";
  EXPECT_FALSE(missed([&] { add(b, a); })) << "contents do not count";
}

TEST(PlanCache, SurvivesMoreEntriesThanSlots) {
  const Tensor a = ones({2});
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ((a + static_cast<double>(i)).to_vector<float>()[1], static_cast<float>(1 + i));
  }
  for (int i = 2999; i >= 0; --i) {
    ASSERT_EQ((a + static_cast<double>(i)).to_vector<float>()[0], static_cast<float>(1 + i));
  }
  dispatch::clear_plan_cache();
  EXPECT_EQ((a + 5.0).to_vector<float>()[0], 6.0f);
}

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
