// What the tape hangs on a tensor.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "core/host_changes.h"
#include "core/tensor.h"

namespace tandem {

/// Sees a gradient; what it returns (if defined) replaces it.
using GradHook = std::function<Tensor(const Tensor&)>;

/// The hooks of a leaf, or of the outputs of a node, in the order they were registered.
class GradHooks {
 public:
  std::shared_ptr<const GradHook> add(int output, GradHook hook) {  // what remove() takes
    hooks_.push_back({output, std::make_shared<const GradHook>(std::move(hook))});
    return hooks_.back().call;
  }
  void remove(const std::shared_ptr<const GradHook>& hook) {
    std::erase_if(hooks_, [&](const Entry& e) { return e.call == hook; });
  }
  bool empty(int output) const {
    return std::none_of(hooks_.begin(), hooks_.end(),
                        [&](const Entry& e) { return e.output == output; });
  }
  /// What the hooks of `output` make of `g`. Hooks registered or removed meanwhile, by one of them,
  /// count from the next time on.
  Tensor apply(int output, Tensor g) const {
    const std::vector<Entry> now = hooks_;
    for (const Entry& e : now) {
      if (e.output != output) continue;
      if (Tensor r = (*e.call)(g); r.defined()) g = std::move(r);
    }
    return g;
  }

 private:
  struct Entry {
    int output;
    std::shared_ptr<const GradHook> call;
  };
  std::vector<Entry> hooks_;
};

/// What the tape keeps of a tensor: its gradient, and where it came from.
struct GradMeta final : public RefCounted, public Pooled<GradMeta> {
  bool requires_grad = false;
  Subject flag = 0;                  // of requires_grad, once a program may depend on it
  std::int32_t output_index = 0;     // which output of `node` this tensor is
  RefPtr<RefCounted> node;           // autograd::Node that made it; null for a leaf
  Tensor grad;                       // of a leaf
  std::shared_ptr<GradHooks> hooks;  // of a leaf; null while there are none
};

/// Null while there is none.
inline GradMeta* grad_meta(const Tensor& t) {
  return static_cast<GradMeta*>(t.impl()->grad_meta.get());
}
/// Makes one if there is none.
inline GradMeta& ensure_grad_meta(const Tensor& t) {
  if (!t.impl()->grad_meta) t.impl()->grad_meta = RefPtr<RefCounted>(new GradMeta);
  return *grad_meta(t);
}

}  // namespace tandem
