// Learning-rate schedules. Each is a function of the number of steps taken, so it can be resumed
// anywhere, and acts through Optimizer::set_lr between steps (also those of a compiled program).
// Names and options are those of torch.optim.lr_scheduler, and so are the rates; but T_max is t_max
// here, as members are written in C++ (in Python it is T_max), and LinearWarmup is our own. Options
// are checked when a schedule is made: ValueError for those outside the ranges given, below 0 where
// none is, infinite or NaN.
//
//   auto schedule = optim::CosineAnnealingLR(opt, {.t_max = 1000});
//   for (auto& [x, y] : loader) { step(x, y); schedule.step(); }
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "nn/optim.h"

namespace tandem::optim {

/// Learning rates by the number of steps taken.
struct ScheduleRule {
  /// The rate after t steps of a group whose base rate is `base`.
  std::function<double(std::int64_t t, double base)> rate;
  /// The base rates: one for all groups, or one per group. Empty: what the optimiser's are when
  /// the schedule is made.
  std::vector<double> base = {};
};

/// Sets an optimiser's learning rates, step by step.
class Schedule {
 public:
  /// The rate of every group is `factor(t)` times what it was when the schedule was made, t being
  /// the number of steps taken. Sets the rate for t = 0. ValueError if it is null.
  Schedule(Optimizer optimizer, std::function<double(std::int64_t t)> factor);
  /// ValueError if the rule has neither one base rate nor one per group, or no function.
  Schedule(Optimizer optimizer, ScheduleRule rule);
  /// Call after each step of the optimiser (or each epoch: the unit is yours).
  void step() const { set_steps(steps() + 1); }
  std::int64_t steps() const { return state_->steps; }
  /// To resume. ValueError below 0, and where a rate would be negative, infinite or NaN: nothing is
  /// changed then. CaptureError inside a capture.
  void set_steps(std::int64_t t) const;
  /// "steps" (i64[]) and the base rates, "base" (f64[groups]): copies.
  StateDict state_dict() const;
  /// To resume, whatever rates the optimiser has by now. ValueError naming what is missing or
  /// unexpected, and for counts and rates that cannot be; ShapeError, TypeError. Nothing is changed
  /// then. CaptureError inside a capture.
  void load_state_dict(const StateDict& state) const;
  /// The rate of a group after t steps. ValueError for t below 0, IndexError for a group there is
  /// not.
  double lr(std::int64_t t, int group = 0) const;
  /// With one base rate per group.
  const ScheduleRule& rule() const { return state_->rule; }

 private:
  struct State {
    Optimizer optimizer;
    ScheduleRule rule;
    std::int64_t steps = 0;
  };
  std::shared_ptr<State> state_;
};

/// The schedule that its options describe.
template <class Options>
class ScheduleOf final : public Schedule {
 public:
  ScheduleOf(Optimizer optimizer, const Options& o) : Schedule(std::move(optimizer), o.rule()) {}
};

/// Options of StepLR: times gamma every `step_size` steps.
struct StepLROptions {
  std::int64_t step_size;  // 1 or more
  double gamma = 0.1;
  ScheduleRule rule() const;  // base gamma^(t / step_size), rounded down
};
using StepLR = ScheduleOf<StepLROptions>;

/// Options of MultiStepLR: times gamma at each milestone.
struct MultiStepLROptions {
  std::vector<std::int64_t> milestones;  // in any order
  double gamma = 0.1;
  ScheduleRule rule() const;  // base gamma^(milestones <= t)
};
using MultiStepLR = ScheduleOf<MultiStepLROptions>;

/// Options of CosineAnnealingLR: down to the rate eta_min along half a cosine over `t_max` steps,
/// and up again over the next: eta_min + (base - eta_min) (1 + cos(pi t / t_max)) / 2. Loshchilov
/// and Hutter, "SGDR", 2017, without restarts.
struct CosineAnnealingLROptions {
  std::int64_t t_max;  // 1 or more
  double eta_min = 0;
  ScheduleRule rule() const;  // the rate above
};
using CosineAnnealingLR = ScheduleOf<CosineAnnealingLROptions>;

/// Options of LinearLR: times a factor that goes from start_factor to end_factor along a straight
/// line over `total_iters` steps, and is constant from there.
struct LinearLROptions {
  double start_factor = 1.0 / 3;
  double end_factor = 1;
  std::int64_t total_iters = 5;  // 1 or more
  ScheduleRule rule() const;     // base times that factor
};
using LinearLR = ScheduleOf<LinearLROptions>;

/// Options of LinearWarmup: times a factor that goes from start_factor to 1 along a straight line
/// over `total_iters` steps; then `after` (its steps counted from there) or constant.
struct LinearWarmupOptions {
  std::int64_t total_iters;  // 1 or more
  double start_factor = 0;
  /// A schedule of the same optimiser, used for its rule and its base rates: step the warm-up, not
  /// this one.
  std::optional<Schedule> after = {};
  ScheduleRule rule() const;  // that of `after`, later
};
using LinearWarmup = ScheduleOf<LinearWarmupOptions>;

/// Options of OneCycleLR: from max_lr / div_factor up to max_lr, reached after pct_start *
/// total_steps - 1 steps, and down to the first rate / final_div_factor, reached after total_steps
/// - 1 steps; both along half a cosine. The rate is constant from there, and momentum stays as it
/// is (PyTorch's cycle_momentum=False). Smith and Topin, "Super-convergence", 2018.
struct OneCycleLROptions {
  std::vector<double> max_lr;     // one for all groups, or one per group
  std::int64_t total_steps;       // 1 or more
  double pct_start = 0.3;         // part of the steps on the way up, in [0, 1]
  double div_factor = 25;         // above 0
  double final_div_factor = 1e4;  // above 0
  ScheduleRule rule() const;      // both halves
};
using OneCycleLR = ScheduleOf<OneCycleLROptions>;

}  // namespace tandem::optim
