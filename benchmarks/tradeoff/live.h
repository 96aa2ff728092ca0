// One arm of a ladder, alive: a net of its own and how it runs a step.
#pragma once
#include <memory>
#include <vector>

#include "benchmarks/tradeoff/draws.h"
#include "benchmarks/tradeoff/hand_graph.h"
#include "benchmarks/tradeoff/ladder.h"
#include "core/backend.h"
#include "core/function_ref.h"
#include "core/profiler.h"

namespace tandem::tradeoff {

class ActivityProbe;
class HeadStart;

/// Waits for the work in the current stream.
void synchronise(Device d);

class Live {
 public:
  Live(const Workload& w, std::uint64_t seed, const Rung& rung, Device device);

  using Each = FunctionRef<void(int step, const std::vector<Tensor>& results)>;
  /// Runs `n` steps; `each` may look at the results.
  void steps(int n, Each each);
  void steps(int n);

  struct Sample {
    double step_ms = 0;
    double put_in_ms = 0;  // asynchronous devices: until the host has put in a step's work
  };
  /// One step off the clock to bring the arm's own memory into the caches, then `n` timed ones. On
  /// an asynchronous device one more in between, for put_in_ms: the device must have nothing to do
  /// then, or the host might have to wait for it.
  Sample timed(int n);

  struct Instrumented {
    double wall_ms = 0, kernel_ms = 0;
    std::vector<profiler::Event> events;
    std::vector<Tensor> results;
  };
  /// A step whose launches the host times.
  Instrumented instrumented_step();
  /// A step whose launches an asynchronous device times; it lags `lead_ms` behind the host at
  /// first.
  Instrumented instrumented_step(const HeadStart& head_start, double lead_ms);
  /// `n` steps of which the device says what it ran, if it can: per step, into `arm`.
  bool ask_device(int n, ActivityProbe& probe, Arm& arm);

  /// Counts what one step asks for.
  void counted_step(Arm& arm, Each each);

  const StateDict& state() const { return subject_.state; }
  /// Null unless the arm is a compiled one.
  const graph::CompiledProgram* program() const;
  /// What device graphs cost so far.
  double record_ms() const;

 private:
  std::vector<Tensor> step();

  Device device_;
  Draws draws_;
  Allocator* allocator_;
  std::size_t before_;
  const std::vector<std::vector<Tensor>>& batches_;
  Subject subject_;
  std::unique_ptr<graph::CompiledFunction> compiled_;
  std::unique_ptr<HandGraph> by_hand_;
  std::vector<const Tensor*> args_;
  int next_ = 0;
};

}  // namespace tandem::tradeoff
