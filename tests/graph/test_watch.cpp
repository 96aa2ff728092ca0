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

TEST(Watch, IsPutTogether) {
  Watch w = watch({{1, "a", "1"}});
  w.append(watch({{2, "b", "2"}, {3, "c", "3"}}));
  EXPECT_TRUE(w == watch({{1, "a", "1"}, {2, "b", "2"}, {3, "c", "3"}}));
  EXPECT_EQ(names(changes(w, watch({{1, "a", "1"}, {2, "b", "2"}, {3, "c", "7"}}))),
            Names{"Net.c"});
  EXPECT_EQ(w.parts.size(), 3U);
}

TEST(Watch, MayBeNone) {
  EXPECT_TRUE(value_of(nullptr) == Watch());
  EXPECT_EQ(&value_of(nullptr), &value_of(nullptr));
  const auto w = std::make_shared<const Watch>(watch({{1, "a", "1"}}));
  EXPECT_EQ(&value_of(w), w.get());
  EXPECT_EQ(names(changes(value_of(nullptr), *w)), Names{"Net.a"});
}

const std::vector<HostChange> kCounter{{1, "counter"}}, kOther{{2, "rate"}},
    kBoth{{1, "counter"}, {2, "rate"}}, kHook{{0, "a hook of a tensor"}},
    kFlag{{4, "requires_grad of a tensor", true}};

TEST(HarmlessChanges, AreForgivenAfterThreeRecordings) {
  HarmlessChanges h;
  EXPECT_TRUE(h.cover({}, 1));
  // Named several times by one recording, it counts once.
  const std::vector<HostChange> often{{1, "counter"}, {1, "counter"}, {1, "counter"}};
  for (std::uint64_t call = 1; call <= 3; ++call) {
    EXPECT_FALSE(h.cover(kCounter, call));
    h.note(often, call);
    h.note(kHook, call);
    h.note(kFlag, call);
  }
  std::vector<std::uint64_t> recorded;
  for (std::uint64_t call = 4; call <= 24; ++call) {
    if (h.cover(kCounter, call)) continue;
    recorded.push_back(call);
    h.note(kCounter, call);
  }
  EXPECT_EQ(recorded, (std::vector<std::uint64_t>{4, 5, 7, 11, 19}))
      << "the 1st, 2nd, 4th, 8th and 16th that is forgiven";
  EXPECT_FALSE(h.cover(kBoth, 25));
  EXPECT_FALSE(h.cover(kHook, 25)) << "it may be anything";
  EXPECT_FALSE(h.cover(kFlag, 25)) << "the tape reads it";
}

TEST(HarmlessChanges, AreForgivenForSoManyCallsOnly) {
  HarmlessChanges h;
  for (std::uint64_t call = 1; call <= 3; ++call) h.note(kCounter, call);
  for (std::uint64_t call = 4; call <= 6; ++call) h.cover(kCounter, call);
  EXPECT_FALSE(h.cover(kCounter, 300)) << "long after the last recording";
  h.note(kCounter, 300);
  EXPECT_FALSE(h.is_due(1000)) << "nothing was forgiven since";
  EXPECT_TRUE(h.cover(kCounter, 301));
  EXPECT_FALSE(h.is_due(427));
  EXPECT_TRUE(h.is_due(428)) << "also if nothing changes any more";
}

TEST(HarmlessChanges, WhatIsReadIsToldOnceAndNotForgiven) {
  HarmlessChanges h;
  h.set_reads({1});
  for (int i = 0; i < 15; ++i) h.note(kCounter, 1);
  h.note(kFlag, 1);
  EXPECT_EQ(h.take_costly(), "") << "each counts for itself";
  h.note(kCounter, 1);
  EXPECT_EQ(h.take_costly(), "counter");
  for (int i = 0; i < 40; ++i) h.note(kCounter, 1);
  EXPECT_EQ(h.take_costly(), "");
  EXPECT_FALSE(h.cover(kCounter, 7));
  for (int i = 0; i < 15; ++i) h.note(kFlag, 1);
  EXPECT_EQ(h.take_costly(), "requires_grad of a tensor");
  EXPECT_FALSE(h.cover(kFlag, 7));
}

TEST(HarmlessChanges, WhatWasForgivenBeforeItWasReadIsNotAfter) {
  HarmlessChanges h;
  for (std::uint64_t call = 1; call <= 3; ++call) h.note(kCounter, call);
  for (std::uint64_t call = 4; call <= 5; ++call) h.cover(kCounter, call);
  EXPECT_TRUE(h.cover(kCounter, 6));
  h.set_reads({1});
  EXPECT_FALSE(h.cover(kCounter, 8));
}

TEST(HarmlessChanges, AreNotForgivenWhereTheyMayBeWhyTheProgramIsAnother) {
  HarmlessChanges h;
  for (std::uint64_t call = 1; call <= 3; ++call) h.note(kBoth, call);
  for (std::uint64_t call = 4; call <= 5; ++call) h.cover(kBoth, call);
  EXPECT_TRUE(h.cover(kBoth, 6));
  EXPECT_EQ(h.blame(kBoth).size(), 2U) << "nobody knows which";
  h.set_reads({2});
  const std::vector<HostChange> why = h.blame(kBoth);
  ASSERT_EQ(why.size(), 1U) << "one is known to be read";
  EXPECT_EQ(why[0].what, "rate");
  h.set_reads({});
  h.suspect(why);
  EXPECT_FALSE(h.cover(kOther, 7));
  for (std::uint64_t call = 8; call <= 9; ++call) h.note(kOther, call);
  EXPECT_FALSE(h.cover(kOther, 10)) << "three more times";
  EXPECT_FALSE(h.cover(kCounter, 11)) << "the first that is forgiven is looked at";
  EXPECT_FALSE(h.cover(kCounter, 12));
  EXPECT_TRUE(h.cover(kCounter, 13));
}

TEST(HarmlessChanges, WhatMakesOtherProgramsAgainAndAgainIsTold) {
  HarmlessChanges h;
  for (int i = 0; i < 15; ++i) h.blame(kOther);
  EXPECT_EQ(h.take_costly(), "");
  h.blame(kOther);
  EXPECT_EQ(h.take_costly(), "rate");
}

TEST(HarmlessChanges, WhatTwoRecordingsChangeIsTheFunctionsOwn) {
  HarmlessChanges h;
  h.note_own({1, 2});
  EXPECT_FALSE(h.cover(kCounter, 1)) << "another thread may have changed it";
  h.note_own({1});
  EXPECT_TRUE(h.cover(kCounter, 1));
  EXPECT_FALSE(h.cover(kOther, 1));
  h.note_own({2});
  EXPECT_FALSE(h.cover(kOther, 1)) << "not two times running";
}

TEST(HostChanges, AreKnownOnceSinceAnEpoch) {
  const std::uint64_t before = host_epoch();
  for (int i = 0; i < 5000; ++i) note_host_change({7, "Net.rate"});
  note_host_change({0, "a hook of a test"});
  EXPECT_EQ(host_epoch(), before + 5001);
  EXPECT_EQ(names(host_changes_since(before)), (Names{"a hook of a test", "Net.rate"}));
  EXPECT_EQ(names(host_changes_since(before + 5000)), Names{"a hook of a test"});
  EXPECT_TRUE(host_changes_since(before + 5001).empty());
}

TEST(HostChanges, ToggledBackIsNone) {
  const auto toggle = [](Subject s) { note_host_change({s, "a flag", true}); };
  const Subject a = new_subject(), b = new_subject();
  EXPECT_NE(a, b);
  const std::uint64_t before = host_epoch();
  toggle(a);
  EXPECT_EQ(names(host_changes_since(before)), Names{"a flag"});
  toggle(b);
  EXPECT_EQ(host_changes_since(before).size(), 2U);
  EXPECT_EQ(host_changes_since(before + 1).size(), 1U);
  toggle(a);
  EXPECT_EQ(names(host_changes_since(before)), Names{"a flag"}) << "of b";
  EXPECT_EQ(host_changes_since(before + 1).size(), 2U) << "between the two of a";
  toggle(b);
  EXPECT_TRUE(host_changes_since(before).empty());
  for (int i = 0; i < 100; ++i) toggle(a);
  EXPECT_EQ(host_changes_since(before).size(), 1U) << "so often that nobody knows how often";
  EXPECT_TRUE(host_changes_since(before + 4 + 90).empty());
  EXPECT_EQ(host_changes_since(before + 4 + 91).size(), 1U);
}

TEST(HostChanges, OfLongAgoThereIsSomeUnknownOne) {
  const std::uint64_t before = host_epoch();
  for (Subject s = 1000; s < 4000; ++s) note_host_change({s, "Net.rate"});
  const std::vector<HostChange> all = host_changes_since(before);
  EXPECT_LT(all.size(), 2000U);
  EXPECT_EQ(all.back().subject, 0U);
  EXPECT_EQ(host_changes_since(before + 2999).size(), 1U);
  EXPECT_EQ(host_changes_since(before + 2999)[0].subject, 3999U);
}

}  // namespace
}  // namespace tandem::graph
