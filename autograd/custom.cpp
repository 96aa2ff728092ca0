// Functions with a gradient of the user's own, and checkpointing, which is one of them.
#include <unordered_set>

#include "autograd/autograd.h"
#include "autograd/engine.h"
#include "ops/create.h"
#include "ops/elementwise.h"

namespace tandem::autograd {
namespace {

bool any_requires_grad(const std::vector<Tensor>& in) {
  for (const Tensor& t : in) {
    if (t.requires_grad()) return true;
  }
  return false;
}

class CustomNode final : public Node {
 public:
  CustomNode(const CustomFunction& f, const std::vector<Tensor>& in, const std::vector<Tensor>& out,
             const std::vector<Tensor>& keep, const SrcLoc& where)
      : Node(in.size(), out.size(), where), name_(f.name), backward_(f.backward) {
    for (std::size_t i = 0; i < in.size(); ++i) {
      set_edge(i, in[i]);
      descs_.push_back(in[i].desc());
    }
    for (const Tensor& t : keep) {
      int output = -1;
      for (std::size_t i = 0; i < out.size(); ++i) {
        if (t.same_as(out[i])) output = static_cast<int>(i);
      }
      saved_.push_back({output < 0 ? t : without_history(t), t.impl()->storage->version()});
      saved_output_.push_back(output);
    }
  }
  const char* name() const override { return name_; }
  const TensorDesc* input_desc(std::size_t i) const override { return &descs_[i]; }
  void release_saved() override {
    saved_.clear();
    backward_ = nullptr;  // it may hold the function's results
  }

  void apply(std::span<Tensor> grads, std::span<const std::uint8_t>,
             std::span<Tensor> result) override {
    std::vector<Tensor> saved;
    for (std::size_t i = 0; i < saved_.size(); ++i) {
      const Saved& s = saved_[i];
      if (s.stale()) {
        refuse_stale(name_, fmt::format("saved tensor {}", i), *s.tensor.impl()->storage, s.version,
                     loc);
      }
      saved.push_back(s.tensor);
      if (saved_output_[i] >= 0 && grad_enabled()) {
        saved.back() = without_history(s.tensor);
        adopt(saved.back(), saved_output_[i]);
      }
    }
    std::vector<Tensor> r = backward_(grads, saved);
    if (r.size() != result.size()) {
      fail<AutogradError>(name_, "the gradient function must give one tensor for each input",
                          std::to_string(r.size()), std::to_string(result.size()));
    }
    for (std::size_t i = 0; i < r.size(); ++i) {
      const bool fits =
          !r[i].defined() || (r[i].shape() == descs_[i].shape && r[i].dtype() == descs_[i].dtype);
      if (!fits) {
        fail<AutogradError>(name_, fmt::format("gradient of input {} does not match it", i),
                            r[i].desc().str(), descs_[i].str());
      }
      result[i] = std::move(r[i]);
    }
  }

 private:
  const char* name_;
  decltype(CustomFunction::backward) backward_;
  std::vector<Saved> saved_;
  std::vector<int> saved_output_;  // which output a saved tensor is, or -1
  std::vector<TensorDesc> descs_;
};

/// Memory a function only read, and its version then.
struct ReadMemory {
  RefPtr<Storage> storage;
  std::uint32_t version;
};
/// A tensor a function wrote in place (a generator's state, a running mean), and what it held
/// before.
struct WrittenTensor {
  Tensor tensor, before;
  const Interceptor* by;  // who wrote it: a program, or nobody (at once)
};

/// Notes what a function reads and writes of tensors it did not make, and otherwise lets its
/// operations go their way.
class RunWatch final : public Interceptor {
 public:
  RunWatch() : outer_(dispatch::interceptor()), scope_(this) {}

  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    Interceptor* i = next(in);
    for (int k : op.mutated) note_write(*in[static_cast<std::size_t>(k)], i);
    for (const Tensor* t : in) note_read(*t);
    Outputs out = i ? i->call(op, in, loc) : dispatch::execute(op, in, loc);
    if (op.op->traits.kind != OpKind::view) {
      for (const Tensor& t : out) made_.insert(t.impl()->storage.get());
    }
    return out;
  }
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    Interceptor* i = next(in);
    note_write(*in[0], i);
    for (const Tensor* t : in) note_read(*t);
    i ? i->call_inplace(op, in, loc) : dispatch::execute_inplace(op, in, loc);
  }
  bool records() const override { return outer_ && outer_->records(); }
  Tensor constant(Tensor t) override {
    if (outer_) t = outer_->constant(std::move(t));
    made_.insert(t.impl()->storage.get());
    return t;
  }

  // Of both, not what nobody else holds any more.
  std::vector<ReadMemory> take_reads() {
    std::erase_if(reads_, [&](const ReadMemory& r) {
      return r.storage->use_count() == 1 || written_memory_.contains(r.storage.get());
    });
    return std::move(reads_);
  }
  std::vector<WrittenTensor> take_written() {
    std::erase_if(written_, [](const WrittenTensor& w) {
      return w.tensor.impl()->use_count() == 1 && w.tensor.impl()->storage->use_count() == 1;
    });
    return std::move(written_);
  }

 private:
  void note_read(const Tensor& t) {
    const RefPtr<Storage>& s = t.impl()->storage;
    if (!made_.contains(s.get()) && seen_.insert(s.get()).second) {
      reads_.push_back({s, s->version()});
    }
  }
  // `by`: who will write. What is written in a program is kept in it, too, not as it is now.
  void note_write(const Tensor& t, Interceptor* by) {
    const Storage* s = t.impl()->storage.get();
    if (made_.contains(s)) return;
    for (const WrittenTensor& w : written_) {
      if (w.tensor.impl()->storage.get() == s && w.tensor.impl()->offset == t.impl()->offset &&
          w.tensor.desc() == t.desc()) {
        if (w.by != by) {
          fail<CaptureError>("checkpoint",
                             "what the function draws or writes belongs to a declared program, or "
                             "happens at once, not some of it so and some so",
                             t.desc().str(), "auto s = graph.scope() around the checkpoint");
        }
        return;
      }
    }
    const dispatch::InterceptorScope as_before(by);
    written_.push_back({t, copy(t, MemoryFormat::contiguous), by});
    written_memory_.insert(s);
  }
  // Whom the call would have reached: a capture, or that of a graph being declared.
  Interceptor* next(Inputs in) const {
    return outer_ ? outer_ : dispatch::declaring_interceptor(in);
  }

  Interceptor* outer_;
  dispatch::InterceptorScope scope_;
  std::unordered_set<const Storage*> made_, seen_, written_memory_;
  std::vector<ReadMemory> reads_;
  std::vector<WrittenTensor> written_;
};

/// Tensors hold what they held before a function wrote them, and at the end of the scope what they
/// hold now, as if nothing had been written.
class Rewound {
 public:
  explicit Rewound(std::span<WrittenTensor> tensors) : tensors_(tensors) {
    const NoGrad no_grad;
    for (const WrittenTensor& w : tensors_) {
      now_.push_back(
          {copy(w.tensor, MemoryFormat::contiguous), w.tensor.impl()->storage->version()});
    }
    // Backwards: of two views of the same memory the first one knows what was there.
    for (std::size_t i = tensors_.size(); i-- > 0;) tensors_[i].tensor.copy_(tensors_[i].before);
  }
  ~Rewound() {
    const NoGrad no_grad;
    const Interceptor* i = dispatch::interceptor();
    for (std::size_t k = 0; k < tensors_.size(); ++k) {
      Tensor& t = tensors_[k].tensor;
      t.copy_(now_[k].tensor);
      // A capture tells the values of its program apart by versions.
      if (!t.is_symbolic() && !(i && i->records())) {
        t.impl()->storage->restore_version(now_[k].version);
      }
    }
  }
  Rewound(const Rewound&) = delete;
  Rewound& operator=(const Rewound&) = delete;

 private:
  std::span<WrittenTensor> tensors_;
  std::vector<Saved> now_;
};

class CheckpointNode final : public Node {
 public:
  CheckpointNode(DifferentiableFunction f, const std::vector<Tensor>& in, RunWatch& first_run,
                 const SrcLoc& where)
      : Node(in.size(), 0, where),
        f_(std::move(f)),
        reads_(first_run.take_reads()),
        written_(first_run.take_written()) {
    for (std::size_t i = 0; i < in.size(); ++i) {
      set_edge(i, in[i]);
      in_.push_back({in[i], in[i].impl()->storage->version()});
    }
  }
  const char* name() const override { return "checkpoint"; }
  void release_saved() override {
    in_.clear();
    reads_.clear();
    written_.clear();
    f_ = nullptr;
  }

  void apply(std::span<Tensor> grads, std::span<const std::uint8_t> needed,
             std::span<Tensor> result) override {
    if (!is_accumulating()) {
      fail<AutogradError>("checkpoint", "works with backward() only", "grad()", "backward()");
    }
    if (grad_enabled()) {
      // The inner pass below leaves gradients without a history: a second derivative would be
      // silently wrong.
      fail<AutogradError>("checkpoint", "its gradient cannot be differentiated again",
                          "create_graph", "a backward pass without it");
    }
    std::vector<Tensor> leaves;
    for (std::size_t i = 0; i < in_.size(); ++i) {
      if (in_[i].stale()) {
        refuse_stale("checkpoint", fmt::format("input {}", i), *in_[i].tensor.impl()->storage,
                     in_[i].version, loc);
      }
      leaves.push_back(in_[i].tensor.detach());
      if (needed[i]) ensure_grad_meta(leaves.back()).requires_grad = true;
    }
    for (const ReadMemory& r : reads_) {
      if (r.storage->version() != r.version) {
        refuse_stale("checkpoint", "a tensor read inside", *r.storage, r.version, loc);
      }
    }
    std::vector<Tensor> out;
    {
      // From where the first run started: it draws the same numbers, too.
      const Rewound rewound(written_);
      const EnableGrad tape;
      const Autocast as_then(autocast_);
      out = f_(leaves);
    }
    std::vector<Tensor> roots, seeds;
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (!grads[i].defined() || !out[i].requires_grad()) continue;
      roots.push_back(out[i]);
      seeds.push_back(grads[i]);
    }
    backward(roots, seeds);
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      if (!needed[i]) continue;
      result[i] = leaves[i].grad();
      leaves[i].set_grad({});  // a second reference would have the gradient copied
    }
  }

 private:
  DifferentiableFunction f_;
  std::vector<Saved> in_;
  std::vector<ReadMemory> reads_;
  std::vector<WrittenTensor> written_;
  AutocastMode autocast_ = autocast_mode();  // of the forward pass
};

// An input handed through must not have its own history replaced.
void detach_inputs(std::vector<Tensor>& out, const std::vector<Tensor>& in) {
  for (Tensor& o : out) {
    if (!o.defined()) fail<AutogradError>("custom", "a result of the function is undefined");
    for (const Tensor& t : in) {
      if (t.same_as(o)) o = o.detach();
    }
  }
}

void adopt_all(const RefPtr<Node>& node, std::vector<Tensor>& out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (is_floating(out[i].dtype())) node->adopt(out[i], static_cast<int>(i));
  }
}

}  // namespace

std::vector<Tensor> CustomFunction::operator()(const std::vector<Tensor>& in, SrcLoc loc) const {
  CallSite site(loc);
  std::vector<Tensor> saved, out;
  {
    NoGrad no_grad;
    out = forward(in, saved);
  }
  if (!grad_enabled() || !any_requires_grad(in)) return out;
  detach_inputs(out, in);
  RefPtr<Node> node(new CustomNode(*this, in, out, saved, resolved(CallSite::blame(loc))));
  adopt_all(node, out);
  return out;
}

std::vector<Tensor> checkpoint(DifferentiableFunction f, const std::vector<Tensor>& in,
                               SrcLoc loc) {
  CallSite site(loc);
  if (!grad_enabled()) return f(in);
  if (!any_requires_grad(in)) {
    fail<AutogradError>("checkpoint",
                        "at least one input must require a gradient, or nothing inside would be "
                        "differentiated",
                        "none that does");
  }
  std::vector<Tensor> out;
  RefPtr<Node> node;
  {
    const NoGrad no_grad;
    RunWatch watch;
    out = f(in);
    node =
        RefPtr<Node>(new CheckpointNode(std::move(f), in, watch, resolved(CallSite::blame(loc))));
  }
  node->num_outputs = out.size();
  detach_inputs(out, in);
  adopt_all(node, out);
  return out;
}

}  // namespace tandem::autograd
