// Steps in several queues: the order that memory demands is kept, and nothing more.
#include <gtest/gtest.h>

#include <random>

#include "graph/streams.h"

namespace tandem::graph {
namespace {

MemoryAccess access(std::vector<MemoryRange> reads, std::vector<MemoryRange> writes) {
  return {std::move(reads), std::move(writes)};
}
using Order = std::vector<std::vector<int>>;

bool overlap(const MemoryRange& a, const MemoryRange& b) {
  return std::max(a.begin, b.begin) < std::min(a.end, b.end);
}
bool conflict(const MemoryAccess& a, const MemoryAccess& b) {
  const auto any = [](const auto& x, const auto& y) {
    for (const auto& p : x) {
      for (const auto& q : y) {
        if (overlap(p, q)) return true;
      }
    }
    return false;
  };
  return any(a.writes, b.writes) || any(a.writes, b.reads) || any(a.reads, b.writes);
}

// reach[i][j]: step i comes after step j.
std::vector<std::vector<bool>> reach(const Order& after) {
  std::vector<std::vector<bool>> r(after.size(), std::vector<bool>(after.size()));
  for (std::size_t i = 0; i < after.size(); ++i) {
    for (int d : after[i]) {
      r[i][static_cast<std::size_t>(d)] = true;
      for (std::size_t j = 0; j < i; ++j) {
        if (r[static_cast<std::size_t>(d)][j]) r[i][j] = true;
      }
    }
  }
  return r;
}

TEST(Streams, DependOnWhatIsWrittenOnly) {
  const std::vector<MemoryAccess> steps = {
      access({{0, 8}}, {{8, 16}}),           // 0
      access({{0, 8}}, {{16, 24}}),          // 1 reads what 0 reads
      access({{8, 16}, {16, 24}}, {{0, 4}})  // 2 reads both, overwrites half of their input
  };
  EXPECT_EQ(dependencies(steps), (Order{{}, {}, {0, 1}}));
}

TEST(Streams, PartsOfBuffersAreApart) {
  const std::vector<MemoryAccess> steps = {access({}, {{0, 16}}), access({}, {{4, 8}}),
                                           access({{8, 16}}, {{20, 21}}),
                                           access({{0, 8}}, {{30, 31}})};
  EXPECT_EQ(dependencies(steps), (Order{{}, {0}, {0}, {0, 1}}));
}

TEST(Streams, AStepMayReadAndWriteOnePlace) {
  const std::vector<MemoryAccess> steps = {access({}, {{0, 8}}), access({{0, 8}}, {{0, 8}}),
                                           access({{0, 8}}, {{8, 9}})};
  EXPECT_EQ(dependencies(steps), (Order{{}, {0}, {1}}));
}

TEST(Streams, AChainStaysInOneStream) {
  const StreamSchedule s = schedule_streams(Order{{}, {0}, {1}, {2}}, 4);
  EXPECT_EQ(s.streams, 1);
  for (const auto& step : s.steps) EXPECT_TRUE(step.waits.empty() && !step.signals);
}

TEST(Streams, ADiamondForksAndJoins) {
  const StreamSchedule s = schedule_streams(Order{{}, {0}, {0}, {1, 2}}, 4);
  EXPECT_EQ(s.streams, 2);
  EXPECT_EQ(s.steps[1].stream, 0);
  EXPECT_EQ(s.steps[2].stream, 1);
  EXPECT_EQ(s.steps[2].waits, std::vector{0});
  EXPECT_EQ(s.steps[3].waits.size(), 1u);
  EXPECT_EQ(s.ends.size(), 1u);
}

TEST(Streams, OneStreamNeedsNoWaits) {
  const StreamSchedule s = schedule_streams(Order{{}, {}, {0}, {1, 2}}, 1);
  EXPECT_EQ(s.streams, 1);
  for (const auto& step : s.steps) EXPECT_TRUE(step.waits.empty());
}

// Random programs in random memory: every pair that conflicts is ordered by the dependencies, and
// by streams and waits alone; nothing unrelated is ordered by the dependencies.
TEST(Streams, KeepTheOrderOfEveryConflict) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<MemoryAccess> steps(30);
    for (auto& a : steps) {
      const auto range = [&] {
        const std::uintptr_t b = random() % 120;
        return MemoryRange{b, b + random() % 10};
      };
      for (unsigned k = random() % 3; k > 0; --k) a.reads.push_back(range());
      for (unsigned k = random() % 2 + 1; k > 0; --k) a.writes.push_back(range());
    }
    const Order after = dependencies(steps);
    const auto ordered = reach(after);
    Order conflicts(steps.size());
    for (std::size_t i = 0; i < steps.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (conflict(steps[i], steps[j])) conflicts[i].push_back(static_cast<int>(j));
      }
    }
    ASSERT_EQ(ordered, reach(conflicts)) << "round " << round;

    const int most = static_cast<int>(random() % 5) + 1;
    const StreamSchedule s = schedule_streams(after, most);
    ASSERT_LE(s.streams, most);
    Order kept(steps.size());
    std::vector<int> last(static_cast<std::size_t>(most), -1);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      kept[i] = s.steps[i].waits;
      for (int w : kept[i]) ASSERT_TRUE(s.steps[static_cast<std::size_t>(w)].signals);
      int& end = last[static_cast<std::size_t>(s.steps[i].stream)];
      if (end >= 0) kept[i].push_back(end);
      end = static_cast<int>(i);
    }
    const auto by_streams = reach(kept);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        ASSERT_TRUE(!ordered[i][j] || by_streams[i][j]) << round << ": " << i << " after " << j;
      }
    }
  }
}

}  // namespace
}  // namespace tandem::graph
