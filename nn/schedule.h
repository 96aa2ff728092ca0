// Learning-rate schedules. Each is a function of the number of steps taken, so it can be resumed
// anywhere, and acts through Optimizer::set_lr between steps (also those of a compiled program).
//
//   auto schedule = optim::CosineAnnealingLR(opt, {.steps = 1000});
//   for (auto& [x, y] : loader) { step(x, y); schedule.step(); }
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "nn/optim.h"

namespace tandem::optim {

/// A factor on an optimiser's learning rates that depends on the number of steps taken.
class Schedule {
 public:
  /// The rate of every group is `factor(t)` times what it was when the schedule was made, t being
  /// the number of steps taken. Sets the rate for t = 0.
  Schedule(Optimizer optimizer, std::function<double(std::int64_t t)> factor);
  /// Call after each step of the optimiser (or each epoch: the unit is yours).
  void step() const { set_steps(steps() + 1); }
  std::int64_t steps() const { return state_->steps; }
  /// To resume. CaptureError inside a capture.
  void set_steps(std::int64_t t) const;
  double factor(std::int64_t t) const { return state_->factor(t); }
  /// The rates of the groups that a factor of 1 stands for.
  const std::vector<double>& base() const { return state_->base; }

 protected:
  /// With the rates that count as 1.
  Schedule(Optimizer optimizer, std::function<double(std::int64_t t)> factor,
           std::vector<double> base);

 private:
  struct State {
    Optimizer optimizer;
    std::function<double(std::int64_t)> factor;
    std::vector<double> base;
    std::int64_t steps = 0;
  };
  std::shared_ptr<State> state_;
};

/// Options of StepLR.
struct StepLROptions {
  std::int64_t every;
  double gamma = 0.1;
};
/// Times gamma every `every` steps.
class StepLR final : public Schedule {
 public:
  StepLR(Optimizer optimizer, const StepLROptions& o);
};

/// Options of MultiStepLR.
struct MultiStepLROptions {
  std::vector<std::int64_t> milestones;
  double gamma = 0.1;
};
/// Times gamma at each milestone.
class MultiStepLR final : public Schedule {
 public:
  MultiStepLR(Optimizer optimizer, const MultiStepLROptions& o);
};

/// Options of CosineAnnealingLR.
struct CosineAnnealingLROptions {
  std::int64_t steps;
  double final_factor = 0;
};
/// Down to final_factor along half a cosine over `steps`, and constant from there. Loshchilov and
/// Hutter, "SGDR", 2017, without restarts.
class CosineAnnealingLR final : public Schedule {
 public:
  CosineAnnealingLR(Optimizer optimizer, const CosineAnnealingLROptions& o);
};

/// Options of LinearLR.
struct LinearLROptions {
  std::int64_t steps;
  double first_factor = 1, final_factor = 0;
};
/// From first_factor to final_factor along a straight line over `steps`, and constant from there.
class LinearLR final : public Schedule {
 public:
  LinearLR(Optimizer optimizer, const LinearLROptions& o);
};

/// Options of Warmup.
struct WarmupOptions {
  std::int64_t steps;
  double first_factor = 0;
};
/// A straight line from first_factor to 1 over `steps`; then `after` (its steps counted from there)
/// or constant.
class LinearWarmup final : public Schedule {
 public:
  LinearWarmup(Optimizer optimizer, const WarmupOptions& o);
  /// `after`, a schedule of the same optimiser, is used for its shape and the rate it was made
  /// with: step this schedule, not that one.
  LinearWarmup(Optimizer optimizer, const WarmupOptions& o, const Schedule& after);
};

/// Options of OneCycleLR.
struct OneCycleLROptions {
  std::int64_t steps;
  double warmup = 0.3;         // part of `steps` on the way up
  double first_divisor = 25;   // it starts at the rate divided by this
  double final_divisor = 1e4;  // and ends at the first rate divided by this
};
/// Up to the optimiser's rate and down again, both along half a cosine. Smith and Topin,
/// "Super-convergence", 2018.
class OneCycleLR final : public Schedule {
 public:
  OneCycleLR(Optimizer optimizer, const OneCycleLROptions& o);
};

}  // namespace tandem::optim
