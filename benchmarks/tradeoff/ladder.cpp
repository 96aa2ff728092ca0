#include "benchmarks/tradeoff/ladder.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>

#include "benchmarks/tradeoff/draws.h"
#include "benchmarks/tradeoff/stats.h"
#include "core/backend.h"
#include "core/profiler.h"
#include "ops/ops.h"

namespace tandem::tradeoff {

// ---------------------------------------------------------------------------------- the arms

graph::CompileOptions Setting::options() const {
  graph::CompileOptions o;
  o.memory_plan = memory_plan;
  for (const graph::Pass& p : graph::all_passes()) {
    const bool on = std::find(passes.begin(), passes.end(), p.name) != passes.end();
    if (!on) o.without.push_back(p.name);
    if (on && p.exactness != Exactness::exact) o.fast = true;
  }
  return o;
}

std::vector<Rung> make_rungs(std::span<const graph::Pass> passes, bool inexact, bool leave_out) {
  using Kind = Rung::Kind;
  std::vector<Rung> rungs;
  rungs.push_back({Kind::eager, "eager", "", "every operation when it is reached", {}});
  rungs.push_back({Kind::control, "eager again", "", "shows the noise: must be 1.00x", {}});
  Setting s{.compiled = true, .memory_plan = false, .passes = {}};
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
  if (!leave_out) return rungs;
  Setting o = s;
  o.memory_plan = false;
  rungs.push_back({Kind::leave_out, "without memory plan", "memory plan", "", o});
  for (const std::string& p : s.passes) {
    o = s;
    std::erase(o.passes, p);
    rungs.push_back({Kind::leave_out, "without " + p, p, "", o});
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

namespace {

using Clock = std::chrono::steady_clock;

double ms_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double, std::milli>(b - a).count();
}

void synchronise(Device d) {
  backend(d).stream(d.index).synchronize();
}

std::vector<char> bytes_of(const Tensor& t) {
  const NoGrad off;
  const Tensor c = t.detach().contiguous();
  std::vector<char> out(static_cast<std::size_t>(c.numel()) * size_of(c.dtype()));
  if (!out.empty()) {
    backend(c.device()).copy(out.data(), kCPU, c.raw_data(), c.device(), out.size());
  }
  return out;
}

// Where two arms that must agree do not.
std::string difference(const std::vector<char>& is, const std::vector<char>& want, DType t) {
  const std::size_t size = size_of(t);
  std::size_t count = 0, first = 0;
  for (std::size_t i = 0; i + size <= is.size() && i + size <= want.size(); i += size) {
    if (std::memcmp(&is[i], &want[i], size) != 0 && count++ == 0) first = i / size;
  }
  std::string s =
      fmt::format("{} of {} elements differ, the first at {}", count, is.size() / size, first);
  if (t == DType::f32) {
    float a, b;
    std::memcpy(&a, &is[first * size], size);
    std::memcpy(&b, &want[first * size], size);
    s += fmt::format(": {} instead of {}", a, b);
  }
  return s;
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

// ------------------------------------------------------------------------------- one live arm

class Live {
 public:
  Live(const Workload& w, const LadderOptions& o, const Rung& rung, Device device)
      : device_(device), draws_(device), batches_(w.batches) {
    allocator_ = &backend(device).allocator(device.index);
    before_ = allocator_->stats().in_use;
    manual_seed(o.seed);
    subject_ = w.make();
    // The draws of the steps start where making the net stopped, in every arm.
    draws_.pause();
    if (rung.setting.compiled) {
      compiled_ = std::make_unique<graph::CompiledFunction>(rung.setting.options());
    }
  }

  /// Runs `n` steps; `each(step index, results)` may look at the results.
  template <class F>
  void steps(int n, F&& each) {
    draws_.resume();
    for (int i = 0; i < n; ++i) {
      const int k = next_;
      const std::vector<Tensor> r = step();
      each(k, r);
    }
    synchronise(device_);
    draws_.pause();
  }
  void steps(int n) {
    steps(n, [](int, const auto&) {});
  }

  /// One step off the clock to bring the arm's own memory into the caches, then `n` timed ones.
  double timed_ms(int n) {
    draws_.resume();
    step();
    synchronise(device_);
    const auto t0 = Clock::now();
    for (int i = 0; i < n; ++i) step();
    synchronise(device_);
    const double ms = ms_between(t0, Clock::now()) / n;
    draws_.pause();
    return ms;
  }

  struct Instrumented {
    double wall_ms = 0, kernel_ms = 0;
    std::vector<profiler::Event> events;
    std::vector<Tensor> results;
  };
  Instrumented instrumented_step() {
    draws_.resume();
    Instrumented s;
    profiler::start();
    const auto t0 = Clock::now();
    s.results = step();
    synchronise(device_);
    s.wall_ms = ms_between(t0, Clock::now());
    s.events = profiler::stop();
    draws_.pause();
    for (const auto& e : s.events) s.kernel_ms += static_cast<double>(e.end_ns - e.start_ns) / 1e6;
    return s;
  }

  /// Counts what one step asks for.
  template <class F>
  void counted_step(Arm& arm, F&& each) {
    allocator_->reset_peak();
    const AllocatorStats s0 = allocator_->stats();
    const std::uint64_t l0 = profiler::launches();
    steps(1, each);
    const AllocatorStats s1 = allocator_->stats();
    arm.launches = static_cast<double>(profiler::launches() - l0);
    arm.allocations = static_cast<double>(s1.allocations - s0.allocations);
    arm.system_allocations = static_cast<double>(s1.system_allocations - s0.system_allocations);
    arm.held_bytes = s0.in_use - before_;
    arm.peak_bytes = s1.peak - before_;
  }

  const StateDict& state() const { return subject_.state; }
  const graph::CompiledProgram* program() const {
    return compiled_ ? &compiled_->program() : nullptr;
  }

 private:
  std::vector<Tensor> step() {
    const std::vector<Tensor>& batch =
        batches_[static_cast<std::size_t>(next_++) % batches_.size()];
    if (!compiled_) return subject_.step(batch);
    args_.clear();
    for (const Tensor& t : batch) args_.push_back(&t);
    graph::CompiledFunction::Result r;
    compiled_->call(
        args_, {},
        [this](std::span<const Tensor> in, graph::CompiledFunction::Host&) {
          return subject_.step(in);
        },
        r);
    return {r.tensors.begin(), r.tensors.end()};
  }

  Device device_;
  Draws draws_;
  Allocator* allocator_;
  std::size_t before_;
  const std::vector<std::vector<Tensor>>& batches_;
  Subject subject_;
  std::unique_ptr<graph::CompiledFunction> compiled_;
  std::vector<const Tensor*> args_;
  int next_ = 0;
};

// Two programs with equal fingerprints run the same launches on the same plan of memory.
std::uint64_t fingerprint(const graph::CompiledProgram& c) {
  std::uint64_t h = graph::hash(c.executor->program());
  const auto mix_in = [&](std::uint64_t v) { h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2); };
  mix_in(c.executor->planned());
  for (const graph::Node& n : c.executor->program().nodes) {
    mix_in(static_cast<std::uint64_t>(n.reuse + 1));
    mix_in(n.inplace);
  }
  mix_in(c.executor->arena_bytes());
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
      fail("tradeoff", "verify_steps must be at least 2, instrumented_steps and rounds positive");
    }
    device_ = w.batches[0][0].device();
    result_.workload = w.name;
    result_.options = o;
  }

  LadderResult run() {
    const std::vector<Rung> rungs = make_rungs(graph::all_passes(), o_.inexact, o_.leave_out);
    measure_cold(rungs);
    result_.profiler_ns = profiler_cost_ns();
    for (std::size_t i = 0; i < rungs.size(); ++i) {
      progress(i == 0 ? "profiling eager" : "compiling and checking " + rungs[i].name,
               static_cast<double>(i) / static_cast<double>(rungs.size()));
      prepare(rungs[i]);
      if (i == 0) {
        check_memory(rungs.size());
        if (o_.on_forecast) o_.on_forecast(result_);
      }
    }
    share_capture_times();
    time();
    if (!o_.inexact) {
      for (std::size_t i = 1; i < live_.size(); ++i) {
        if (live_[i]) compare_states(i, "after the timing");
      }
      result_.checked_after = true;
    }
    return std::move(result_);
  }

 private:
  void progress(const std::string& what, double part) {
    if (o_.on_progress) o_.on_progress(what, part);
  }

  // Makes the arm, runs the checked and the instrumented steps, and compares with eager.
  void prepare(const Rung& rung) {
    const std::size_t index = live_.size();
    live_.push_back(std::make_unique<Live>(w_, o_, rung, device_));
    Live& live = *live_.back();
    Arm& arm = result_.arms.emplace_back();
    arm.rung = rung;

    const auto check = [&](int k, const std::vector<Tensor>& r) { check_results(index, k, r); };
    live.steps(o_.verify_steps - 1, check);
    live.counted_step(arm, check);

    std::vector<double> kernel, host;
    std::map<std::string, KernelTime> by_op;
    for (int i = 0; i < o_.instrumented_steps; ++i) {
      const Live::Instrumented s = live.instrumented_step();
      check(o_.verify_steps + i, s.results);
      kernel.push_back(s.kernel_ms);
      const double own = result_.profiler_ns * static_cast<double>(s.events.size()) / 1e6;
      host.push_back(std::max(0.0, s.wall_ms - s.kernel_ms - own));
      for (const auto& e : s.events) {
        KernelTime& k = by_op[e.op];
        k.op = e.op;
        const OpDef* op = find_op(e.op);
        k.elementwise = op && op->traits.kind == OpKind::elementwise;
        k.calls += 1.0 / o_.instrumented_steps;
        k.ms += static_cast<double>(e.end_ns - e.start_ns) / 1e6 / o_.instrumented_steps;
      }
    }
    arm.kernel_ms = median(kernel);
    arm.host_ms = median(host);
    if (index == 0) {
      for (auto& [_, k] : by_op) result_.eager_kernels.push_back(k);
      std::sort(result_.eager_kernels.begin(), result_.eager_kernels.end(),
                [](const KernelTime& a, const KernelTime& b) { return a.ms > b.ms; });
      result_.checked_steps = o_.verify_steps + o_.instrumented_steps;
      prints_.push_back(0);
      return;
    }
    if (!o_.inexact) compare_states(index, "before the timing");

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
    prints_.push_back(fingerprint(*c));
    for (std::size_t i = 0; i < index; ++i) {
      if (result_.arms[i].rung.setting.compiled && prints_[i] == prints_[index]) {
        arm.same_as = result_.arms[i].same_as.value_or(i);
        live_.back() = nullptr;  // its memory is better used by the others
        break;
      }
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
    Live live(w_, o_, *all, device_);
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
      for (const Tensor& t : results) r.push_back(bytes_of(t));
      return;
    }
    if (o_.inexact) return;
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto is = bytes_of(results[i]);
      const auto& want = expected_.at(static_cast<std::size_t>(step)).at(i);
      if (is == want) continue;
      fail<InternalError>(
          "tradeoff", "every arm must compute the same, bit for bit",
          fmt::format("result {} of step {} of the arm '{}': {}", i, step + 1,
                      result_.arms[index].rung.name, difference(is, want, results[i].dtype())));
    }
  }

  void compare_states(std::size_t index, const char* when) {
    const StateDict &is = live_[index]->state(), &want = live_[0]->state();
    for (std::size_t i = 0; i < want.size(); ++i) {
      const auto a = bytes_of(is.at(i).second), b = bytes_of(want[i].second);
      if (a == b) continue;
      fail<InternalError>(
          "tradeoff", "every arm must compute the same, bit for bit",
          fmt::format("'{}' {} in the arm '{}': {}", want[i].first, when,
                      result_.arms[index].rung.name, difference(a, b, want[i].second.dtype())));
    }
  }

  void check_memory(std::size_t arms) {
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
      const double ms = live_[i]->timed_ms(1);
      sum += ms;
      shortest = std::min(shortest, ms);
    }
    // Samples of some length, so that reading the clock does not count. Not many steps in each,
    // either: a round should be over before the machine has changed.
    constexpr double kSampleMs = 4;
    int per_sample = std::clamp(static_cast<int>(std::ceil(kSampleMs / shortest)), 1, 1000);
    const double round_ms = sum * (per_sample + 1);
    int rounds =
        std::clamp(static_cast<int>(o_.seconds * 1e3 / round_ms), o_.least_rounds, o_.most_rounds);
    if (o_.steps > 0) {
      per_sample = std::min(per_sample, o_.steps);
      rounds = (o_.steps + per_sample - 1) / per_sample;
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
        result_.arms[arms[k]].step_ms.push_back(live_[arms[k]]->timed_ms(per_sample));
      }
      ++result_.rounds;
    }
    progress("", 1);
  }

  const Workload& w_;
  const LadderOptions& o_;
  Device device_;
  LadderResult result_;
  std::vector<std::unique_ptr<Live>> live_;  // null: equal to an earlier one
  std::vector<std::uint64_t> prints_;
  std::vector<std::vector<std::vector<char>>> expected_;  // by step and result
};

}  // namespace

LadderResult run_ladder(const Workload& workload, const LadderOptions& options) {
  return Experiment(workload, options).run();
}

}  // namespace tandem::tradeoff
