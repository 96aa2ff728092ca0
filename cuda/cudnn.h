// The one place that knows cuDNN (9.0 and later, through cudnn-frontend's graphs). It makes plans;
// a null plan means that the library has no engine for the case, or none the policy allows.
#pragma once
#include <string>
#include <vector>

#include "core/op.h"

namespace tandem::cuda {

std::string cudnn_version();  // "cuDNN 9.19.0"

/// Plans for conv2d, conv2d_grad_input, conv2d_grad_weight, and for batch_norm_train and
/// batch_norm_grad, which are used only after a search; of f32, f16 and bf16 tensors. Null for all
/// other ops. Sums are f32; f32 operands are rounded to TF32 only if the policy says so. With
/// Policy::search so many engines are timed, those compiled at run time among them, and our own
/// kernel, which the plan may then be (not while a graph is recorded); else the first that cuDNN's
/// heuristics name is taken. Throws DeviceError if cuDNN does not start.
///
/// Not here, because cuDNN means something else or has nothing to gain by:
///   pooling      its maxima are remembered as 8-bit positions in their windows (ours are positions
///                in the plane), its graphs have no backward pass, and no last window that only
///                partly covers the input (ceil_mode); averages are one read of the input
///   evaluation   of batch norm: wants 1 / sqrt(var + eps), not var; is one read and one write
///   batch norm   of images that are not channels-last
RefPtr<Plan> cudnn_plan(const PlanRequest& r);

// ------------------------------------------------------------------------------------ for tests

/// A GPU that need not be there.
struct CudnnDevice {
  int major, minor, multiprocessors;
  std::size_t shared_per_block, l2, memory;  // bytes
};

struct CudnnEngine {
  std::string name;
  std::uint32_t notes;     // cudnn_rules.h
  bool allowed;            // by the request's policy
  std::int64_t workspace;  // bytes; -1: it cannot be made ready
};

/// The engines cuDNN would offer for a call on such a GPU, the best first; none if the call is not
/// for cuDNN. Throws DeviceError if cuDNN does not understand what it is given. Engines that are
/// compiled at run time are missing where there is no driver.
std::vector<CudnnEngine> cudnn_engines(const PlanRequest& r, const CudnnDevice& device);

}  // namespace tandem::cuda
