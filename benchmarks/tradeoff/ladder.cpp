#include "benchmarks/tradeoff/ladder.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>

#include "benchmarks/tradeoff/device_clock.h"
#include "benchmarks/tradeoff/live.h"
#include "benchmarks/tradeoff/stats.h"
#include "core/backend.h"
#include "core/clock.h"
#include "core/compare.h"
#include "core/profiler.h"
#include "ops/ops.h"

namespace tandem::tradeoff {

namespace {

// Where two arms that must agree do not, or "".
std::string difference(DType t, std::span<const std::uint64_t> is,
                       std::span<const std::uint64_t> want) {
  const auto d = first_difference(t, is, want);
  if (!d) return "";
  return fmt::format("{} of {} elements differ, the first at {}: {} instead of {}", d->count,
                     is.size(), d->index, d->a, d->b);
}

std::size_t available_bytes() {
  std::ifstream f("/proc/meminfo");
  std::string word;
  std::size_t kb = 0;
  while (f >> word) {
    if (word == "MemAvailable:" && f >> kb) return kb * 1024;
  }
  return SIZE_MAX;
}

// What switching the profiler on adds to a launch, from the cheapest one there is.
double profiler_cost_ns() {
  const NoGrad off;
  const Tensor a = ones({1}), b = ones({1});
  const auto time = [&](int n) {
    const auto t0 = Clock::now();
    for (int i = 0; i < n; ++i) Tensor c = a + b;
    return ms_between(t0, Clock::now()) * 1e6 / n;
  };
  std::vector<double> cost;
  time(1000);
  for (int k = 0; k < 9; ++k) {
    const double without = time(1000);
    profiler::start();
    const double with = time(1000);
    profiler::stop();
    cost.push_back(with - without);
  }
  return std::max(0.0, median(cost));
}

// Two programs with equal fingerprints run the same launches on the same plan of memory.
std::uint64_t fingerprint(const graph::CompiledProgram& c, bool device_graph) {
  std::uint64_t h = graph::hash(c.executor->program());
  const auto mix_in = [&](std::uint64_t v) { h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2); };
  mix_in(c.executor->planned());
  for (const graph::Node& n : c.executor->program().nodes) {
    mix_in(static_cast<std::uint64_t>(n.reuse + 1));
    mix_in(n.inplace);
  }
  mix_in(c.executor->arena_bytes());
  mix_in(device_graph && c.executor->recorder().usable());
  return h;
}

// The whole experiment, with what its parts share.
class Experiment {
 public:
  Experiment(const Workload& w, const LadderOptions& o) : w_(w), o_(o) {
    if (w.batches.empty() || w.batches[0].empty()) {
      fail("tradeoff", "a workload needs at least one batch with at least one tensor");
    }
    if (o.verify_steps < 2 || o.instrumented_steps < 1 || o.least_rounds < 1 ||
        o.most_rounds < o.least_rounds) {
      fail("tradeoff", "verify_steps must be at least 2, instrumented_steps and rounds positive",
           fmt::format("verify_steps {}, instrumented_steps {}, {} to {} rounds", o.verify_steps,
                       o.instrumented_steps, o.least_rounds, o.most_rounds));
    }
    device_ = w.batches[0][0].device();
    result_.workload = w.name;
    result_.options = o;
    result_.asynchronous = !device_.is_cpu();
  }

  LadderResult run() {
    const std::vector<Rung> rungs =
        make_rungs(graph::all_passes(), o_.inexact, o_.leave_out, backend(device_).has_graphs());
    measure_cold(rungs);
    if (result_.asynchronous) {
      head_start_.emplace(device_);
      result_.profiler_ns = head_start_->event_ns();
      result_.busy_from = BusyFrom::events;
    } else {
      result_.profiler_ns = profiler_cost_ns();
    }
    for (std::size_t i = 0; i < rungs.size(); ++i) {
      progress(i == 0 ? "profiling eager" : "compiling and checking " + rungs[i].name,
               static_cast<double>(i) / static_cast<double>(rungs.size()));
      if (rungs[i].kind == Rung::Kind::by_hand) {
        prepare_by_hand(rungs[i]);
      } else {
        prepare(rungs[i]);
      }
      if (i == 0) {
        check_memory(rungs.size());
        if (o_.on_forecast) o_.on_forecast(result_);
      }
    }
    share_capture_times();
    time();
    for (std::size_t i = 1; i < live_.size(); ++i) {
      if (live_[i]) compare_states(i, "after the timing");
    }
    if (result_.asynchronous) finish_device_times();
    return std::move(result_);
  }

 private:
  void progress(const std::string& what, double part) {
    if (o_.on_progress) o_.on_progress(what, part);
  }

  // Makes the arm, runs the checked and the instrumented steps, and compares with eager.
  void prepare(const Rung& rung) {
    const std::size_t index = live_.size();
    live_.push_back(std::make_unique<Live>(w_, o_.seed, rung, device_));
    Live& live = *live_.back();
    Arm& arm = result_.arms.emplace_back();
    arm.rung = rung;

    const auto check = [&](int k, const std::vector<Tensor>& r) { check_results(index, k, r); };
    live.steps(o_.verify_steps - 1, check);
    live.counted_step(arm, check);
    result_.asynchronous ? profile_on_device(index) : profile_on_host(index);
    arm.record_ms = live.record_ms();
    if (index == 0) {
      std::sort(result_.eager_kernels.begin(), result_.eager_kernels.end(),
                [](const KernelTime& a, const KernelTime& b) { return a.ms > b.ms; });
      result_.checked_steps = o_.verify_steps + o_.instrumented_steps;
      prints_.push_back(0);
      return;
    }
    compare_states(index, "before the timing");

    const graph::CompiledProgram* c = live.program();
    if (!c) {
      prints_.push_back(0);
      return;
    }
    arm.capture_ms = c->ledger.capture_ms;
    arm.nodes = static_cast<int>(c->executor->program().nodes.size());
    arm.arena_bytes = c->executor->arena_bytes();
    if (c->executor->planned()) arm.arena_bound = c->executor->memory_plan().lower_bound;
    arm.passes = c->passes;
    arm.compile_ms = compile_time(*c, rung.setting.options());
    prints_.push_back(fingerprint(*c, rung.setting.device_graph));
    for (std::size_t i = 0; i < index; ++i) {
      if (result_.arms[i].rung.setting.compiled && prints_[i] == prints_[index]) {
        arm.same_as = result_.arms[i].same_as.value_or(i);
        live_.back() = nullptr;  // its memory is better used by the others
        break;
      }
    }
  }

  // Not every step can be recorded; the others do not depend on it.
  void prepare_by_hand(const Rung& rung) {
    try {
      prepare(rung);
      return;
    } catch (const DeviceError& e) {
      result_.notes.push_back(fmt::format("The arm '{}' is missing: {}.", rung.name, e.what()));
    } catch (const CaptureError& e) {
      result_.notes.push_back(fmt::format("The arm '{}' is missing: {}.", rung.name, e.what()));
    }
    live_.pop_back();
    result_.arms.pop_back();
  }

  void profile_on_host(std::size_t index) {
    Arm& arm = result_.arms[index];
    std::vector<double> kernel, host;
    for (int i = 0; i < o_.instrumented_steps; ++i) {
      const Live::Instrumented s = live_[index]->instrumented_step();
      check_results(index, o_.verify_steps + i, s.results);
      kernel.push_back(s.kernel_ms);
      const double own = result_.profiler_ns * static_cast<double>(s.events.size()) / 1e6;
      host.push_back(std::max(0.0, s.wall_ms - s.kernel_ms - own));
      if (index == 0) add_kernels(s.events);
    }
    arm.kernel_ms = median(kernel);
    arm.host_ms = median(host);
  }

  // By events alone: see finish_device_times.
  void profile_on_device(std::size_t index) {
    Arm& arm = result_.arms[index];
    std::vector<double> step, put_in, kernel;
    for (int i = 0; i < o_.instrumented_steps; ++i) {
      const Live::Sample s = live_[index]->timed(1);
      step.push_back(s.step_ms);
      put_in.push_back(s.put_in_ms);
    }
    arm.host_ms = median(put_in);
    for (int i = 0; i < o_.instrumented_steps; ++i) {
      // Twice the time the host takes, as it is slower when it puts in events, too.
      const Live::Instrumented s = live_[index]->instrumented_step(*head_start_, 2 * arm.host_ms);
      check_results(index, o_.verify_steps + i, s.results);
      kernel.push_back(s.kernel_ms);
      if (index == 0) add_kernels(s.events);
    }
    arm.kernel_ms = arm.busy_ms = median(kernel);
    if (index == 0) result_.profile = {median(step), arm.host_ms, arm.busy_ms};
  }

  void add_kernels(const std::vector<profiler::Event>& events) {
    for (const auto& e : events) {
      auto& all = result_.eager_kernels;
      auto k = std::find_if(all.begin(), all.end(), [&](const auto& x) { return x.op == e.op; });
      if (k == all.end()) {
        const OpDef* op = find_op(e.op);
        k = all.insert(k, {e.op, op && op->traits.kind == OpKind::elementwise});
      }
      k->calls += 1.0 / o_.instrumented_steps;
      k->ms += static_cast<double>(e.end_ns - e.start_ns) / 1e6 / o_.instrumented_steps;
    }
  }

  // Last of all: asking the device may leave the process slower.
  void finish_device_times() {
    for (Arm& a : result_.arms) {
      if (!a.same_as) a.host_ms = median(a.put_in_ms);
    }
    ask_device();
    for (Arm& a : result_.arms) {
      if (!a.same_as) continue;
      const Arm& same = result_.arms[*a.same_as];
      a.host_ms = same.host_ms;
      a.busy_ms = same.busy_ms;
      a.kernel_ms = same.kernel_ms;
      a.kernels_run = same.kernels_run;
    }
  }

  // What the device itself says it ran, for all arms or for none.
  void ask_device() {
    ActivityProbe probe(backend(device_).activity());
    std::vector<Arm> told(live_.size());
    for (std::size_t i = 0; i < live_.size() && probe.why_not().empty(); ++i) {
      progress("asking the device", static_cast<double>(i) / static_cast<double>(live_.size()));
      if (live_[i]) live_[i]->ask_device(o_.instrumented_steps, probe, told[i]);
    }
    std::string why = probe.why_not();
    for (std::size_t i = 0; i < live_.size() && why.empty(); ++i) {
      if (!live_[i]) continue;
      // Every launch runs a kernel or more, inside of a graph, too.
      const graph::CompiledProgram* c = live_[i]->program();
      const double least =
          c ? static_cast<double>(c->executor->launches()) : result_.eager().launches;
      if (told[i].kernels_run >= least) continue;
      why =
          fmt::format("the device told of {:.1f} kernels a step of the arm '{}', which has {:.0f}",
                      told[i].kernels_run, result_.arms[i].rung.name, least);
    }
    if (!why.empty()) {
      result_.notes.push_back("Busy times are from events: " + why + ".");
      return;
    }
    result_.busy_from = BusyFrom::activity;
    for (std::size_t i = 0; i < live_.size(); ++i) {
      Arm& a = result_.arms[i];
      a.busy_ms = told[i].busy_ms;
      a.kernel_ms = told[i].kernel_ms;
      a.kernels_run = told[i].kernels_run;
    }
  }

  // Of the very same captured program a few times over: a single one is at the mercy of whatever
  // else the machine did at that moment.
  double compile_time(const graph::CompiledProgram& c, const graph::CompileOptions& options) {
    std::vector<double> ms{c.ledger.compile_ms};
    for (int i = 0; i < 4; ++i) {
      ms.push_back(graph::compile_program(c.captured, options).ledger.compile_ms);
    }
    return median(ms);
  }

  // With nothing planned before: what a program pays that compiles its very first step. So this
  // comes before everything else: the vendor library keeps kernels of its own, which cannot be
  // dropped.
  void measure_cold(const std::vector<Rung>& rungs) {
    const Rung* all = nullptr;
    for (const Rung& r : rungs) {
      if (r.kind == Rung::Kind::step) all = &r;
    }
    dispatch::clear_plan_cache();
    Live live(w_, o_.seed, *all, device_);
    live.steps(1);
    result_.cold_capture_ms = live.program()->ledger.capture_ms;
    result_.cold_compile_ms = live.program()->ledger.compile_ms;
  }

  // All arms capture the same function: one time stands for all.
  void share_capture_times() {
    std::vector<double> ms;
    for (const Arm& a : result_.arms) {
      if (a.rung.setting.compiled) ms.push_back(a.capture_ms);
    }
    for (Arm& a : result_.arms) {
      if (a.rung.setting.compiled) a.capture_ms = median(ms);
    }
  }

  void check_results(std::size_t index, int step, const std::vector<Tensor>& results) {
    if (index == 0) {
      auto& r = expected_.emplace_back();
      for (const Tensor& t : results) r.push_back(t.to_bits());
      return;
    }
    if (!result_.arms[index].rung.setting.exact()) return;
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto& want = expected_.at(static_cast<std::size_t>(step)).at(i);
      const std::string d = difference(results[i].dtype(), results[i].to_bits(), want);
      if (d.empty()) continue;
      fail<InternalError>("tradeoff", "every arm must compute the same, bit for bit",
                          fmt::format("result {} of step {} of the arm '{}': {}", i, step + 1,
                                      result_.arms[index].rung.name, d));
    }
  }

  void compare_states(std::size_t index, const char* when) {
    if (!result_.arms[index].rung.setting.exact()) return;
    const StateDict &is = live_[index]->state(), &want = live_[0]->state();
    for (std::size_t i = 0; i < want.size(); ++i) {
      const Tensor& t = is.at(i).second;
      const std::string d = difference(t.dtype(), t.to_bits(), want[i].second.to_bits());
      if (d.empty()) continue;
      fail<InternalError>("tradeoff", "every arm must compute the same, bit for bit",
                          fmt::format("'{}' {} in the arm '{}': {}", want[i].first, when,
                                      result_.arms[index].rung.name, d));
    }
  }

  // Of the host's memory: a device says by itself, and readably, that it has none left.
  void check_memory(std::size_t arms) {
    if (result_.asynchronous) return;
    const Arm& e = result_.arms[0];
    const std::size_t others = e.peak_bytes * (arms - 1), free = available_bytes();
    if (others <= free / 10 * 8) return;
    fail("tradeoff", "the arms do not fit into memory side by side",
         fmt::format("about {:.1f} GB wanted, {:.1f} GB available",
                     static_cast<double>(others) / 1e9, static_cast<double>(free) / 1e9),
         "a smaller batch, or no leave-outs");
  }

  // Rounds of all arms in turn.
  void time() {
    std::vector<std::size_t> arms;
    for (std::size_t i = 0; i < live_.size(); ++i) {
      if (live_[i]) arms.push_back(i);
    }
    // A first look at how long a step takes, which also brings all arms to the same age.
    double sum = 0, shortest = 1e30;
    for (std::size_t i : arms) {
      const double ms = live_[i]->timed(1).step_ms;
      sum += ms;
      shortest = std::min(shortest, ms);
    }
    // Samples of some length, so that reading the clock does not count. Not many steps in each,
    // either: a round should be over before the machine has changed.
    constexpr double kSampleMs = 4;
    int per_sample = std::clamp(static_cast<int>(std::ceil(kSampleMs / shortest)), 1, 1000);
    const double round_ms = sum * (per_sample + (result_.asynchronous ? 2 : 1));
    int rounds =
        std::clamp(static_cast<int>(o_.seconds * 1e3 / round_ms), o_.least_rounds, o_.most_rounds);
    if (o_.steps > 0) {
      per_sample = std::min(per_sample, o_.steps);
      while (o_.steps % per_sample != 0) --per_sample;  // as many steps as were asked for
      rounds = o_.steps / per_sample;
    }
    result_.steps_per_sample = per_sample;
    for (int r = 0; r < rounds; ++r) {
      if (o_.stop && o_.stop() && r > 0) {
        result_.stopped = true;
        break;
      }
      progress(fmt::format("timing, round {} of {}", r + 1, rounds),
               static_cast<double>(r) / rounds);
      for (std::size_t k : shuffled(arms.size(), o_.seed, static_cast<std::uint64_t>(r))) {
        const Live::Sample x = live_[arms[k]]->timed(per_sample);
        result_.arms[arms[k]].step_ms.push_back(x.step_ms);
        if (result_.asynchronous) result_.arms[arms[k]].put_in_ms.push_back(x.put_in_ms);
      }
      ++result_.rounds;
    }
    progress("", 1);
  }

  const Workload& w_;
  const LadderOptions& o_;
  Device device_;
  std::optional<HeadStart> head_start_;  // on asynchronous devices
  LadderResult result_;
  std::vector<std::unique_ptr<Live>> live_;  // null: equal to an earlier one
  std::vector<std::uint64_t> prints_;
  std::vector<std::vector<std::vector<std::uint64_t>>> expected_;  // by step and result
};

}  // namespace

LadderResult run_ladder(const Workload& workload, const LadderOptions& options) {
  return Experiment(workload, options).run();
}

}  // namespace tandem::tradeoff
