// What the tape hangs on a tensor.
#pragma once
#include <functional>
#include <vector>

#include "core/tensor.h"

namespace tandem {

/// What the tape keeps of a tensor: its gradient, and where it came from.
struct GradMeta final : public RefCounted, public Pooled<GradMeta> {
  bool requires_grad = false;
  std::int32_t output_index = 0;  // which output of `node` this tensor is
  RefPtr<RefCounted> node;        // autograd::Node that made it; null for a leaf
  Tensor grad;                    // of a leaf
  std::vector<std::function<Tensor(const Tensor&)>> hooks;
};

inline GradMeta* grad_meta(const Tensor& t) {
  return static_cast<GradMeta*>(t.impl()->grad_meta.get());
}
/// Makes one if there is none.
inline GradMeta& ensure_grad_meta(const Tensor& t) {
  if (!t.impl()->grad_meta) t.impl()->grad_meta = RefPtr<RefCounted>(new GradMeta);
  return *grad_meta(t);
}

}  // namespace tandem
