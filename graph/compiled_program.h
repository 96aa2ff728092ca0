// A captured program after its passes, ready to run, and what its runs rely on.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "graph/executor.h"
#include "graph/passes.h"

namespace tandem::graph {

/// Options of compile.
struct CompileOptions {
  /// Passes to leave out, by name (see all_passes()).
  std::vector<std::string> without = {};
  /// Add the passes that are not exact. Off: compiled equals eager bit for bit.
  bool fast = false;
  bool memory_plan = true;
  /// On devices that have graphs (CUDA): record the launches and replay them with one call.
  bool device_graph = true;
  /// Capture twice and compare, and again at calls 4, 8, 16, … and every check_interval calls: a
  /// program that differs read a host value that changed, or a tensor that a variable no longer
  /// names. That is a CaptureError.
  bool check_capture = true;
  /// The most calls that such a change can stay unnoticed, if it lasts until then. (What only runs
  /// of the function itself change, a counter in it, does not move between the checks.) A check
  /// costs about as much as a capture.
  int check_interval = 128;
  /// At every call run eagerly beside, and throw at the first node that differs. Slow.
  bool verify = false;
  /// Signatures kept. One more is a CaptureError: a program that is compiled anew at every call
  /// should say so.
  int max_signatures = 16;
};

/// What one pass did to a program.
struct PassReport {
  std::string name;
  Exactness exactness;
  PassStats stats;
};

/// Why a program was captured, and what that cost.
struct LedgerEntry {
  std::uint64_t number = 0;  // captures of the function before this one
  std::string reason;
  double capture_ms = 0;  // tracing (both times, when captures are compared)
  double compile_ms = 0;  // passes, plans, memory plan
  int nodes_captured = 0, launches = 0;
  std::size_t arena_bytes = 0;
  /// Why the launches are not recorded as a device graph; "" if they are. Of a program that is
  /// gone: as far as was known when it was compiled.
  std::string no_device_graph;
  /// How often the function was recorded again because something changed, to find the same program,
  /// what that cost together, and what had changed the last time.
  int confirmed = 0;
  double confirm_ms = 0;
  std::string last_change;
};

/// What the results of a program have for a history: none that is known.
class ResultHistory {
 public:
  ResultHistory() = default;
  /// One flag for each result.
  explicit ResultHistory(std::vector<std::uint8_t> wants_grad);
  /// To the results of a run. A backward pass that reaches one throws AutogradError.
  void give(std::span<Tensor> results) const;

 private:
  std::vector<std::uint8_t> wants_grad_;
  RefPtr<RefCounted> refusal_;
};

/// One captured program, for one signature.
struct CompiledProgram {
  std::unique_ptr<Executor> executor;
  Program captured;  // before the passes
  std::uint64_t captured_hash = 0;
  std::vector<PassReport> passes;
  LedgerEntry ledger;
  ResultHistory history;

  /// Why the host values and gradients the program found are not there any more, or "".
  std::string out_of_date() const;
  /// Which tensor of the outside world nobody but the program holds any more, or "".
  std::string dropped() const;
  /// Capture saw each argument as memory of its own, which is wrong only where something is
  /// written. Throws CaptureError then.
  void check_aliases(std::span<const Tensor* const> args) const;

  /// Throws CaptureError where gradients that the program takes would lack a part, because an
  /// argument hangs together with another tensor or has hooks.
  void check_tied(std::span<const Tensor* const> args) const;

  std::vector<std::uint8_t> writes_arg, writes_grad;
  std::vector<const Storage*> states, written_states;
};

/// Runs the passes on a captured program and makes it executable. InternalError naming the pass
/// that left a program the verifier refuses.
CompiledProgram compile_program(Program captured, const CompileOptions& options,
                                std::span<const Pass> passes = all_passes());

}  // namespace tandem::graph
