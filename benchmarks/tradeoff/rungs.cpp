// The arms of a ladder.
#include <algorithm>

#include "benchmarks/tradeoff/ladder.h"
#include "core/error.h"

namespace tandem::tradeoff {

graph::CompileOptions Setting::options() const {
  graph::CompileOptions o;
  o.memory_plan = memory_plan;
  o.device_graph = device_graph;
  for (const graph::Pass& p : graph::all_passes()) {
    const bool on = std::find(passes.begin(), passes.end(), p.name) != passes.end();
    if (!on) o.without.push_back(p.name);
    if (on && p.exactness != Exactness::exact) o.fast = true;
  }
  return o;
}

bool Setting::exact() const {
  return std::all_of(graph::all_passes().begin(), graph::all_passes().end(), [&](const auto& p) {
    return p.exactness == Exactness::exact ||
           std::find(passes.begin(), passes.end(), p.name) == passes.end();
  });
}

std::vector<Rung> make_rungs(std::span<const graph::Pass> passes, bool inexact, bool leave_out,
                             bool device_graphs) {
  using Kind = Rung::Kind;
  std::vector<Rung> rungs;
  rungs.push_back({Kind::eager, "eager", "", "every operation when it is reached", {}});
  rungs.push_back({Kind::control, "eager again", "", "shows the noise: must be 1.00x", {}});
  if (device_graphs) {
    rungs.push_back({Kind::by_hand,
                     "eager, graph by hand",
                     "",
                     "what one can have without compiling: a step recorded, then replayed",
                     {}});
  }
  Setting s{.compiled = true};
  rungs.push_back({Kind::step, "capture & replay", "replay",
                   "the same kernels from a recorded list: no tape, no lookups", s});
  s.memory_plan = true;
  rungs.push_back(
      {Kind::step, "+ memory plan", "memory plan", "all buffers laid out in one block", s});
  for (const bool exact : {true, false}) {
    if (!exact && !inexact) break;
    for (const graph::Pass& p : passes) {
      if ((p.exactness == Exactness::exact) != exact) continue;
      s.passes.push_back(p.name);
      rungs.push_back({Kind::step, fmt::format("+ {}", p.name), p.name, p.summary, s});
    }
  }
  if (device_graphs) {
    s.device_graph = true;
    rungs.push_back({Kind::step, "+ device graph", "device graph",
                     "all launches recorded by the device and replayed with one call", s});
  }
  if (!leave_out) return rungs;
  Setting o = s;
  // A graph needs fixed addresses: without the plan there is none.
  o.memory_plan = o.device_graph = false;
  rungs.push_back({Kind::leave_out,
                   device_graphs ? "without plan and graph" : "without memory plan", "memory plan",
                   "", o});
  for (const std::string& p : s.passes) {
    o = s;
    std::erase(o.passes, p);
    rungs.push_back({Kind::leave_out, "without " + p, p, "", o});
  }
  if (device_graphs) {
    o = s;
    o.device_graph = false;
    rungs.push_back({Kind::leave_out, "without device graph", "device graph", "", o});
  }
  return rungs;
}

const std::vector<double>& LadderResult::samples(std::size_t arm) const {
  const Arm& a = arms.at(arm);
  return a.same_as ? arms.at(*a.same_as).step_ms : a.step_ms;
}

std::size_t LadderResult::first_replay() const {
  for (std::size_t i = 0; i < arms.size(); ++i) {
    if (arms[i].rung.kind == Rung::Kind::step) return i;
  }
  fail<InternalError>("tradeoff", "there is no compiled arm");
}

std::size_t LadderResult::all_on() const {
  std::size_t last = first_replay();
  for (std::size_t i = last; i < arms.size(); ++i) {
    if (arms[i].rung.kind == Rung::Kind::step) last = i;
  }
  return last;
}

std::optional<std::size_t> LadderResult::by_hand() const {
  for (std::size_t i = 0; i < arms.size(); ++i) {
    if (arms[i].rung.kind == Rung::Kind::by_hand) return i;
  }
  return std::nullopt;
}

}  // namespace tandem::tradeoff
