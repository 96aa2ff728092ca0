// Elementwise kernels and dense copies: what the other families of this folder use as well.
#pragma once
#include "core/op.h"

namespace tandem::cuda {

/// Puts a copy of the elements of `from` into `to` (equal shapes; `from` may repeat elements),
/// converted to its type. Plain function, for plans that make operands dense.
class StridedCopy {
 public:
  StridedCopy() = default;
  StridedCopy(const TensorDesc& to, const TensorDesc& from);
  void run(const LaunchArgs& args, void* to, const void* from) const;

 private:
  RefPtr<Plan> plan_;
};

}  // namespace tandem::cuda
