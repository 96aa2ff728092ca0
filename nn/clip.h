// Clipping of gradients, between the backward pass and the optimiser's step; eagerly or in a
// captured function.
//
//   loss.backward();
//   optim::clip_grad_norm(net.parameters(), 1.0);
//   opt.step();
#pragma once
#include <span>

#include "core/tensor.h"

namespace tandem::optim {

/// Multiplies the gradients of `parameters` (those that have one) by min(1, max_norm / (norm +
/// 1e-6)), `norm` being that of all of them together as one vector: the 2-norm, or another
/// (infinity: the largest absolute value). Gives the norm there was before: f32[] (f64[] of f64
/// gradients) on the first one's device, and 0 without gradients. As in PyTorch: Pascanu et al.,
/// "On the difficulty of training recurrent neural networks", 2013. ValueError for a max_norm below
/// 0, or a norm_type not above 0.
Tensor clip_grad_norm(std::span<const Tensor> parameters, double max_norm, double norm_type = 2,
                      SrcLoc loc = SrcLoc::current());

/// Brings every element of the gradients of `parameters` into [-limit, limit]. ValueError for a
/// limit below 0.
void clip_grad_value(std::span<const Tensor> parameters, double limit,
                     SrcLoc loc = SrcLoc::current());

}  // namespace tandem::optim
