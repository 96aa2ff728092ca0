// What the parts of autograd share and nobody else needs.
#pragma once
#include "autograd/node.h"

namespace tandem::autograd {

/// Adds `g` to the leaf's `.grad` (or makes it that).
void accumulate_grad(const Tensor& leaf, Tensor g);

/// The backward pass running on this thread writes `.grad`s (it was started by backward()).
bool is_accumulating();

}  // namespace tandem::autograd
