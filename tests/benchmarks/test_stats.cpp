#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "benchmarks/tradeoff/stats.h"
#include "core/error.h"

namespace tandem::tradeoff {
namespace {

TEST(Stats, Median) {
  EXPECT_EQ(median(std::vector<double>{3, 1, 2}), 2);
  EXPECT_EQ(median(std::vector<double>{4, 1, 2, 3}), 2.5);
  EXPECT_EQ(median(std::vector<double>{7}), 7);
  EXPECT_THROW(median({}), ValueError);
  EXPECT_THROW(median_interval({}), ValueError);
}

// Against the tables of the sign test.
TEST(Stats, RanksOfTheMedian) {
  const auto expect = [](std::size_t n, std::size_t low) {
    EXPECT_EQ(median_ranks(n).low, low) << n;
    EXPECT_EQ(median_ranks(n).high, n - 1 - low) << n;
  };
  expect(1, 0);
  expect(5, 0);  // cannot reach 95 %: the whole range
  expect(6, 0);
  expect(8, 0);
  expect(9, 1);
  expect(20, 5);
  expect(25, 7);
  expect(50, 17);
  expect(100, 39);
  EXPECT_EQ(median_ranks(0).low, 0u);
}

// The interval covers the true median at least 95 % of the time, and is not wildly too wide.
TEST(Stats, Coverage) {
  std::uint64_t state = 1;
  const auto uniform = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 11) * 0x1p-53;
  };
  for (const std::size_t n : {7u, 20u, 61u}) {
    int covered = 0;
    constexpr int kTrials = 4000;
    for (int t = 0; t < kTrials; ++t) {
      std::vector<double> s(n);
      // Skewed, as times are.
      for (double& x : s) x = -std::log(1 - uniform());
      const Interval i = median_interval(s);
      EXPECT_LE(i.low, i.median);
      EXPECT_LE(i.median, i.high);
      covered += i.low <= std::log(2.0) && std::log(2.0) <= i.high;
    }
    EXPECT_GT(covered, kTrials * 0.94) << n;
    EXPECT_LT(covered, kTrials * 0.995) << n;
  }
}

TEST(Stats, Pairing) {
  // A machine that gets slower and slower, while b takes 0.8 times as long as a in every round.
  std::vector<double> a, b;
  for (int i = 0; i < 30; ++i) {
    a.push_back(10 + i);
    b.push_back(0.8 * (10 + i));
  }
  const Interval r = paired_ratio(b, a);
  EXPECT_DOUBLE_EQ(r.median, 0.8);
  EXPECT_NEAR(r.high - r.low, 0, 1e-12);
  EXPECT_EQ(r.samples, 30u);
  EXPECT_TRUE(r.excludes(1));
  // Unpaired, the two could not be told apart.
  EXPECT_GT(median_interval(b).high, median_interval(a).low);
  EXPECT_DOUBLE_EQ(paired_difference(a, a).median, 0);
  EXPECT_FALSE(paired_difference(a, a).excludes(0));
  EXPECT_THROW(paired_ratio(a, std::vector<double>{1}), ValueError);
}

TEST(Stats, Shuffles) {
  for (const std::size_t n : {0u, 1u, 2u, 13u}) {
    auto p = shuffled(n, 7, 3);
    EXPECT_EQ(p, shuffled(n, 7, 3));
    std::sort(p.begin(), p.end());
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(p[i], i);
  }
  EXPECT_NE(shuffled(13, 7, 3), shuffled(13, 7, 4));
  EXPECT_NE(shuffled(13, 7, 3), shuffled(13, 8, 3));
  // Every arm comes first about equally often.
  std::vector<int> first(5);
  for (std::uint64_t r = 0; r < 5000; ++r) ++first[shuffled(5, 1, r)[0]];
  for (const int n : first) EXPECT_NEAR(n, 1000, 150);
}

}  // namespace
}  // namespace tandem::tradeoff
