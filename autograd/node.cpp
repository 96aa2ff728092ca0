#include "autograd/node.h"

#include <unordered_set>
#include <vector>

namespace tandem::autograd {
namespace {

thread_local std::uint64_t next_seq = 0;

// A long chain of nodes would free itself recursively, one stack frame a node. Instead the
// outermost destructor on a thread collects what the inner ones let go.
thread_local std::vector<RefPtr<RefCounted>>* graveyard = nullptr;

}  // namespace

Edge edge_of(const Tensor& t) {
  const GradMeta* m = grad_meta(t);
  if (!m || !m->requires_grad) return {};
  if (m->node) return {m->node, m->output_index};
  return {t.impl_ref(), -1};
}

Node::Node(std::size_t n_in, std::size_t n_out, const SrcLoc& where)
    : edges(n_in), num_outputs(n_out), seq(++next_seq), loc(where) {
  const Interceptor* i = dispatch::interceptor();
  symbolic = i && i->records();
}

Node::~Node() {
  std::vector<RefPtr<RefCounted>> local;
  const bool outermost = graveyard == nullptr;
  bool deep = false;
  for (const Edge& e : edges) deep |= e.wanted() && !e.is_leaf();
  if (!deep) return;
  if (outermost) graveyard = &local;
  for (Edge& e : edges) {
    if (e.wanted() && !e.is_leaf()) graveyard->push_back(std::move(e.target));
  }
  if (!outermost) return;
  while (!local.empty()) {
    RefPtr<RefCounted> last = std::move(local.back());
    local.pop_back();
  }
  graveyard = nullptr;
}

void Node::set_edge(std::size_t i, const Tensor& input) {
  edges[i] = edge_of(input);
  if (edges[i].wanted() && !edges[i].is_leaf()) {
    // Nodes made on another thread have numbers of their own; stay above them.
    const std::uint64_t s = edges[i].node()->seq;
    if (s >= seq) next_seq = seq = s + 1;
  }
}

void Node::adopt(Tensor& t, int i) {
  GradMeta& m = ensure_grad_meta(t);
  m.requires_grad = true;
  m.node = RefPtr<RefCounted>(this);
  m.output_index = i;
  symbolic = symbolic || t.is_symbolic();  // a program being declared
}

Tensor without_history(const Tensor& t) {
  const TensorImpl* m = t.impl();
  RefPtr<TensorImpl> bare(new TensorImpl(m->storage, m->desc, m->offset));
  bare->trace_value = m->trace_value;
  bare->trace_version = m->trace_version;
  return Tensor(std::move(bare));
}

void refuse_stale(const char* owner, const std::string& what, const Storage& memory,
                  std::uint32_t version, const SrcLoc& where) {
  fail<AutogradError>(
      owner,
      fmt::format("{} of this operation (called at {}) is needed for its gradient "
                  "but was written over by '{}' at {}",
                  what, str(where), memory.last_writer() ? memory.last_writer() : "?",
                  str(memory.last_writer_loc())),
      fmt::format("version {}", memory.version()), fmt::format("version {}", version));
}

// ---------------------------------------------------------------------------------- OpNode

OpNode::OpNode(const PreparedOp& op, Inputs in, const SrcLoc& where)
    : Node(in.size(), op.out.size(), where), call(&op) {
  for (std::size_t i = 0; i < in.size(); ++i) set_edge(i, *in[i]);
  const std::uint32_t want = op.saves_inputs;
  if (!want) return;
  inputs.resize(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (want == kAll || (i < 32 && want >> i & 1)) {
      inputs[i] = {*in[i], in[i]->impl()->storage->version()};
    }
  }
}

void OpNode::save_output(int i, const Tensor& t, std::uint32_t version) {
  if (outputs.size() == 0) outputs.resize(num_outputs);
  outputs[static_cast<std::size_t>(i)] = {without_history(t), version};
}

void OpNode::release_saved() {
  inputs.resize(0);
  outputs.resize(0);
}

namespace {
[[noreturn]] void explain(const void* owner, bool is_input, int i) {
  const auto& n = *static_cast<const OpNode*>(owner);
  const Saved& s =
      is_input ? n.inputs[static_cast<std::size_t>(i)] : n.outputs[static_cast<std::size_t>(i)];
  if (!s.tensor.defined()) {
    fail<InternalError>(n.name(), fmt::format("gradient rule reads {} {}, which it did not ask to "
                                              "keep",
                                              is_input ? "input" : "output", i));
  }
  refuse_stale(n.name(), fmt::format("{} {}", is_input ? "input" : "output", i),
               *s.tensor.impl()->storage, s.version, n.loc);
}
}  // namespace

void OpNode::apply(std::span<Tensor> grads, std::span<const std::uint8_t> needed,
                   std::span<Tensor> result) {
  InlineArray<Tensor, 3> in(call->in.size());
  InlineArray<Tensor, 4> out(call->out.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].tensor.defined() && !inputs[i].stale()) in[i] = inputs[i].tensor;
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Saved& s = outputs[i];
    if (!s.tensor.defined() || s.stale()) continue;
    if (grad_enabled()) {  // differentiating the gradient: put it back on the tape
      Tensor t = without_history(s.tensor);
      adopt(t, static_cast<int>(i));
      out[i] = std::move(t);
    } else {
      out[i] = s.tensor;
    }
  }
  VjpContext c{.call = *call,
               .inputs = in,
               .outputs = out,
               .grads = grads,
               .needed = needed,
               .result = result,
               .explain_stale = explain,
               .owner = this};
  call->op->vjp(c);
}

}  // namespace tandem::autograd

namespace tandem::hooks {

using autograd::OpNode;

namespace {
// Only anomaly mode pays for looking up a line of another language at every operation.
SrcLoc line_of(const SrcLoc& loc) {
  const SrcLoc at = CallSite::blame(loc);
  return dispatch::anomaly_mode() ? resolved(at) : at;
}
}  // namespace

void record(const PreparedOp& op, Inputs in, Outputs& out, const SrcLoc& loc) {
  RefPtr<OpNode> node(new OpNode(op, in, line_of(loc)));
  const std::uint32_t keep = op.op->traits.saves_outputs;
  for (int i = 0; i < out.size(); ++i) {
    if (keep >> i & 1) node->save_output(i, out[i], out[i].impl()->storage->version());
    if (is_floating(out[i].dtype())) node->adopt(out[i], i);
  }
}

void record_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) {
  const Tensor& dst = *in[0];
  const GradMeta* m = grad_meta(dst);
  if (m && m->requires_grad && !m->node) {
    fail<AutogradError>(op.op->name,
                        "a leaf that requires a gradient cannot be written in place while the "
                        "tape records",
                        dst.desc().str(), "NoGrad around the write, or an out-of-place operation");
  }
  if (dst.impl()->storage->viewed()) {
    fail<AutogradError>(op.op->name,
                        "the tape cannot follow an in-place write to memory that has views",
                        dst.desc().str(), "an out-of-place operation, or NoGrad around the write");
  }
  if (!op.op->vjp) {
    fail<AutogradError>(op.op->name,
                        "this operation has no gradient, so it cannot write in place "
                        "over a value that wants one",
                        dst.desc().str());
  }
  RefPtr<OpNode> node(new OpNode(op, in, line_of(loc)));
  // `dst` is about to get this node as its history: kept as it is, the node would hold itself.
  for (autograd::Saved& s : node->inputs) {
    if (s.tensor.defined() && s.tensor.same_as(dst)) s.tensor = autograd::without_history(dst);
  }
  if (op.op->traits.saves_outputs & 1) {
    node->save_output(0, dst, dst.impl()->storage->version() + 1);
  }
  Tensor out = dst;
  // A fresh GradMeta: copies of the old one on the tape must not change under it.
  out.impl()->grad_meta = nullptr;
  node->adopt(out, 0);
}

void check_mutation(const PreparedOp& op, Inputs in) {
  if (!op.op->vjp) {
    fail<AutogradError>(op.op->name, "this operation writes in place and the tape cannot follow it",
                        "an input that requires a gradient", "NoGrad around it, or detach()");
  }
  for (int i : op.mutated) {
    const GradMeta* m = grad_meta(*in[static_cast<std::size_t>(i)]);
    if (m && m->requires_grad) {
      fail<AutogradError>(op.op->name,
                          fmt::format("input {} is written in place and must not require a "
                                      "gradient",
                                      i));
    }
  }
}

namespace {

// What all refusals of one maker share.
struct Refusal final : RefCounted {
  explicit Refusal(std::string m) : message(std::move(m)) {}
  std::string message;
};

class RefusalNode final : public autograd::Node, public Pooled<RefusalNode> {
 public:
  explicit RefusalNode(RefPtr<Refusal> r) : Node(0, 1, SrcLoc::foreign()), refusal_(std::move(r)) {}
  const char* name() const override { return "compile"; }
  bool knows_history() const override { return false; }
  void apply(std::span<Tensor>, std::span<const std::uint8_t>, std::span<Tensor>) override {
    fail<AutogradError>("compile", refusal_->message);
  }

 private:
  RefPtr<Refusal> refusal_;
};

Origin origin_of_edge(const autograd::Edge& e) {
  if (!e.wanted()) return {};
  if (e.is_leaf()) {
    const auto memory = reinterpret_cast<std::uintptr_t>(e.leaf()->storage.get());
    return {.of = e.target.get(), .index = e.index, .id = memory};
  }
  const autograd::Node& n = *e.node();
  return {.of = &n,
          .index = e.index,
          .refused = !n.knows_history(),
          .captured = n.symbolic,
          .id = n.seq};
}

}  // namespace

RefPtr<RefCounted> make_refusal(std::string message) {
  return make_ref<Refusal>(std::move(message));
}

void refuse_history(const RefPtr<RefCounted>& refusal, Tensor& t) {
  const RefPtr<Refusal> r(static_cast<Refusal*>(refusal.get()));
  const RefPtr<RefusalNode> node(new RefusalNode(r));
  node->adopt(t, 0);
}

Origin origin_of(const Tensor& t) {
  return origin_of_edge(autograd::edge_of(t));
}

void visit_history(const Tensor& t, FunctionRef<void(const Origin&)> see) {
  std::vector<autograd::Edge> todo{autograd::edge_of(t)};
  std::unordered_set<const RefCounted*> entered;
  while (!todo.empty()) {
    const autograd::Edge e = std::move(todo.back());
    todo.pop_back();
    if (!e.wanted()) continue;
    const Origin x = origin_of_edge(e);
    see(x);
    if (e.is_leaf() || x.refused || !entered.insert(e.target.get()).second) continue;
    for (const autograd::Edge& next : e.node()->edges) todo.push_back(next);
  }
}

bool has_grad_hooks(const Tensor& t) {
  const autograd::Edge e = autograd::edge_of(t);
  if (!e.wanted()) return false;
  const auto& hooks = e.is_leaf() ? grad_meta(t)->hooks : e.node()->hooks;
  return hooks && !hooks->empty(e.is_leaf() ? 0 : e.index);
}

}  // namespace tandem::hooks
