// The intermediate representation: a list of nodes in program order over SSA values.
//
// A node that writes one of its inputs in place yields a new value for it that shares the input's
// buffer (as views share theirs). So data flow alone orders every read after the write it must
// see; reads of the old value must stand before the write, which the verifier checks.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/dispatch.h"

namespace tandem::graph {

using ValueId = std::int32_t;

/// What a node makes or uses.
struct Value {
  TensorDesc desc;
  std::int32_t node = -1;   // index of the node that makes it; -1: an input, a state, a constant
  std::int32_t output = 0;  // which of that node's outputs
};

/// A call with the values it reads and makes.
struct Node {
  RefPtr<const PreparedOp> call;
  std::vector<ValueId> inputs;
  /// call->out first, then one value for each of call->mutated: that input after the call.
  std::vector<ValueId> outputs;
  /// Output 0 is written over input 0: the program said so (`x.add_(y)`).
  bool inplace = false;
  /// Output 0 takes the buffer of this input, which dies here: the in-place pass said so.
  int reuse = -1;
  std::int32_t origin = -1;         // its index in the program as captured
  CallSource source;                // the line, function and module it stands for
  std::vector<const char*> passes;  // those that made or changed it

  const OpDef& op() const { return *call->op; }
};

/// A tensor of the outside world the program reads, and writes if `mutated`.
struct State {
  ValueId value;
  Pinned<Storage> storage;
  std::int64_t offset;  // bytes
};

/// A tensor that is part of the program.
struct Constant {
  ValueId value;
  Tensor tensor;
};

/// The gradient slot of a leaf: read as an input, replaced by an output.
struct GradRead {
  ValueId value;
  Pinned<TensorImpl> leaf;
};
/// A leaf's gradient, assigned at the end of a run.
struct GradWrite {
  ValueId value;  // -1: the slot becomes empty
  Pinned<TensorImpl> leaf;
};

/// A host value the capture relied on: a replay with another one is another signature.
struct HostGuard {
  std::string what;
  std::function<bool()> holds;
};

/// Where the gradients of one backward() or grad() go. They are right only as long as arguments and
/// tensors from outside do not hang together in ways that the program cannot see.
struct GradientFlow {
  std::vector<std::uint8_t> reaches, wants;  // arguments that they reach, that are targets
  std::vector<hooks::Origin> outer, wanted;  // the same for tensors from outside
};

/// A captured or declared program: straight-line calls in static single assignment.
struct Program {
  std::vector<Value> values;
  std::vector<Node> nodes;

  std::vector<ValueId> inputs;  // the arguments, in order
  std::vector<std::string> input_names;
  std::vector<State> states;
  std::vector<Constant> constants;
  std::vector<GradRead> grad_reads;
  /// Leaves whose slot was found empty.
  std::vector<Pinned<TensorImpl>> grads_absent;

  std::vector<ValueId> outputs;  // the results, in order
  std::vector<GradWrite> grad_writes;
  /// Last values of states and inputs that were written: kept alive, already in place.
  std::vector<ValueId> effects;

  std::vector<HostGuard> guards;

  std::vector<GradientFlow> gradients;
  /// Of the results, in order: eagerly it would have a history.
  std::vector<std::uint8_t> results_want_grad;

  ValueId add_value(const TensorDesc& d) {  // of no node yet
    values.push_back({d, -1, 0});
    return static_cast<ValueId>(values.size() - 1);
  }
  /// Recomputes Value::node and Value::output from the nodes.
  void relink();
  /// Values that must exist when the program ends: outputs, gradient writes, effects.
  std::vector<ValueId> results() const;
};

/// Where each value's memory is: the value that owns the buffer, and how far in.
struct Buffers {
  std::vector<ValueId> root;
  std::vector<std::int64_t> offset;   // bytes from the root's first element
  std::vector<std::uint8_t> mutated;  // of roots: written by some node after it was made
  enum class Kind : std::uint8_t { temporary, input, state, constant, grad_read, output };
  std::vector<Kind> kind;  // of roots; `output` covers gradient writes
};
/// With `reuse`, nodes' reuse annotations count as sharing.
Buffers buffers_of(const Program& p, bool reuse = false);

/// Uses of each value as a node input.
std::vector<int> use_counts(const Program& p);

/// Throws InternalError naming `after` if an invariant is broken: definition before use,
/// descriptions that match the ops', no read of a value that has been written over.
void verify(const Program& p, const char* after);

/// Depends on ops, attributes, policies, descriptions and data flow; not on names, lines or
/// addresses. Equal programs, however they were written, have equal hashes.
std::uint64_t hash(const Program& p);

/// One line per node: "%7 = conv2d(%0, %1, %2) stride=[1, 1] … : f32[…]  # lenet.cpp:12 in 0".
std::string dump(const Program& p);
/// Graphviz.
std::string dump_dot(const Program& p);

}  // namespace tandem::graph
