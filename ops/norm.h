// Batch and layer normalisation.
#pragma once
#include "core/op.h"

namespace tandem {

/// Statistics and parameters of tensors of 16 bits are f32.
inline DType norm_param_dtype(DType x) {
  return is_low_precision(x) ? DType::f32 : x;
}

/// Attributes of batch_norm in training and evaluation.
struct BatchNormAttrs {
  double momentum = 0.1, eps = 1e-5;
  /// y = relu(…), and with one more input z like x, the last, y = relu(… + z). Set by the graph's
  /// passes; such a call has no gradient rule.
  bool relu = false;
  /// Training only: two more inputs [C], before a residual: the sums of x and of x² over each
  /// channel, in place of a pass over x. The variance is their difference: where the mean is far
  /// from zero, little of it is left. Set by the graph's passes; no gradient rule either.
  bool sums = false;

  bool has_residual(std::size_t inputs) const { return relu && inputs % 2 == 0; }
  bool has_running(std::size_t inputs) const { return sums_at(inputs) == 5; }
  /// Which input the sums begin at, or would.
  std::size_t sums_at(std::size_t inputs) const {
    return inputs - (has_residual(inputs) ? 1U : 0U) - (sums ? 2U : 0U);
  }
  static constexpr auto fields() {
    return std::tuple{Field{"momentum", &BatchNormAttrs::momentum},
                      Field{"eps", &BatchNormAttrs::eps}, Field{"relu", &BatchNormAttrs::relu},
                      Field{"sums", &BatchNormAttrs::sums}};
  }
};

/// Attributes of batch_norm_grad, set by the graph's passes; such a call has no gradient rule.
struct BatchNormGradAttrs {
  /// One more input like x, the last: y of y = relu(batch_norm(x)) or y = relu(batch_norm(x) + z).
  /// The gradient given is y's, of which only what the ReLU let through counts.
  bool relu = false;
  /// One more result, the last: z's gradient, which is that part.
  bool residual = false;
  static constexpr auto fields() {
    return std::tuple{Field{"relu", &BatchNormGradAttrs::relu},
                      Field{"residual", &BatchNormGradAttrs::residual}};
  }
};

/// Attributes of layer_norm.
struct LayerNormAttrs {
  std::int64_t axes = 1;  // how many trailing axes are normalised over
  double eps = 1e-5;
  static constexpr auto fields() {
    return std::tuple{Field{"axes", &LayerNormAttrs::axes}, Field{"eps", &LayerNormAttrs::eps}};
  }
};

/// y = (x - mean) / sqrt(var + eps) w + b for each channel of x [N, C, ...] (rank 2 or more).
/// Training: mean and (biased) variance are those of the batch, and the running statistics become
/// (1 - momentum) running + momentum batch, with the unbiased variance. Evaluation: mean and
/// variance are the running ones. w, b and the running statistics are [C], of x's dtype, but f32
/// when x is f16 or bf16. w and b may be undefined (1 and 0); in training so may both running
/// statistics. Throws ShapeError (also for a batch of one value per channel in training, which has
/// no variance), TypeError, ValueError (eps below 0, momentum outside [0, 1]). Source: Ioffe and
/// Szegedy 2015, arXiv:1502.03167.
Tensor batch_norm(In x, const Tensor& w, const Tensor& b, Tensor& running_mean, Tensor& running_var,
                  bool training, double momentum = 0.1, double eps = 1e-5);

/// y = (x - mean) / sqrt(var + eps) w + b, mean and biased variance over the last axes of x, whose
/// sizes are `normalized`; w and b have that shape and x's dtype (f32 when x is f16 or bf16), or
/// are undefined (1 and 0). Throws ShapeError, TypeError, ValueError (eps below 0). Source: Ba et
/// al. 2016, arXiv:1607.06450.
Tensor layer_norm(In x, const Shape& normalized, const Tensor& w = {}, const Tensor& b = {},
                  double eps = 1e-5);

/// Gradients of the input, weight and bias; the last two undefined where there are none.
struct NormGrads {
  Tensor x, w, b;
};

/// Gradients of the training batch_norm with respect to x, w and b, from that of y. `mean` and
/// `invstd` must be those of x: its own gradient counts them as functions of x.
NormGrads batch_norm_grad(In gy, const Tensor& x, const Tensor& w, const Tensor& mean,
                          const Tensor& invstd);
/// The same for layer_norm; mean and rstd have the shape of the axes not normalised over.
NormGrads layer_norm_grad(In gy, const Tensor& x, const Tensor& w, const Tensor& mean,
                          const Tensor& rstd);

}  // namespace tandem
