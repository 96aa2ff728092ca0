#include "nn/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/error.h"
#include "nn/module.h"
#include "nn/option_check.h"
#include "ops/ops.h"

namespace tandem::optim {

namespace {

constexpr double kPi = 3.14159265358979323846;

double positive(const char* schedule, const char* option, std::int64_t n) {
  check_option(n >= 1, schedule, option, n, "1 or more");
  return static_cast<double>(n);
}
void check_divisor(const char* schedule, const char* option, double x) {
  check_option(x > 0 && std::isfinite(x), schedule, option, x, "above 0, and finite");
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
    : Schedule(std::move(optimizer), factor ? times(std::move(factor)) : ScheduleRule{}) {}

Schedule::Schedule(Optimizer optimizer, ScheduleRule rule)
    : state_(std::make_shared<State>(State{std::move(optimizer), std::move(rule), 0})) {
  if (!state_->rule.rate) {
    fail("Schedule", "there is no function", "null", "rates or factors by the step");
  }
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
  check_option(t >= 0, "Schedule", "the number of steps", t, "0 or more");
  const auto& base = state_->rule.base;
  if (group < 0 || group >= std::ssize(base)) {
    fail<IndexError>("Schedule", "no such parameter group", std::to_string(group),
                     fmt::format("0 to {}", std::ssize(base) - 1));
  }
  return state_->rule.rate(t, base[static_cast<std::size_t>(group)]);
}

void Schedule::set_steps(std::int64_t t) const {
  std::vector<double> rates;
  for (int i = 0; i < state_->optimizer.groups(); ++i) {
    rates.push_back(lr(t, i));
    check_not_negative("Schedule", fmt::format("the rate after {} steps", t), rates.back());
  }
  for (std::size_t i = 0; i < rates.size(); ++i) {
    state_->optimizer.set_lr(static_cast<int>(i), rates[i]);
  }
  state_->steps = t;
}

StateDict Schedule::state_dict() const {
  const NoGrad no_grad;
  return {{"steps", full({}, steps(), {DType::i64, kCPU})},
          {"base", Tensor::from(rule().base, {std::ssize(rule().base)}, kCPU)}};
}

void Schedule::load_state_dict(const StateDict& state) const {
  const NoGrad no_grad;
  const StateDict mine = state_dict();
  load_into("Schedule", mine, state);
  std::vector<double> base = mine[1].second.to_vector<double>();
  for (const double rate : base) check_not_negative("Schedule", "a base rate", rate);
  std::swap(state_->rule.base, base);
  try {
    set_steps(mine[0].second.item<std::int64_t>());
  } catch (...) {
    std::swap(state_->rule.base, base);
    throw;
  }
}

ScheduleRule StepLROptions::rule() const {
  positive("StepLR", "step_size", step_size);
  check_not_negative("StepLR", "gamma", gamma);
  return times([o = *this](std::int64_t t) {
    return std::pow(o.gamma, static_cast<double>(t / o.step_size));
  });
}

ScheduleRule MultiStepLROptions::rule() const {
  for (const std::int64_t m : milestones) {
    check_option(m >= 0, "MultiStepLR", "a milestone", m, "0 or more");
  }
  check_not_negative("MultiStepLR", "gamma", gamma);
  return times([o = *this](std::int64_t t) {
    const auto passed = std::count_if(o.milestones.begin(), o.milestones.end(),
                                      [=](std::int64_t m) { return m <= t; });
    return std::pow(o.gamma, static_cast<double>(passed));
  });
}

ScheduleRule CosineAnnealingLROptions::rule() const {
  const double n = positive("CosineAnnealingLR", "T_max", t_max);
  check_not_negative("CosineAnnealingLR", "eta_min", eta_min);
  return {[n, last = eta_min](std::int64_t t, double base) {
    return half_cosine(base, last, static_cast<double>(t) / n);
  }};
}

ScheduleRule LinearLROptions::rule() const {
  const double n = positive("LinearLR", "total_iters", total_iters);
  check_not_negative("LinearLR", "start_factor", start_factor);
  check_not_negative("LinearLR", "end_factor", end_factor);
  return times([n, o = *this](std::int64_t t) {
    return line(o.start_factor, o.end_factor, part(static_cast<double>(t), n));
  });
}

ScheduleRule LinearWarmupOptions::rule() const {
  const double n = positive("LinearWarmup", "total_iters", total_iters);
  check_not_negative("LinearWarmup", "start_factor", start_factor);
  const ScheduleRule then = after ? after->rule() : times([](std::int64_t) { return 1.0; });
  return {[n, then, first = start_factor, m = total_iters](std::int64_t t, double base) {
            if (t >= m) return then.rate(t - m, base);
            return base * line(first, 1, part(static_cast<double>(t), n));
          },
          then.base};
}

ScheduleRule OneCycleLROptions::rule() const {
  const double end = positive("OneCycleLR", "total_steps", total_steps) - 1;
  if (max_lr.empty()) fail("OneCycleLR", "max_lr must be given", "none", "one or one per group");
  for (const double top : max_lr) check_not_negative("OneCycleLR", "max_lr", top);
  check_option(pct_start >= 0 && pct_start <= 1, "OneCycleLR", "pct_start", pct_start, "0 to 1");
  check_divisor("OneCycleLR", "div_factor", div_factor);
  check_divisor("OneCycleLR", "final_div_factor", final_div_factor);
  return {[=, up = pct_start * (end + 1) - 1, o = *this](std::int64_t t, double top) {
            const double first = top / o.div_factor;
            const auto at = static_cast<double>(t);
            if (at <= up) return half_cosine(first, top, part(at, up));
            return half_cosine(top, first / o.final_div_factor, part(at - up, end - up));
          },
          max_lr};
}

}  // namespace tandem::optim
