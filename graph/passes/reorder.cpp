#include <optional>

#include "graph/passes.h"
#include "ops/op_list.h"

namespace tandem::graph {
namespace {

std::size_t at(std::int32_t i) {
  return static_cast<std::size_t>(i);
}

/// A ReLU whose result is only pooled, and the same in the backward pass, by their nodes.
struct Site {
  struct Gradient {
    std::size_t pool, relu;
  };
  std::size_t relu, pool;
  std::vector<Gradient> gradients;
};

class Matcher {
 public:
  explicit Matcher(const Program& p) : p_(p), buffers_(buffers_of(p)), users_(p.values.size()) {
    for (std::size_t i = 0; i < p.nodes.size(); ++i) {
      for (ValueId v : p.nodes[i].inputs) users_[at(v)].push_back(i);
    }
    for (ValueId v : p.results()) users_[at(v)].push_back(p.nodes.size());  // whoever reads it
  }

  std::optional<Site> site(std::size_t i) const {
    const Node& relu = p_.nodes[i];
    if (&relu.op() != &op::relu || relu.inplace) return {};
    const ValueId y = relu.outputs[0];
    if (!(desc(relu.inputs[0]) == desc(y))) return {};
    Site s{i, p_.nodes.size(), {}};
    std::size_t gradients = 0;
    for (std::size_t u : users_[at(y)]) {
      const Node* n = node(u);
      if (n && &n->op() == &op::max_pool2d && s.pool == p_.nodes.size()) {
        s.pool = u;
      } else if (n && is(*n, op::relu_grad, y)) {
        ++gradients;
      } else {
        return {};
      }
    }
    const Node* pool = node(s.pool);
    if (!pool || desc(pool->outputs[0]).numel() >= desc(y).numel() || written(pool->outputs[0])) {
      return {};
    }
    for (std::size_t u : users_[at(pool->outputs[1])]) {
      const std::optional<std::size_t> masked = gradient(u, pool->outputs[1], y);
      if (!masked) return {};
      s.gradients.push_back({u, *masked});
    }
    if (s.gradients.size() != gradients) return {};
    if (gradients == 0 && is_free(relu.inputs[0])) return {};
    return s;
  }

 private:
  /// For node u, the gradient of a pooling with these positions: the ReLU's gradient that alone
  /// reads it.
  std::optional<std::size_t> gradient(std::size_t u, ValueId positions, ValueId y) const {
    const Node* pool = node(u);
    if (!pool || !is(*pool, op::max_pool2d_grad, positions)) return {};
    const auto& users = users_[at(pool->outputs[0])];
    const Node* relu = users.size() == 1 ? node(users[0]) : nullptr;
    if (!relu || !is(*relu, op::relu_grad, y) ||
        !(desc(relu->outputs[0]) == desc(pool->outputs[0]))) {
      return {};
    }
    return users[0];
  }
  bool is(const Node& n, const OpDef& op, ValueId second) const {
    return &n.op() == &op && !n.inplace && n.inputs[1] == second && n.inputs[0] != second;
  }
  bool written(ValueId v) const { return buffers_.mutated[at(buffers_.root[at(v)])] != 0; }
  /// Whether what makes v would apply the ReLU as it stores it.
  bool is_free(ValueId v) const {
    const Node* n = node(at(p_.values[at(v)].node));
    return n && n->call->plan && n->call->plan->epilogue == Exactness::exact;
  }
  const TensorDesc& desc(ValueId v) const { return p_.values[at(v)].desc; }
  /// Null for whoever reads a result.
  const Node* node(std::size_t i) const { return i < p_.nodes.size() ? &p_.nodes[i] : nullptr; }

  const Program& p_;
  Buffers buffers_;
  std::vector<std::vector<std::size_t>> users_;
};

/// The node's call, for inputs of other layouts.
RefPtr<const PreparedOp> call_for(const Program& p, const Node& n) {
  std::vector<const TensorDesc*> in;
  for (ValueId v : n.inputs) in.push_back(&p.values[at(v)].desc);
  const PolicyScope policy(n.call->policy);
  return RefPtr<const PreparedOp>(&dispatch::prepare(n.op(), in, n.call->attrs.ref()));
}

}  // namespace

// relu(x) has its maximum where x has it, or is 0 everywhere in the window; NaN and -0 are treated
// alike. So the pooled values are equal, and where they are positive also the positions. Elsewhere
// the positions may differ, but there the ReLU lets no gradient through.
Program reorder(const Program& p, PassStats& s) {
  constexpr const char* kName = "reorder";
  const Matcher matcher(p);
  Program out = p;
  // What stands in the place of `where`: node `n` between these values.
  const auto put = [&](std::size_t where, const Node& n, std::vector<ValueId> in,
                       std::vector<ValueId> made) {
    Node moved = n;
    moved.inputs = std::move(in);
    moved.outputs = std::move(made);
    moved.call = call_for(out, moved);
    moved.passes.push_back(kName);
    for (std::size_t k = 0; k < moved.outputs.size(); ++k) {
      if (moved.outputs[k] < 0) moved.outputs[k] = out.add_value(moved.call->out[k]);
    }
    out.nodes[where] = std::move(moved);
    return out.nodes[where].outputs;
  };
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    const std::optional<Site> site = matcher.site(i);
    if (!site) continue;
    const Node &relu = p.nodes[site->relu], &pool = p.nodes[site->pool];
    // Where the ReLU stood x has not been written over yet.
    const std::vector<ValueId> pooled = put(site->relu, pool, relu.inputs, {-1, -1});
    put(site->pool, relu, {pooled[0]}, {pool.outputs[0]});
    for (const auto& [pool_grad, relu_grad] : site->gradients) {
      const Node &g = p.nodes[pool_grad], &masked = p.nodes[relu_grad];
      const ValueId small = put(pool_grad, masked, {g.inputs[0], pool.outputs[0]}, {-1})[0];
      put(relu_grad, g, {small, pooled[1]}, masked.outputs);
    }
    s.changed += 1 + static_cast<int>(site->gradients.size());
  }
  s.detail = "ReLUs moved behind a pooling, where there are fewer elements";
  out.relink();
  return out;
}

}  // namespace tandem::graph
