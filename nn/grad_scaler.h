// Loss scaling for training in f16, whose smallest numbers are too large for many gradients.
#pragma once
#include <memory>

#include "nn/optim.h"

namespace tandem::optim {

/// Options of GradScaler.
struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;     // after `growth_interval` steps in a row without overflow
  double backoff_factor = 0.5;  // after an overflow
  std::int64_t growth_interval = 2000;
  bool enabled = true;  // false: every call is as if there were no scaler
  Device device = default_device();
};

/// Dynamic loss scaling: the loss is multiplied by a large factor, so that small gradients do not
/// vanish in f16, and the optimiser divides them by it again. A step whose gradients overflowed is
/// left out and the factor lowered. All of it happens on the device, in ordinary operations: no
/// value is read by the host, so a training step with a scaler can be captured.
///
///     scaler.scale(loss).backward();
///     scaler.step(optimizer);        // not optimizer.step()
///     scaler.update();               // once per iteration, after the last step
///
/// A handle: copies share the state. Source: Micikevicius et al. 2018, arXiv:1710.03740, section
/// 3.2; the schedule of the factor is PyTorch's.
class GradScaler {
 public:
  /// Throws ValueError unless init_scale > 0 (within f32), growth_factor >= 1 (and finite), 0 <
  /// backoff_factor <= 1 and 1 <= growth_interval <= 2^24.
  explicit GradScaler(const GradScalerOptions& o = {});

  /// loss times the factor, in f32 (f64 stays f64).
  Tensor scale(const Tensor& loss) const;
  /// Divides the optimiser's gradients by the factor in place, for clipping. The next step() of the
  /// same optimiser does not divide again.
  void unscale(const Optimizer& o) const;
  /// The optimiser's step with unscaled gradients; nothing at all if one is infinite or NaN.
  void step(const Optimizer& o, SrcLoc loc = SrcLoc::current()) const;
  /// Adapts the factor to whether the steps since the last call overflowed.
  void update() const;

  /// The factor now. Reads a value: CaptureError inside a capture.
  double factor() const;
  /// "scale" and "growth_tracker": the live tensors.
  StateDict state_dict() const;
  /// Copies values in. Throws ValueError naming what is missing, unexpected or out of range,
  /// ShapeError, TypeError; nothing is changed then.
  void load_state_dict(const StateDict& state) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tandem::optim
