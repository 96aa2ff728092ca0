// Losses: the functions of ops/loss.h under the name people look for them.
#pragma once
#include "ops/loss.h"

namespace tandem::nn {

/// -log softmax(logits)[target], averaged (see CrossEntropyOptions for sums, label smoothing and
/// ignored labels). logits [N, C, …]; target i64 class indices [N, …] or probabilities [N, C, …].
using tandem::cross_entropy;
/// The same from log-probabilities.
using tandem::nll_loss;
/// (a - b)^2, averaged unless told otherwise.
using tandem::mse_loss;

using tandem::CrossEntropyOptions;
using tandem::Reduction;

}  // namespace tandem::nn
