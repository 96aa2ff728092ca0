// 2-d convolution, its transpose, and their gradients.
#pragma once
#include "core/op.h"

namespace tandem {

/// One element in a list stands for both axes (height, width).
struct Conv2dOptions {
  Dims stride = {1, 1};
  Dims padding = {0, 0};  // zeros at both ends of each axis
  Dims dilation = {1, 1};
  std::int64_t groups = 1;
};

/// Options of conv_transpose2d. All lists hold two numbers: height, width.
struct ConvTranspose2dOptions {
  Dims stride = {1, 1};
  Dims padding = {0, 0};         // taken off both ends of the result
  Dims output_padding = {0, 0};  // added to the far end, where the stride leaves the size open
  std::int64_t groups = 1;
  Dims dilation = {1, 1};
};

/// Attributes of conv2d and its gradients. All lists hold two numbers: height, width.
struct ConvAttrs {
  Dims stride, padding, dilation;
  std::int64_t groups = 1;
  /// What the inputs leave open: [H, W] of x in conv2d_grad_input, [kh, kw] in conv2d_grad_weight.
  Dims size;
  /// Layout of the result of conv2d_grad_weight.
  MemoryFormat format = MemoryFormat::contiguous;
  /// conv2d only: y = relu(…). Set by the graph's passes; such a call has no gradient rule.
  bool relu = false;
  /// conv2d only: two more results [O], f32 (f64 of f64 tensors): the sums of y and of y² over each
  /// output channel. Set by the graph's passes; such a call has no gradient rule.
  bool sums = false;
  /// conv2d only: x is first normalised and goes through a ReLU, as by batch_norm_eval with `eps`
  /// and `relu`. Its weight, bias, mean and variance [C] are the last four inputs. A vendor's
  /// kernel may round what x is multiplied by and what is added to x's dtype: in f16 it overflows
  /// where mean * weight / sqrt(var + eps) is beyond 65504. Set by the graph's passes; no gradient
  /// rule either.
  bool normed = false;
  double eps = 0;

  /// Which input those four begin at, or would.
  std::size_t norm_at(std::size_t inputs) const { return inputs - (normed ? 4U : 0U); }
  bool has_bias(std::size_t inputs) const { return norm_at(inputs) == 3; }
  bool goes_on() const { return relu || sums || normed; }
  static constexpr auto fields() {
    return std::tuple{
        Field{"stride", &ConvAttrs::stride},     Field{"padding", &ConvAttrs::padding},
        Field{"dilation", &ConvAttrs::dilation}, Field{"groups", &ConvAttrs::groups},
        Field{"size", &ConvAttrs::size},         Field{"format", &ConvAttrs::format},
        Field{"relu", &ConvAttrs::relu},         Field{"sums", &ConvAttrs::sums},
        Field{"normed", &ConvAttrs::normed},     Field{"eps", &ConvAttrs::eps}};
  }
};

/// Cross-correlation of x [N, C, H, W] with w [O, C/groups, kh, kw], plus b [O] if defined, giving
/// [N, O, OH, OW] with OH = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1, rounded down.
/// Group i of the output channels sees group i of the input channels only. Any floating dtype, the
/// same for all. Channels-last in, channels-last out. Throws ShapeError, TypeError, ValueError.
Tensor conv2d(In x, const Tensor& w, const Tensor& b = {}, const Conv2dOptions& o = {});

/// The gradient of conv2d with respect to its input, as a layer of its own ("deconvolution"):
/// x [N, I, H, W], w [I, O/groups, kh, kw], b [O] or undefined, giving [N, O, OH, OW] with
/// OH = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.
/// output_padding must be smaller than the stride. Throws like conv2d.
Tensor conv_transpose2d(In x, const Tensor& w, const Tensor& b = {},
                        const ConvTranspose2dOptions& o = {});

/// d(loss)/dx [x_shape] of conv2d from gy = d(loss)/dy and w. Laid out as gy is.
Tensor conv2d_grad_input(In gy, const Tensor& w, const Shape& x_shape, const Conv2dOptions& o = {});

/// d(loss)/dw [w_shape] of conv2d from x and gy = d(loss)/dy, laid out as `format` says.
Tensor conv2d_grad_weight(In x, const Tensor& gy, const Shape& w_shape, const Conv2dOptions& o = {},
                          MemoryFormat format = MemoryFormat::contiguous);

}  // namespace tandem
