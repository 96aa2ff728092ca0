// Functions with a gradient of the user's own, and checkpointing, which is one of them.
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
  void release_saved() override { saved_.clear(); }

  void apply(std::span<Tensor> grads, std::span<const std::uint8_t>,
             std::span<Tensor> result) override {
    std::vector<Tensor> saved;
    for (std::size_t i = 0; i < saved_.size(); ++i) {
      const Saved& s = saved_[i];
      if (s.stale()) {
        fail<AutogradError>(name_, "a tensor saved for the gradient was written over",
                            str(s.tensor.impl()->storage->last_writer_loc()));
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

/// A generator's state tensor, and what it held before a function drew from it.
struct Drawn {
  Tensor state, before;
};

/// Notes every generator that operations draw from, and otherwise lets them go their way.
class GeneratorWatch final : public Interceptor {
 public:
  GeneratorWatch() : outer_(dispatch::interceptor()), scope_(this) {}

  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    if (op.op->traits.random) note(*in[0]);
    Interceptor* i = next(in);
    return i ? i->call(op, in, loc) : dispatch::execute(op, in, loc);
  }
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    Interceptor* i = next(in);
    i ? i->call_inplace(op, in, loc) : dispatch::execute_inplace(op, in, loc);
  }
  bool records() const override { return outer_ && outer_->records(); }
  Tensor constant(Tensor t) override { return outer_ ? outer_->constant(std::move(t)) : t; }

  std::vector<Drawn> drawn;

 private:
  void note(const Tensor& state) {
    for (const Drawn& d : drawn) {
      if (d.state.same_as(state)) return;
    }
    drawn.push_back({state, copy(state, MemoryFormat::contiguous)});
  }
  // Whom the call would have reached: a capture, or that of a graph being declared.
  Interceptor* next(Inputs in) const {
    if (outer_) return outer_;
    for (const Tensor* t : in) {
      const Storage& s = *t->impl()->storage;
      if (s.is_symbolic()) return dynamic_cast<Interceptor*>(s.trace().get());
    }
    return nullptr;
  }

  Interceptor* outer_;
  dispatch::InterceptorScope scope_;
};

class CheckpointNode final : public Node {
 public:
  using Function = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

  CheckpointNode(Function f, const std::vector<Tensor>& in, std::vector<Drawn> drawn,
                 const SrcLoc& where)
      : Node(in.size(), 0, where), f_(std::move(f)), in_(in), drawn_(std::move(drawn)) {
    for (std::size_t i = 0; i < in.size(); ++i) {
      set_edge(i, in[i]);
      versions_.push_back(in[i].impl()->storage->version());
    }
  }
  const char* name() const override { return "checkpoint"; }
  void release_saved() override {
    in_.clear();
    f_ = nullptr;
  }

  void apply(std::span<Tensor> grads, std::span<const std::uint8_t> needed,
             std::span<Tensor> result) override {
    if (!is_accumulating()) {
      fail<AutogradError>("checkpoint", "works with backward() only", "grad()");
    }
    if (grad_enabled()) {
      // The inner pass below leaves gradients without a history: a second derivative would be
      // silently wrong.
      fail<AutogradError>("checkpoint", "its gradient cannot be differentiated again",
                          "create_graph");
    }
    std::vector<Tensor> leaves;
    for (std::size_t i = 0; i < in_.size(); ++i) {
      if (in_[i].impl()->storage->version() != versions_[i]) {
        fail<AutogradError>("checkpoint",
                            fmt::format("input {} was written over by '{}' at {}", i,
                                        in_[i].impl()->storage->last_writer(),
                                        str(in_[i].impl()->storage->last_writer_loc())));
      }
      leaves.push_back(in_[i].detach());
      if (needed[i]) leaves.back().set_requires_grad();
    }
    // The same random numbers as the first time; then on from where the program is now.
    std::vector<Tensor> now, out;
    {
      NoGrad no_grad;
      for (Drawn& d : drawn_) {
        now.push_back(copy(d.state, MemoryFormat::contiguous));
        d.state.copy_(d.before);
      }
    }
    {
      // Also when f throws.
      struct PutBack {
        std::vector<Drawn>& drawn;
        const std::vector<Tensor>& now;
        ~PutBack() {
          NoGrad no_grad;
          for (std::size_t i = 0; i < drawn.size(); ++i) drawn[i].state.copy_(now[i]);
        }
      } put_back{drawn_, now};
      EnableGrad tape;
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
      if (needed[i]) result[i] = leaves[i].grad();
    }
  }

 private:
  Function f_;
  std::vector<Tensor> in_;
  std::vector<std::uint32_t> versions_;
  std::vector<Drawn> drawn_;                 // generators it draws from, as they were before
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

std::vector<Tensor> checkpoint(std::function<std::vector<Tensor>(const std::vector<Tensor>&)> f,
                               const std::vector<Tensor>& in, SrcLoc loc) {
  CallSite site(loc);
  if (!grad_enabled()) return f(in);
  if (!any_requires_grad(in)) {
    fail<AutogradError>("checkpoint",
                        "at least one input must require a gradient, or nothing inside would be "
                        "differentiated");
  }
  std::vector<Tensor> out;
  std::vector<Drawn> drawn;
  {
    NoGrad no_grad;
    GeneratorWatch watch;
    out = f(in);
    drawn = std::move(watch.drawn);
  }
  RefPtr<Node> node(
      new CheckpointNode(std::move(f), in, std::move(drawn), resolved(CallSite::blame(loc))));
  node->num_outputs = out.size();
  detach_inputs(out, in);
  adopt_all(node, out);
  return out;
}

}  // namespace tandem::autograd
