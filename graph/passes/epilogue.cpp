#include <array>
#include <optional>
#include <unordered_map>

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

/// What follows a node that masks a gradient with a ReLU's result: the gradient of a batch norm.
struct Masked {
  std::size_t norm = 0;  // node
  bool others = false;   // who read the masked gradient too
};

std::vector<const TensorDesc*> inputs_of(const Node& n) {
  std::vector<const TensorDesc*> in;
  for (const TensorDesc& d : n.call->in) in.push_back(&d);
  return in;
}

/// The node's call as it is with other inputs and attributes.
RefPtr<const PreparedOp> changed(const Node& n, std::span<const TensorDesc* const> in,
                                 AttrRef attrs) {
  const PolicyScope policy(n.call->policy);
  return RefPtr<const PreparedOp>(&dispatch::prepare(n.op(), in, attrs));
}

/// The node's call as it is with a ReLU, and a residual as one more input.
RefPtr<const PreparedOp> with_relu(const Node& n, const TensorDesc* residual) {
  auto in = inputs_of(n);
  if (residual) in.push_back(residual);
  const auto call = [&]<class A>(A attrs) {
    attrs.relu = true;
    return changed(n, in, attrs);
  };
  if (&n.op() == &op::conv2d) return call(n.call->attrs.as<ConvAttrs>());
  if (&n.op() == &op::linear) return call(n.call->attrs.as<LinearAttrs>());
  return call(n.call->attrs.as<BatchNormAttrs>());
}

bool has_relu(const Node& n) {
  if (&n.op() == &op::conv2d) {
    const auto& a = n.call->attrs.as<ConvAttrs>();
    return a.relu || a.sums;  // which exclude each other
  }
  if (&n.op() == &op::linear) return n.call->attrs.as<LinearAttrs>().relu;
  if (takes_residual(n)) return n.call->attrs.as<BatchNormAttrs>().relu;
  return true;  // of other ops, as far as this pass goes
}

/// The call of a convolution as it is with the sums of its result.
RefPtr<const PreparedOp> with_sums(const Node& conv) {
  ConvAttrs attrs = conv.call->attrs.as<ConvAttrs>();
  attrs.sums = true;
  return changed(conv, inputs_of(conv), attrs);
}

/// The call of a batch norm in training as it is with sums, each described by `sum`.
RefPtr<const PreparedOp> with_sums(const Node& norm, const TensorDesc& sum) {
  auto in = inputs_of(norm);
  BatchNormAttrs attrs = norm.call->attrs.as<BatchNormAttrs>();
  in.insert(in.begin() + static_cast<std::ptrdiff_t>(attrs.sums_at(in.size())), 2, &sum);
  attrs.sums = true;
  return changed(norm, in, attrs);
}

/// The call of a convolution as it is with a batch norm in evaluation, and its ReLU, in front.
RefPtr<const PreparedOp> with_norm(const Node& conv, const Node& norm) {
  auto in = inputs_of(conv);
  const auto of_norm = inputs_of(norm);
  in[0] = of_norm[0];
  in.insert(in.end(), of_norm.begin() + 1, of_norm.end());
  ConvAttrs attrs = conv.call->attrs.as<ConvAttrs>();
  attrs.normed = true;
  attrs.eps = norm.call->attrs.as<BatchNormAttrs>().eps;
  return changed(conv, in, attrs);
}

/// The call of a batch norm's gradient as it is with the mask of `relu_grad` in front.
RefPtr<const PreparedOp> with_mask(const Node& norm, const Node& relu_grad, bool residual) {
  auto in = inputs_of(norm);
  in[0] = &relu_grad.call->in[0];
  in.push_back(&relu_grad.call->in[1]);
  return changed(norm, in, BatchNormGradAttrs{.relu = true, .residual = residual});
}

class Matcher {
 public:
  explicit Matcher(const Program& p) : p_(p), user_(p.values.size(), -1), uses_(use_counts(p)) {
    for (std::size_t i = 0; i < p.nodes.size(); ++i) {
      const Node& n = p.nodes[i];
      for (ValueId v : n.inputs) user_[at(v)] = static_cast<std::int32_t>(i);
      if (&n.op() == &op::batch_norm_grad) norms_of_.emplace(n.inputs[0], i);  // the first counts
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

  /// All of it then happens where node i, the mask, stands.
  std::optional<Masked> masked(std::size_t i) const {
    const Node& n = p_.nodes[i];
    if (&n.op() != &op::relu_grad || n.inplace || n.reuse >= 0) return {};
    const ValueId given = n.inputs[0], left = n.outputs[0];
    const auto found = norms_of_.find(left);
    if (found == norms_of_.end()) return {};
    const Node& norm = p_.nodes[found->second];
    // A sum in front, of which nothing else is read, and the mask are one kernel to `fuse`: that
    // moves fewer bytes.
    const auto made = p_.values[at(given)].node;
    if (made >= 0 && uses_[at(given)] == 1 &&
        p_.nodes[static_cast<std::size_t>(made)].op().traits.kind == OpKind::elementwise) {
      return {};
    }
    if (norm.call->attrs.as<BatchNormGradAttrs>().relu || !alike(given, left) ||
        !alike(n.inputs[1], left)) {
      return {};
    }
    for (std::size_t k = 1; k < norm.inputs.size(); ++k) {
      if (p_.values[at(norm.inputs[k])].node >= static_cast<std::int32_t>(i)) return {};
    }
    return Masked{found->second, uses_[at(left)] != 1};
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
  std::unordered_map<ValueId, std::size_t>
      norms_of_;  // gradients of batch norms, by what they read
};

/// Only where the kernels say that the result differs by no more, and no less, than this.
template <class Wanted>
class Fuser {
 public:
  Fuser(const Program& p, PassStats& s, const char* name, Wanted wanted)
      : p_(p),
        s_(s),
        name_(name),
        wanted_(wanted),
        matcher_(p),
        out_(p),
        gone_(p.nodes.size(), 0) {}

  Program run() {
    for (std::size_t i = 0; i < p_.nodes.size(); ++i) {
      if (const auto m = matcher_.masked(i)) fuse_mask(i, *m);
      // Asked of the plan that is there: making one with the epilogue may take long.
      if (!allowed(p_.nodes[i])) continue;
      if (const auto t = matcher_.tail(i)) fuse_tail(i, *t);
    }
    std::size_t i = 0;
    std::erase_if(out_.nodes, [&](const Node&) { return gone_[i++] != 0; });
    s_.detail = "made part of another kernel";
    out_.relink();
    return std::move(out_);
  }

 private:
  bool allowed(const Node& n) const {
    return n.call->plan && n.call->plan->epilogue && wanted_(*n.call->plan->epilogue);
  }
  void remove(std::size_t node) {
    gone_[node] = 1;
    ++s_.changed;
  }

  void fuse_tail(std::size_t i, const Tail& t) {
    const Node& n = p_.nodes[i];
    const bool residual = t.residual >= 0;
    RefPtr<const PreparedOp> call =
        with_relu(n, residual ? &p_.values[static_cast<std::size_t>(t.residual)].desc : nullptr);
    // Another kernel than before may have had to take it.
    if (call->plan->epilogue != n.call->plan->epilogue) return;
    Node& fused = out_.nodes[i];
    fused.call = std::move(call);
    if (residual) fused.inputs.push_back(t.residual);
    fused.outputs[0] = p_.nodes[t.relu].outputs[0];
    fused.passes.push_back(name_);
    remove(t.relu);
    if (residual) remove(t.add);
  }

  void fuse_mask(std::size_t i, const Masked& m) {
    const Node &mask = p_.nodes[i], &norm = p_.nodes[m.norm];
    if (!allowed(norm)) return;
    RefPtr<const PreparedOp> call = with_mask(norm, mask, m.others);
    if (call->plan->epilogue != norm.call->plan->epilogue) return;
    if (m.others && !(call->out.back() == mask.call->out[0])) return;
    Node& fused = out_.nodes[i];
    fused = norm;
    fused.call = std::move(call);
    fused.inputs[0] = mask.inputs[0];
    fused.inputs.push_back(mask.inputs[1]);
    if (m.others) fused.outputs.push_back(mask.outputs[0]);
    fused.passes.push_back(name_);
    remove(m.norm);
  }

  const Program& p_;
  PassStats& s_;
  const char* name_;
  Wanted wanted_;
  Matcher matcher_;
  Program out_;
  std::vector<std::uint8_t> gone_;
};

}  // namespace

Program fuse_epilogues(const Program& p, PassStats& s) {
  return Fuser(p, s, "epilogue", [](Exactness e) { return e == Exactness::exact; }).run();
}

Program fuse_vendor_epilogues(const Program& p, PassStats& s) {
  const auto approximate = [](Exactness e) { return e != Exactness::exact; };
  const auto offered = [&](const Plan& plan) {
    return plan.epilogue && approximate(*plan.epilogue);
  };
  const Program fused = Fuser(p, s, "vendor_epilogue", approximate).run();
  return fuse_norms(fuse_sums(fused, s, offered), s, offered);
}

Program fuse_sums(const Program& p, PassStats& s, FunctionRef<bool(const Plan&)> offered) {
  std::unordered_map<ValueId, std::size_t> norm_of;  // by what it normalises
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    const Node& n = p.nodes[i];
    if (&n.op() == &op::batch_norm_train && !n.call->attrs.as<BatchNormAttrs>().sums) {
      norm_of.emplace(n.inputs[0], i);
    }
  }
  Program out = p;
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    const Node& conv = p.nodes[i];
    if (&conv.op() != &op::conv2d || has_relu(conv)) continue;
    const auto found = norm_of.find(conv.outputs[0]);
    // Asked of the plan that is there first: where that is not offered, none is made.
    if (found == norm_of.end() || !offered(*conv.call->plan)) continue;
    RefPtr<const PreparedOp> call = with_sums(conv);
    if (!offered(*call->plan)) continue;
    Node &source = out.nodes[i], &norm = out.nodes[found->second];
    const std::array<ValueId, 2> sums{out.add_value(call->out[1]), out.add_value(call->out[2])};
    norm.call = with_sums(norm, call->out[1]);
    const auto at = norm.call->attrs.as<BatchNormAttrs>().sums_at(norm.call->in.size());
    norm.inputs.insert(norm.inputs.begin() + static_cast<std::ptrdiff_t>(at), sums.begin(),
                       sums.end());
    source.call = std::move(call);
    source.outputs.insert(source.outputs.end(), sums.begin(), sums.end());
    for (Node* n : {&source, &norm}) n->passes.push_back("vendor_epilogue");
    ++s.changed;
  }
  out.relink();
  return out;
}

Program fuse_norms(const Program& p, PassStats& s, FunctionRef<bool(const Plan&)> offered) {
  const auto at = [](auto i) { return static_cast<std::size_t>(i); };
  std::vector<int> uses = use_counts(p);
  for (const ValueId v : p.results()) uses[at(v)] = 2;  // whoever else reads it
  Program out = p;
  std::vector<std::uint8_t> gone(p.nodes.size(), 0);
  std::int32_t written = -1;  // the last node that writes to something
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    const Node& conv = p.nodes[i];
    if (conv.inplace || conv.reuse >= 0 || !conv.call->mutated.empty())
      written = static_cast<std::int32_t>(i);
    if (&conv.op() != &op::conv2d || conv.call->attrs.as<ConvAttrs>().normed) continue;
    const ValueId x = conv.inputs[0];
    const std::int32_t made = p.values[at(x)].node;
    if (made < 0 || uses[at(x)] != 1) continue;
    const Node& norm = p.nodes[at(made)];
    // It reads later what it read there: nothing may have been written since.
    if (&norm.op() != &op::batch_norm_eval || norm.inputs.size() != 5 || !has_relu(norm) ||
        written > made || !(norm.call->out[0] == norm.call->in[0]) || !offered(*conv.call->plan)) {
      continue;
    }
    RefPtr<const PreparedOp> call = with_norm(conv, norm);
    if (!offered(*call->plan)) continue;
    Node& fused = out.nodes[i];
    fused.call = std::move(call);
    fused.inputs[0] = norm.inputs[0];
    fused.inputs.insert(fused.inputs.end(), norm.inputs.begin() + 1, norm.inputs.end());
    fused.passes.push_back("vendor_epilogue");
    gone[at(made)] = 1;
    ++s.changed;
  }
  std::size_t i = 0;
  std::erase_if(out.nodes, [&](const Node&) { return gone[i++] != 0; });
  out.relink();
  return out;
}

}  // namespace tandem::graph
