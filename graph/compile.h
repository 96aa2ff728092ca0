// compile(): the same function, captured at its first call and replayed afterwards.
#pragma once
#include <any>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <typeinfo>
#include <vector>

#include "core/clock.h"
#include "core/function_ref.h"
#include "core/inline_array.h"
#include "graph/compiled_program.h"
#include "graph/signature.h"
#include "graph/tree.h"

namespace tandem::graph {

/// A function of tensors in its general form: what compile() wraps.
using TensorFunction = std::function<std::vector<Tensor>(std::span<const Tensor>)>;

/// A function with its captured programs, one for each signature it was called with.
class CompiledFunction {
 public:
  explicit CompiledFunction(CompileOptions options = {});
  ~CompiledFunction();

  using Statics = graph::Statics;
  /// What a run of the function gives beside tensors.
  struct Host {
    std::any prototype;            // the result with its tensors left out
    std::string text;              // its other parts spelled; must be the same at every capture
    std::vector<Subject> reads;    // of what is watched, what the function is known to read
    std::vector<Subject> changed;  // and what changed meanwhile
    std::string
        costly;  // for `trace`: what makes it run again and again, to be told before it does
  };
  struct Result {
    InlineArray<Tensor, 4> tensors;
    std::shared_ptr<const std::any> prototype;  // what `trace` left there at capture
    std::size_t launches = 0;                   // of kernels
  };
  /// Replays the program for these arguments, capturing it first if there is none. `statics`
  /// spells everything else the program is specialised on. `trace` runs the function; what it
  /// stores in its second argument is kept with the program.
  using Trace = FunctionRef<std::vector<Tensor>(std::span<const Tensor>, Host&)>;
  void call(std::span<const Tensor* const> args, const Statics& statics, Trace trace,
            Result& result);

  /// The last captures (at most 64), newest last.
  std::vector<LedgerEntry> ledger() const;
  int size() const;
  /// The program of the most recent call, until the function captures again or is cleared. Throws
  /// ValueError before the first.
  const CompiledProgram& program() const;
  /// What the passes did to that program, and its hash as it was captured.
  std::vector<PassReport> passes() const;
  std::uint64_t captured_hash() const;
  /// Passes, memory plan, launches and the ledger, for people.
  std::string explain() const;
  std::string dump() const;
  std::string dump_dot() const;
  /// For benchmarks: microseconds from the end of each replay to the start of the next, since this
  /// was last asked. The first call turns this on and gives nothing.
  std::vector<double> gaps();
  /// Forgets the programs. A call in progress, also one that calls this, finishes with its own.
  void clear();

 private:
  struct Entry;
  using EntryPtr = std::shared_ptr<Entry>;
  EntryPtr find_or_capture(std::span<const Tensor* const> args, const Statics& statics,
                           Trace trace);
  void note_gap();
  /// What the last call used; throws ValueError if there is nothing.
  EntryPtr newest() const;
  EntryPtr capture(std::span<const Tensor* const> args, const Statics& statics, Trace trace,
                   std::string reason);

  CompileOptions options_;
  // Shared: the function that is being traced may clear or extend them.
  std::vector<EntryPtr> entries_;
  EntryPtr current_;
  std::uint64_t uses_ = 0;
  std::vector<LedgerEntry> ledger_;
  std::uint64_t captures_ = 0;
  static constexpr std::size_t kMostGaps = 1 << 16;
  bool notes_gaps_ = false;
  std::vector<double> gaps_;
  Clock::time_point left_;
  mutable std::recursive_mutex mutex_;
};

/// A compiled C++ function. Copies share the captured programs.
template <class F>
class Compiled {
 public:
  Compiled(F f, CompileOptions options)
      : f_(std::make_shared<F>(std::move(f))),
        core_(std::make_shared<CompiledFunction>(std::move(options))) {}

  template <class... A>
  auto operator()(A&&... args) {
    static_assert(std::is_invocable_v<F&, const std::remove_cvref_t<A>&...>,
                  "a compiled function takes its arguments by value or by const reference: what it "
                  "assigned to a reference would be lost at replay");
    using R = std::invoke_result_t<F&, const std::remove_cvref_t<A>&...>;
    auto pack = std::forward_as_tuple(args...);
    // Tensors are counted first: replay makes no heap allocation.
    std::size_t n = 0;
    visit_tree(
        pack, [&](const Tensor&) { ++n; }, [](const std::string&) {});
    InlineArray<const Tensor*, 8> tensors(n);
    n = 0;
    std::string values;
    const auto on_static = [&](const std::string& s) { values += s + ";"; };
    visit_tree(
        pack, [&](const Tensor& t) { tensors[n++] = &t; }, on_static);
    const CompiledFunction::Statics statics{.type = &typeid(std::tuple<std::remove_cvref_t<A>...>),
                                            .text = values};

    const auto trace = [&](std::span<const Tensor> in, CompiledFunction::Host& host) {
      std::tuple<std::remove_cvref_t<A>...> mine(args...);
      std::size_t i = 0;
      visit_tree(
          mine, [&](Tensor& t) { t = in[i++]; }, [](const std::string&) {});
      std::vector<Tensor> out;
      if constexpr (std::is_void_v<R>) {
        std::apply(*f_, std::as_const(mine));
      } else {
        auto r = std::apply(*f_, std::as_const(mine));
        visit_tree(
            r,
            [&](Tensor& t) {
              out.push_back(t);
              t = Tensor();
            },
            [&](const std::string& s) { host.text += s + ";"; });
        host.prototype = std::move(r);
      }
      return out;
    };
    CompiledFunction::Result result;
    core_->call(tensors, statics, trace, result);
    if constexpr (!std::is_void_v<R>) {
      auto r = std::any_cast<const std::remove_cvref_t<R>&>(*result.prototype);
      std::size_t i = 0;
      visit_tree(
          r, [&](Tensor& t) { t = std::move(result.tensors[i++]); }, [](const std::string&) {});
      return r;
    }
  }

  CompiledFunction& core() { return *core_; }
  std::string explain() const { return core_->explain(); }
  std::string dump() const { return core_->dump(); }
  std::string dump_dot() const { return core_->dump_dot(); }

 private:
  std::shared_ptr<F> f_;
  std::shared_ptr<CompiledFunction> core_;
};

}  // namespace tandem::graph

namespace tandem {

using graph::CompileOptions;

/// The same function, compiled: captured at its first call for each signature (shapes, dtypes,
/// layouts, devices, static arguments, policy, tape on or off, and the host values it read through
/// Guarded), replayed afterwards, equal to the eager one bit for bit.
/// The function is run (to record, not to compute) at each capture, twice with check_capture.
template <class F>
graph::Compiled<std::decay_t<F>> compile(F&& f, CompileOptions options = {}) {
  return {std::forward<F>(f), std::move(options)};
}

}  // namespace tandem
