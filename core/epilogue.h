// What kernels do to a result before they store it, or to a gradient as they read it, in place of
// ops of their own. Those round to the type E of the tensors between them, and so do these: the
// bits are the same.
#pragma once
#include "core/functors.h"

namespace tandem::epilogue {

/// As the op relu.
template <class E>
TANDEM_HD E relu(E v) {
  using T = compute_t<E>;
  return static_cast<E>(functor::relu::apply(static_cast<T>(v), static_cast<const T*>(nullptr)));
}

/// As the op add.
template <class E>
TANDEM_HD E add(E a, E b) {
  using T = compute_t<E>;
  return static_cast<E>(
      functor::add::apply(static_cast<T>(a), static_cast<T>(b), static_cast<const T*>(nullptr)));
}

/// As the op relu_grad: g where y > 0, else 0.
template <class E>
TANDEM_HD E relu_grad(E g, E y) {
  using T = compute_t<E>;
  return static_cast<E>(functor::relu_grad::apply(static_cast<T>(g), static_cast<T>(y),
                                                  static_cast<const T*>(nullptr)));
}

}  // namespace tandem::epilogue
