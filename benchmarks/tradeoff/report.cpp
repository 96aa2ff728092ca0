// A report in words and as JSON.
#include "benchmarks/tradeoff/report.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

#include "core/backend.h"
#include "core/parallel.h"

namespace tandem::tradeoff {

namespace {

using nlohmann::json;
using Kind = Rung::Kind;

double mb(std::size_t bytes) {
  return static_cast<double>(bytes) / 1e6;
}

// Four significant digits: 12.34, 0.1234, 123.4.
std::string digits(double x) {
  const double a = std::abs(x);
  const int after = a >= 1000 ? 0 : a >= 100 ? 1 : a >= 10 ? 2 : a >= 0.1 ? 3 : 4;
  return fmt::format("{:.{}f}", x, after);
}

std::string with_interval(const Interval& i) {
  return fmt::format("{} [{}, {}]", digits(i.median), digits(i.low), digits(i.high));
}

std::string signed_interval(const Interval& i) {
  return fmt::format("{}{} [{}, {}]", i.median >= 0 ? "+" : "", digits(i.median), digits(i.low),
                     digits(i.high));
}

std::string ratio_text(const Interval& i) {
  return fmt::format("{:.3f} [{:.3f}, {:.3f}]", i.median, i.low, i.high);
}

std::string short_name(const LadderResult& r, std::size_t i) {
  return i == r.all_on() ? "all on" : r.arms[i].rung.name;
}

std::string row_name(const LadderResult& r, std::size_t i) {
  std::string name = r.arms[i].rung.name;
  if (i == r.all_on()) name += " = all on";
  return name;
}

// `line` after `head`, broken at spaces, its further lines indented as much.
std::string wrapped(const std::string& head, const std::string& line) {
  constexpr std::size_t kWidth = 100;
  std::string out, row = head;
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    if (row.size() > head.size() && row.size() + end - at > kWidth) {
      out += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
      row.assign(head.size(), ' ');
    }
    row += line.substr(at, end - at) + " ";
    at = end + 1;
  }
  return out + row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
}

void add_table(std::string& out, const LadderResult& r, const Summary& s) {
  constexpr const char* kRow = "{:<25} {:>23}  {:>21} {:>8} {:>8} {:>8} {:>8} {:>9} {:>10}\n";
  out += fmt::format(kRow, "", "step, ms", "times eager", "host", "launches", "allocs", "peak",
                     "capture +", "pays off");
  out += fmt::format(kRow, "", "", "", "us", "", "", "MB", "compile,ms", "after");
  bool leave_outs = false;
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    const Arm& a = r.arms[i];
    if (a.rung.kind == Kind::leave_out && !leave_outs) {
      leave_outs = true;
      out += "all on, but\n";
    }
    const ArmSummary& x = s.arms[i];
    const bool same = a.same_as.has_value();
    const std::string step = same ? "= " + short_name(r, *a.same_as) : with_interval(x.step_ms);
    out += fmt::format(
        kRow, (leave_outs ? "  " : "") + row_name(r, i), step, i == 0 ? "1" : ratio_text(x.ratio),
        fmt::format("{:.0f}", a.host_ms * 1e3), fmt::format("{:.0f}", a.launches),
        fmt::format("{:.0f}", a.allocations), fmt::format("{:.1f}", mb(a.peak_bytes)),
        a.rung.setting.compiled ? fmt::format("{:.2f}", a.capture_ms + a.compile_ms) : "",
        x.break_even.str());
  }
}

void add_factors(std::string& out, const Summary& s) {
  out += "\nWhere the difference comes from (ms a step)\n";
  out += fmt::format("{:<16} {:>26}   {:>26}   {}\n", "", "saved by adding it",
                     s.interaction_ms ? "lost by leaving it out" : "", "what it does");
  for (const FactorSummary& f : s.factors) {
    const bool replay = &f == &s.factors[0];
    std::string lost = f.lost_ms ? signed_interval(*f.lost_ms) : "";
    if (replay && s.interaction_ms) lost = "(nothing left without it)";
    if (f.found_nothing) lost = "";
    out += fmt::format("{:<16} {:>26}   {:>26}   {}\n", f.name,
                       f.found_nothing ? "nothing to do here" : signed_interval(f.added_ms), lost,
                       f.meaning);
  }
  if (s.interaction_ms) {
    out +=
        fmt::format("{:<16} {:>26}   {:>26}   {}\n", "interaction", "",
                    signed_interval(*s.interaction_ms), "all together, less the sum of the column");
  }
}

void add_words(std::string& out, const LadderResult& r, const Summary& s) {
  const std::size_t bare = r.first_replay(), all = r.all_on();
  const ArmSummary& best = s.arms[all];
  const Arm &eager = r.eager(), &a = r.arms[all];
  const auto say = [&](const std::string& line) { out += wrapped("- ", line); };
  out += "\nIn words\n";

  const double change = (1 - best.ratio.median) * 100;
  if (!best.ratio.excludes(1)) {
    say(fmt::format(
        "Compiled and eager take the same time as far as this can tell: {} times eager.",
        ratio_text(best.ratio)));
  } else {
    say(fmt::format("Compiled (all on) takes {} times as long as eager: {:.1f} % {} a step, {} ms.",
                    ratio_text(best.ratio), std::abs(change), change > 0 ? "less" : "more",
                    digits(std::abs(best.saved_ms.median))));
  }

  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    if (r.arms[i].rung.kind != Kind::control) continue;
    const Interval& c = s.arms[i].ratio;
    std::string line = fmt::format("Noise: eager timed a second time came out at {} times itself. ",
                                   ratio_text(c));
    if (c.excludes(1)) {
      line +=
          "It should be 1: something on this machine favours an arm, so take no smaller "
          "difference for real.";
    } else {
      line += fmt::format("Differences below about {:.1f} % mean nothing here.",
                          std::max(c.high - 1, 1 - c.low) * 100);
    }
    if (c.relative() > 0.1) {
      line +=
          " That much noise means that other programs use this machine: run this again when it "
          "is quiet, or with fewer --threads.";
    }
    say(line);
  }

  const Forecast& f = s.forecast;
  const double replay = s.arms[bare].saved_ms.median;
  std::string line = fmt::format(
      "Forecast against result: {:.1f} % of the eager step ({} ms) passed outside of kernels, so "
      "running the same kernels from a list could save at most that. Capture & replay: {} ms saved",
      f.host_part * 100, digits(f.host_ms), signed_interval(s.arms[bare].saved_ms));
  if (s.arms[bare].saved_ms.excludes(0) && replay > 0 && f.host_ms > 0) {
    line += fmt::format(" ({:.0f} % of it)", replay / f.host_ms * 100);
  } else {
    line += ", which the noise does not let us tell from nothing";
  }
  line += fmt::format(". Its host time went from {:.0f} to {:.0f} us.", eager.host_ms * 1e3,
                      r.arms[bare].host_ms * 1e3);
  if (bare != all) {
    line += fmt::format(" The other factors change what is run: {} ms saved, all together.",
                        signed_interval(s.together_ms));
  }
  say(line);

  std::vector<const FactorSummary*> order;
  for (const FactorSummary& x : s.factors) {
    if (!x.found_nothing && &x != &s.factors[0]) order.push_back(&x);
  }
  std::sort(order.begin(), order.end(), [](const FactorSummary* x, const FactorSummary* y) {
    return std::abs(x->added_ms.median) > std::abs(y->added_ms.median);
  });
  std::string real, rest;
  for (const FactorSummary* x : order) {
    if (x->added_ms.excludes(0)) {
      real += fmt::format("{}{} {} {} ms", real.empty() ? "" : ", ", x->name,
                          x->added_ms.median > 0 ? "saves" : "costs",
                          digits(std::abs(x->added_ms.median)));
    } else {
      rest += (rest.empty() ? "" : ", ") + x->name;
    }
  }
  if (!real.empty()) say("What can be told from noise when added: " + real + ".");
  if (!rest.empty()) say("No effect that can be told from noise: " + rest + ".");

  if (s.interaction_ms && s.interaction_ms->excludes(0)) {
    say(s.interaction_ms->median > 0
            ? fmt::format(
                  "The factors overlap: {} ms of what they save together is not missed when "
                  "any single one is left out, because another makes up for it.",
                  digits(s.interaction_ms->median))
            : fmt::format("The factors help each other: leaving them out one by one costs {} ms "
                          "more than all of them save together.",
                          digits(-s.interaction_ms->median)));
  } else if (s.interaction_ms) {
    say("The factors act independently as far as this can tell: no interaction beyond the noise.");
  }

  switch (best.break_even.kind) {
    case BreakEven::Kind::after:
      say(fmt::format("Capturing and compiling took {} ms and are paid back after {}.",
                      digits(a.capture_ms + a.compile_ms), best.break_even.str()));
      break;
    case BreakEven::Kind::unclear:
      say(
          fmt::format("Capturing and compiling took {} ms; whether they are ever paid back is "
                      "within the noise.",
                      digits(a.capture_ms + a.compile_ms)));
      break;
    default:
      say(
          fmt::format("Capturing and compiling took {} ms and are never paid back: this step gains "
                      "nothing from it.",
                      digits(a.capture_ms + a.compile_ms)));
  }
  say(
      fmt::format("With no kernel made ready before (first step ever) capture took {} ms and "
                  "compilation {} ms.",
                  digits(r.cold_capture_ms), digits(r.cold_compile_ms)));

  line = fmt::format("Memory at most in use: {:.1f} MB eager, {:.1f} MB compiled.",
                     mb(eager.peak_bytes), mb(a.peak_bytes));
  if (a.arena_bound > 0) {
    line += fmt::format(
        " The arena of {:.1f} MB is {:.3f} times what is alive at the worst moment.",
        mb(a.arena_bytes), static_cast<double>(a.arena_bytes) / static_cast<double>(a.arena_bound));
  }
  line += fmt::format(" Allocations a step: {:.0f} eager, {:.0f} compiled (its results).",
                      eager.allocations, a.allocations);
  say(line);
}

json to_json(const Interval& i) {
  return {{"median", i.median}, {"low", i.low}, {"high", i.high}, {"samples", i.samples}};
}

const char* name_of(Kind k) {
  switch (k) {
    case Kind::eager: return "eager";
    case Kind::control: return "control";
    case Kind::step: return "step";
    case Kind::leave_out: return "leave_out";
  }
  return "";
}

const char* name_of(BreakEven::Kind k) {
  switch (k) {
    case BreakEven::Kind::none: return "none";
    case BreakEven::Kind::after: return "after";
    case BreakEven::Kind::unclear: return "unclear";
    case BreakEven::Kind::never: return "never";
  }
  return "";
}

const char* name_of(Forecast::Bound b) {
  switch (b) {
    case Forecast::Bound::kernels: return "kernel-bound";
    case Forecast::Bound::mixed: return "mixed";
    case Forecast::Bound::host: return "launch-bound";
  }
  return "";
}

std::string proc_value(const char* file, std::string_view key) {
  std::ifstream f(file);
  for (std::string line; std::getline(f, line);) {
    if (!line.starts_with(key)) continue;
    const auto colon = line.find(':');
    const auto at = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    return at == std::string::npos ? "" : line.substr(at);
  }
  return "";
}

}  // namespace

std::string forecast_text(const LadderResult& r) {
  const Forecast f = forecast(r);
  std::string out = fmt::format(
      "Forecast, from {} profiled eager steps: {} ms inside kernels, {} ms ({:.1f} %) outside.\n",
      r.options.instrumented_steps, digits(f.kernel_ms), digits(f.host_ms), f.host_part * 100);
  switch (f.bound) {
    case Forecast::Bound::kernels:
      out +=
          "Kernel-bound: replay can hardly save anything; what helps is other or fewer kernels.\n";
      break;
    case Forecast::Bound::mixed: out += "Mixed: both replay and better kernels can help.\n"; break;
    case Forecast::Bound::host:
      out += "Launch-bound: the host is the bottleneck, and replay is what helps.\n";
      break;
  }
  const double total = f.kernel_ms + f.host_ms;
  out += fmt::format(
      "  at most to be saved by replay:  {} ms (a step of {:.3f} times eager)\n"
      "  at most to be saved by fusion:  {} ms ({} launches of elementwise kernels)\n",
      digits(f.host_ms), total > 0 ? f.kernel_ms / total : 1, digits(f.elementwise_ms),
      f.elementwise_launches);
  out += fmt::format("  {:<22} {:>8} {:>9} {:>7}\n", "kernels of", "launches", "ms", "part");
  constexpr std::size_t kMost = 7;
  KernelTime others{"others", false, 0, 0};
  for (std::size_t i = 0; i < r.eager_kernels.size(); ++i) {
    const KernelTime& k = r.eager_kernels[i];
    if (i < kMost) {
      out += fmt::format("  {:<22} {:>8.0f} {:>9.3f} {:>5.1f} %\n", k.op, k.calls, k.ms,
                         k.ms / total * 100);
    } else {
      others.calls += k.calls;
      others.ms += k.ms;
    }
  }
  if (others.calls > 0) {
    out += fmt::format("  {:<22} {:>8.0f} {:>9.3f} {:>5.1f} %\n", others.op, others.calls,
                       others.ms, others.ms / total * 100);
  }
  return out;
}

std::string text(const LadderResult& r, const Summary& s) {
  std::string out = fmt::format("One training step of {}\n", r.workload);
  out += fmt::format(
      "Medians of {} rounds{} with 95 % intervals [low, high]; a round times every arm once, in "
      "random order,\n{} step{} a time. \"host\" is the part of a step outside of kernels, from "
      "separate steps with the profiler on\n(its own cost of {:.0f} ns a launch is taken off). ",
      r.rounds, r.stopped ? " (stopped early)" : "", r.steps_per_sample,
      r.steps_per_sample == 1 ? "" : "s", r.profiler_ns);
  if (r.checked_after) {
    out += fmt::format(
        "Before the timing all arms gave equal losses\nover {} steps and equal parameters, bit for "
        "bit; after it the parameters were equal still.\n\n",
        r.checked_steps);
  } else {
    out += "Inexact passes were on, so bits were not compared.\n\n";
  }
  add_table(out, r, s);
  add_factors(out, s);
  add_words(out, r, s);
  return out;
}

json to_json(const LadderResult& r, const Summary& s) {
  json out;
  out["workload"] = r.workload;
  out["seed"] = r.options.seed;
  out["rounds"] = r.rounds;
  out["steps_per_sample"] = r.steps_per_sample;
  out["stopped_early"] = r.stopped;
  out["checked"] = {{"steps_before", r.checked_steps}, {"parameters_after", r.checked_after}};
  out["profiler_ns_per_launch"] = r.profiler_ns;
  out["cold_ms"] = {{"capture", r.cold_capture_ms}, {"compile", r.cold_compile_ms}};
  const Forecast& f = s.forecast;
  out["forecast"] = {{"bound", name_of(f.bound)},
                     {"kernel_ms", f.kernel_ms},
                     {"host_ms", f.host_ms},
                     {"host_part", f.host_part},
                     {"elementwise_ms", f.elementwise_ms},
                     {"elementwise_launches", f.elementwise_launches}};
  for (const KernelTime& k : r.eager_kernels) {
    out["eager_kernels"].push_back({{"op", k.op}, {"calls", k.calls}, {"ms", k.ms}});
  }
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    const Arm& a = r.arms[i];
    const ArmSummary& x = s.arms[i];
    json j = {{"name", a.rung.name},
              {"kind", name_of(a.rung.kind)},
              {"factor", a.rung.factor},
              {"compiled", a.rung.setting.compiled},
              {"memory_plan", a.rung.setting.memory_plan},
              {"passes", a.rung.setting.passes},
              {"step_ms", to_json(x.step_ms)},
              {"ratio_to_eager", to_json(x.ratio)},
              {"saved_ms", to_json(x.saved_ms)},
              {"kernel_ms", a.kernel_ms},
              {"host_ms", a.host_ms},
              {"launches", a.launches},
              {"allocations", a.allocations},
              {"system_allocations", a.system_allocations},
              {"held_bytes", a.held_bytes},
              {"peak_bytes", a.peak_bytes},
              {"samples_ms", a.step_ms}};
    if (a.same_as) j["same_program_as"] = r.arms[*a.same_as].rung.name;
    if (a.rung.setting.compiled) {
      j["capture_ms"] = a.capture_ms;
      j["compile_ms"] = a.compile_ms;
      j["nodes"] = a.nodes;
      j["arena_bytes"] = a.arena_bytes;
      j["arena_bound_bytes"] = a.arena_bound;
      j["break_even"] = {{"kind", name_of(x.break_even.kind)}, {"steps", nullptr}};
      if (x.break_even.steps > 0) j["break_even"]["steps"] = x.break_even.steps;
      for (const auto& p : a.passes) {
        j["pass_statistics"].push_back({{"name", p.name},
                                        {"nodes_before", p.stats.nodes_before},
                                        {"nodes_after", p.stats.nodes_after},
                                        {"changed", p.stats.changed},
                                        {"detail", p.stats.detail},
                                        {"ms", p.stats.ms}});
      }
    }
    out["arms"].push_back(std::move(j));
  }
  for (const FactorSummary& x : s.factors) {
    json j = {{"name", x.name},
              {"meaning", x.meaning},
              {"found_nothing", x.found_nothing},
              {"saved_by_adding_ms", to_json(x.added_ms)}};
    if (x.lost_ms) j["lost_by_leaving_out_ms"] = to_json(*x.lost_ms);
    out["factors"].push_back(std::move(j));
  }
  out["together_ms"] = to_json(s.together_ms);
  if (s.interaction_ms) out["interaction_ms"] = to_json(*s.interaction_ms);
  return out;
}

json machine_json() {
  json m;
  m["cpu"] = proc_value("/proc/cpuinfo", "model name");
  m["cpus"] = std::thread::hardware_concurrency();
  m["memory"] = proc_value("/proc/meminfo", "MemTotal");
  m["threads"] = num_threads();
  m["backend"] = backend(DeviceType::cpu).description();
  m["tandem"] = TANDEM_VERSION;
  m["compiler"] = __VERSION__;
  return m;
}

std::string machine_text() {
  const json m = machine_json();
  return fmt::format("{}, {} cores, {} thread{}; Tandem {}, {}", m["cpu"].get<std::string>(),
                     m["cpus"].get<int>(), num_threads(), num_threads() == 1 ? "" : "s",
                     m["tandem"].get<std::string>(), m["backend"].get<std::string>());
}

}  // namespace tandem::tradeoff
