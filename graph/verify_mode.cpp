#include "graph/verify_mode.h"

#include <unordered_map>

#include "core/backend.h"
#include "core/compare.h"
#include "core/grad_meta.h"
#include "ops/op_list.h"

namespace tandem::graph {
namespace {

// A copy with the same description, made without dispatching anything.
Tensor bit_copy(const Tensor& t) {
  Tensor c = Tensor::empty(t.desc());
  const std::size_t n = t.desc().bytes();
  if (n) backend(t.device()).copy(c.raw_data(), c.device(), t.raw_data(), t.device(), n);
  return c;
}

void restore(const Tensor& t, const Tensor& from) {
  const std::size_t n = t.desc().bytes();
  if (n) backend(t.device()).copy(t.raw_data(), t.device(), from.raw_data(), from.device(), n);
}

// Launches every operation and keeps what it made.
class Recorder final : public Interceptor {
 public:
  struct Call {
    const OpDef* op;
    std::vector<Tensor> made;  // outputs, then the mutated inputs
  };
  std::vector<Call> calls;

  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    const RefPtr<const PreparedOp> keep(&op);
    Outputs out = dispatch::execute(op, in, loc);
    Call c{op.op, {}};
    for (const Tensor& t : out) c.made.push_back(bit_copy(t));
    for (int m : op.mutated) c.made.push_back(bit_copy(*in[static_cast<std::size_t>(m)]));
    calls.push_back(std::move(c));
    return out;
  }
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    const RefPtr<const PreparedOp> keep(&op);
    dispatch::execute_inplace(op, in, loc);
    calls.push_back({op.op, {bit_copy(*in[0])}});
  }
  Tensor constant(Tensor t) override {
    // The tracer copies constants; so that calls and nodes stay in step, so does this.
    calls.push_back({&op::copy, {bit_copy(t)}});
    return t;
  }
};

// Everything a run changes, as it was before.
class Snapshot {
 public:
  Snapshot(const Program& p, std::span<const Tensor* const> args) {
    for (const auto& s : p.states) {
      const Tensor t(RefPtr<TensorImpl>(
          new TensorImpl(RefPtr<Storage>(s.storage.get()),
                         TensorDesc(DType::u8, s.storage->device(),
                                    {static_cast<std::int64_t>(s.storage->bytes())}),
                         0)));
      memory_.push_back({t, bit_copy(t)});
    }
    for (const Tensor* a : args) memory_.push_back({*a, bit_copy(*a)});
    const auto slot = [&](TensorImpl* leaf) {
      const Tensor g = static_cast<GradMeta*>(leaf->grad_meta.get())->grad;
      grads_.push_back({RefPtr<TensorImpl>(leaf), g});
      if (g.defined()) memory_.push_back({g, bit_copy(g)});  // it may be scaled in place
    };
    for (const auto& w : p.grad_writes) slot(w.leaf.get());
    for (const auto& r : p.grad_reads) slot(r.leaf.get());
  }
  void put_back() {
    for (auto& [t, saved] : memory_) restore(t, saved);
    for (auto& [leaf, g] : grads_) static_cast<GradMeta*>(leaf->grad_meta.get())->grad = g;
  }

 private:
  std::vector<std::pair<Tensor, Tensor>> memory_;
  std::vector<std::pair<RefPtr<TensorImpl>, Tensor>> grads_;
};

}  // namespace

std::vector<Tensor> verify_against_eager(const CompiledProgram& program,
                                         std::span<const Tensor* const> args,
                                         const TensorFunction& f) {
  Snapshot snapshot(program.captured, args);
  Recorder recorder;
  {
    std::vector<Tensor> in;
    for (const Tensor* a : args) in.push_back(*a);
    const dispatch::InterceptorScope scope(&recorder);
    f(in);
  }
  snapshot.put_back();

  // Which call of the eager run made which value of the captured program.
  std::unordered_map<ValueId, const Tensor*> expected;
  std::size_t k = 0;
  for (const Node& n : program.captured.nodes) {
    if (&n.op() == &op::as_strided) continue;  // the tracer's own
    if (k >= recorder.calls.size() || recorder.calls[k].op != &n.op()) {
      fail<CaptureError>("verify", "the eager run did not do what was captured",
                         k < recorder.calls.size() ? recorder.calls[k].op->name : "nothing more",
                         fmt::format("{} at {}", n.op().name, str(n.source.loc)));
    }
    const auto& made = recorder.calls[k++].made;
    for (std::size_t i = 0; i < n.outputs.size(); ++i) expected[n.outputs[i]] = &made[i];
  }
  if (k != recorder.calls.size()) {
    fail<CaptureError>("verify", "the eager run did more than was captured",
                       recorder.calls[k].op->name);
  }

  return program.executor->run_observed(args, [&](const Node& n, std::span<const Tensor> made) {
    for (std::size_t i = 0; i < made.size(); ++i) {
      const auto it = expected.find(n.outputs[i]);
      if (it == expected.end()) continue;
      const auto d = first_difference(*it->second, made[i]);
      if (!d) continue;
      std::string passes;
      for (const char* p : n.passes) passes += std::string(" ") + p;
      fail<CaptureError>(
          "verify",
          fmt::format("compiled differs from eager first at %{} = {} (called at {}, passes:{})",
                      n.outputs[i], n.op().name, str(n.source.loc),
                      passes.empty() ? " none" : passes),
          fmt::format("element {}: eager {}, compiled {}", d->index, d->a, d->b));
    }
  });
}

}  // namespace tandem::graph
