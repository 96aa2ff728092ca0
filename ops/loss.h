// Losses.
#pragma once
#include "core/op.h"

namespace tandem {

/// What becomes of the samples' losses: all of them, their mean, their sum.
enum class Reduction : std::uint8_t { none, mean, sum };
/// "none", "mean", "sum".
const char* name_of(Reduction r);

/// Attributes of nll and its gradient.
struct NllAttrs {
  std::int64_t reduction = 1;  // a Reduction
  std::int64_t ignore_index = -100;
  Dims input_shape;  // of the log-probabilities; set in the gradient
  static constexpr auto fields() {
    return std::tuple{Field{"reduction", &NllAttrs::reduction},
                      Field{"ignore_index", &NllAttrs::ignore_index},
                      Field{"input_shape", &NllAttrs::input_shape}};
  }
  Reduction kind() const { return static_cast<Reduction>(reduction); }
};

/// Attributes of cross_entropy and its gradient.
struct CrossEntropyAttrs {
  std::int64_t reduction = 1;  // a Reduction
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
  static constexpr auto fields() {
    return std::tuple{Field{"reduction", &CrossEntropyAttrs::reduction},
                      Field{"ignore_index", &CrossEntropyAttrs::ignore_index},
                      Field{"label_smoothing", &CrossEntropyAttrs::label_smoothing}};
  }
  Reduction kind() const { return static_cast<Reduction>(reduction); }
};

/// Options of cross_entropy.
struct CrossEntropyOptions {
  double label_smoothing = 0;  // in [0, 1]: that share of the target is spread over all classes
  Reduction reduction = Reduction::mean;
  std::int64_t ignore_index = -100;  // samples with this label count for nothing
};

/// -logp[target] of each sample: logp [N, C, ...] (or [C]) of any floating dtype, target [N, ...]
/// (or []) i64, i32 or u8 class indices. Mean is over the samples not ignored, NaN if there is
/// none. Throws ShapeError, TypeError, and IndexError for a label outside [0, C).
Tensor nll_loss(In logp, const Tensor& target, Reduction reduction = Reduction::mean,
                std::int64_t ignore_index = -100);

/// -log(softmax(logits))[target], axis 1 being the classes. logits [N, C, ...] (or [C]); target
/// either i64, i32 or u8 class indices [N, ...] (or []), or probabilities with the shape of logits
/// (ignore_index then means nothing, and mean is over N and the trailing axes). The loss has the
/// dtype of the logits. Mean is over the samples not ignored, NaN if there is none.
/// Throws ShapeError, TypeError, ValueError, and IndexError for a label outside [0, C).
Tensor cross_entropy(In logits, const Tensor& target, const CrossEntropyOptions& o = {});

/// (a - b)², reduced; the shapes must be equal. Throws ShapeError.
Tensor mse_loss(In a, const Tensor& b, Reduction reduction = Reduction::mean);

/// Gradient of nll_loss with respect to logp, of shape attrs.input_shape.
Tensor nll_grad(In gloss, const Tensor& target, const NllAttrs& attrs);
/// Gradient of cross_entropy with respect to the logits, in the dtype of gloss; logp is the op's
/// second output, the log-probabilities.
Tensor cross_entropy_grad(In gloss, const Tensor& logp, const Tensor& target,
                          const CrossEntropyAttrs& attrs);

}  // namespace tandem
