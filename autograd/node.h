// Nodes of the tape. A node knows how to turn the gradients of what it made into gradients of what
// it was made from.
#pragma once
#include <span>

#include "core/dispatch.h"
#include "core/grad_meta.h"
#include "core/inline_array.h"

namespace tandem::autograd {

class Node;

/// Where the gradient of one input goes: to output `index` of an earlier node, to a leaf, or
/// nowhere (the input wants none).
struct Edge {
  RefPtr<RefCounted> target;  // a Node, or the leaf's TensorImpl
  int index = -1;             // output of the node; -1: a leaf

  bool wanted() const { return static_cast<bool>(target); }
  bool is_leaf() const { return index < 0; }
  Node* node() const;  // not of a leaf
  TensorImpl* leaf() const { return static_cast<TensorImpl*>(target.get()); }
};

/// The edge for a tensor about to be used as an input.
Edge edge_of(const Tensor& t);

/// A call on the tape: what gradients of its inputs are made from.
class Node : public RefCounted {
 public:
  Node(std::size_t inputs, std::size_t outputs, const SrcLoc& where);
  ~Node() override;

  virtual const char* name() const = 0;  // of the op, for errors and dumps
  /// Gradients of the outputs (undefined: zero) -> gradients of the wanted inputs.
  virtual void apply(std::span<Tensor> grads, std::span<const std::uint8_t> needed,
                     std::span<Tensor> result) = 0;
  /// Drops what was kept for the backward pass.
  virtual void release_saved() {}
  /// False where only the tensor is known, and not what it was made from.
  virtual bool knows_history() const { return true; }
  /// Shape and dtype a gradient of input i must have, or null where not checked.
  virtual const TensorDesc* input_desc(std::size_t) const { return nullptr; }

  void set_edge(std::size_t i, const Tensor& input);  // to what made input i
  /// Makes `t` output i of this node.
  void adopt(Tensor& t, int i);

  InlineArray<Edge, 3> edges;
  std::size_t num_outputs;
  std::uint64_t seq = 0;  // above that of every node it depends on
  SrcLoc loc;             // the user's line
  bool released = false;
  bool symbolic = false;             // a capture recorded it
  std::shared_ptr<GradHooks> hooks;  // on gradients of outputs; null while there are none
  // Scratch of the backward pass in progress.
  InlineArray<Tensor, 1> pending;
  bool queued = false;
};

inline Node* Edge::node() const {
  return static_cast<Node*>(target.get());
}

/// `t` without its tape entry. A node that kept its own output as it is would keep itself alive.
Tensor without_history(const Tensor& t);

/// A tensor kept for the backward pass, with the version it had.
struct Saved {
  Tensor tensor;
  std::uint32_t version = 0;
  bool stale() const { return tensor.impl()->storage->version() != version; }
};
/// AutogradError naming the write to memory whose content at `version` a gradient needs. `what` is
/// "input 1", `owner` and `where` the operation that needs it.
[[noreturn]] void refuse_stale(const char* owner, const std::string& what, const Storage& memory,
                               std::uint32_t version, const SrcLoc& where);

/// The tape entry of one dispatched op.
class OpNode final : public Node, public Pooled<OpNode> {
 public:
  OpNode(const PreparedOp& op, Inputs in, const SrcLoc& where);

  const char* name() const override { return call->op->name; }
  void apply(std::span<Tensor> grads, std::span<const std::uint8_t> needed,
             std::span<Tensor> result) override;
  void release_saved() override;
  const TensorDesc* input_desc(std::size_t i) const override { return &call->in[i]; }
  void save_output(int i, const Tensor& t, std::uint32_t version);  // for the vjp

  RefPtr<const PreparedOp> call;
  InlineArray<Saved, 3> inputs;   // empty, or one per input
  InlineArray<Saved, 1> outputs;  // empty, or one per output
};

}  // namespace tandem::autograd
