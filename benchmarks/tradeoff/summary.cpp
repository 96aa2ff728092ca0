// The numbers of a report.
#include <algorithm>
#include <cmath>

#include "benchmarks/tradeoff/report.h"
#include "core/error.h"

namespace tandem::tradeoff {

Forecast forecast(const LadderResult& r) {
  Forecast f;
  if (r.asynchronous) {
    f.kernel_ms = r.profile.busy_ms;
    f.host_ms = r.profile.host_ms;
    f.step_ms = r.profile.step_ms;
    f.idle_ms = std::max(0.0, f.step_ms - f.kernel_ms);
  } else {
    f.kernel_ms = r.eager().kernel_ms;
    f.host_ms = r.eager().host_ms;
    f.step_ms = f.kernel_ms + f.host_ms;
  }
  const double outside = r.asynchronous ? f.idle_ms : f.host_ms;
  f.host_part = f.step_ms > 0 ? outside / f.step_ms : 0;
  f.bound = f.host_part < 0.1         ? Forecast::Bound::kernels
            : f.host_part < 1.0 / 3.0 ? Forecast::Bound::mixed
                                      : Forecast::Bound::host;
  double calls = 0;
  for (const KernelTime& k : r.eager_kernels) {
    if (!k.elementwise) continue;
    f.elementwise_ms += k.ms;
    calls += k.calls;
  }
  f.elementwise_launches = static_cast<int>(std::lround(calls));
  return f;
}

std::string BreakEven::str() const {
  switch (kind) {
    case Kind::none: return "";
    case Kind::never: return "never";
    case Kind::unclear: return "unclear";
    case Kind::after: return fmt::format("{:.0f} step{}", steps, steps == 1 ? "" : "s");
  }
  return "";
}

BreakEven break_even(double cost_ms, const Interval& saved, double noise_ms) {
  const bool within = noise_ms > 0 && std::abs(saved.median) <= noise_ms;
  if (within || saved.samples < kFewestSamples) return {BreakEven::Kind::unclear, 0};
  if (saved.high <= 0) return {BreakEven::Kind::never, 0};
  if (saved.low <= 0) return {BreakEven::Kind::unclear, 0};
  return {BreakEven::Kind::after, std::max(1.0, std::ceil(cost_ms / saved.median))};
}

Summary summarise(const LadderResult& r) {
  Summary s;
  s.forecast = forecast(r);
  const std::vector<double>& eager = r.samples(0);
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    if (r.arms[i].rung.kind != Rung::Kind::control) continue;
    const Interval again = paired_ratio(r.samples(i), eager);
    s.noise_part = std::max(std::abs(again.high - 1), std::abs(again.low - 1));
    s.noise_ms = s.noise_part * median(eager);
  }
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    const Arm& a = r.arms[i];
    const std::vector<double>& ms = r.samples(i);
    ArmSummary& out = s.arms.emplace_back();
    out.step_ms = median_interval(ms);
    out.ratio = paired_ratio(ms, eager);
    out.saved_ms = paired_difference(eager, ms);
    if (a.compiles()) out.break_even = break_even(a.cost_ms(), out.saved_ms, s.noise_ms);
    if (r.asynchronous) {
      out.idle_ms = std::max(0.0, out.step_ms.median - a.busy_ms);
      out.idle_part = out.step_ms.median > 0 ? out.idle_ms / out.step_ms.median : 0;
    }
  }

  const std::size_t bare = r.first_replay(), all = r.all_on();
  const auto program = [&](std::size_t i) { return r.arms[i].same_as.value_or(i); };
  for (std::size_t i = bare; i <= all; ++i) {
    FactorSummary& f = s.factors.emplace_back();
    f.name = r.arms[i].rung.factor;
    f.meaning = r.arms[i].rung.meaning;
    const std::size_t before = i == bare ? 0 : i - 1;
    f.found_nothing = i != bare && program(i) == program(before);
    f.added_ms = paired_difference(r.samples(before), r.samples(i));
  }
  s.together_ms = paired_difference(r.samples(bare), r.samples(all));
  if (const auto hand = r.by_hand()) {
    s.compiled_to_by_hand = paired_ratio(r.samples(all), r.samples(*hand));
  }

  std::vector<double> interaction(r.samples(all).size());
  for (std::size_t k = 0; k < interaction.size(); ++k) {
    interaction[k] = r.samples(bare)[k] - r.samples(all)[k];
  }
  bool any = false;
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    if (r.arms[i].rung.kind != Rung::Kind::leave_out) continue;
    any = true;
    for (FactorSummary& f : s.factors) {
      if (f.name != r.arms[i].rung.factor) continue;
      f.lost_ms = paired_difference(r.samples(i), r.samples(all));
      f.found_nothing = f.found_nothing && program(i) == program(all);
    }
    for (std::size_t k = 0; k < interaction.size(); ++k) {
      interaction[k] -= r.samples(i)[k] - r.samples(all)[k];
    }
  }
  if (any) s.interaction_ms = median_interval(interaction);
  return s;
}

}  // namespace tandem::tradeoff
