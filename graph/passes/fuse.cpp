#include <algorithm>
#include <optional>
#include <set>
#include <span>

#include "graph/passes.h"
#include "ops/fused.h"

namespace tandem::graph {
namespace {

struct Group {
  std::vector<std::size_t> members;  // nodes, in program order
  std::set<std::size_t> read;        // buffers its members read
  bool open = true;
};

// The group stands where its last member stood. So as long as it is open, nothing between its
// first member and now has used a member's result or written what a member reads.
class Fuser {
 public:
  explicit Fuser(const Program& p) : p_(p), buffers_(buffers_of(p, true)) {
    group_of_.assign(p.nodes.size(), -1);
  }

  void scan() {
    for (std::size_t i = 0; i < p_.nodes.size(); ++i) {
      if (!join(i)) close_conflicts(i, -1);
    }
  }

  Program build(PassStats& s) {
    uses_ = use_counts(p_);
    is_result_.assign(p_.values.size(), 0);
    for (ValueId v : p_.results()) is_result_[static_cast<std::size_t>(v)] = 1;
    fused_.resize(p_.nodes.size());
    absorbed_.assign(p_.nodes.size(), 0);
    for (const Group& g : groups_) emit(g.members);

    Program out = p_;
    out.nodes.clear();
    for (std::size_t i = 0; i < p_.nodes.size(); ++i) {
      if (fused_[i]) {
        out.nodes.push_back(std::move(*fused_[i]));
      } else if (absorbed_[i] == 0) {
        out.nodes.push_back(p_.nodes[i]);
      }
      s.changed += absorbed_[i];
    }
    s.detail = "fused";
    out.relink();
    return out;
  }

 private:
  std::size_t root(ValueId v) const {
    return static_cast<std::size_t>(buffers_.root[static_cast<std::size_t>(v)]);
  }

  bool fusible(const Node& n) const {
    return n.op().traits.kind == OpKind::elementwise && !n.inplace && n.reuse < 0 &&
           n.call->mutated.empty() && n.call->out[0].numel() > 0;
  }

  bool fits(const Group& g, const Node& n) const {
    const PreparedOp& first = *p_.nodes[g.members[0]].call;
    return g.open && first.out[0].shape == n.call->out[0].shape &&
           first.out[0].device == n.call->out[0].device && first.policy == n.call->policy;
  }

  bool join(std::size_t i) {
    const Node& n = p_.nodes[i];
    if (!fusible(n)) return false;
    std::vector<int> into;
    for (ValueId v : n.inputs) {
      const auto producer = p_.values[static_cast<std::size_t>(v)].node;
      if (producer < 0) continue;
      const int g = group_of_[static_cast<std::size_t>(producer)];
      if (g < 0 || std::find(into.begin(), into.end(), g) != into.end()) continue;
      if (fits(groups_[static_cast<std::size_t>(g)], n)) into.push_back(g);
    }
    std::size_t total = 1;
    for (int g : into) total += groups_[static_cast<std::size_t>(g)].members.size();
    if (into.empty() || total > kMaxFusedSteps) {
      close_conflicts(i, -1);
      group_of_[i] = static_cast<int>(groups_.size());
      groups_.emplace_back();
    } else {
      // Everything this node joins becomes one group.
      Group& g = groups_[static_cast<std::size_t>(into[0])];
      for (std::size_t k = 1; k < into.size(); ++k) {
        Group& other = groups_[static_cast<std::size_t>(into[k])];
        for (std::size_t m : other.members) group_of_[m] = into[0];
        g.members.insert(g.members.end(), other.members.begin(), other.members.end());
        g.read.insert(other.read.begin(), other.read.end());
        other = {};
        other.open = false;
      }
      std::sort(g.members.begin(), g.members.end());
      group_of_[i] = into[0];
      close_conflicts(i, into[0]);
    }
    Group& g = groups_[static_cast<std::size_t>(group_of_[i])];
    g.members.push_back(i);
    for (ValueId v : n.inputs) g.read.insert(root(v));
    return true;
  }

  // Node i stays where it is: groups it depends on, or whose inputs it writes, end before it.
  void close_conflicts(std::size_t i, int except) {
    const Node& n = p_.nodes[i];
    for (ValueId v : n.inputs) {
      const auto producer = p_.values[static_cast<std::size_t>(v)].node;
      if (producer < 0) continue;
      const int g = group_of_[static_cast<std::size_t>(producer)];
      if (g >= 0 && g != except) groups_[static_cast<std::size_t>(g)].open = false;
    }
    std::vector<std::size_t> written;
    if (n.inplace) written.push_back(root(n.inputs[0]));
    for (int m : n.call->mutated) written.push_back(root(n.inputs[static_cast<std::size_t>(m)]));
    if (written.empty()) return;
    for (Group& g : groups_) {
      if (!g.open) continue;
      for (std::size_t w : written) {
        if (g.read.contains(w)) g.open = false;
      }
    }
  }

  // Makes one node of them at the place of the last; of halves of them when they read or give more
  // than a kernel can.
  void emit(std::span<const std::size_t> members) {
    if (members.size() < 2) return;
    if (auto node = make(members)) {
      fused_[members.back()] = std::move(node);
      for (std::size_t m : members) absorbed_[m] = 1;
      return;
    }
    const std::size_t half = members.size() / 2;
    emit(members.first(half));
    emit(members.subspan(half));
  }

  // Nothing when they are too many for the kernel's tables.
  std::optional<Node> make(std::span<const std::size_t> members) const {
    FusedProgram f;
    f.shape = p_.nodes[members[0]].call->out[0].shape;
    Node node;
    std::vector<ValueId> step_value;
    std::vector<int> inside(p_.values.size(), 0);  // uses by members
    for (std::size_t m : members) {
      const Node& n = p_.nodes[m];
      FusedStep step = fused_step(*n.call);
      for (std::size_t k = 0; k < n.inputs.size(); ++k) {
        const ValueId v = n.inputs[k];
        ++inside[static_cast<std::size_t>(v)];
        const auto s = std::find(step_value.begin(), step_value.end(), v);
        if (s != step_value.end()) {
          step.operands[k] = ~static_cast<int>(s - step_value.begin());
          continue;
        }
        auto in = std::find(node.inputs.begin(), node.inputs.end(), v);
        if (in == node.inputs.end()) in = node.inputs.insert(in, v);
        step.operands[k] = static_cast<int>(in - node.inputs.begin());
      }
      f.steps.push_back(std::move(step));
      step_value.push_back(n.outputs[0]);
    }
    for (std::size_t k = 0; k < members.size(); ++k) {
      const auto v = static_cast<std::size_t>(step_value[k]);
      if (!is_result_[v] && uses_[v] == inside[v]) continue;
      f.outputs.push_back(static_cast<int>(k));
      f.strides.push_back(p_.values[v].desc.strides);
      node.outputs.push_back(step_value[k]);
    }
    if (node.inputs.size() > kMaxFusedInputs || f.outputs.size() > kMaxFusedOutputs ||
        f.outputs.empty()) {
      return std::nullopt;
    }
    const FusedAttrs attrs{f.encode()};
    std::vector<const TensorDesc*> in;
    for (ValueId v : node.inputs) in.push_back(&p_.values[static_cast<std::size_t>(v)].desc);
    const Node& last = p_.nodes[members.back()];
    const PolicyScope policy(last.call->policy);
    node.call = RefPtr<const PreparedOp>(&dispatch::prepare(op::fused_elementwise, in, attrs));
    node.origin = last.origin;
    node.source = last.source;
    node.passes.push_back("fuse");
    return node;
  }

  const Program& p_;
  Buffers buffers_;
  std::vector<int> group_of_;
  std::vector<Group> groups_;
  std::vector<int> uses_;
  std::vector<std::uint8_t> is_result_;
  // Of each node: what stands there instead, and whether it went into one of those.
  std::vector<std::optional<Node>> fused_;
  std::vector<std::uint8_t> absorbed_;
};

}  // namespace

Program fuse_elementwise(const Program& p, PassStats& s) {
  Fuser f(p);
  f.scan();
  return f.build(s);
}

}  // namespace tandem::graph
