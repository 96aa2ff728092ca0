// What other kernels take from batch norm.
#pragma once
#include "core/op.h"

namespace tandem::cpu {

/// The sums of x [N, C, ...], dense, and of its squares over each channel: two results [C], f32
/// (f64 of f64 x), added up in f64.
RefPtr<Plan> plan_channel_sums(const TensorDesc& x);

}  // namespace tandem::cpu
