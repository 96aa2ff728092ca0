// What the samples of a ladder say: in numbers, as JSON, and in words.
#pragma once
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "benchmarks/tradeoff/ladder.h"
#include "benchmarks/tradeoff/stats.h"

namespace tandem::tradeoff {

/// From the profile of the eager step alone: what replay can win at most.
struct Forecast {
  enum class Bound : std::uint8_t {
    kernels,  // less than a tenth of the step is spent outside of kernels
    mixed,
    host,  // more than a third is: launch-bound
  };
  Bound bound = Bound::mixed;
  /// Inside kernels, and outside of them. On an asynchronous device: busy, and until the host has
  /// put the step in.
  double kernel_ms = 0, host_ms = 0;
  double step_ms = 0;
  double idle_ms = 0;         // of an asynchronous device
  double host_part = 0;       // of the step: outside of kernels, or idle
  double elementwise_ms = 0;  // inside elementwise kernels: what fusion can win at most
  int elementwise_launches = 0;
};
Forecast forecast(const LadderResult& r);

/// After how many steps capture and compilation are paid back.
struct BreakEven {
  enum class Kind : std::uint8_t { none, after, unclear, never };
  Kind kind = Kind::none;  // none: nothing to pay back
  double steps = 0;        // of `after`
  std::string str() const;
};
/// `saved`: ms per step. Unclear when its interval includes 0, its median is within the noise, or
/// its samples are too few.
BreakEven break_even(double cost_ms, const Interval& saved, double noise_ms = 0);

struct ArmSummary {
  Interval step_ms;
  Interval ratio;     // to eager, by rounds
  Interval saved_ms;  // eager minus this, by rounds
  BreakEven break_even;
  // Asynchronous devices: what is left of the step when no kernel runs.
  double idle_ms = 0, idle_part = 0;
};

struct FactorSummary {
  std::string name, meaning;
  bool found_nothing = false;       // its programs equal those without it
  Interval added_ms;                // saved by adding it to the rung before
  std::optional<Interval> lost_ms;  // lost by leaving it out of all on
};

struct Summary {
  std::vector<ArmSummary> arms;  // as LadderResult::arms
  /// What the control differs from eager by at most: as a part of the eager step, and in ms.
  double noise_part = 0, noise_ms = 0;
  Forecast forecast;
  std::vector<FactorSummary> factors;  // replay first
  /// Bare replay minus all on: what all the factors but replay save together …
  Interval together_ms;
  /// … minus the sum of what each of them is missed by when left out. Positive: they overlap, some
  /// of what one saves another would have saved as well. Negative: they need each other.
  std::optional<Interval> interaction_ms;
  /// All on as a multiple of the arm by hand, by rounds.
  std::optional<Interval> compiled_to_by_hand;

  /// Whether a difference (ms a step) may be told from noise: its interval leaves out 0, its median
  /// is more than what eager differs from itself by, and there are samples enough for an interval.
  bool beyond_noise(const Interval& difference_ms) const {
    return difference_ms.samples >= kFewestSamples && difference_ms.excludes(0) &&
           std::abs(difference_ms.median) > noise_ms;
  }
};

Summary summarise(const LadderResult& r);

/// Where the eager step's time goes, and what that promises.
std::string forecast_text(const LadderResult& r);
/// The table, the factors, and what they say in words.
std::string text(const LadderResult& r, const Summary& s);
/// Everything, with all samples. `machine` and the rest of the context is the caller's to add.
nlohmann::json to_json(const LadderResult& r, const Summary& s);

/// Processor, cores, threads, memory, libraries, versions.
nlohmann::json machine_json();
/// One line of the same.
std::string machine_text();

}  // namespace tandem::tradeoff
