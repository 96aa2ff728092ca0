// Softmax along one axis.
#pragma once
#include "core/op.h"

namespace tandem {

/// Attributes of softmax, log_softmax and their gradients.
struct SoftmaxAttrs {
  std::int64_t axis = -1;
  static constexpr auto fields() { return std::tuple{Field{"axis", &SoftmaxAttrs::axis}}; }
};

/// exp(x) / sum(exp(x)) along `axis`, any floating dtype; the maximum is subtracted first, so that
/// nothing overflows. A slice of only -inf gives NaN. Throws IndexError, TypeError.
Tensor softmax(In x, int axis = -1);
/// log(softmax(x)), computed as x - max - log(sum(exp(x - max))). Throws IndexError, TypeError.
Tensor log_softmax(In x, int axis = -1);

/// y (g - sum(g y)): the gradient of softmax from that of its result y.
Tensor softmax_grad(In g, const Tensor& y, int axis);
/// g - exp(y) sum(g): the gradient of log_softmax from that of its result y.
Tensor log_softmax_grad(In g, const Tensor& y, int axis);

}  // namespace tandem
