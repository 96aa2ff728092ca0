#include "graph/compiled_program.h"

#include <algorithm>
#include <utility>

#include "core/clock.h"
#include "core/grad_meta.h"

namespace tandem::graph {

CompiledProgram compile_program(Program captured, const CompileOptions& options,
                                std::span<const Pass> passes) {
  const auto t0 = Clock::now();
  // A Graph may be compiled while its scope is open; compiling is not part of the program.
  const dispatch::InterceptorScope none(nullptr);
  for (const auto& name : options.without) find_pass(name);
  CompiledProgram c;
  c.captured_hash = hash(captured);
  c.captured = captured;
  verify(captured, "capture");
  const Buffers b = buffers_of(captured);
  const auto written = [&](ValueId v) {
    return b.mutated[static_cast<std::size_t>(b.root[static_cast<std::size_t>(v)])];
  };
  for (ValueId v : captured.inputs) c.writes_arg.push_back(written(v));
  for (const auto& g : captured.grad_reads) c.writes_grad.push_back(written(g.value));
  for (const auto& x : captured.states) {
    c.states.push_back(x.storage.get());
    if (written(x.value)) c.written_states.push_back(x.storage.get());
  }
  for (const Storage* a : c.written_states) {
    for (const Storage* b : c.states) {
      if (a == b || !a->same_memory(*b)) continue;
      fail<CaptureError>("compile",
                         "two tensors the function uses share memory that came from outside "
                         "twice, and the program writes one of them",
                         fmt::format("{} and {} bytes", a->bytes(), b->bytes()),
                         "one tensor and its views, or memory of its own (clone())");
    }
  }
  Program p = std::move(captured);
  for (const Pass& pass : passes) {
    if (std::find(options.without.begin(), options.without.end(), pass.name) !=
        options.without.end()) {
      continue;
    }
    if (pass.exactness != Exactness::exact && !options.fast) continue;
    PassReport r{pass.name, pass.exactness, {}};
    r.stats.nodes_before = static_cast<int>(p.nodes.size());
    const auto t = Clock::now();
    p = pass.run(p, r.stats);
    r.stats.ms = ms_since(t);
    r.stats.nodes_after = static_cast<int>(p.nodes.size());
    verify(p, pass.name);
    c.passes.push_back(std::move(r));
  }
  c.history = ResultHistory(c.captured.results_want_grad);
  c.executor = std::make_unique<Executor>(
      std::move(p),
      ExecutorOptions{.memory_plan = options.memory_plan, .device_graph = options.device_graph});
  c.ledger.compile_ms = ms_since(t0);
  c.ledger.nodes_captured = static_cast<int>(c.captured.nodes.size());
  c.ledger.launches = static_cast<int>(c.executor->launches());
  c.ledger.arena_bytes = c.executor->arena_bytes();
  c.ledger.no_device_graph = c.executor->no_device_graph();
  return c;
}

// Why the host values and gradients the program found are not there any more, or "".
std::string CompiledProgram::out_of_date() const {
  const Program& p = executor->program();
  for (const auto& g : p.guards) {
    if (!g.holds()) return fmt::format("host value '{}' changed", g.what);
  }
  for (const auto& g : p.grad_reads) {
    const auto* m = static_cast<const GradMeta*>(g.leaf->grad_meta.get());
    const TensorDesc& want = p.values[static_cast<std::size_t>(g.value)].desc;
    if (!m || !m->grad.defined()) return "a gradient that was there is gone";
    if (!(m->grad.desc() == want)) {
      return fmt::format("a gradient changed: {} -> {}", want.str(), m->grad.desc().str());
    }
  }
  for (const auto& leaf : p.grads_absent) {
    const auto* m = static_cast<const GradMeta*>(leaf->grad_meta.get());
    if (m && m->grad.defined()) return "a gradient that was undefined is there";
  }
  return {};
}

std::string CompiledProgram::dropped() const {
  const Program& p = executor->program();
  for (const auto& w : p.grad_writes) {
    if (w.leaf->only_pinned()) return "a parameter the program used was dropped";
  }
  for (const auto& s : p.states) {
    if (s.storage->is_dropped()) return "a tensor the program used was dropped or replaced";
  }
  return {};
}

void CompiledProgram::check_aliases(std::span<const Tensor* const> args) const {
  const Program& p = executor->program();
  const std::size_t n = args.size() + p.grad_reads.size();
  const auto tensor = [&](std::size_t i) -> const Tensor& {
    if (i < args.size()) return *args[i];
    return static_cast<const GradMeta*>(p.grad_reads[i - args.size()].leaf->grad_meta.get())->grad;
  };
  const auto label = [&](std::size_t i) {
    return i < args.size() ? fmt::format("argument {}", i)
                           : fmt::format("gradient {}", i - args.size());
  };
  const auto writes = [&](std::size_t i) {
    return i < args.size() ? writes_arg[i] : writes_grad[i - args.size()];
  };
  const auto refuse = [&](std::size_t i, const std::string& what) {
    fail<CaptureError>(
        "compile",
        fmt::format("{} shares memory with {}, and the program writes one of them", label(i), what),
        tensor(i).desc().str(), "memory of its own (clone())");
  };
  for (std::size_t i = 0; i < n; ++i) {
    const Storage& s = *tensor(i).impl()->storage;
    for (const Storage* state : writes(i) ? states : written_states) {
      if (state->same_memory(s)) refuse(i, "a tensor the function uses");
    }
    for (std::size_t j = 0; j < i; ++j) {
      if ((writes(i) || writes(j)) && tensor(j).impl()->storage->same_memory(s)) {
        refuse(i, label(j));
      }
    }
  }
}

// In a program every argument is a leaf of its own, without history and hooks. That gives another
// gradient where eagerly it flows on from one argument or outside tensor to another that a gradient
// is asked of.
void CompiledProgram::check_tied(std::span<const Tensor* const> args) const {
  const auto refuse = [&](std::size_t i, const std::string& what, const char* expected) {
    fail<CaptureError>("compile", fmt::format("argument {} wants a gradient and {}", i, what),
                       args[i]->desc().str(), expected);
  };
  const auto refuse_tie = [&](std::size_t i, bool itself, const std::string& other) {
    refuse(i,
           fmt::format("{} {}: gradients of the program would take them for different tensors",
                       itself ? "is" : "was computed from", other),
           "each tensor once, or detach()");
  };
  const auto among = [](const std::vector<hooks::Origin>& v, const hooks::Origin& x) {
    return std::find(v.begin(), v.end(), x) != v.end();
  };
  for (const GradientFlow& flow : captured.gradients) {
    for (std::size_t i = 0; i < args.size(); ++i) {
      if (!args[i]->requires_grad()) continue;
      if (flow.wants[i] && hooks::has_grad_hooks(*args[i])) {
        refuse(i, "has gradient hooks, which the program would not call",
               "a hook registered inside the function, or detach()");
      }
      if (flow.wants[i] && among(flow.outer, hooks::origin_of(*args[i]))) {
        refuse_tie(i, true, "a tensor the function uses, too");
      }
      if (!flow.reaches[i]) continue;
      bool itself = true;  // the first one visited
      hooks::visit_history(*args[i], [&](const hooks::Origin& x) {
        const bool first = std::exchange(itself, false);
        if (among(flow.wanted, x)) refuse_tie(i, first, "a tensor the function uses, too");
        bool others = !flow.wanted.empty();
        for (std::size_t j = 0; j < args.size(); ++j) {
          if (j == i || !flow.wants[j]) continue;
          others = true;
          if (hooks::origin_of(*args[j]) == x)
            refuse_tie(i, first, fmt::format("argument {}, too", j));
        }
        if (x.refused && others) {
          refuse(i,
                 fmt::format("{} a result of a compiled function: whether it hangs together with "
                             "the other tensors that the function takes gradients of is not known",
                             first ? "is" : "was computed from"),
                 "detach()");
        }
      });
    }
  }
}

ResultHistory::ResultHistory(std::vector<std::uint8_t> wants_grad)
    : wants_grad_(std::move(wants_grad)) {
  if (std::find(wants_grad_.begin(), wants_grad_.end(), 1) == wants_grad_.end()) return;
  refusal_ = hooks::make_refusal(
      "a backward pass reached the result of a compiled function, whose operations are not on the "
      "tape; call backward() inside the compiled function, or detach() the result");
}

void ResultHistory::give(std::span<Tensor> results) const {
  if (!refusal_) return;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (wants_grad_[i]) hooks::refuse_history(refusal_, results[i]);
  }
}

}  // namespace tandem::graph
