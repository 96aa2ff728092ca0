// Measuring which of several ways to run a call is the fastest, when its plan is made.
#pragma once
#include "core/function_ref.h"
#include "core/op.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

/// The number of the way, below `ways`, that takes least time on memory made for the purpose.
/// `run(way, args)` puts a way into the stream of the launch. Waits for the stream, which must not
/// be captured. Throws OutOfMemoryError.
std::size_t fastest(const PlanRequest& r, CudaStream& stream, std::size_t ways,
                    std::size_t workspace_bytes,
                    FunctionRef<void(std::size_t way, const LaunchArgs&)> run);

}  // namespace tandem::cuda
