// Optimiser steps. One call updates all parameters; everything is changed in place.
#pragma once
#include <span>
#include <vector>

#include "core/op.h"

namespace tandem {

/// Step counts are below this: a double, in which the factors of a step are computed, holds every
/// number up to it.
inline constexpr std::int64_t kStepLimit = std::int64_t{1} << 53;

/// Attributes of sgd_step.
struct SgdAttrs {
  double momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
  bool scaled = false;  // set by sgd_step, as is
  std::int64_t num_params = 0;
  std::vector<std::int64_t> positions = {};  // of the parameters in `step`, rising; empty: all
  static constexpr auto fields() {
    return std::tuple{Field{"momentum", &SgdAttrs::momentum},
                      Field{"dampening", &SgdAttrs::dampening},
                      Field{"weight_decay", &SgdAttrs::weight_decay},
                      Field{"nesterov", &SgdAttrs::nesterov},
                      Field{"scaled", &SgdAttrs::scaled},
                      Field{"num_params", &SgdAttrs::num_params},
                      Field{"positions", &SgdAttrs::positions}};
  }
  bool has_momentum() const { return momentum != 0; }
  bool counts_steps() const { return has_momentum() && dampening != 0; }
};

/// Attributes of adam_step.
struct AdamAttrs {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool decoupled = false;  // AdamW: the decay shrinks the parameter, not the gradient
  bool eps_hat = false;    // epsilon added before the bias correction of v, as TensorFlow does
  bool scaled = false;     // set by adam_step, as is
  std::int64_t num_params = 0;
  std::vector<std::int64_t> positions = {};  // of the parameters in `step`, rising; empty: all
  static constexpr auto fields() {
    return std::tuple{Field{"beta1", &AdamAttrs::beta1},
                      Field{"beta2", &AdamAttrs::beta2},
                      Field{"eps", &AdamAttrs::eps},
                      Field{"weight_decay", &AdamAttrs::weight_decay},
                      Field{"decoupled", &AdamAttrs::decoupled},
                      Field{"eps_hat", &AdamAttrs::eps_hat},
                      Field{"scaled", &AdamAttrs::scaled},
                      Field{"num_params", &AdamAttrs::num_params},
                      Field{"positions", &AdamAttrs::positions}};
  }
};

/// Stochastic gradient descent, for each parameter p with gradient g and momentum buffer u:
///   g += weight_decay p;  u = momentum u + (1 - dampening) g;  p -= lr (nesterov ? g + momentum u
///   : u)
/// and p -= lr g without momentum. Parameters are floating, of any layout; gradients have their
/// shapes and dtypes; momenta too, but f32 for f16 and bf16 parameters, zeros before the first
/// step, and none at all without momentum. lr: f32 or f64, one element, read when the op runs. With
/// dampening a parameter's first step is undampened (u = g), so steps are counted: `step`, i64 [n],
/// has the steps each parameter has made, 0 before its first, and the op increments those of its
/// own. They are the elements at `positions`, or else, with n parameters, all. One outside [0,
/// kStepLimit) is a ValueError before anything is written; on a device its parameter is left as it
/// is and the error comes with the next synchronisation. Without dampening leave it out.
/// `scaling`, f32[2], may be left out: gradients are multiplied by its first element as they are
/// read, and if the second is not 0 the whole step is left out (see optim::GradScaler). Not
/// differentiable. Throws ShapeError, TypeError, ValueError; the latter also for tensors that are
/// written and share memory, as when a parameter is given twice.
void sgd_step(std::span<const Tensor> params, std::span<const Tensor> grads,
              std::span<const Tensor> momenta, const Tensor& lr, SgdAttrs attrs,
              const Tensor& step = {}, const Tensor& scaling = {}, SrcLoc loc = SrcLoc::current());

/// Adam, for each parameter p with gradient g and moments m, v, at its own step t (from 1):
///   g += weight_decay p  (decoupled: p -= lr weight_decay p)
///   m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g²
///   p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
/// and with eps_hat p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps), the form at the
/// end of section 2 of the paper. Tensors and errors as for sgd_step, `step` too.
/// Not differentiable.
/// Sources: Kingma and Ba 2015, arXiv:1412.6980; Loshchilov and Hutter 2019, arXiv:1711.05101.
void adam_step(std::span<const Tensor> params, std::span<const Tensor> grads,
               std::span<const Tensor> m, std::span<const Tensor> v, const Tensor& lr,
               const Tensor& step, AdamAttrs attrs, const Tensor& scaling = {},
               SrcLoc loc = SrcLoc::current());

}  // namespace tandem
