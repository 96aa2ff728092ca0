#include "nn/grad_scaler.h"

#include <algorithm>
#include <limits>

#include "core/dispatch.h"
#include "core/error.h"
#include "nn/option_check.h"
#include "ops/ops.h"

namespace tandem::optim {

namespace {

constexpr std::int64_t kMostCounted = 1 << 24;  // f32, which counts steps, stops there

void check_scale(const char* what, double got) {
  check_option(
      got >= std::numeric_limits<float>::denorm_min() && got <= std::numeric_limits<float>::max(),
      "GradScaler", what, got, "above 0, and within f32");
}

}  // namespace

struct GradScaler::State {
  GradScalerOptions options;
  Tensor scale;    // f32[]
  Tensor tracker;  // f32[]: steps in a row without overflow
  Tensor found;    // f32[]: 1 if a step since the last update overflowed
  // Whose gradients have been divided in this iteration: their places in memory.
  std::vector<const void*> unscaled;

  /// f32[]: 1 if a gradient is infinite or NaN, else 0. Times 0 either is NaN, and NaN stays in a
  /// sum.
  static Tensor overflow(const std::vector<Tensor>& grads) {
    Tensor sum;
    for (const Tensor& g : grads) {
      const Tensor s = (g * 0).sum().to(DType::f32);
      sum = sum.defined() ? sum + s : s;
    }
    return isnan(sum).to(DType::f32);
  }
};

GradScaler::GradScaler(const GradScalerOptions& o) : state_(std::make_shared<State>()) {
  check_scale("init_scale", o.init_scale);
  check_option(o.growth_factor >= 1 && std::isfinite(o.growth_factor), "GradScaler",
               "growth_factor", o.growth_factor, "1 or more, and finite");
  check_option(o.backoff_factor > 0 && o.backoff_factor <= 1, "GradScaler", "backoff_factor",
               o.backoff_factor, "above 0, at most 1");
  check_option(o.growth_interval >= 1 && o.growth_interval <= kMostCounted, "GradScaler",
               "growth_interval", o.growth_interval, fmt::format("1 to {}", kMostCounted));
  state_->options = o;
  const TensorOptions on{.dtype = DType::f32, .device = o.device};
  state_->scale = full({}, o.init_scale, on);
  state_->tracker = zeros({}, on);
  state_->found = zeros({}, on);
}

Tensor GradScaler::scale(const Tensor& loss) const {
  if (!state_->options.enabled) return loss;
  return (is_low_precision(loss.dtype()) ? loss.to(DType::f32) : loss) * state_->scale;
}

void GradScaler::unscale(const Optimizer& o) const {
  if (!state_->options.enabled) return;
  if (std::find(state_->unscaled.begin(), state_->unscaled.end(), o.identity()) !=
      state_->unscaled.end()) {
    fail("GradScaler", "the gradients of an optimiser are unscaled once between two update()s",
         "a second unscale()", "update() in between");
  }
  const NoGrad no_grad;
  const Tensor inverse = reciprocal(state_->scale);
  for (Tensor& g : o.gradients()) g.mul_(inverse.to(g.dtype()));
  state_->unscaled.push_back(o.identity());
}

void GradScaler::step(const Optimizer& o, SrcLoc loc) const {
  if (!state_->options.enabled) return o.step(loc);
  const std::vector<Tensor> grads = o.gradients();
  if (grads.empty()) return;
  const NoGrad no_grad;
  const Tensor overflow = State::overflow(grads);
  auto done = std::find(state_->unscaled.begin(), state_->unscaled.end(), o.identity());
  const Tensor factor =
      done == state_->unscaled.end() ? reciprocal(state_->scale) : ones_like(state_->scale);
  o.step(stack({factor, overflow}), loc);
  state_->found.copy_(maximum(state_->found, overflow));
}

void GradScaler::update() const {
  if (!state_->options.enabled) return;
  const GradScalerOptions& o = state_->options;
  const NoGrad no_grad;
  State& s = *state_;
  const Tensor bad = gt(s.found, 0);
  const Tensor count = s.tracker + 1;
  const Tensor grow = ge(count, static_cast<double>(o.growth_interval));
  // A factor that has grown beyond f32 would never come back.
  const Tensor grown = s.scale * o.growth_factor;
  const Tensor up = where(lt(grown, std::numeric_limits<double>::infinity()), grown, s.scale);
  const Tensor next = where(bad, s.scale * o.backoff_factor, where(grow, up, s.scale));
  s.tracker.copy_(where(logical_or(bad, grow), zeros_like(count), count));
  s.scale.copy_(next);
  s.found.copy_(zeros_like(s.found));
  s.unscaled.clear();
}

double GradScaler::factor() const {
  return state_->options.enabled ? state_->scale.item() : 1.0;
}

StateDict GradScaler::state_dict() const {
  return {{"scale", state_->scale}, {"growth_tracker", state_->tracker}};
}

void GradScaler::load_state_dict(const StateDict& state) const {
  for (const auto& [name, t] : state) {
    if (!t.defined() || t.rank() != 0 || !is_floating(t.dtype())) continue;  // load_into says so
    if (name == "scale") check_scale("\"scale\"", t.item());
    if (name == "growth_tracker") check_not_negative("GradScaler", "\"growth_tracker\"", t.item());
  }
  load_into("GradScaler", state_dict(), state);
}

}  // namespace tandem::optim
