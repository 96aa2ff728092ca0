// Tensor's autograd methods.
#include "autograd/autograd.h"
#include "autograd/engine.h"
#include "autograd/node.h"
#include "core/host_changes.h"
#include "core/trace_guard.h"

namespace tandem {
namespace {

Subject flag_of(GradMeta& meta) {
  if (meta.flag == 0) meta.flag = new_subject();
  return meta.flag;
}

}  // namespace

bool Tensor::requires_grad() const {
  checked();
  // A program may depend on it that uses nothing else of the tensor.
  if (trace_guards() && !is_symbolic()) flag_of(ensure_grad_meta(*this));
  const GradMeta* m = grad_meta(*this);
  return m && m->requires_grad;
}

Tensor& Tensor::set_requires_grad(bool on, SrcLoc loc) {
  const ErrorSite at(loc);
  expect_defined("set_requires_grad", {this}, loc);
  if (on && !is_floating(dtype())) {
    fail<TypeError>("set_requires_grad", "only floating tensors have gradients", desc().str());
  }
  if (!on && !is_leaf()) {
    fail<AutogradError>("set_requires_grad", "only a leaf can stop requiring a gradient",
                        desc().str(), "detach()");
  }
  if (on || impl_->grad_meta) {
    const bool is_new = !impl_->grad_meta;
    GradMeta& meta = ensure_grad_meta(*this);
    // A leaf that a captured function makes of a tensor from outside is made at every capture.
    const bool is_known = meta.flag != 0 || impl_->storage->pinned();
    if (meta.requires_grad != on && is_known && !(trace_guards() && is_new)) {
      note_host_change({flag_of(meta), "requires_grad of a tensor", true});
    }
    meta.requires_grad = on;
  }
  return *this;
}

bool Tensor::is_leaf() const {
  checked();
  const GradMeta* m = grad_meta(*this);
  return !m || !m->node;
}

Tensor Tensor::grad() const {
  checked();
  const GradMeta* m = grad_meta(*this);
  if (!m) return {};
  if (TraceGuards* t = trace_guards()) return t->read_grad(*this);
  return m->grad;
}

void Tensor::set_grad(const Tensor& g, SrcLoc loc) {
  const ErrorSite at(loc);
  expect_defined("set_grad", {this}, loc);
  if (g.defined() && !(g.shape() == shape() && g.dtype() == dtype())) {
    fail<ShapeError>("set_grad", "a gradient has its tensor's shape and dtype", g.desc().str(),
                     desc().str());
  }
  if (!g.defined() && !impl_->grad_meta) return;
  if (TraceGuards* t = trace_guards()) return t->write_grad(*this, g);
  autograd::refuse_unguarded(*this, g);
  ensure_grad_meta(*this).grad = g;
}

void Tensor::backward(const Tensor& seed, bool retain_graph, bool create_graph, SrcLoc loc) const {
  autograd::backward(std::span(this, 1), std::span(&seed, 1),
                     {.retain_graph = retain_graph, .create_graph = create_graph}, loc);
}

Tensor Tensor::detach() const {
  checked();
  impl_->storage->mark_viewed();
  return autograd::without_history(*this);
}

}  // namespace tandem
