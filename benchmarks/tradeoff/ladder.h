// The experiment: one training step, run eagerly and by compiled programs that differ in one factor
// at a time, so that the difference between the modes can be said to come from something.
//
//   eager -> capture & replay -> + memory plan -> + each pass -> all on, and all on without each
//
// On a device with graphs of launches the last factor is + device graph, and an arm beside the
// ladder is the eager step recorded into such a graph by hand.
//
// The arms run on their own copies of the same net, are shown to compute the same bits before any
// time is taken, and are timed in turn (A B C … in a new random order every round).
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/compile.h"
#include "nn/module.h"

namespace tandem::tradeoff {

/// What is on in an arm.
struct Setting {
  bool compiled = false;
  bool memory_plan = false;
  std::vector<std::string> passes = {};
  bool device_graph = false;

  graph::CompileOptions options() const;
  /// Whether what is computed must be what eager computes, bit for bit.
  bool exact() const;
  friend bool operator==(const Setting&, const Setting&) = default;
};

/// One program of the experiment: what is on in it, and what it is there to show.
struct Rung {
  enum class Kind : std::uint8_t {
    eager,
    control,    // eager a second time: what it differs from the first by is noise
    by_hand,    // eager, its launches recorded by hand into one device graph
    step,       // one more factor than the rung before
    leave_out,  // all on without one factor
  };
  Kind kind;
  std::string name;     // "+ fuse"
  std::string factor;   // "fuse": what was added or left out
  std::string meaning;  // in words
  Setting setting;
};

/// The arms for these passes, in order: eager, the control, the ladder, the leave-outs. Passes that
/// are not exact take part only if `inexact`, and come last. With `device_graphs` the arm by hand
/// comes before the ladder, and the ladder ends with the device graph. The last `step` rung is all
/// on.
std::vector<Rung> make_rungs(std::span<const graph::Pass> passes, bool inexact = false,
                             bool leave_out = true, bool device_graphs = false);

/// One training step ready to run, with all that it changes.
struct Subject {
  graph::TensorFunction step;
  StateDict state;  // parameters, buffers, optimiser slots
};

/// What is measured: a training step and its data. `make` must start equal every time.
struct Workload {
  std::string name;
  /// Called with the default generator freshly seeded: equal values every time.
  std::function<Subject()> make;
  /// Arguments of step 0, 1, …, then from the start again.
  std::vector<std::vector<Tensor>> batches;
};

/// How the experiment is run.
struct LadderOptions {
  std::uint64_t seed = 0;
  int verify_steps = 5;        // at least 2
  int instrumented_steps = 5;  // with the profiler on
  double seconds = 40;         // of timing
  int steps = 0;               // timed steps per arm; 0: what fits into `seconds`
  int least_rounds = 7, most_rounds = 200;
  bool inexact = false;  // also passes that may change bits
  bool leave_out = true;

  // Called while it runs.
  std::function<void(const struct LadderResult&)> on_forecast = {};  // eager has been profiled
  std::function<void(const std::string& what, double part)> on_progress = {};
  std::function<bool()> stop = {};  // true: time no more rounds
};

/// One kind of kernel in the instrumented eager step.
struct KernelTime {
  std::string op;
  bool elementwise = false;
  double calls = 0, ms = 0;  // per step
};

/// One rung as it was run, with its measurements. Times in ms, memory in bytes.
struct Arm {
  Rung rung;
  /// Index of the arm whose program this one turned out to be equal to: its times stand for both.
  std::optional<std::size_t> same_as;
  std::vector<double> step_ms;  // one sample per round

  // Of the instrumented steps (medians): inside kernels (their sum), and all the rest of the step.
  // On an asynchronous device host_ms is instead the time until the host has put in a step's work,
  // from one sample per round.
  double kernel_ms = 0, host_ms = 0;
  // Asynchronous devices: the time in which at least one kernel runs.
  double busy_ms = 0;
  double kernels_run = 0;         // copies and fills included; 0: not known
  std::vector<double> put_in_ms;  // the samples of host_ms
  // Per step.
  double launches = 0, allocations = 0, system_allocations = 0;
  // Bytes: held between steps (parameters, gradients, slots, arena), and at most during one.
  std::size_t held_bytes = 0, peak_bytes = 0;
  // Compiled arms.
  double capture_ms = 0, compile_ms = 0;
  double record_ms = 0;  // device graphs: recording them and making them ready
  int nodes = 0;
  std::size_t arena_bytes = 0, arena_bound = 0;
  std::vector<graph::PassReport> passes;

  /// Whether there is something to be paid back.
  bool compiles() const { return rung.setting.compiled || rung.kind == Rung::Kind::by_hand; }
  double cost_ms() const { return capture_ms + compile_ms + record_ms; }
};

/// Where busy_ms comes from.
enum class BusyFrom : std::uint8_t {
  none,      // the CPU, whose launches are over when they return
  events,    // points in the stream before and after each launch (or graph)
  activity,  // the device's own records of what it ran
};

/// All arms of one experiment.
struct LadderResult {
  std::string workload;
  LadderOptions options;
  std::vector<Arm> arms;
  std::vector<KernelTime> eager_kernels;  // largest first
  double profiler_ns = 0;                 // what timing a launch adds to the step
  // Launches return before their work is done.
  bool asynchronous = false;
  BusyFrom busy_from = BusyFrom::none;
  std::vector<std::string> notes;  // what could not be measured, and why
  // Asynchronous devices: eager's step, host and busy time as known before anything was compiled.
  struct Profile {
    double step_ms = 0, host_ms = 0, busy_ms = 0;
  } profile;
  // Everything on, with an empty plan cache: kernels are chosen and made ready as well.
  double cold_capture_ms = 0, cold_compile_ms = 0;
  int checked_steps = 0;     // over which all arms agreed before any was timed
  int rounds = 0;            // timed
  int steps_per_sample = 0;  // timed steps in a sample
  bool stopped = false;      // before the rounds wanted were done

  const Arm& eager() const { return arms.at(0); }
  /// The samples that stand for an arm.
  const std::vector<double>& samples(std::size_t arm) const;
  std::size_t first_replay() const;  // the bare capture & replay
  std::size_t all_on() const;
  std::optional<std::size_t> by_hand() const;
};

/// Runs the experiment. Throws InternalError naming the arm, step and tensor where an arm computes
/// something else than eager (arms with inexact passes are not compared), ValueError when there is
/// not enough memory for all arms side by side.
LadderResult run_ladder(const Workload& workload, const LadderOptions& options);

}  // namespace tandem::tradeoff
