#include "graph/watch.h"

#include <gtest/gtest.h>

#include <vector>

namespace tandem::graph {
namespace {

struct Entry {
  Subject subject;
  std::string name, value;
};
Watch watch(const std::vector<Entry>& entries) {
  Watch w;
  for (const Entry& e : entries) {
    w.begin(e.subject, {"Net.", e.name});
    w.text += e.value;
  }
  return w;
}

std::vector<std::string> names(const std::vector<HostChange>& changes) {
  std::vector<std::string> all;
  for (const HostChange& c : changes) all.push_back(c.what);
  return all;
}
using Names = std::vector<std::string>;

TEST(Watch, SaysWhatDiffers) {
  const Watch was = watch({{1, "a", "1"}, {2, "b", "2"}, {3, "c", "3"}});
  EXPECT_EQ(names(changes(was, was)), Names());
  EXPECT_EQ(names(changes(was, watch({{1, "a", "1"}, {2, "b", "9"}, {3, "c", "4"}}))),
            (Names{"Net.b", "Net.c"}));
  EXPECT_FALSE(was == watch({{1, "a", "1"}, {2, "b", "9"}, {3, "c", "3"}}));
}

TEST(Watch, SaysWhatCameAndWent) {
  const Watch was = watch({{1, "a", "1"}, {2, "b", "2"}});
  EXPECT_EQ(names(changes(was, watch({{3, "c", "3"}, {2, "b", "2"}, {1, "a", "1"}}))),
            Names{"Net.c"});
  EXPECT_EQ(names(changes(was, watch({{2, "b", "2"}}))), Names{"Net.a"});
  // A part more of the same thing.
  EXPECT_EQ(names(changes(was, watch({{1, "a", "1"}, {1, "a", "5"}, {2, "b", "2"}}))),
            Names{"Net.a"});
}

TEST(Watch, KeepsItsFirstParts) {
  Watch w = watch({{1, "a", "1"}});
  w.append(watch({{2, "b", "2"}, {3, "c", "3"}}));
  EXPECT_TRUE(w == watch({{1, "a", "1"}, {2, "b", "2"}, {3, "c", "3"}}));
  EXPECT_EQ(names(changes(w, watch({{1, "a", "1"}, {2, "b", "2"}, {3, "c", "7"}}))),
            Names{"Net.c"});
  w.keep(1);
  EXPECT_TRUE(w == watch({{1, "a", "1"}}));
  w.keep(5);
  EXPECT_EQ(w.parts.size(), 1U);
}

TEST(HarmlessChanges, AreForgivenAfterThreeRecordings) {
  const std::vector<HostChange> counter{{1, "counter"}}, both{{1, "counter"}, {2, "rate"}},
      unknown{{}};
  HarmlessChanges h;
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(h.cover(counter));
    h.note(counter);
    h.note(unknown);
  }
  EXPECT_TRUE(h.cover(counter));
  EXPECT_FALSE(h.cover(both));
  EXPECT_FALSE(h.cover(unknown)) << "it may be anything";
  EXPECT_TRUE(h.cover({}));
}

TEST(HarmlessChanges, WhatIsReadIsToldOnceAndNotForgiven) {
  const std::vector<HostChange> counter{{1, "counter"}};
  HarmlessChanges h;
  h.set_reads({1});
  for (int i = 0; i < 15; ++i) h.note(counter);
  EXPECT_EQ(h.take_costly(), "");
  h.note(counter);
  EXPECT_EQ(h.take_costly(), "counter");
  for (int i = 0; i < 40; ++i) h.note(counter);
  EXPECT_EQ(h.take_costly(), "");
  EXPECT_FALSE(h.cover(counter));
  // Forgiven before it was read.
  HarmlessChanges later;
  for (int i = 0; i < 3; ++i) later.note(counter);
  EXPECT_TRUE(later.cover(counter));
  later.set_reads({1});
  EXPECT_FALSE(later.cover(counter));
  const std::vector<HostChange> flag{{0, "requires_grad of a tensor"}};
  for (int i = 0; i < 16; ++i) later.note(flag);
  EXPECT_EQ(later.take_costly(), "requires_grad of a tensor");
  EXPECT_FALSE(later.cover(flag));
}

TEST(HarmlessChanges, WhatTheFunctionItselfChangesIsForgivenAtOnce) {
  HarmlessChanges h;
  const std::vector<Subject> own{5};
  h.forgive(own);
  EXPECT_TRUE(h.cover(std::vector<HostChange>{{5, "calls"}}));
}

TEST(HostChanges, AreKnownSinceAnEpoch) {
  const std::uint64_t before = host_epoch();
  note_host_change({7, "Net.rate"});
  note_host_change({0, "a hook"});
  EXPECT_EQ(host_epoch(), before + 2);
  EXPECT_EQ(names(host_changes_since(before)), (Names{"Net.rate", "a hook"}));
  EXPECT_EQ(names(host_changes_since(before + 1)), Names{"a hook"});
  EXPECT_TRUE(host_changes_since(before + 2).empty());
}

TEST(HostChanges, OfLongAgoThereIsSomeUnknownOne) {
  const std::uint64_t before = host_epoch();
  for (int i = 0; i < 1000; ++i) note_host_change({7, "Net.rate"});
  const std::vector<HostChange> all = host_changes_since(before);
  EXPECT_LT(all.size(), 1000U);
  EXPECT_EQ(all.back().subject, 0U);
  EXPECT_EQ(host_changes_since(before + 999).size(), 1U);
}

}  // namespace
}  // namespace tandem::graph
