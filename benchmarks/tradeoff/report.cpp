// A report in words.
#include "benchmarks/tradeoff/report.h"

#include <algorithm>
#include <cmath>

#include "benchmarks/tradeoff/device_report.h"
#include "benchmarks/tradeoff/format.h"

namespace tandem::tradeoff {

namespace {

using Kind = Rung::Kind;

std::string short_name(const LadderResult& r, std::size_t i) {
  return i == r.all_on() ? "all on" : r.arms[i].rung.name;
}

std::string row_name(const LadderResult& r, std::size_t i) {
  std::string name = r.arms[i].rung.name;
  if (i == r.all_on()) name += " = all on";
  return name;
}

void add_table(std::string& out, const LadderResult& r, const Summary& s) {
  constexpr const char* kLeft = "{:<25} {:>23}  {:>21} {:>8}";
  constexpr const char* kDevice = " {:>8} {:>7}";  // of an asynchronous one
  constexpr const char* kRight = " {:>8} {:>8} {:>8} {:>9} {:>10}\n";
  out += fmt::format(kLeft, "", "step, ms", "times eager", "host");
  if (r.asynchronous) out += fmt::format(kDevice, "busy", "idle");
  out += fmt::format(kRight, "launches", "allocs", "peak", "capture +", "pays off");
  out += fmt::format(kLeft, "", "", "", "us");
  if (r.asynchronous) out += fmt::format(kDevice, "us", "%");
  out += fmt::format(kRight, "", "", "MB", "compile,ms", "after");
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
    out += fmt::format(kLeft, (leave_outs ? "  " : "") + row_name(r, i), step,
                       i == 0 ? "1" : ratio_text(x.ratio), fmt::format("{:.0f}", a.host_ms * 1e3));
    if (r.asynchronous) {
      out += fmt::format(kDevice, fmt::format("{:.0f}", a.busy_ms * 1e3),
                         fmt::format("{:.1f}", x.idle_part * 100));
    }
    out +=
        fmt::format(kRight, fmt::format("{:.0f}", a.launches), fmt::format("{:.0f}", a.allocations),
                    fmt::format("{:.1f}", mb(a.peak_bytes)),
                    a.compiles() ? fmt::format("{:.2f}", a.cost_ms()) : "", x.break_even.str());
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

// What was forecast, and what came of it.
std::string forecast_and_result(const LadderResult& r, const Summary& s) {
  const std::size_t bare = r.first_replay();
  const Forecast& f = s.forecast;
  const double replay = s.arms[bare].saved_ms.median;
  std::string line = fmt::format(
      "Forecast against result: {:.1f} % of the eager step ({} ms) passed outside of kernels, so "
      "running the same kernels from a list could save at most that. Capture & replay: {} ms saved",
      f.host_part * 100, digits(f.host_ms), signed_interval(s.arms[bare].saved_ms));
  if (!s.beyond_noise(s.arms[bare].saved_ms)) {
    line += ", which the noise does not let us tell from nothing";
  } else if (replay > 0 && f.host_ms > 0) {
    line += fmt::format(" ({:.0f} % of it)", replay / f.host_ms * 100);
  }
  line += fmt::format(". Its host time went from {:.0f} to {:.0f} us.", r.eager().host_ms * 1e3,
                      r.arms[bare].host_ms * 1e3);
  if (bare != r.all_on()) {
    line += fmt::format(" The other factors change what is run: {} ms saved, all together.",
                        signed_interval(s.together_ms));
  }
  return line;
}

void add_words(std::string& out, const LadderResult& r, const Summary& s) {
  const std::size_t all = r.all_on();
  const ArmSummary& best = s.arms[all];
  const Arm &eager = r.eager(), &a = r.arms[all];
  const auto say = [&](const std::string& line) { out += wrapped("- ", line); };
  out += "\nIn words\n";

  const double change = (1 - best.ratio.median) * 100;
  if (!s.beyond_noise(best.saved_ms)) {
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
    if (c.excludes(1)) line += "It should be 1: something on this machine favours an arm. ";
    line += fmt::format("Differences below {:.2f} % of the eager step ({} ms) mean nothing here.",
                        s.noise_part * 100, digits(s.noise_ms));
    if (c.relative() > 0.1) {
      line +=
          " That much noise means that other programs use this machine: run this again when it "
          "is quiet, or with fewer --threads.";
    }
    say(line);
  }

  if (r.asynchronous) {
    for (const std::string& line : device_words(r, s)) say(line);
  } else {
    say(forecast_and_result(r, s));
  }

  std::vector<const FactorSummary*> order;
  for (const FactorSummary& x : s.factors) {
    if (!x.found_nothing && &x != &s.factors[0]) order.push_back(&x);
  }
  std::sort(order.begin(), order.end(), [](const FactorSummary* x, const FactorSummary* y) {
    return std::abs(x->added_ms.median) > std::abs(y->added_ms.median);
  });
  std::string real, rest;
  for (const FactorSummary* x : order) {
    if (s.beyond_noise(x->added_ms)) {
      real += fmt::format("{}{} {} {} ms", real.empty() ? "" : ", ", x->name,
                          x->added_ms.median > 0 ? "saves" : "costs",
                          digits(std::abs(x->added_ms.median)));
    } else {
      rest += (rest.empty() ? "" : ", ") + x->name;
    }
  }
  if (!real.empty()) say("What can be told from noise when added: " + real + ".");
  if (!rest.empty()) say("No effect that can be told from noise: " + rest + ".");

  if (s.interaction_ms && s.beyond_noise(*s.interaction_ms)) {
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
                      digits(a.cost_ms()), best.break_even.str()));
      break;
    case BreakEven::Kind::unclear:
      say(
          fmt::format("Capturing and compiling took {} ms; whether they are ever paid back is "
                      "within the noise.",
                      digits(a.cost_ms())));
      break;
    default:
      say(
          fmt::format("Capturing and compiling took {} ms and are never paid back: this step gains "
                      "nothing from it.",
                      digits(a.cost_ms())));
  }
  say(
      fmt::format("With no kernel made ready before (first step ever) capture took {} ms and "
                  "compilation {} ms.",
                  digits(r.cold_capture_ms), digits(r.cold_compile_ms)));

  std::string line = fmt::format("Memory at most in use: {:.1f} MB eager, {:.1f} MB compiled.",
                                 mb(eager.peak_bytes), mb(a.peak_bytes));
  if (a.arena_bound > 0) {
    line += fmt::format(
        " The arena of {:.1f} MB is {:.3f} times what is alive at the worst moment.",
        mb(a.arena_bytes), static_cast<double>(a.arena_bytes) / static_cast<double>(a.arena_bound));
  }
  line += fmt::format(" Allocations a step: {:.0f} eager, {:.0f} compiled{}.", eager.allocations,
                      a.allocations, a.allocations > 0 || !r.asynchronous ? " (its results)" : "");
  say(line);
}

std::string host_forecast(const LadderResult& r, const Forecast& f) {
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
  return out;
}

}  // namespace

std::string forecast_text(const LadderResult& r) {
  const Forecast f = forecast(r);
  std::string out = r.asynchronous ? device_forecast(r, f) : host_forecast(r, f);
  const double total = f.step_ms;
  out += fmt::format(
      "  at most to be saved by replay:  {} ms (a step of {:.3f} times eager)\n"
      "  at most to be saved by fusion:  {} ms ({} launches of elementwise kernels)\n",
      digits(r.asynchronous ? f.idle_ms : f.host_ms), 1 - f.host_part, digits(f.elementwise_ms),
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
      "random order,\n{} step{} a time.",
      r.rounds, r.stopped ? " (stopped early)" : "", r.steps_per_sample,
      r.steps_per_sample == 1 ? "" : "s");
  if (r.asynchronous) {
    out += device_columns(r);
  } else {
    out += fmt::format(
        " \"host\" is the part of a step outside of kernels, from separate steps with the profiler "
        "on\n(its own cost of {:.0f} ns a launch is taken off). ",
        r.profiler_ns);
  }
  out += fmt::format(
      "Before the timing all arms{} gave equal losses\nover {} steps and equal parameters, bit for "
      "bit; after it the parameters were equal still.\n\n",
      r.options.inexact ? " without inexact passes" : "", r.checked_steps);
  add_table(out, r, s);
  add_factors(out, s);
  add_words(out, r, s);
  return out;
}

}  // namespace tandem::tradeoff
