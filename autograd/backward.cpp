// The backward pass: nodes in falling order of their sequence numbers, each once.
#include <algorithm>
#include <queue>
#include <unordered_map>

#include "autograd/autograd.h"
#include "autograd/engine.h"
#include "core/host_changes.h"
#include "core/trace_guard.h"
#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/grad_util.h"

namespace tandem {

const Tensor& VjpContext::grad(int i) {
  if (!grads[i].defined()) {
    grads[i] = zeros_of(call.out[static_cast<std::size_t>(i)]);
  }
  return grads[i];
}

namespace autograd {
namespace {

struct BySeq {
  bool operator()(const RefPtr<Node>& a, const RefPtr<Node>& b) const { return a->seq < b->seq; }
};

Tensor hooked(const GradHooks& hooks, int output, Tensor g) {
  const Shape shape = g.shape();
  const DType dtype = g.dtype();
  const Device device = g.device();
  Tensor r = hooks.apply(output, std::move(g));
  if (!(r.shape() == shape) || r.dtype() != dtype || !(r.device() == device)) {
    fail<AutogradError>("register_hook",
                        "what a hook returns has the gradient's shape, dtype and device",
                        r.desc().str(), TensorDesc(dtype, device, shape).str());
  }
  return r;
}

thread_local bool accumulating = false;  // backward() rather than grad() is running

// Adds `g` to the leaf's `.grad` (or makes it that).
void accumulate_grad(const Tensor& leaf, Tensor g, const SrcLoc& loc) {
  refuse_unguarded(leaf, g);
  TraceGuards* guards = trace_guards();
  Tensor& slot = grad_meta(leaf)->grad;
  if (const Tensor now = guards ? guards->read_grad(leaf) : slot; now.defined()) {
    g = add({now, loc}, g);
  } else if (!(g.strides() == leaf.strides()) || g.impl_ref()->use_count() > 1 ||
             g.impl()->storage->use_count() > 1) {
    // Somebody else holds it too (or it is a broadcast view): a later write to this gradient must
    // not be seen there.
    g = copy({g, loc}, leaf.desc().format(MemoryFormat::contiguous));
  }
  if (guards) return guards->write_grad(leaf, g);
  slot = std::move(g);
}

class BackwardPass {
 public:
  BackwardPass(std::span<const Tensor> targets, bool accumulate, const GradOptions& o,
               const SrcLoc& loc)
      : accumulate_(accumulate), options_(o), loc_(loc), results_(targets.size()) {
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (!targets[i].defined()) {
        fail<AutogradError>("grad", fmt::format("input {} must be defined", i),
                            "an undefined tensor", "a tensor that requires a gradient");
      }
      const Edge e = edge_of(targets[i]);
      if (!e.wanted()) {
        fail<AutogradError>("grad", fmt::format("input {} does not require a gradient", i),
                            targets[i].desc().str());
      }
      if (e.is_leaf()) {
        leaf_targets_[e.leaf()].push_back(i);
      } else {
        node_targets_[e.node()].push_back({e.index, i});
      }
    }
  }
  ~BackwardPass() {
    // After an error, leave no half-done state on nodes that live on.
    for (; !queue_.empty(); queue_.pop()) {
      queue_.top()->queued = false;
      for (Tensor& t : queue_.top()->pending) t = Tensor();
      queue_.top()->pending.resize(0);
    }
  }

  void seed(const Edge& e, Tensor g) {
    if (!accumulate_ && !e.is_leaf()) mark_useful(e.node());
    send(e, std::move(g));
  }

  void run() {
    const GradMode mode(options_.create_graph);
    while (!queue_.empty()) {
      RefPtr<Node> n = queue_.top();
      queue_.pop();
      n->queued = false;
      step(*n);
    }
    // A hook sees the whole gradient of its leaf, so those wait until every part has arrived.
    for (auto& [leaf, g] : hooked_) {
      const Tensor t(leaf);
      // A hook may drop the list while it runs.
      const std::shared_ptr<GradHooks> hooks = grad_meta(t)->hooks;
      deliver(t, hooked(*hooks, 0, std::move(g)));
    }
  }

  std::vector<Tensor> take_results() {
    for (std::size_t i = 0; i < results_.size(); ++i) {
      if (!results_[i].defined() && !options_.allow_unused) {
        fail<AutogradError>("grad", fmt::format("the outputs do not depend on input {}", i), {},
                            "allow_unused to get an undefined gradient instead");
      }
    }
    return std::move(results_);
  }

 private:
  struct Target {
    int output;
    std::size_t result;
  };

  void step(Node& n) {
    if (n.released) {
      fail<AutogradError>(n.name(),
                          fmt::format("the tape of this operation (called at {}) was already used "
                                      "by a backward pass",
                                      str(n.loc)),
                          "a second backward", "retain_graph in the first");
    }
    InlineArray<Tensor, 4> grads(n.num_outputs);
    for (std::size_t i = 0; i < n.num_outputs; ++i) grads[i] = std::move(n.pending[i]);
    n.pending.resize(0);
    if (n.hooks) {
      for (std::size_t i = 0; i < n.num_outputs; ++i) {
        if (grads[i].defined())
          grads[i] = hooked(*n.hooks, static_cast<int>(i), std::move(grads[i]));
      }
    }
    if (auto t = node_targets_.find(&n); t != node_targets_.end()) {
      for (const Target& x : t->second) {
        results_[x.result] = grads[static_cast<std::size_t>(x.output)];
      }
    }
    if (!n.knows_history()) {
      // For a target alone it ends here. What other targets have to do with it, nobody knows.
      if (node_targets_.contains(&n) && results_.size() == 1) return;
      return n.apply({}, {}, {});  // throws
    }
    InlineArray<std::uint8_t, 8> needed(n.edges.size());
    bool any = false;
    for (std::size_t i = 0; i < n.edges.size(); ++i) {
      needed[i] = n.edges[i].wanted() && is_useful(n.edges[i]);
      any |= needed[i] != 0;
    }
    if (!any) return;
    if (!n.symbolic && trace_guards()) {
      fail<CaptureError>(n.name(),
                         fmt::format("a captured backward pass reached this operation (called at "
                                     "{}), which was recorded before the capture",
                                     str(n.loc)),
                         "a tape that replay would not look at again",
                         "the operation inside of the function, or detach()");
    }
    InlineArray<Tensor, 4> result(n.edges.size());
    {
      // Whatever the gradient rule calls is blamed on the line of the forward operation.
      const GradientSite site(n.name(), n.loc);
      n.apply(grads, needed, result);
    }
    if (!options_.retain_graph && !options_.create_graph) {
      n.release_saved();
      n.hooks.reset();  // they may hold what they hang on
      n.released = true;
    }
    for (auto& g : grads) g = Tensor();
    for (std::size_t i = 0; i < n.edges.size(); ++i) {
      if (!needed[i] || !result[i].defined()) continue;
      check(n, i, result[i]);
      send(n.edges[i], std::move(result[i]));
    }
  }

  void check(const Node& n, std::size_t i, const Tensor& g) const {
    const TensorDesc* d = n.input_desc(i);
    if (d && !(d->shape == g.shape() && d->dtype == g.dtype())) {
      fail<InternalError>(n.name(), fmt::format("gradient of input {} does not match the input", i),
                          g.desc().str(), d->str());
    }
  }

  void send(const Edge& e, Tensor g) {
    if (e.is_leaf()) return send_leaf(*e.leaf(), std::move(g));
    Node& n = *e.node();
    if (!n.queued) {
      n.queued = true;
      n.pending.resize(n.num_outputs);
      queue_.push(RefPtr<Node>(&n));
    }
    Tensor& slot = n.pending[static_cast<std::size_t>(e.index)];
    slot = slot.defined() ? add({slot, loc_}, g) : std::move(g);
  }

  void send_leaf(TensorImpl& leaf, Tensor g) {
    const Tensor t{RefPtr<TensorImpl>(&leaf)};
    if (!grad_meta(t)->hooks) return deliver(t, std::move(g));
    for (auto& [l, sum] : hooked_) {
      if (l.get() != &leaf) continue;
      sum = add({sum, loc_}, g);
      return;
    }
    hooked_.emplace_back(t.impl_ref(), std::move(g));
  }

  void deliver(const Tensor& leaf, Tensor g) {
    if (accumulate_) return accumulate_grad(leaf, std::move(g), loc_);
    if (auto it = leaf_targets_.find(leaf.impl()); it != leaf_targets_.end()) {
      for (std::size_t i : it->second) {
        results_[i] = results_[i].defined() ? add({results_[i], loc_}, g) : g;
      }
    }
  }

  // --- grad(): only nodes on a path to one of the inputs are worth running

  bool is_useful(const Edge& e) const {
    if (accumulate_) return true;
    if (e.is_leaf()) return leaf_targets_.contains(e.leaf());
    auto it = useful_.find(e.node());
    return it != useful_.end() && it->second;
  }

  bool is_target(Node* n) const { return node_targets_.contains(n) || !n->knows_history(); }

  void mark_useful(Node* root) {
    // Depth first without recursion: a node is judged after all nodes it depends on.
    std::vector<std::pair<Node*, std::size_t>> stack{{root, 0}};
    if (useful_.contains(root)) return;
    useful_[root] = is_target(root);
    while (!stack.empty()) {
      auto& [n, i] = stack.back();
      if (i == n->edges.size()) {
        const bool u = useful_[n];
        stack.pop_back();
        if (u && !stack.empty()) useful_[stack.back().first] = true;
        continue;
      }
      const Edge& e = n->edges[i++];
      if (!e.wanted()) continue;
      if (e.is_leaf()) {
        if (leaf_targets_.contains(e.leaf())) useful_[n] = true;
      } else if (auto it = useful_.find(e.node()); it != useful_.end()) {
        if (it->second) useful_[n] = true;
      } else {
        useful_[e.node()] = is_target(e.node());
        stack.push_back({e.node(), 0});
      }
    }
  }

  bool accumulate_;
  GradOptions options_;
  SrcLoc loc_;  // of the call of backward() or grad()
  std::vector<Tensor> results_;
  std::priority_queue<RefPtr<Node>, std::vector<RefPtr<Node>>, BySeq> queue_;
  std::vector<std::pair<RefPtr<TensorImpl>, Tensor>> hooked_;
  std::unordered_map<TensorImpl*, std::vector<std::size_t>> leaf_targets_;
  std::unordered_map<Node*, std::vector<Target>> node_targets_;
  std::unordered_map<Node*, bool> useful_;
};

Edge edge_from(const Tensor& output) {
  Edge e = edge_of(output);
  if (!e.wanted()) {
    fail<AutogradError>("backward",
                        "the output does not depend on anything that requires a gradient",
                        output.desc().str());
  }
  return e;
}

Tensor seed_for(const Tensor& output, std::span<const Tensor> seeds, std::size_t k, const char* op,
                const SrcLoc& loc) {
  if (k < seeds.size() && seeds[k].defined()) {
    if (!(seeds[k].shape() == output.shape()) || seeds[k].dtype() != output.dtype()) {
      fail<ShapeError>(op, "a seed must have the shape and dtype of its output",
                       seeds[k].desc().str(), output.desc().str());
    }
    if (!(seeds[k].device() == output.device())) {
      fail<DeviceError>(op, "a seed must be on the device of its output", seeds[k].device().str(),
                        output.device().str());
    }
    return seeds[k];
  }
  if (output.numel() != 1) {
    fail<ShapeError>(op, "only a one-element output has a default seed", output.desc().str(),
                     "one element, or a seed of the output's shape");
  }
  return ones(output.shape(), {output.dtype(), output.device()}, loc);
}

std::vector<Tensor> run(std::span<const Tensor> outputs, std::span<const Tensor> targets,
                        std::span<const Tensor> seeds, bool accumulate, GradOptions o,
                        const char* op, const SrcLoc& loc) {
  const ErrorSite at(loc);
  struct Restore {
    bool saved = accumulating;
    ~Restore() { accumulating = saved; }
  } restore;
  accumulating = accumulate;
  const Autocast off(DType::bf16, false);
  if (TraceGuards* t = trace_guards()) t->gradients_taken(outputs, targets);
  BackwardPass pass(targets, accumulate, o, loc);
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    if (!outputs[k].defined()) {
      fail<AutogradError>(op, "an output is undefined", fmt::format("nothing as output {}", k),
                          "a tensor");
    }
    const Edge e = edge_from(outputs[k]);
    Tensor g;
    {
      NoGrad no_grad;
      g = seed_for(outputs[k], seeds, k, op, loc);
    }
    pass.seed(e, std::move(g));
  }
  pass.run();
  return pass.take_results();
}

}  // namespace

bool is_accumulating() {
  return accumulating;
}

void refuse_unguarded(const Tensor& leaf, const Tensor& g) {
  if (!g.defined() || !g.is_symbolic() || leaf.is_symbolic() || trace_guards()) return;
  fail<CaptureError>("backward",
                     "gradients of a declared program belong to it: declare them in a scope",
                     g.desc().str(), "auto s = graph.scope() around backward()");
}

std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                         std::span<const Tensor> seeds, GradOptions o, SrcLoc loc) {
  return run(outputs, inputs, seeds, false, o, "grad", loc);
}

std::vector<Tensor> grad(const Tensor& output, const std::vector<Tensor>& inputs, GradOptions o,
                         SrcLoc loc) {
  return grad(std::span(&output, 1), inputs, {}, o, loc);
}

void backward(std::span<const Tensor> outputs, std::span<const Tensor> seeds, GradOptions o,
              SrcLoc loc) {
  run(outputs, {}, seeds, true, o, "backward", loc);
}

HookHandle register_hook(const Tensor& t, GradHook hook, SrcLoc loc) {
  const ErrorSite at(loc);
  expect_defined("register_hook", {&t}, loc);
  const Edge e = edge_of(t);
  if (!e.wanted()) {
    fail<AutogradError>("register_hook", "the tensor does not require a gradient", t.desc().str());
  }
  if (t.impl()->storage->pinned()) note_host_change({0, "a hook of a tensor"});
  auto& hooks = e.is_leaf() ? grad_meta(t)->hooks : e.node()->hooks;
  if (!hooks) hooks = std::make_shared<GradHooks>();
  HookHandle h;
  h.hook_ = hooks->add(e.is_leaf() ? 0 : e.index, std::move(hook));
  h.hooks_ = hooks;
  return h;
}

void HookHandle::remove() const {
  const auto hooks = hooks_.lock();
  const auto hook = hook_.lock();
  if (!hooks || !hook) return;
  note_host_change({0, "a hook of a tensor"});  // a program captured before calls it
  hooks->remove(hook);
}

}  // namespace autograd
}  // namespace tandem
