// Tensor's autograd methods.
#include "autograd/autograd.h"
#include "autograd/engine.h"
#include "autograd/node.h"
#include "core/trace_guard.h"

namespace tandem {

bool Tensor::requires_grad() const {
  const GradMeta* m = grad_meta(*this);
  return m && m->requires_grad;
}

Tensor& Tensor::set_requires_grad(bool on) {
  if (on && !is_floating(dtype())) {
    fail<TypeError>("set_requires_grad", "only floating tensors have gradients", desc().str());
  }
  if (!on && !is_leaf()) {
    fail<AutogradError>("set_requires_grad", "only a leaf can stop requiring a gradient",
                        desc().str(), "detach()");
  }
  if (on || impl_->grad_meta) {
    bool& now = ensure_grad_meta(*this).requires_grad;
    if (now != on && impl_->storage->pinned()) note_host_change();
    now = on;
  }
  return *this;
}

bool Tensor::is_leaf() const {
  const GradMeta* m = grad_meta(*this);
  return !m || !m->node;
}

Tensor Tensor::grad() const {
  const GradMeta* m = grad_meta(*this);
  if (!m) return {};
  if (TraceGuards* t = trace_guards()) t->read_grad(*this);
  return m->grad;
}

void Tensor::set_grad(const Tensor& g) {
  if (!defined()) fail<AutogradError>("set_grad", "the tensor is undefined");
  if (g.defined() && !(g.shape() == shape() && g.dtype() == dtype())) {
    fail<ShapeError>("set_grad", "a gradient has its tensor's shape and dtype", g.desc().str(),
                     desc().str());
  }
  if (!g.defined() && !impl_->grad_meta) return;
  if (TraceGuards* t = trace_guards()) t->write_grad(*this);
  autograd::refuse_unguarded(*this, g);
  ensure_grad_meta(*this).grad = g;
}

void Tensor::backward(const Tensor& seed, bool retain_graph, bool create_graph, SrcLoc loc) const {
  (void)loc;
  autograd::backward(std::span(this, 1), std::span(&seed, 1),
                     {.retain_graph = retain_graph, .create_graph = create_graph});
}

Tensor Tensor::detach() const {
  impl_->storage->mark_viewed();
  return autograd::without_history(*this);
}

}  // namespace tandem
