#include "graph/compile.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "core/backend.h"
#include "core/clock.h"
#include "core/grad_meta.h"
#include "graph/tracer.h"
#include "graph/verify_mode.h"
#include "ops/op_list.h"

namespace tandem::graph {
namespace {

struct Captured {
  Program program;
  CompiledFunction::Host host;
};

Captured trace_once(std::span<const Tensor* const> args, CompiledFunction::Trace trace,
                    std::string costly = {}) {
  RefPtr<Tracer> tracer(new Tracer);
  struct Abandon {
    Tracer& t;
    ~Abandon() { t.abandon(); }
  } abandon{*tracer};
  struct Settings {
    Signature before = Signature::of({}, {});
    ~Settings() { before.restore_settings(); }
  } settings;
  Captured c;
  c.host.costly = std::move(costly);
  std::vector<Tensor> in;
  for (const Tensor* a : args) {
    in.push_back(tracer->input(a->desc()));
    if (a->requires_grad()) in.back().set_requires_grad();
  }
  CaptureScope scope(*tracer);
  std::vector<Tensor> out = trace(in, c.host);
  if (const auto changed = Signature::difference(settings.before, Signature::of({}, {}));
      !changed.empty()) {
    fail<CaptureError>("compile",
                       "the function changes a setting of its thread, which replay would not",
                       changed, "the setting for a scope, or outside of the function");
  }
  std::vector<std::uint8_t> want_grad;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!out[i].defined()) {
      fail<CaptureError>("compile", fmt::format("result {} is an undefined tensor", i));
    }
    want_grad.push_back(out[i].requires_grad());
    // Its history ends with the capture, and must not seem to be something that outlives it.
    if (want_grad.back()) out[i] = out[i].detach();
  }
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (in[i].is_leaf() && in[i].requires_grad() != args[i]->requires_grad()) {
      fail<CaptureError>("compile",
                         fmt::format("the function changed whether argument {} requires a "
                                     "gradient, which replay would not",
                                     i),
                         args[i]->desc().str(),
                         "detach().set_requires_grad() for a leaf of its own");
    }
    if (in[i].requires_grad() && !in[i].is_leaf()) {
      fail<CaptureError>("compile",
                         fmt::format("argument {} was written with a value that wants a gradient: "
                                     "its history would be lost",
                                     i),
                         in[i].desc().str(), "the value as a result");
    }
  }
  c.program = tracer->finish(out);
  c.program.results_want_grad = std::move(want_grad);
  return c;
}

std::string describe(const Program& p, std::size_t n) {
  const Node& node = p.nodes[n];
  return fmt::format("{}({}) at {}", node.op().name, node.call->attrs.str(), str(node.source.loc));
}

// What the hash does not know: which tensors of the outside world it is about.
bool same_outside(const Program& a, const Program& b) {
  const auto same = [](const auto& x, const auto& y, const auto& equal) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(), equal);
  };
  const auto same_leaf = [](const auto& x, const auto& y) { return x.leaf.get() == y.leaf.get(); };
  return same(a.states, b.states,
              [](const State& x, const State& y) {
                // An array of another library is imported by each trace anew.
                return x.offset == y.offset && (x.storage.get() == y.storage.get() ||
                                                x.storage->same_import(*y.storage.get()));
              }) &&
         same(a.grad_reads, b.grad_reads, same_leaf) &&
         same(a.grads_absent, b.grads_absent,
              [](const auto& x, const auto& y) { return x.get() == y.get(); }) &&
         same(a.grad_writes, b.grad_writes,
              [&](const GradWrite& x, const GradWrite& y) {
                return same_leaf(x, y) && (x.value < 0) == (y.value < 0);
              }) &&
         a.results_want_grad == b.results_want_grad;
}

std::string names(std::span<const HostChange> changes) {
  constexpr std::size_t kMost = 4;
  std::string s;
  for (std::size_t i = 0; i < std::min(changes.size(), kMost); ++i) {
    s += (i > 0 ? ", " : "") + changes[i].what;
  }
  if (changes.size() > kMost) s += fmt::format(" and {} more", changes.size() - kMost);
  return s;
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

// No kernel of a compiled program reports a non-finite value by itself.
void check_finite(const Node& node, std::span<const Tensor> made) {
  ReplaySite site;
  site.set(&node.source);
  dispatch::check_finite(*node.call, made);
}

}  // namespace

struct CompiledFunction::Entry {
  Signature signature;
  CompiledProgram program;
  std::shared_ptr<const std::any> prototype;
  std::string host_text;
  std::uint64_t calls = 1;
  std::uint64_t used = 0;  // when, last
  // host_epoch() and what was watched when the program was last known to be right.
  std::uint64_t epoch = 0;
  WatchPtr watched;
  HarmlessChanges harmless;
  bool is_fresh(const Statics& s) {
    if (epoch != host_epoch()) return false;
    if (watched == s.watch) return true;
    if (!(value_of(watched) == value_of(s.watch))) return false;
    watched = s.watch;  // of the two this one will be asked for again
    return true;
  }
  std::vector<HostChange> changes_until(const Statics& s) const {
    std::vector<HostChange> all = host_changes_since(epoch);
    std::ranges::move(changes(value_of(watched), value_of(s.watch)), std::back_inserter(all));
    return all;
  }
  /// Goes on where only such things changed as do no harm.
  bool refresh(const Statics& s) {
    if (is_fresh(s)) return !harmless.is_due(calls);
    const std::uint64_t now = host_epoch();
    if (!harmless.cover(changes_until(s), calls)) return false;
    epoch = now;
    watched = s.watch;
    return true;
  }
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
  const auto t0 = Clock::now();
  Captured c = trace_once(args, trace);
  if (options_.check_capture) {
    Captured second = trace_once(args, trace);
    compare_captures(c.program, c.host.text, second);
    e->harmless.note_own(std::move(second.host.changed));
  }
  const double capture_ms = ms_since(t0);

  e->watched = statics.watch;  // as the trace leaves it
  e->harmless.set_reads(std::move(c.host.reads));
  e->harmless.note_own(std::move(c.host.changed));
  e->host_text = std::move(c.host.text);
  e->prototype = std::make_shared<const std::any>(std::move(c.host.prototype));
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
  // Of the programs for these arguments the one that was right the last time, and why it is not any
  // more, if the function was recorded since.
  const Entry* latest = nullptr;
  std::optional<std::vector<HostChange>> reasons;
  const auto usable = [&](Entry& e, bool fresh) {
    std::string why = e.program.out_of_date();
    if (why.empty()) why = e.program.dropped();
    if (!why.empty() && &e == latest) reasons.emplace();  // this one
    if (why.empty() && !fresh) {
      const std::vector<HostChange> changed = e.changes_until(statics);
      const auto t0 = Clock::now();
      if (!again) {
        now = host_epoch();
        again = trace_once(args, trace, e.harmless.take_costly());
      }
      const std::string what = names(changed);
      if (hash(again->program) == e.program.captured_hash && again->host.text == e.host_text &&
          same_outside(again->program, e.program.captured)) {
        e.epoch = now;
        e.watched = statics.watch;
        e.harmless.set_reads(again->host.reads);
        e.harmless.note_own(again->host.changed);
        // Of another program something may have changed back: it is no harmless change of that one.
        std::vector<HostChange> harmless;
        if (&e == latest || reasons) {
          std::ranges::copy_if(changed, std::back_inserter(harmless), [&](const HostChange& c) {
            return !reasons || std::ranges::none_of(*reasons, [&](const HostChange& r) {
              return r.subject == c.subject && (c.subject != 0 || r.what == c.what);
            });
          });
        }
        e.harmless.note(harmless, e.calls);
        LedgerEntry& l = e.program.ledger;
        ++l.confirmed;
        l.confirm_ms += ms_since(t0);
        if (!changed.empty()) l.last_change = what;
      } else {
        if (&e == latest) {
          reasons = e.harmless.blame(changed);
          for (const EntryPtr& any : entries_) any->harmless.suspect(*reasons);
        }
        why = "changed: " + what;
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
    e->used = ++uses_;
    return e;
  };
  // The function may clear the programs, or be called by another one, while it is traced.
  const EntryPtr last = current_;
  const auto matches = [&](const Entry& e) { return e.signature.matches(args, statics); };
  const bool last_matches = last && matches(*last),
             last_fresh = last_matches && last->refresh(statics);
  if (last_fresh && usable(*last, true)) return used(last);
  // Those that need not be compared first, and among equals the one used last.
  std::vector<std::pair<EntryPtr, bool>> candidates;
  if (last_matches) candidates.emplace_back(last, last_fresh);
  for (const EntryPtr& e : entries_) {
    if (e != last && matches(*e)) candidates.emplace_back(e, e->refresh(statics));
  }
  std::ranges::stable_sort(candidates, std::ranges::greater(),
                           [](const auto& c) { return c.first->used; });
  if (!candidates.empty()) latest = candidates.front().first.get();
  std::ranges::stable_partition(candidates, [](const auto& c) { return c.second; });
  for (const auto& [e, fresh] : candidates) {
    if (!usable(*e, fresh)) continue;
    current_ = e;
    return used(e);
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
    for (std::size_t i = 0, n = 0; i < ledger_.size(); i += n) {
      for (n = 1; i + n < ledger_.size() && ledger_[i + n].reason == ledger_[i].reason;) ++n;
      seen += "\n  " + ledger_[i].reason + (n > 1 ? fmt::format(" ({} times)", n) : "");
    }
    fail<CaptureError>("compile",
                       fmt::format("more than max_signatures = {} different programs were captured",
                                   options_.max_signatures),
                       reason,
                       "stable shapes, values that change as tensors, or a larger max_signatures. "
                       "Captured so far:" +
                           seen);
  }
  EntryPtr e = capture(args, statics, trace, reason);
  // Another thread may have given the same parameters gradients meanwhile.
  if (!e->program.out_of_date().empty()) e = capture(args, statics, trace, std::move(reason));
  // A function that is given new parameters again and again is captured again and again.
  constexpr std::size_t kMostEntries = 64;
  if (ledger_.size() == kMostEntries) ledger_.erase(ledger_.begin());
  e->program.ledger.number = captures_++;
  ledger_.push_back(e->program.ledger);
  entries_.push_back(e);
  current_ = e;
  e->used = ++uses_;
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
  const auto is_symbolic = [](const Tensor* t) { return t->is_symbolic(); };
  if (dispatch::interceptor() || std::any_of(args.begin(), args.end(), is_symbolic)) {
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
  if (notes_gaps_) note_gap();
  const EntryPtr entry = find_or_capture(args, statics, trace);
  Entry& e = *entry;
  e.program.check_aliases(args);
  e.program.check_tied(args);
  if (options_.verify) [[unlikely]] {
    give(verify_against_eager(e.program, args, [&](std::span<const Tensor> in) {
      Host ignored;
      return trace(in, ignored);
    }));
  } else if (dispatch::anomaly_mode()) [[unlikely]] {
    const auto& constants = e.program.executor->program().constants;
    give(
        e.program.executor->run_observed(args, [&](const Node& node, std::span<const Tensor> made) {
          // Values that the user wrote down are nobody's result.
          const bool written_down =
              !node.inputs.empty() &&
              std::any_of(constants.begin(), constants.end(),
                          [&](const Constant& c) { return c.value == node.inputs[0]; }) &&
              &node.op() == &op::copy;
          if (!written_down) check_finite(node, made);
        }));
  } else {
    result.tensors.resize(e.program.executor->num_results());
    e.program.executor->run(args, result.tensors);
  }
  e.program.history.give(result.tensors);
  result.prototype = e.prototype;
  result.launches = e.program.executor->launches();
  if (notes_gaps_) left_ = Clock::now();
}

// --------------------------------------------------------------------------------- reporting

std::vector<LedgerEntry> CompiledFunction::ledger() const {
  const std::lock_guard lock(mutex_);
  std::vector<LedgerEntry> now = ledger_;
  for (const auto& e : entries_) {
    for (LedgerEntry& l : now) {
      if (l.number != e->program.ledger.number) continue;
      l = e->program.ledger;
      l.no_device_graph = e->program.executor->no_device_graph();  // a recording may have failed
    }
  }
  return now;
}

void CompiledFunction::note_gap() {
  const Clock::time_point left = std::exchange(left_, {});  // a call that throws leaves none
  if (left != Clock::time_point() && gaps_.size() < kMostGaps) {
    gaps_.push_back(1e3 * ms_since(left));
  }
}

std::vector<double> CompiledFunction::gaps() {
  const std::lock_guard lock(mutex_);
  notes_gaps_ = true;
  left_ = {};
  std::vector<double> none;
  none.reserve(kMostGaps);  // so that noting one is no more than that
  return std::exchange(gaps_, std::move(none));
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

std::vector<PassReport> CompiledFunction::passes() const {
  const std::lock_guard lock(mutex_);
  return newest()->program.passes;
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
  if (const std::string why = ex.no_device_graph(); !why.empty()) {
    s += fmt::format("device graph: none ({})\n", why);
  } else {
    s +=
        fmt::format("device graph: {} recorded, {} given new pointers, {} replayed; {} streams\n",
                    rec.stats().recorded, rec.stats().updated, rec.stats().replayed, rec.streams());
  }
  s += fmt::format("captures ({} kept, at most {}):\n", entries_.size(), options_.max_signatures);
  for (const auto& l : ledger()) {
    s += fmt::format(
        "  {}: {} nodes -> {} launches, capture {:.2f} ms, compile {:.2f} ms, arena {} bytes, {}\n",
        l.reason, l.nodes_captured, l.launches, l.capture_ms, l.compile_ms, l.arena_bytes,
        l.no_device_graph.empty() ? "device graph" : "no device graph: " + l.no_device_graph);
    if (l.confirmed == 0) continue;
    s += fmt::format(
        "    recorded again and found the same {} times, {:.2f} ms; the last time "
        "after a change of {}\n",
        l.confirmed, l.confirm_ms, l.last_change);
  }
  return s;
}

}  // namespace tandem::graph