// What other kernels take from batch norm.
#pragma once
#include "core/op.h"

namespace tandem::cuda {

/// The sums of x [N, C, ...], dense, and of its squares over each channel: two results [C], f32
/// (f64 of f64 x), added up in f64.
RefPtr<Plan> plan_channel_sums(const TensorDesc& x);

/// What a batch norm in evaluation of type `dtype` multiplies by and adds: from its weight, bias,
/// mean and variance, described by `in`, two results [C] of that type.
RefPtr<Plan> plan_norm_factors(DType dtype, std::span<const TensorDesc> in, double eps);

}  // namespace tandem::cuda
