// The CUDA kernels, by op.
#pragma once
#include "core/op.h"

namespace tandem::cuda {

/// Null for views, which need none.
PlanFn kernel(std::uint16_t op_id);

}  // namespace tandem::cuda
