#include <gtest/gtest.h>

#include "benchmarks/tradeoff/report.h"
#include "core/backend.h"
#include "core/error.h"
#include "tests/benchmarks/tiny.h"

namespace tandem::tradeoff {
namespace {

using Kind = Rung::Kind;

std::vector<const Rung*> of_kind(const std::vector<Rung>& rungs, Kind k) {
  std::vector<const Rung*> out;
  for (const Rung& r : rungs) {
    if (r.kind == k) out.push_back(&r);
  }
  return out;
}

TEST(Ladder, Rungs) {
  const auto rungs = make_rungs(graph::all_passes());
  EXPECT_EQ(rungs[0].kind, Kind::eager);
  EXPECT_FALSE(rungs[0].setting.compiled);
  EXPECT_EQ(of_kind(rungs, Kind::control).size(), 1u);

  // Each rung has exactly one thing more than the one before.
  const auto steps = of_kind(rungs, Kind::step);
  std::size_t exact = 0;
  for (const auto& p : graph::all_passes()) exact += p.exactness == Exactness::exact;
  ASSERT_EQ(steps.size(), exact + 2);
  EXPECT_TRUE(steps[0]->setting.compiled);
  EXPECT_FALSE(steps[0]->setting.memory_plan);
  EXPECT_TRUE(steps[0]->setting.passes.empty());
  EXPECT_EQ(steps[0]->setting.options().without.size(), graph::all_passes().size());
  EXPECT_TRUE(steps[1]->setting.memory_plan);
  for (std::size_t i = 2; i < steps.size(); ++i) {
    auto passes = steps[i]->setting.passes;
    EXPECT_EQ(passes.back(), steps[i]->factor);
    passes.pop_back();
    EXPECT_EQ(passes, steps[i - 1]->setting.passes);
  }
  EXPECT_EQ(steps.back()->setting.options().without.size(), graph::all_passes().size() - exact);
  EXPECT_FALSE(steps.back()->setting.options().fast);

  // Each leave-out has exactly one thing less than all on.
  const auto outs = of_kind(rungs, Kind::leave_out);
  ASSERT_EQ(outs.size(), exact + 1);
  EXPECT_FALSE(outs[0]->setting.memory_plan);
  EXPECT_EQ(outs[0]->setting.passes, steps.back()->setting.passes);
  for (std::size_t i = 1; i < outs.size(); ++i) {
    EXPECT_EQ(outs[i]->setting.passes.size(), exact - 1);
    EXPECT_EQ(
        std::count(outs[i]->setting.passes.begin(), outs[i]->setting.passes.end(), outs[i]->factor),
        0);
  }
  EXPECT_TRUE(of_kind(make_rungs(graph::all_passes(), false, false), Kind::leave_out).empty());
}

TEST(Ladder, InexactPassesComeLastAndOnlyWhenAsked) {
  const graph::Pass passes[] = {{"a", Exactness::reassociating, "", nullptr},
                                {"b", Exactness::exact, "", nullptr}};
  const auto all_on = [&](bool inexact) {
    const auto rungs = make_rungs(passes, inexact);
    return of_kind(rungs, Kind::step).back()->setting.passes;
  };
  EXPECT_EQ(all_on(false), std::vector<std::string>{"b"});
  EXPECT_EQ(all_on(true), (std::vector<std::string>{"b", "a"}));
}

TEST(Ladder, MeasuresEveryArm) {
  LadderOptions o = brief();
  int forecasts = 0;
  o.on_forecast = [&](const LadderResult& r) {
    ++forecasts;
    EXPECT_EQ(r.arms.size(), 1u);  // nothing has been compiled yet
    EXPECT_GT(r.eager().kernel_ms, 0);
    EXPECT_FALSE(forecast_text(r).empty());
  };
  const LadderResult r = run_ladder(tiny(), o);
  EXPECT_EQ(forecasts, 1);
  const bool graphs = backend(default_device()).has_graphs();
  EXPECT_EQ(r.arms.size(), make_rungs(graph::all_passes(), false, true, graphs).size());
  EXPECT_EQ(r.checked_steps, 5);
  EXPECT_FALSE(r.stopped);
  EXPECT_GE(r.rounds, o.least_rounds);
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    const Arm& a = r.arms[i];
    EXPECT_EQ(r.samples(i).size(), static_cast<std::size_t>(r.rounds)) << a.rung.name;
    EXPECT_EQ(a.step_ms.empty(), a.same_as.has_value()) << a.rung.name;
    for (const double ms : r.samples(i)) EXPECT_GT(ms, 0);
    EXPECT_GT(a.launches, 0);
    EXPECT_GT(a.peak_bytes, 0u);
    if (a.same_as) {
      EXPECT_FALSE(r.arms[*a.same_as].same_as.has_value());
    }
    if (a.rung.setting.compiled) {
      EXPECT_GT(a.compile_ms, 0);
    }
  }
  // The control is the same program, so it launches and allocates the same.
  EXPECT_EQ(r.arms[1].launches, r.eager().launches);
  EXPECT_EQ(r.arms[1].allocations, r.eager().allocations);
  // Replay launches what eager launches; the plan takes the allocations away.
  const std::size_t bare = r.first_replay();
  EXPECT_EQ(r.arms[bare].launches, r.eager().launches);
  EXPECT_LT(r.arms[bare + 1].allocations, r.arms[bare].allocations);
#ifndef __SANITIZE_ADDRESS__  // under which nothing is cached
  EXPECT_EQ(r.arms[r.all_on()].system_allocations, 0);
#endif

  const Summary s = summarise(r);
  const std::string words = text(r, s);
  EXPECT_NE(words.find("all on"), std::string::npos);
  const auto j = to_json(r, s);
  EXPECT_EQ(j["arms"].size(), r.arms.size());
  EXPECT_EQ(j["arms"][0]["samples_ms"].size(), static_cast<std::size_t>(r.rounds));
  EXPECT_EQ(nlohmann::json::parse(j.dump()), j);
}

TEST(Ladder, FixedNumberOfStepsAndStopping) {
  LadderOptions o = brief();
  o.leave_out = false;
  o.steps = 4;
  LadderResult r = run_ladder(tiny(), o);
  EXPECT_EQ(r.rounds * r.steps_per_sample, 4);
  EXPECT_FALSE(summarise(r).interaction_ms.has_value());

  o = brief();
  o.leave_out = false;
  o.stop = [] { return true; };
  r = run_ladder(tiny(), o);
  EXPECT_EQ(r.rounds, 1);
  EXPECT_TRUE(r.stopped);
}

// Every arm that is made draws another number: no two arms compute the same.
TEST(Ladder, RefusesArmsThatComputeSomethingElse) {
  static double factor;
  factor = 1;
  Workload w = tiny([] { return factor; });
  const auto make = w.make;
  w.make = [make] {
    factor += 1;
    return make();
  };
  for (const bool inexact : {false, true}) {  // of which only some arms are
    LadderOptions o = brief();
    o.inexact = inexact;
    try {
      run_ladder(w, o);
      FAIL() << "no error";
    } catch (const InternalError& e) {
      EXPECT_NE(std::string(e.what()).find("bit for bit"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("step 1"), std::string::npos) << e.what();
    }
  }
}

TEST(Ladder, RefusesBadOptions) {
  LadderOptions o = brief();
  o.verify_steps = 1;
  EXPECT_THROW(run_ladder(tiny(), o), ValueError);
  Workload w = tiny();
  w.batches.clear();
  EXPECT_THROW(run_ladder(w, brief()), ValueError);
  EXPECT_THROW(make_workload({.recipe = "alexnet"}), ValueError);
  EXPECT_THROW(make_optimiser("lion", {}, 1, 0, 0), ValueError);
}

TEST(Workload, RecipesAreNamedAsTheModels) {
  const auto names = models::model_names();
  for (const Recipe& r : recipes()) {
    EXPECT_NE(std::find(names.begin(), names.end(), r.name), names.end()) << r.name;
  }
  EXPECT_THROW(find_recipe("vgg"), ValueError);
}

// ----------------------------------------------------------------------------------- summary

// eager 10, bare replay 9, + memory plan 8, + p 6, + q 6 (the same program); leave-outs: without
// memory plan 6.5, without p 8, without q the same as all on. All rounds alike but for a drift.
LadderResult made_up() {
  LadderResult r;
  const graph::Pass passes[] = {{"p", Exactness::exact, "does p", nullptr},
                                {"q", Exactness::exact, "does q", nullptr}};
  const double ms[] = {10, 10, 9, 8, 6, 0, 6.5, 8, 0};
  std::size_t i = 0;
  for (const Rung& rung : make_rungs(passes)) {
    Arm& a = r.arms.emplace_back();
    a.rung = rung;
    a.capture_ms = 3;
    a.compile_ms = 4;
    if (rung.factor == "q") {
      a.same_as = 4;
    } else {
      for (int k = 0; k < 11; ++k) a.step_ms.push_back(ms[i] * (1 + 0.01 * k));
    }
    ++i;
  }
  r.arms[0].kernel_ms = 9.8;
  r.arms[0].host_ms = 0.2;
  r.eager_kernels = {{"conv2d", false, 2, 7}, {"relu", true, 3, 2.8}};
  r.rounds = 11;
  return r;
}

TEST(Summary, RatiosFactorsAndInteraction) {
  const LadderResult r = made_up();
  EXPECT_EQ(r.first_replay(), 2u);
  EXPECT_EQ(r.all_on(), 5u);
  const Summary s = summarise(r);
  EXPECT_DOUBLE_EQ(s.arms[5].ratio.median, 0.6);  // stands for the arm it equals
  EXPECT_NEAR(s.arms[5].ratio.low, 0.6, 1e-12);
  EXPECT_TRUE(s.arms[5].ratio.excludes(1));
  EXPECT_DOUBLE_EQ(s.arms[1].ratio.median, 1);

  ASSERT_EQ(s.factors.size(), 4u);
  const double mid = 1.05;  // the drift of the middle round
  EXPECT_EQ(s.factors[0].name, "replay");
  EXPECT_NEAR(s.factors[0].added_ms.median, 1 * mid, 1e-9);
  EXPECT_FALSE(s.factors[0].lost_ms.has_value());
  EXPECT_NEAR(s.factors[1].added_ms.median, 1 * mid, 1e-9);
  EXPECT_NEAR(s.factors[1].lost_ms->median, 0.5 * mid, 1e-9);
  EXPECT_NEAR(s.factors[2].added_ms.median, 2 * mid, 1e-9);
  EXPECT_FALSE(s.factors[2].found_nothing);
  EXPECT_TRUE(s.factors[3].found_nothing);
  EXPECT_EQ(s.factors[3].added_ms.median, 0);
  // Together 3; missed one by one 0.5 + 2 + 0.
  EXPECT_NEAR(s.together_ms.median, 3 * mid, 1e-9);
  EXPECT_NEAR(s.interaction_ms->median, 0.5 * mid, 1e-9);
  EXPECT_NE(text(r, s).find("overlap"), std::string::npos);

  EXPECT_EQ(s.arms[0].break_even.kind, BreakEven::Kind::none);
  EXPECT_EQ(s.arms[2].break_even.kind, BreakEven::Kind::after);
  EXPECT_EQ(s.arms[2].break_even.steps, 7);  // 7 ms at 1.05 ms a step
}

// p saves 0.04 ms of 10 in every round, so that its interval leaves out 0; but eager differs from
// itself by up to 0.5 %.
TEST(Summary, WhatIsSmallerThanTheControlsBoundIsNoise) {
  LadderResult r = made_up();
  for (int k = 0; k < 11; ++k) {
    const auto i = static_cast<std::size_t>(k);
    r.arms[1].step_ms[i] = r.arms[0].step_ms[i] * (1 + 0.001 * (k - 5));
    r.arms[4].step_ms[i] = r.arms[3].step_ms[i] - 0.04;
    r.arms[7].step_ms[i] = r.arms[4].step_ms[i] + 0.04;
  }
  Summary s = summarise(r);
  const Interval control = s.arms[1].ratio;
  EXPECT_DOUBLE_EQ(s.noise_part, std::max(control.high - 1, 1 - control.low));
  EXPECT_NEAR(s.noise_part, 0.004, 1e-9);  // of 11 rounds the outermost do not count
  EXPECT_DOUBLE_EQ(s.noise_ms, s.noise_part * s.arms[0].step_ms.median);
  ASSERT_EQ(s.factors[2].name, "p");
  ASSERT_TRUE(s.factors[2].added_ms.excludes(0));
  EXPECT_FALSE(s.beyond_noise(s.factors[2].added_ms));
  EXPECT_TRUE(s.beyond_noise(s.factors[1].added_ms));
  const auto one_line = [](std::string t) {
    for (std::size_t at; (at = t.find("\n  ")) != std::string::npos;) t.replace(at, 3, " ");
    return t;
  };
  std::string words = one_line(text(r, s));
  EXPECT_NE(words.find("Differences below 0.40 %"), std::string::npos) << words;
  EXPECT_NE(words.find("told from noise when added: memory plan saves 1.050 ms."),
            std::string::npos)
      << words;
  EXPECT_NE(words.find("No effect that can be told from noise: p."), std::string::npos) << words;
  nlohmann::json j = to_json(r, s);
  EXPECT_EQ(j["factors"][2]["beyond_noise"], false);
  EXPECT_EQ(j["factors"][1]["beyond_noise"], true);
  EXPECT_EQ(j["noise"]["ms"], s.noise_ms);

  // Too few rounds for an interval.
  EXPECT_FALSE(s.beyond_noise({1, 1, 1, 5}));
  EXPECT_TRUE(s.beyond_noise({1, 1, 1, 6}));

  // The same of all on against eager, what pays off, and the interaction.
  for (Arm& a : r.arms) {
    if (a.same_as) continue;
    for (std::size_t k = 0; k < 11 && &a != &r.arms[1]; ++k) {
      a.step_ms[k] = r.arms[0].step_ms[k] - (&a == &r.arms[0] ? 0 : 0.01);
    }
  }
  s = summarise(r);
  const std::size_t all = r.all_on();
  ASSERT_TRUE(s.arms[all].ratio.excludes(1));
  words = one_line(text(r, s));
  EXPECT_NE(words.find("take the same time as far as this can tell"), std::string::npos) << words;
  EXPECT_NE(words.find("noise does not let us tell from nothing"), std::string::npos) << words;
  EXPECT_NE(words.find("within the noise"), std::string::npos) << words;
  EXPECT_EQ(s.arms[all].break_even.str(), "unclear");
  j = to_json(r, s);
  EXPECT_EQ(j["arms"][all]["beyond_noise"], false);
}

TEST(Summary, BreakEven) {
  EXPECT_EQ(break_even(10, {2, 1, 3, 20}).str(), "5 steps");
  EXPECT_EQ(break_even(1, {2, 1, 3, 20}).str(), "1 step");
  EXPECT_EQ(break_even(10, {2, -1, 3, 20}).kind, BreakEven::Kind::unclear);
  EXPECT_EQ(break_even(10, {-2, -3, 1, 20}).str(), "unclear");
  EXPECT_EQ(break_even(10, {-2, -3, -1, 20}).str(), "never");
  EXPECT_EQ(break_even(10, {0, 0, 0, 20}).str(), "never");
  EXPECT_EQ(break_even(10, {2, 1, 3, 5}).str(), "unclear");
  EXPECT_EQ(break_even(10, {2, 1, 3, 20}, 2.5).str(), "unclear");
  EXPECT_EQ(break_even(10, {-2, -3, -1, 20}, 2.5).str(), "unclear");
  EXPECT_EQ(break_even(10, {2, 1, 3, 20}, 1.5).str(), "5 steps");
}

TEST(Summary, Forecast) {
  LadderResult r = made_up();
  Forecast f = forecast(r);
  EXPECT_EQ(f.bound, Forecast::Bound::kernels);
  EXPECT_DOUBLE_EQ(f.host_part, 0.02);
  EXPECT_DOUBLE_EQ(f.elementwise_ms, 2.8);
  EXPECT_EQ(f.elementwise_launches, 3);
  r.arms[0].host_ms = 2;
  EXPECT_EQ(forecast(r).bound, Forecast::Bound::mixed);
  r.arms[0].host_ms = 20;
  EXPECT_EQ(forecast(r).bound, Forecast::Bound::host);
  EXPECT_NE(forecast_text(r).find("Launch-bound"), std::string::npos);
}

}  // namespace
}  // namespace tandem::tradeoff
