// What the parts of autograd share and nobody else needs.
#pragma once
#include "autograd/node.h"

namespace tandem::autograd {

/// CaptureError if `g` is a value of a program being declared and nobody would take it out of the
/// leaf's `.grad` again: the program's Graph has no open scope.
void refuse_unguarded(const Tensor& leaf, const Tensor& g);

/// The backward pass running on this thread writes `.grad`s (it was started by backward()).
bool is_accumulating();

}  // namespace tandem::autograd
