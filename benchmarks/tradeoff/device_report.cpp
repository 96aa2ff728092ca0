#include "benchmarks/tradeoff/device_report.h"

#include "benchmarks/tradeoff/format.h"

namespace tandem::tradeoff {

namespace {

std::string busy_and_idle(const Arm& a, const ArmSummary& x) {
  return fmt::format("busy for {} of {} ms (idle {:.1f} %)", digits(a.busy_ms),
                     digits(x.step_ms.median), x.idle_part * 100);
}

}  // namespace

std::string device_columns(const LadderResult& r) {
  std::string from = "by the device's own records of separate steps";
  if (r.busy_from != BusyFrom::activity) {
    from = fmt::format(
        "from separate steps with events before and after each launch ({:.0f} ns taken off for "
        "them; a graph counts as one launch, gaps between its kernels included)",
        r.profiler_ns);
  }
  return "\n" +
         wrapped("",
                 fmt::format("\"host\" is the time until the host has put in all of a step's "
                             "work, the device having nothing to do at first; \"busy\" is the time "
                             "in which at least one kernel runs, {}; \"idle\" is the rest of the "
                             "step.",
                             from));
}

std::string device_forecast(const LadderResult& r, const Forecast& f) {
  std::string out = fmt::format(
      "Forecast, from {} profiled eager steps of {} ms: the device is busy for {} ms and idle for "
      "{} ms ({:.1f} %);\nthe host needs {} ms to put a step in.\n",
      r.options.instrumented_steps, digits(f.step_ms), digits(f.kernel_ms), digits(f.idle_ms),
      f.host_part * 100, digits(f.host_ms));
  switch (f.bound) {
    case Forecast::Bound::kernels:
      return out +
             "Device-bound: the device hardly waits for the host; what helps is other or "
             "fewer kernels.\n";
    case Forecast::Bound::mixed: return out + "Mixed: both replay and better kernels can help.\n";
    case Forecast::Bound::host:
      return out + "Host-bound: the device waits for launches, and replay is what helps.\n";
  }
  return out;
}

std::vector<std::string> device_words(const LadderResult& r, const Summary& s) {
  const std::size_t bare = r.first_replay(), all = r.all_on();
  std::vector<std::string> out;
  out.push_back(fmt::format("The device is {} in eager, {} with capture & replay, {} with all on.",
                            busy_and_idle(r.eager(), s.arms[0]),
                            busy_and_idle(r.arms[bare], s.arms[bare]),
                            busy_and_idle(r.arms[all], s.arms[all])));
  out.push_back(fmt::format(
      "The host puts a step in within {:.0f} us in eager, {:.0f} us with capture & replay, {:.0f} "
      "us with all on.",
      r.eager().host_ms * 1e3, r.arms[bare].host_ms * 1e3, r.arms[all].host_ms * 1e3));

  const Forecast& f = s.forecast;
  out.push_back(fmt::format(
      "Forecast against result: in eager the device was idle for {:.1f} % of the step ({} ms), so "
      "putting the same kernels in faster could save at most that. Capture & replay: {} ms saved. "
      "The other factors: {} ms saved, all together.",
      f.host_part * 100, digits(f.idle_ms), signed_interval(s.arms[bare].saved_ms),
      signed_interval(s.together_ms)));

  if (const auto hand = r.by_hand(); hand && s.compiled_to_by_hand) {
    out.push_back(fmt::format(
        "Eager recorded into a graph by hand takes {} times as long as eager, and compiled (all "
        "on) {} times as long as that: what compiling gives beyond a graph alone.",
        ratio_text(s.arms[*hand].ratio), ratio_text(*s.compiled_to_by_hand)));
  }
  for (const std::string& n : r.notes) out.push_back(n);
  return out;
}

}  // namespace tandem::tradeoff
