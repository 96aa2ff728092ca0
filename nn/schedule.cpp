#include "nn/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace tandem::optim {

namespace {

constexpr double kPi = 3.14159265358979323846;

double positive(const char* schedule, std::int64_t n) {
  if (n < 1) fail(schedule, "the number of steps is too small", std::to_string(n), "1 or more");
  return static_cast<double>(n);
}

/// How far x is along a stretch: 0 to 1.
double part(double x, double length) {
  return length > 0 ? std::clamp(x / length, 0.0, 1.0) : 1.0;
}

double line(double from, double to, double p) {
  return from + (to - from) * p;
}
double half_cosine(double from, double to, double p) {
  return to + (from - to) * 0.5 * (1 + std::cos(kPi * p));
}

/// The base rates times a factor.
template <class Factor>
ScheduleRule times(Factor factor) {
  return {[=](std::int64_t t, double base) { return base * factor(t); }};
}

}  // namespace

Schedule::Schedule(Optimizer optimizer, std::function<double(std::int64_t)> factor)
    : Schedule(std::move(optimizer), times(std::move(factor))) {}

Schedule::Schedule(Optimizer optimizer, ScheduleRule rule)
    : state_(std::make_shared<State>(State{std::move(optimizer), std::move(rule), 0})) {
  std::vector<double>& base = state_->rule.base;
  const auto groups = static_cast<std::size_t>(state_->optimizer.groups());
  if (base.empty()) {
    for (std::size_t i = 0; i < groups; ++i) {
      base.push_back(state_->optimizer.lr(static_cast<int>(i)));
    }
  }
  if (base.size() == 1) base.resize(groups, base[0]);
  if (base.size() != groups) {
    fail("Schedule", "there must be one rate for all groups or one per group",
         std::to_string(base.size()), "1 or " + std::to_string(groups));
  }
  set_steps(0);
}

double Schedule::lr(std::int64_t t, int group) const {
  return state_->rule.rate(t, state_->rule.base.at(static_cast<std::size_t>(group)));
}

void Schedule::set_steps(std::int64_t t) const {
  for (int i = 0; i < state_->optimizer.groups(); ++i) state_->optimizer.set_lr(i, lr(t, i));
  state_->steps = t;
}

ScheduleRule StepLROptions::rule() const {
  positive("StepLR", step_size);
  return times([o = *this](std::int64_t t) {
    return std::pow(o.gamma, static_cast<double>(t / o.step_size));
  });
}

ScheduleRule MultiStepLROptions::rule() const {
  return times([o = *this](std::int64_t t) {
    const auto passed = std::count_if(o.milestones.begin(), o.milestones.end(),
                                      [=](std::int64_t m) { return m <= t; });
    return std::pow(o.gamma, static_cast<double>(passed));
  });
}

ScheduleRule CosineAnnealingLROptions::rule() const {
  const double n = positive("CosineAnnealingLR", t_max);
  return {[n, last = eta_min](std::int64_t t, double base) {
    return half_cosine(base, last, static_cast<double>(t) / n);
  }};
}

ScheduleRule LinearLROptions::rule() const {
  const double n = positive("LinearLR", total_iters);
  return times([n, o = *this](std::int64_t t) {
    return line(o.start_factor, o.end_factor, part(static_cast<double>(t), n));
  });
}

ScheduleRule LinearWarmupOptions::rule() const {
  const double n = positive("LinearWarmup", total_iters);
  const ScheduleRule then = after ? after->rule() : times([](std::int64_t) { return 1.0; });
  return {[n, then, first = start_factor, m = total_iters](std::int64_t t, double base) {
            if (t >= m) return then.rate(t - m, base);
            return base * line(first, 1, part(static_cast<double>(t), n));
          },
          then.base};
}

ScheduleRule OneCycleLROptions::rule() const {
  const double end = positive("OneCycleLR", total_steps) - 1;
  if (max_lr.empty()) fail("OneCycleLR", "max_lr must be given", "none", "one or one per group");
  return {[=, up = pct_start * (end + 1) - 1, o = *this](std::int64_t t, double top) {
            const double first = top / o.div_factor;
            const auto at = static_cast<double>(t);
            if (at <= up) return half_cosine(first, top, part(at, up));
            return half_cosine(top, first / o.final_div_factor, part(at - up, end - up));
          },
          max_lr};
}

}  // namespace tandem::optim
