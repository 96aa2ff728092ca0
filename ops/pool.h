// Pooling over the last two axes of [N, C, H, W].
#pragma once
#include "core/op.h"

namespace tandem {

/// Windows of a 2-d pooling. Sizes of one element are used for both axes.
struct Pool2dOptions {
  Dims kernel;                    // [height, width]
  Dims stride = {};               // empty: the kernel
  Dims padding = {0, 0};          // at both ends; at most half the kernel
  bool ceil_mode = false;         // keep a last window that only partly covers the input
  bool count_include_pad = true;  // average pooling: padding counts in the divisor
};

/// Attributes of all pooling ops with a kernel. `input_size` ([H, W]) is set in the gradients.
struct PoolAttrs {
  Dims kernel, stride, padding;
  bool ceil_mode = false, count_include_pad = true;
  Dims input_size;
  static constexpr auto fields() {
    return std::tuple{Field{"kernel", &PoolAttrs::kernel},
                      Field{"stride", &PoolAttrs::stride},
                      Field{"padding", &PoolAttrs::padding},
                      Field{"ceil_mode", &PoolAttrs::ceil_mode},
                      Field{"count_include_pad", &PoolAttrs::count_include_pad},
                      Field{"input_size", &PoolAttrs::input_size}};
  }
};

/// Attributes of adaptive_avg_pool2d and its gradient.
struct AdaptivePoolAttrs {
  Dims output_size;  // [OH, OW]
  Dims input_size;   // [H, W], set in the gradient
  static constexpr auto fields() {
    return std::tuple{Field{"output_size", &AdaptivePoolAttrs::output_size},
                      Field{"input_size", &AdaptivePoolAttrs::input_size}};
  }
};

/// Largest element of each window of x [N, C, H, W], any floating dtype; padding counts as -inf
/// and a NaN makes the result NaN. The gradient goes to the first maximum of a window.
/// Throws ShapeError, TypeError.
Tensor max_pool2d(In x, const Pool2dOptions& o);

/// The same with the positions of the maxima: {y, i32 indices into H*W of the input plane}.
std::pair<Tensor, Tensor> max_pool2d_with_indices(In x, const Pool2dOptions& o);

/// Mean of each window of x [N, C, H, W], any floating dtype. Throws ShapeError, TypeError.
Tensor avg_pool2d(In x, const Pool2dOptions& o);

/// Mean over windows chosen so that the output is [N, C, out[0], out[1]]: output i covers inputs
/// floor(i H / OH) up to ceil((i + 1) H / OH). One number is used for both axes. Throws ShapeError,
/// TypeError.
Tensor adaptive_avg_pool2d(In x, const Dims& out);

// Gradients, as functions of their own (they are differentiable too).

/// Adds gy [N, C, OH, OW] into zeros [N, C, H, W] at the positions `indices`. `attrs` are those of
/// the pooling, with input_size. Positions are those that max_pool2d gave: what others stand for is
/// left out, or an IndexError says so when the operation runs; never is anything outside written.
Tensor max_pool2d_grad(In gy, const Tensor& indices, const PoolAttrs& attrs);
/// x [N, C, H, W] read at the positions `indices` [N, C, OH, OW]: the adjoint of max_pool2d_grad.
/// Positions lie in [0, H W), else IndexError when the operation runs.
Tensor max_pool2d_gather(In x, const Tensor& indices, const PoolAttrs& attrs);
/// Spreads gy [N, C, OH, OW] evenly over the windows it came from: [N, C, H, W], with `attrs` those
/// of the pooling and its input_size.
Tensor avg_pool2d_grad(In gy, const PoolAttrs& attrs);
/// The same for adaptive_avg_pool2d.
Tensor adaptive_avg_pool2d_grad(In gy, const AdaptivePoolAttrs& attrs);

}  // namespace tandem
