// The ladder on a device that runs behind the host, real or emulated.
#include <gtest/gtest.h>

#include "benchmarks/tradeoff/device_clock.h"
#include "benchmarks/tradeoff/hand_graph.h"
#include "benchmarks/tradeoff/report.h"
#include "core/error.h"
#include "core/profiler.h"
#include "tests/benchmarks/tiny.h"
#include "tests/on_gpu.h"
#include "tests/op_cases.h"

namespace tandem::tradeoff {
namespace {

using Kind = Rung::Kind;
using DeviceLadder = testing::GpuByDefault;

std::size_t named(const LadderResult& r, const std::string& name) {
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    if (r.arms[i].rung.name == name) return i;
  }
  ADD_FAILURE() << "no arm " << name;
  return 0;
}

TEST(DeviceRungs, TheGraphIsAFactorOfItsOwn) {
  const auto rungs = make_rungs(graph::all_passes(), false, true, true);
  EXPECT_EQ(rungs[2].kind, Kind::by_hand);
  EXPECT_FALSE(rungs[2].setting.compiled);
  std::vector<const Rung*> steps, outs;
  for (const Rung& r : rungs) {
    if (r.kind == Kind::step) steps.push_back(&r);
    if (r.kind == Kind::leave_out) outs.push_back(&r);
  }
  for (const Rung* r : steps) {
    EXPECT_EQ(r->setting.options().device_graph, r == steps.back()) << r->name;
  }
  Setting before = steps.back()->setting;
  EXPECT_EQ(steps.back()->factor, "device graph");
  before.device_graph = false;
  EXPECT_EQ(before, steps[steps.size() - 2]->setting);

  // Without the memory plan there is no graph; every other one lacks one thing.
  EXPECT_FALSE(outs[0]->setting.memory_plan);
  EXPECT_FALSE(outs[0]->setting.device_graph);
  for (std::size_t i = 1; i + 1 < outs.size(); ++i) {
    EXPECT_TRUE(outs[i]->setting.device_graph);
    EXPECT_EQ(outs[i]->setting.passes.size(), steps.back()->setting.passes.size() - 1);
  }
  EXPECT_EQ(outs.back()->factor, "device graph");
  EXPECT_EQ(outs.back()->setting, before);

  for (const Rung& r : make_rungs(graph::all_passes())) {
    EXPECT_FALSE(r.setting.device_graph || r.kind == Kind::by_hand) << r.name;
  }
}

TEST_F(DeviceLadder, TellsHostBusyAndIdleTimeApart) {
  LadderOptions o = brief();
  o.least_rounds = 3;
  o.most_rounds = 4;
  bool forecast_made = false;
  o.on_forecast = [&](const LadderResult& r) {
    forecast_made = true;
    const Forecast f = forecast(r);
    EXPECT_GT(f.kernel_ms, 0);
    EXPECT_GT(f.host_ms, 0);
    EXPECT_GT(f.step_ms, 0);
    EXPECT_NE(forecast_text(r).find("the device is busy"), std::string::npos);
    for (const KernelTime& k : r.eager_kernels) EXPECT_NE(k.op, "graph");
  };
  const LadderResult r = run_ladder(tiny(), o);  // throws unless all arms compute the same
  EXPECT_TRUE(forecast_made);
  EXPECT_TRUE(r.asynchronous);
  EXPECT_NE(r.busy_from, BusyFrom::none);
  const Summary s = summarise(r);
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    const Arm& a = r.arms[i];
    EXPECT_GT(a.busy_ms, 0) << a.rung.name;
    EXPECT_GT(a.host_ms, 0) << a.rung.name;
    EXPECT_GE(s.arms[i].idle_ms, 0) << a.rung.name;
    EXPECT_GE(s.arms[i].idle_part, 0) << a.rung.name;
    EXPECT_LT(s.arms[i].idle_part, 1) << a.rung.name;
    EXPECT_LE(s.arms[i].step_ms.median, a.busy_ms + s.arms[i].idle_ms + 1e-9) << a.rung.name;
    EXPECT_EQ(a.put_in_ms.size(), a.step_ms.size()) << a.rung.name;
  }

  const Arm &eager = r.eager(), &bare = r.arms[r.first_replay()], &all = r.arms[r.all_on()];
  EXPECT_EQ(bare.launches, eager.launches);
  EXPECT_EQ(bare.record_ms, 0) << "launch by launch";
  EXPECT_EQ(all.rung.name, "+ device graph");
  EXPECT_FALSE(all.same_as.has_value());
  EXPECT_EQ(all.launches, 1);
  EXPECT_GT(all.record_ms, 0);
  const Arm& no_graph = r.arms[named(r, "without device graph")];
  EXPECT_GT(no_graph.launches, 1);
  EXPECT_TRUE(no_graph.same_as.has_value()) << "it is the rung before the graph";

  // By hand: two arguments copied, one graph, nothing allocated.
  ASSERT_TRUE(r.by_hand().has_value());
  const Arm& hand = r.arms[*r.by_hand()];
  EXPECT_EQ(hand.launches, 3);
  EXPECT_EQ(hand.allocations, 0);
  EXPECT_GT(hand.record_ms, 0);
  EXPECT_GE(hand.peak_bytes, hand.held_bytes);
  EXPECT_GT(hand.held_bytes, 0u);
  EXPECT_TRUE(s.compiled_to_by_hand.has_value());
  EXPECT_NE(s.arms[*r.by_hand()].break_even.kind, BreakEven::Kind::none);

  const std::string words = text(r, s);
  for (const char* has : {"busy", "idle", "eager, graph by hand", "+ device graph = all on"}) {
    EXPECT_NE(words.find(has), std::string::npos) << has;
  }
  const auto j = to_json(r, s);
  EXPECT_EQ(j["arms"][0]["busy_ms"], eager.busy_ms);
  EXPECT_EQ(j["arms"][0]["host_samples_ms"].size(), static_cast<std::size_t>(r.rounds));
  EXPECT_TRUE(j["arms"][r.all_on()]["device_graph"]);
  EXPECT_EQ(nlohmann::json::parse(j.dump()), j);
}

TEST_F(DeviceLadder, AStepThatWaitsCannotBeRecordedByHand) {
  const graph::TensorFunction reads = [](std::span<const Tensor> in) {
    const Tensor sum = in[0].sum();
    return std::vector<Tensor>{in[0] * sum.item<float>()};
  };
  HandGraph h(reads, default_device());
  const std::vector<Tensor> x{full({4}, 2.0)};
  EXPECT_EQ(h.run(x).at(0).to_vector<float>(), std::vector<float>(4, 16));
  EXPECT_THROW(h.run(x), DeviceError);
  // The stream is whole again.
  EXPECT_EQ(reads(x).at(0).to_vector<float>(), std::vector<float>(4, 16));
}

// What is between replays must not get the memory that the graph writes.
TEST_F(DeviceLadder, AGraphByHandKeepsItsMemory) {
  const graph::TensorFunction chain = [](std::span<const Tensor> in) {
    return std::vector<Tensor>{exp(in[0] + 1) * 2 + in[0]};
  };
  HandGraph h(chain, default_device());
  for (int i = 0; i < 5; ++i) {
    const std::vector<Tensor> x{full({300}, 0.25 * i)};
    const Tensor made = h.run(x).at(0), other = full({300}, 7.0), want = chain(x).at(0);
    EXPECT_EQ(cases::compare_bits(made, want), "") << i;
    EXPECT_EQ(other.to_vector<float>(), std::vector<float>(300, 7)) << i;
  }
  EXPECT_GT(h.peak_bytes(), 0u);
  EXPECT_GT(h.record_ms(), 0);
}

TEST_F(DeviceLadder, EventsTimeLaunchesWithoutWaiting) {
  const Tensor x = rand({256});
  const HeadStart head_start(default_device());
  EXPECT_GE(head_start.event_ns(), 0);
  s->synchronize();
  head_start.put(0.1);
  profiler::start_on_device(default_device());
  const Tensor y = exp(x) + 1;
  const auto events = profiler::stop();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_STREQ(events[0].op, "exp");
  EXPECT_STREQ(events[1].op, "add");
  EXPECT_EQ(events[0].start_ns, 0);
  EXPECT_LT(events[0].start_ns, events[0].end_ns);
  EXPECT_LE(events[0].end_ns, events[1].start_ns);
  EXPECT_LT(events[1].start_ns, events[1].end_ns);
}

TEST_F(DeviceLadder, AGraphIsOneLaunch) {
  auto fast = compile([](const Tensor& x) { return exp(x).sum() * 2; }, {.without = {"fuse"}});
  const Tensor x = rand({8}), other = rand({8});
  for (int i = 0; i < 3; ++i) fast(x);
  const auto before = profiler::launches();
  // The recording for other addresses is none of the profiler's business: a wait would break it.
  profiler::start();
  fast(x);
  fast(other);
  const auto events = profiler::stop();
  EXPECT_EQ(profiler::launches() - before, 2u);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_STREQ(events[0].op, "graph");
  EXPECT_LT(events[0].start_ns, events[0].end_ns);
}

// ----------------------------------------------------------------------------------- activity

TEST(BusyTime, IsTheUnion) {
  constexpr std::uint64_t ms = 1'000'000;
  EXPECT_EQ(busy_ms({}), 0);
  EXPECT_DOUBLE_EQ(busy_ms({{5 * ms, 7 * ms}, {1 * ms, 2 * ms}}), 3);
  EXPECT_DOUBLE_EQ(busy_ms({{1 * ms, 4 * ms}, {2 * ms, 3 * ms}, {3 * ms, 6 * ms}}), 5);
  EXPECT_DOUBLE_EQ(busy_ms({{1 * ms, 2 * ms}, {2 * ms, 4 * ms}}), 3);
}

struct FakeRecorder final : ActivityRecorder {
  void start() override {
    ++starts;
    if (refuse) fail<DeviceError>("cupti", "not allowed");
  }
  std::vector<Activity> stop() override { return {{1'000'000, 3'000'000}, {2'000'000, 4'000'000}}; }
  bool refuse = false;
  int starts = 0;
};

TEST(ActivityProbe, AsksUntilItIsRefused) {
  FakeRecorder recorder;
  ActivityProbe probe(&recorder);
  int runs = 0;
  const auto work = [&] { ++runs; };
  const auto busy = probe.during(work);
  ASSERT_TRUE(busy.has_value());
  EXPECT_DOUBLE_EQ(busy->busy_ms, 3);
  EXPECT_DOUBLE_EQ(busy->kernel_ms, 4);
  EXPECT_EQ(busy->kernels, 2u);
  recorder.refuse = true;
  EXPECT_FALSE(probe.during(work).has_value());
  EXPECT_NE(probe.why_not().find("not allowed"), std::string::npos);
  EXPECT_FALSE(probe.during(work).has_value());
  EXPECT_EQ(recorder.starts, 2);
  EXPECT_EQ(runs, 3) << "the work is done in any case";

  ActivityProbe nobody(nullptr);
  EXPECT_FALSE(nobody.during(work).has_value());
  EXPECT_EQ(runs, 4);
}

// ----------------------------------------------------------------------------------- summary

// Eager 10 ms of which 4 busy, by hand 5, replay 7, + memory plan 6, + device graph 4.5.
LadderResult made_up() {
  LadderResult r;
  const double ms[] = {10, 10, 5, 7, 6, 4.5};
  std::size_t i = 0;
  for (const Rung& rung : make_rungs({}, false, false, true)) {
    Arm& a = r.arms.emplace_back();
    a.rung = rung;
    a.busy_ms = 4;
    a.record_ms = rung.setting.device_graph ? 2 : 0;
    a.compile_ms = rung.setting.compiled ? 1 : 0;
    for (int k = 0; k < 7; ++k) a.step_ms.push_back(ms[i]);
    ++i;
  }
  r.asynchronous = true;
  r.busy_from = BusyFrom::events;
  r.profile = {10, 9.5, 4};
  r.eager_kernels = {{"conv2d", false, 2, 3}, {"relu", true, 3, 1}};
  r.rounds = 7;
  r.notes = {"something could not be measured"};
  return r;
}

TEST(DeviceSummary, IdleTimeAndTheArmByHand) {
  const LadderResult r = made_up();
  const Summary s = summarise(r);
  EXPECT_DOUBLE_EQ(s.arms[0].idle_ms, 6);
  EXPECT_DOUBLE_EQ(s.arms[0].idle_part, 0.6);
  EXPECT_DOUBLE_EQ(s.arms[r.all_on()].idle_ms, 0.5);
  EXPECT_DOUBLE_EQ(s.compiled_to_by_hand->median, 0.9);
  EXPECT_EQ(s.factors.back().name, "device graph");
  EXPECT_DOUBLE_EQ(s.factors.back().added_ms.median, 1.5);
  EXPECT_EQ(s.arms[r.all_on()].break_even.steps, 1);  // 3 ms at 5.5 ms a step
  const std::string words = text(r, s);
  EXPECT_NE(words.find("something could not be measured"), std::string::npos);
  EXPECT_NE(words.find("idle 60.0 %"), std::string::npos);
  EXPECT_EQ(to_json(r, s)["busy_from"], "events");
}

TEST(DeviceSummary, Forecast) {
  LadderResult r = made_up();
  Forecast f = forecast(r);
  EXPECT_EQ(f.bound, Forecast::Bound::host);
  EXPECT_DOUBLE_EQ(f.idle_ms, 6);
  EXPECT_DOUBLE_EQ(f.host_part, 0.6);
  EXPECT_DOUBLE_EQ(f.host_ms, 9.5);
  EXPECT_NE(forecast_text(r).find("Host-bound"), std::string::npos);
  EXPECT_EQ(to_json(r, summarise(r))["forecast"]["bound"], "host-bound");
  r.profile.busy_ms = 8;
  EXPECT_EQ(forecast(r).bound, Forecast::Bound::mixed);
  r.profile.busy_ms = 9.5;
  EXPECT_EQ(forecast(r).bound, Forecast::Bound::kernels);
  EXPECT_NE(forecast_text(r).find("Device-bound"), std::string::npos);
  r.profile.busy_ms = 11;  // clocks do not agree to the last digit
  EXPECT_EQ(forecast(r).idle_ms, 0);
}

}  // namespace
}  // namespace tandem::tradeoff
