// Helpers for gradient rules.
#pragma once
#include "core/op.h"

namespace tandem {

/// Undoes a broadcast: sums `g` over the axes along which `like` was repeated, and gives it the
/// shape and dtype of `like`. `g` itself when it has them already.
Tensor reduce_to(const Tensor& g, const TensorDesc& like);

/// Zeros of that shape, dtype, device and memory format.
Tensor zeros_of(const TensorDesc& like);

/// InternalError for a call with an epilogue: the graph's passes make it, after all gradients.
void expect_no_epilogue(const VjpContext& c, bool epilogue);

}  // namespace tandem
