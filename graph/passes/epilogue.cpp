#include <optional>

#include "graph/passes.h"
#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/op_list.h"

namespace tandem::graph {
namespace {

/// What follows a node's first result: a ReLU, or a sum and a ReLU of it.
struct Tail {
  std::size_t add = 0, relu = 0;  // nodes
  ValueId residual = -1;          // the sum's other operand; -1: no sum
};

bool takes_residual(const Node& n) {
  return &n.op() == &op::batch_norm_train || &n.op() == &op::batch_norm_eval;
}

/// The node's call as it is with a ReLU, and a residual as one more input.
RefPtr<const PreparedOp> with_relu(const Node& n, const TensorDesc* residual) {
  std::vector<const TensorDesc*> in;
  for (const TensorDesc& d : n.call->in) in.push_back(&d);
  if (residual) in.push_back(residual);
  const PolicyScope policy(n.call->policy);
  const auto prepare = [&]<class A>(A attrs) {
    attrs.relu = true;
    return RefPtr<const PreparedOp>(&dispatch::prepare(n.op(), in, attrs));
  };
  if (&n.op() == &op::conv2d) return prepare(n.call->attrs.as<ConvAttrs>());
  if (&n.op() == &op::linear) return prepare(n.call->attrs.as<LinearAttrs>());
  return prepare(n.call->attrs.as<BatchNormAttrs>());
}

bool has_relu(const Node& n) {
  if (&n.op() == &op::conv2d) return n.call->attrs.as<ConvAttrs>().relu;
  if (&n.op() == &op::linear) return n.call->attrs.as<LinearAttrs>().relu;
  if (takes_residual(n)) return n.call->attrs.as<BatchNormAttrs>().relu;
  return true;  // of other ops, as far as this pass goes
}

class Matcher {
 public:
  explicit Matcher(const Program& p) : p_(p), user_(p.values.size(), -1), uses_(use_counts(p)) {
    for (std::size_t i = 0; i < p.nodes.size(); ++i) {
      for (ValueId v : p.nodes[i].inputs) user_[at(v)] = static_cast<std::int32_t>(i);
    }
    for (ValueId v : p.results()) uses_[at(v)] = 2;  // whoever else reads it
  }

  /// What may become part of node i. All of it then happens where node i stands, so a residual must
  /// be there by then.
  std::optional<Tail> tail(std::size_t i) const {
    const Node& n = p_.nodes[i];
    if (n.inplace || has_relu(n)) return {};
    const ValueId y = n.outputs[0];
    const Node* next = only_user(y);
    if (!next) return {};
    Tail t;
    if (&next->op() == &op::add && takes_residual(n) && next->inputs.size() == 2) {
      t.add = index(*next);
      t.residual = next->inputs[next->inputs[0] == y];
      const auto made = p_.values[at(t.residual)].node;
      if (made >= static_cast<std::int32_t>(i) || !alike(t.residual, y)) return {};
      next = only_user(next->outputs[0]);
    }
    if (!next || &next->op() != &op::relu || !alike(next->outputs[0], y)) return {};
    t.relu = index(*next);
    return t;
  }

 private:
  static std::size_t at(ValueId v) { return static_cast<std::size_t>(v); }
  std::size_t index(const Node& n) const { return static_cast<std::size_t>(&n - p_.nodes.data()); }
  /// The node that alone reads v, to make something new of it.
  const Node* only_user(ValueId v) const {
    if (uses_[at(v)] != 1) return nullptr;
    const Node& n = p_.nodes[static_cast<std::size_t>(user_[at(v)])];
    return n.inplace || n.reuse >= 0 ? nullptr : &n;
  }
  bool alike(ValueId a, ValueId b) const { return p_.values[at(a)].desc == p_.values[at(b)].desc; }

  const Program& p_;
  std::vector<std::int32_t> user_;  // the last
  std::vector<int> uses_;
};

/// Only where the kernels say that the result differs by no more, and no less, than this.
template <class Wanted>
Program fuse(const Program& p, PassStats& s, const char* name, const Wanted& wanted) {
  const Matcher matcher(p);
  Program out = p;
  std::vector<std::uint8_t> gone(p.nodes.size(), 0);
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    const Node& n = p.nodes[i];
    // Asked of the plan that is there: making one with the epilogue may take long.
    if (!n.call->plan || !n.call->plan->epilogue || !wanted(*n.call->plan->epilogue)) continue;
    const std::optional<Tail> t = matcher.tail(i);
    if (!t) continue;
    const bool residual = t->residual >= 0;
    RefPtr<const PreparedOp> call =
        with_relu(n, residual ? &p.values[static_cast<std::size_t>(t->residual)].desc : nullptr);
    // Another kernel than before may have had to take it.
    if (call->plan->epilogue != n.call->plan->epilogue) continue;
    Node& fused = out.nodes[i];
    fused.call = std::move(call);
    if (residual) fused.inputs.push_back(t->residual);
    fused.outputs[0] = p.nodes[t->relu].outputs[0];
    fused.passes.push_back(name);
    gone[t->relu] = 1;
    if (residual) gone[t->add] = 1;
    s.changed += residual ? 2 : 1;
  }
  std::size_t i = 0;
  std::erase_if(out.nodes, [&](const Node&) { return gone[i++] != 0; });
  s.detail = "made part of another kernel";
  out.relink();
  return out;
}

}  // namespace

Program fuse_epilogues(const Program& p, PassStats& s) {
  return fuse(p, s, "epilogue", [](Exactness e) { return e == Exactness::exact; });
}

Program fuse_vendor_epilogues(const Program& p, PassStats& s) {
  return fuse(p, s, "vendor_epilogue", [](Exactness e) { return e != Exactness::exact; });
}

}  // namespace tandem::graph
