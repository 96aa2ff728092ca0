#include "nn/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace tandem::optim {

namespace {

constexpr double kPi = 3.14159265358979323846;

std::int64_t positive(const char* schedule, std::int64_t n) {
  if (n < 1) fail(schedule, "the number of steps is too small", std::to_string(n), "1 or more");
  return n;
}

/// How far t is along n steps: 0 to 1.
double part(std::int64_t t, double n) {
  return n > 0 ? std::clamp(static_cast<double>(t) / n, 0.0, 1.0) : 1.0;
}

double line(double from, double to, double p) {
  return from + (to - from) * p;
}
double half_cosine(double from, double to, double p) {
  return to + (from - to) * 0.5 * (1 + std::cos(kPi * p));
}

std::vector<double> rates(const Optimizer& optimizer) {
  std::vector<double> v;
  for (int i = 0; i < optimizer.groups(); ++i) v.push_back(optimizer.lr(i));
  return v;
}

std::function<double(std::int64_t)> warmup(const WarmupOptions& o,
                                           std::function<double(std::int64_t)> after) {
  const std::int64_t n = positive("LinearWarmup", o.steps);
  return [=](std::int64_t t) {
    return t < n ? line(o.first_factor, 1, part(t, static_cast<double>(n))) : after(t - n);
  };
}

}  // namespace

Schedule::Schedule(Optimizer optimizer, std::function<double(std::int64_t)> factor)
    : Schedule(optimizer, std::move(factor), rates(optimizer)) {}

Schedule::Schedule(Optimizer optimizer, std::function<double(std::int64_t)> factor,
                   std::vector<double> base)
    : state_(std::make_shared<State>(
          State{std::move(optimizer), std::move(factor), std::move(base), 0})) {
  set_steps(0);
}

void Schedule::set_steps(std::int64_t t) const {
  const double f = state_->factor(t);
  for (int i = 0; i < state_->optimizer.groups(); ++i) {
    state_->optimizer.set_lr(i, state_->base[static_cast<std::size_t>(i)] * f);
  }
  state_->steps = t;
}

StepLR::StepLR(Optimizer optimizer, const StepLROptions& o)
    : Schedule(std::move(optimizer),
               [every = positive("StepLR", o.every), gamma = o.gamma](std::int64_t t) {
                 return std::pow(gamma, static_cast<double>(t / every));
               }) {}

MultiStepLR::MultiStepLR(Optimizer optimizer, const MultiStepLROptions& o)
    : Schedule(std::move(optimizer), [o](std::int64_t t) {
        return std::pow(o.gamma,
                        static_cast<double>(std::count_if(o.milestones.begin(), o.milestones.end(),
                                                          [&](auto m) { return m <= t; })));
      }) {}

CosineAnnealingLR::CosineAnnealingLR(Optimizer optimizer, const CosineAnnealingLROptions& o)
    : Schedule(
          std::move(optimizer),
          [n = static_cast<double>(positive("CosineAnnealingLR", o.steps)),
           last = o.final_factor](std::int64_t t) { return half_cosine(1, last, part(t, n)); }) {}

LinearLR::LinearLR(Optimizer optimizer, const LinearLROptions& o)
    : Schedule(std::move(optimizer),
               [n = static_cast<double>(positive("LinearLR", o.steps)), o](std::int64_t t) {
                 return line(o.first_factor, o.final_factor, part(t, n));
               }) {}

LinearWarmup::LinearWarmup(Optimizer optimizer, const WarmupOptions& o)
    : Schedule(std::move(optimizer), warmup(o, [](std::int64_t) { return 1.0; })) {}

LinearWarmup::LinearWarmup(Optimizer optimizer, const WarmupOptions& o, const Schedule& after)
    : Schedule(std::move(optimizer), warmup(o, [after](std::int64_t t) { return after.factor(t); }),
               after.base()) {}

OneCycleLR::OneCycleLR(Optimizer optimizer, const OneCycleLROptions& o)
    : Schedule(std::move(optimizer),
               [n = static_cast<double>(positive("OneCycleLR", o.steps)), o](std::int64_t t) {
                 const double up = n * o.warmup, first = 1 / o.first_divisor;
                 const auto at = static_cast<double>(t);
                 if (at < up) return half_cosine(first, 1, at / up);
                 return half_cosine(1, first / o.final_divisor,
                                    n > up ? std::min((at - up) / (n - up), 1.0) : 1.0);
               }) {}

}  // namespace tandem::optim
