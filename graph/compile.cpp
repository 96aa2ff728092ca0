#include "graph/compile.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <utility>

#include "core/backend.h"
#include "core/clock.h"
#include "core/grad_meta.h"
#include "core/parallel.h"
#include "graph/tracer.h"
#include "graph/verify_mode.h"

namespace tandem::graph {
namespace {

// What a program is specialised on, beside the host values it guards.
struct Signature {
  std::vector<TensorDesc> args;
  std::vector<std::uint8_t> wants_grad;
  CompiledFunction::Statics statics;
  Policy policy;
  AutocastMode autocast;
  bool grad = true;
  Device device;
  int threads = 1;
  bool anomaly = false;

  bool matches(std::span<const Tensor* const> a, const CompiledFunction::Statics& s) const {
    if (a.size() != args.size() || grad != grad_enabled() || !(policy == tandem::policy()) ||
        !(device == default_device()) || threads != num_threads() ||
        !(autocast == autocast_mode()) || anomaly != dispatch::anomaly_mode() ||
        *s.type != *statics.type || s.text != statics.text) {
      return false;
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!(a[i]->desc() == args[i])) return false;
      if ((wants_grad[i] != 0) != (a[i]->impl()->grad_meta && a[i]->requires_grad())) return false;
    }
    return true;
  }

  static Signature of(std::span<const Tensor* const> a, const CompiledFunction::Statics& s) {
    Signature r;
    for (const Tensor* t : a) {
      r.args.push_back(t->desc());
      r.wants_grad.push_back(t->requires_grad());
    }
    r.statics = s;
    r.policy = tandem::policy();
    r.autocast = autocast_mode();
    r.grad = grad_enabled();
    r.device = default_device();
    r.threads = num_threads();
    r.anomaly = dispatch::anomaly_mode();
    return r;
  }

  // The first key in which the two differ.
  static std::string difference(const Signature& was, const Signature& is) {
    if (was.args.size() != is.args.size()) {
      return fmt::format("number of tensors: {} -> {}", was.args.size(), is.args.size());
    }
    for (std::size_t i = 0; i < is.args.size(); ++i) {
      if (!(was.args[i] == is.args[i])) {
        return fmt::format("argument {}: {} -> {}", i, was.args[i].str(), is.args[i].str());
      }
      if (was.wants_grad[i] != is.wants_grad[i]) {
        return fmt::format("argument {}: requires_grad {} -> {}", i, was.wants_grad[i] != 0,
                           is.wants_grad[i] != 0);
      }
    }
    if (was.statics.text != is.statics.text) {
      return fmt::format("static arguments: {} -> {}", was.statics.text, is.statics.text);
    }
    if (*was.statics.type != *is.statics.type) return "types of the arguments";
    if (!(was.policy == is.policy)) {
      return fmt::format("policy: {} -> {}", was.policy.str(), is.policy.str());
    }
    if (!(was.autocast == is.autocast)) {
      return fmt::format("autocast: {} -> {}", was.autocast.str(), is.autocast.str());
    }
    if (was.grad != is.grad) return fmt::format("tape on: {} -> {}", was.grad, is.grad);
    if (!(was.device == is.device)) {
      return fmt::format("default device: {} -> {}", was.device.str(), is.device.str());
    }
    if (was.threads != is.threads) {
      return fmt::format("threads: {} -> {}", was.threads, is.threads);
    }
    if (was.anomaly != is.anomaly) {
      return fmt::format("anomaly mode: {} -> {}", was.anomaly, is.anomaly);
    }
    return {};
  }
};

struct Captured {
  Program program;
  CompiledFunction::Host host;
  std::vector<std::uint8_t> results_want_grad;
};

Captured trace_once(std::span<const Tensor* const> args, CompiledFunction::Trace trace) {
  RefPtr<Tracer> tracer(new Tracer);
  struct Abandon {
    Tracer& t;
    ~Abandon() { t.abandon(); }
  } abandon{*tracer};
  Captured c;
  std::vector<Tensor> in;
  for (const Tensor* a : args) {
    in.push_back(tracer->input(a->desc()));
    if (a->requires_grad()) in.back().set_requires_grad();
  }
  CaptureScope scope(*tracer);
  std::vector<Tensor> out = trace(in, c.host);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!out[i].defined()) {
      fail<CaptureError>("compile", fmt::format("result {} is an undefined tensor", i));
    }
    c.results_want_grad.push_back(grad_enabled() && out[i].requires_grad());
    // Its history ends with the capture, and must not seem to be something that outlives it.
    if (c.results_want_grad.back()) out[i] = out[i].detach();
  }
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (grad_enabled() && in[i].requires_grad() && !in[i].is_leaf()) {
      fail<CaptureError>("compile",
                         fmt::format("argument {} was written with a value that wants a gradient: "
                                     "its history would be lost",
                                     i),
                         in[i].desc().str(), "the value as a result");
    }
  }
  c.program = tracer->finish(out);
  return c;
}

std::string describe(const Program& p, std::size_t n) {
  const Node& node = p.nodes[n];
  return fmt::format("{}({}) at {}", node.op().name, node.call->attrs.str(), str(node.source.loc));
}

bool same_outside(const Program& a, const Program& b) {
  bool same = a.states.size() == b.states.size() && a.grad_writes.size() == b.grad_writes.size();
  for (std::size_t i = 0; same && i < a.states.size(); ++i) {
    same = a.states[i].storage.get() == b.states[i].storage.get() &&
           a.states[i].offset == b.states[i].offset;
  }
  for (std::size_t i = 0; same && i < a.grad_writes.size(); ++i) {
    same = a.grad_writes[i].leaf.get() == b.grad_writes[i].leaf.get();
  }
  return same;
}

// A captured function that gives two programs read something capture cannot see.
void compare_captures(const Program& a, const std::string& a_host, const Captured& second) {
  if (a_host != second.host.text) {
    fail<CaptureError>("compile",
                       "two captures of the function returned different host values, which replay "
                       "would freeze",
                       a_host + " and then " + second.host.text, "tensors as results");
  }
  const Program& b = second.program;
  const bool same_states = same_outside(a, b);
  if (same_states && hash(a) == hash(b)) return;
  std::string got = "another tensor each time: one that the function itself makes or replaces";
  const std::size_t n = std::min(a.nodes.size(), b.nodes.size());
  std::size_t i = 0;
  while (i < n && a.nodes[i].op().id == b.nodes[i].op().id &&
         a.nodes[i].call->attrs.str() == b.nodes[i].call->attrs.str() &&
         a.nodes[i].inputs == b.nodes[i].inputs) {
    ++i;
  }
  if (i < n) {
    got = describe(a, i) + " and then " + describe(b, i);
  } else if (a.nodes.size() != b.nodes.size()) {
    const Program& longer = a.nodes.size() > b.nodes.size() ? a : b;
    got = "one more operation the " +
          std::string(a.nodes.size() > b.nodes.size() ? "first" : "second") +
          " time: " + describe(longer, i);
  } else if (same_states) {
    got = "a constant with other values";
  }
  fail<CaptureError>("compile",
                     "two captures of the function gave different programs: it depends on a host "
                     "value that changes, which replay would freeze",
                     got, "the value as a tensor argument, a static argument, or Guarded<T>");
}

// In a program every argument is a leaf of its own, without history and hooks. That is wrong where
// gradients are taken and the argument hangs together with another tensor of the program (or is the
// same): the other's part would be missing. Or where a hook would have been called.
void check_tied(const CompiledProgram& p, std::span<const Tensor* const> args) {
  if (!p.captured.takes_gradients || !grad_enabled()) return;
  const auto is_outside = [&](const Storage* leaf) {
    const auto& leaves = p.captured.outer_leaves;
    return std::find(p.states.begin(), p.states.end(), leaf) != p.states.end() ||
           std::any_of(leaves.begin(), leaves.end(),
                       [&](const auto& x) { return x.get() == leaf; });
  };
  for (std::size_t i = 0; i < args.size(); ++i) {
    const Tensor& a = *args[i];
    if (!a.requires_grad()) continue;
    const auto refuse = [&](const std::string& what, const char* expected) {
      fail<CaptureError>("compile", fmt::format("argument {} wants a gradient and {}", i, what),
                         a.desc().str(), expected);
    };
    if (hooks::has_grad_hooks(a)) {
      refuse("has gradient hooks, which the program would not call",
             "a hook registered inside the function, or detach()");
    }
    bool itself = true;  // the first one visited
    hooks::visit_history(a, [&](const hooks::Origin& x) {
      const char* is = std::exchange(itself, false) ? "is" : "was computed from";
      std::string other;
      if (x.leaf && is_outside(x.leaf)) other = "a tensor the function uses";
      for (std::size_t j = 0; j < args.size(); ++j) {
        if (j != i && hooks::origin_of(*args[j]) == x) other = fmt::format("argument {}", j);
      }
      if (other.empty()) return;
      refuse(
          fmt::format("{} {}, too: gradients of the program would take them for different tensors",
                      is, other),
          "each tensor once, or detach()");
    });
  }
}

// No kernel of a compiled program reports a non-finite value by itself.
void check_finite(const Node& node, std::span<const Tensor> made) {
  ReplaySite site;
  site.set(&node.source);
  dispatch::check_finite(*node.call, made);
}

}  // namespace

// ------------------------------------------------------------------------------ compilation

CompiledProgram compile_program(Program captured, const CompileOptions& options) {
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
  for (const Pass& pass : all_passes()) {
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
  c.executor = std::make_unique<Executor>(
      std::move(p),
      ExecutorOptions{.memory_plan = options.memory_plan, .device_graph = options.device_graph});
  c.ledger.compile_ms = ms_since(t0);
  c.ledger.nodes_captured = static_cast<int>(c.captured.nodes.size());
  c.ledger.launches = static_cast<int>(c.executor->launches());
  c.ledger.arena_bytes = c.executor->arena_bytes();
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
    if (s.storage->only_pinned()) return "a tensor the program used was dropped or replaced";
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

struct CompiledFunction::Entry {
  Signature signature;
  CompiledProgram program;
  std::shared_ptr<const std::any> prototype;
  std::string host_text;
  std::uint64_t calls = 1;
  std::vector<std::uint8_t> results_want_grad;
  RefPtr<RefCounted> refusal;
  // host_epoch() and what was watched when the program was last known to be right.
  std::uint64_t epoch = 0;
  std::string watched;
  bool is_fresh(const Statics& s) const { return epoch == host_epoch() && watched == s.watch; }
};

CompiledFunction::CompiledFunction(CompileOptions options) : options_(std::move(options)) {
  for (const auto& name : options_.without) find_pass(name);
  if (options_.max_signatures < 1) {
    fail("compile", "max_signatures must be positive", std::to_string(options_.max_signatures));
  }
  if (options_.check_interval < 1) {
    fail("compile", "check_interval must be positive", std::to_string(options_.check_interval));
  }
}
CompiledFunction::~CompiledFunction() = default;

CompiledFunction::EntryPtr CompiledFunction::capture(std::span<const Tensor* const> args,
                                                     const Statics& statics, Trace trace,
                                                     std::string reason) {
  auto e = std::make_shared<Entry>();
  e->signature = Signature::of(args, statics);
  e->epoch = host_epoch();
  e->watched = statics.watch;
  const auto t0 = Clock::now();
  Captured c = trace_once(args, trace);
  if (options_.check_capture) compare_captures(c.program, c.host.text, trace_once(args, trace));
  const double capture_ms = ms_since(t0);

  e->host_text = std::move(c.host.text);
  e->prototype = std::make_shared<const std::any>(std::move(c.host.prototype));
  e->results_want_grad = std::move(c.results_want_grad);
  for (auto w : e->results_want_grad) {
    if (w && !e->refusal) {
      e->refusal = hooks::make_refusal(
          "a backward pass reached the result of a compiled function, whose operations are not on "
          "the tape; call backward() inside the compiled function");
    }
  }
  CompileOptions options = options_;
  if (e->signature.anomaly) {
    // Every operation of the program must be there to be looked at.
    options.without.clear();
    for (const Pass& pass : all_passes()) options.without.push_back(pass.name);
  }
  e->program = compile_program(std::move(c.program), options);
  e->program.ledger.reason = std::move(reason);
  e->program.ledger.capture_ms = capture_ms;
  return e;
}

CompiledFunction::EntryPtr CompiledFunction::find_or_capture(std::span<const Tensor* const> args,
                                                             const Statics& statics, Trace trace) {
  std::string reason;
  // What the function does now, for all programs that are to be compared with it.
  std::optional<Captured> again;
  std::uint64_t now = 0;
  const auto usable = [&](Entry& e) {
    if (!e.signature.matches(args, statics)) return false;
    std::string why = e.program.out_of_date();
    if (why.empty()) why = e.program.dropped();
    if (why.empty() && !e.is_fresh(statics)) {
      if (!again) {
        now = host_epoch();
        again = trace_once(args, trace);
      }
      if (hash(again->program) == e.program.captured_hash && again->host.text == e.host_text &&
          same_outside(again->program, e.program.captured)) {
        e.epoch = now;
        e.watched = statics.watch;
      } else {
        why = "parameters, hooks, attributes or layers changed";
      }
    }
    if (why.empty()) return true;
    // Of several programs that are out of date the one used last says most.
    if (reason.empty()) reason = std::move(why);
    return false;
  };
  // A check that failed stays due.
  const auto used = [&](EntryPtr e) {
    const std::uint64_t calls = e->calls + 1;
    const auto interval = static_cast<std::uint64_t>(options_.check_interval);
    const bool due =
        calls % interval == 0 || (calls >= 4 && calls < interval && std::has_single_bit(calls));
    if (options_.check_capture && due) {
      compare_captures(e->program.captured, e->host_text, trace_once(args, trace));
    }
    e->calls = calls;
    return e;
  };
  // The function may clear the programs, or be called by another one, while it is traced.
  const EntryPtr last = current_;
  if (last && last->is_fresh(statics) && usable(*last)) return used(last);
  // Those that need not be compared first, and among equals the last.
  std::vector<EntryPtr> candidates = entries_;
  if (last) candidates.insert(candidates.begin(), last);
  for (const bool fresh : {true, false}) {
    for (const EntryPtr& e : candidates) {
      if (e->is_fresh(statics) != fresh || !usable(*e)) continue;
      current_ = e;
      return used(e);
    }
  }
  if (reason.empty()) {
    reason = current_ ? Signature::difference(current_->signature, Signature::of(args, statics))
                      : "first call";
  }
  // A program that was captured for tensors which are gone can never be used again.
  std::erase_if(entries_, [&](const auto& e) { return !e->program.dropped().empty(); });
  current_ = entries_.empty() ? nullptr : entries_.back();
  if (static_cast<int>(entries_.size()) >= options_.max_signatures) {
    std::string seen;
    for (const auto& l : ledger_) seen += "\n  " + l.reason;
    fail<CaptureError>("compile",
                       fmt::format("more than max_signatures = {} different programs were captured",
                                   options_.max_signatures),
                       reason,
                       "stable shapes, or a larger max_signatures. Captured so far:" + seen);
  }
  EntryPtr e = capture(args, statics, trace, reason);
  // Another thread may have given the same parameters gradients meanwhile.
  if (!e->program.out_of_date().empty()) e = capture(args, statics, trace, std::move(reason));
  // A function that is given new parameters again and again is captured again and again.
  constexpr std::size_t kMostEntries = 64;
  if (ledger_.size() == kMostEntries) ledger_.erase(ledger_.begin());
  ledger_.push_back(e->program.ledger);
  entries_.push_back(e);
  current_ = e;
  return e;
}

void CompiledFunction::call(std::span<const Tensor* const> args, const Statics& statics,
                            Trace trace, Result& result) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (!args[i]->defined()) fail("compile", fmt::format("argument {} is undefined", i));
  }
  const auto give = [&](std::vector<Tensor> tensors) {
    result.tensors.resize(tensors.size());
    std::move(tensors.begin(), tensors.end(), result.tensors.begin());
  };
  if (dispatch::interceptor()) {
    // Inside another capture: become part of it. Without the lock: the outer function holds its
    // own, and two functions that call each other would wait for each other.
    std::vector<Tensor> in;
    for (const Tensor* a : args) in.push_back(*a);
    Host host;
    give(trace(in, host));
    result.prototype = std::make_shared<const std::any>(std::move(host.prototype));
    return;
  }
  const std::lock_guard lock(mutex_);
  const EntryPtr entry = find_or_capture(args, statics, trace);
  Entry& e = *entry;
  e.program.check_aliases(args);
  check_tied(e.program, args);
  if (options_.verify) [[unlikely]] {
    give(verify_against_eager(e.program, args, [&](std::span<const Tensor> in) {
      Host ignored;
      return trace(in, ignored);
    }));
  } else if (dispatch::anomaly_mode()) [[unlikely]] {
    give(e.program.executor->run_observed(args, check_finite));
  } else {
    result.tensors.resize(e.program.executor->num_results());
    e.program.executor->run(args, result.tensors);
  }
  if (e.refusal) {
    for (std::size_t i = 0; i < result.tensors.size(); ++i) {
      if (e.results_want_grad[i]) hooks::adopt_refusal(e.refusal, result.tensors[i]);
    }
  }
  result.prototype = e.prototype;
}

// --------------------------------------------------------------------------------- reporting

std::vector<LedgerEntry> CompiledFunction::ledger() const {
  const std::lock_guard lock(mutex_);
  return ledger_;
}

int CompiledFunction::size() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(entries_.size());
}

CompiledFunction::EntryPtr CompiledFunction::newest() const {
  const std::lock_guard lock(mutex_);
  if (!current_) fail("compile", "the function has not been called yet");
  return current_;
}

const CompiledProgram& CompiledFunction::program() const {
  return newest()->program;
}

std::uint64_t CompiledFunction::captured_hash() const {
  return newest()->program.captured_hash;
}

std::string CompiledFunction::dump() const {
  return graph::dump(newest()->program.executor->program());
}

std::string CompiledFunction::dump_dot() const {
  return graph::dump_dot(newest()->program.executor->program());
}

void CompiledFunction::clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
  current_ = nullptr;
}

std::string CompiledFunction::explain() const {
  const std::lock_guard lock(mutex_);
  if (!current_) return "not captured yet\n";
  const CompiledProgram& c = current_->program;
  const Executor& ex = *c.executor;
  std::string s = fmt::format("program {:016x}: {} nodes captured, {} launches\n", c.captured_hash,
                              c.captured.nodes.size(), ex.launches());
  s += fmt::format("  {:<15} {:<14} {:>7} {:>7} {:>9} {:>9}\n", "pass", "exactness", "before",
                   "after", "changed", "ms");
  for (const auto& r : c.passes) {
    s += fmt::format("  {:<15} {:<14} {:>7} {:>7} {:>9} {:>9.3f}  {}\n", r.name,
                     name_of(r.exactness), r.stats.nodes_before, r.stats.nodes_after,
                     r.stats.changed, r.stats.ms, r.stats.detail);
  }
  for (const auto& name : options_.without) s += fmt::format("  {:<15} switched off\n", name);
  if (ex.planned()) {
    const MemoryPlan& m = ex.memory_plan();
    const double bound = static_cast<double>(std::max<std::size_t>(m.lower_bound, 1));
    s += fmt::format(
        "memory plan: arena {} bytes, {:.3f}x the live-set bound of {}; without "
        "sharing {}\n",
        m.arena, static_cast<double>(m.arena) / bound, m.lower_bound, m.unplanned);
  } else {
    s += "memory plan: off (buffers from the allocator)\n";
  }
  const LaunchRecorder& rec = ex.recorder();
  if (!rec.usable() || !options_.device_graph || !ex.planned()) {
    s += fmt::format(
        "device graph: none ({})\n",
        !rec.usable() ? rec.why_not() : (ex.planned() ? "switched off" : "needs the memory plan"));
  } else {
    s +=
        fmt::format("device graph: {} recorded, {} given new pointers, {} replayed; {} streams\n",
                    rec.stats().recorded, rec.stats().updated, rec.stats().replayed, rec.streams());
  }
  s += fmt::format("captures ({} kept, at most {}):\n", entries_.size(), options_.max_signatures);
  for (const auto& l : ledger_) {
    s += fmt::format(
        "  {}: {} nodes -> {} launches, capture {:.2f} ms, compile {:.2f} ms, arena {} "
        "bytes\n",
        l.reason, l.nodes_captured, l.launches, l.capture_ms, l.compile_ms, l.arena_bytes);
  }
  return s;
}

}  // namespace tandem::graph
