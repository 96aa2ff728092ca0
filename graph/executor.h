// Runs a program: a flat list of launches with their pointers. Nothing is looked up, no shape is
// looked at, and with a memory plan nothing but the results is allocated.
#pragma once
#include <functional>
#include <memory>
#include <mutex>

#include "core/block_pool.h"
#include "graph/memory_plan.h"
#include "graph/program.h"
#include "graph/recorder.h"

namespace tandem::graph {

/// Options of an Executor.
struct ExecutorOptions {
  /// One arena laid out beforehand. Off: each buffer is taken from the allocator when it is first
  /// written and given back after its last use, as eager does.
  bool memory_plan = true;
  /// On devices that have graphs, record the launches and replay them with one call. Needs the
  /// memory plan.
  bool device_graph = true;
};

/// A program ready to run: memory planned, kernels bound. Threads take turns.
class Executor {
 public:
  Executor(Program program, const ExecutorOptions& options);
  ~Executor();

  /// Arguments must match the program's inputs. Results in order, one for each place of `results`
  /// (num_results() of them); gradient slots are written. Makes no heap allocation of its own: only
  /// results are new, and their memory comes from the caching allocator.
  void run(std::span<const Tensor* const> args, std::span<Tensor> results);
  std::vector<Tensor> run(std::span<const Tensor* const> args);
  std::size_t num_results() const { return results_.size(); }

  /// Called after each node with the tensors it made (borrowed memory: gone with the next node).
  using Observer = std::function<void(const Node&, std::span<const Tensor> outputs)>;
  std::vector<Tensor> run_observed(std::span<const Tensor* const> args, const Observer& observe);

  const Program& program() const { return program_; }
  const MemoryPlan& memory_plan() const { return plan_; }
  bool planned() const { return options_.memory_plan; }
  std::size_t launches() const { return steps_.size(); }
  /// Recordings made for device graphs.
  const LaunchRecorder& recorder() const { return *recorder_; }
  /// Why runs do not go through device graphs; "" if they do.
  std::string no_device_graph() const;
  std::size_t arena_bytes() const { return options_.memory_plan ? plan_.arena : 0; }

 private:
  // A place in `pointers_` that follows a buffer whose address changes from run to run.
  struct Patch {
    std::size_t at;
    std::int64_t offset;
  };
  struct Moving {
    void* address = nullptr;  // last seen
    std::vector<Patch> patches;
  };
  struct Step {
    const PreparedOp* call;
    std::size_t in, out;  // indices into pointers_
    const Node* node;
  };
  // A buffer allocated while the program runs: a result, or anything when there is no plan.
  struct Dynamic {
    std::size_t moving;
    std::size_t bytes;
    int first, last;
    bool result;
    // Of a result where launches are recorded, so that addresses recur and with them recordings.
    std::shared_ptr<BlockPool> blocks = {};
  };
  static constexpr std::size_t kMostBlocks = 4;
  struct Result {
    TensorDesc desc;
    std::size_t storage;  // index into the run's storages
    std::int64_t offset;
  };

  void build();
  void bind(std::size_t moving, void* address);
  void launch_all(std::size_t first_dynamic, Stream& stream, const Observer* observe);
  void take(std::size_t first_dynamic, std::size_t d);
  void run_locked(std::span<const Tensor* const> args, std::span<Tensor> results,
                  const Observer* observe);
  Tensor make_result(const Result& r, std::span<const RefPtr<Storage>> storages) const;

  Program program_;
  ExecutorOptions options_;
  MemoryPlan plan_;
  RefPtr<Storage> arena_;
  Device device_;
  std::vector<void*> pointers_;
  std::vector<Step> steps_;
  std::unique_ptr<LaunchRecorder> recorder_;
  bool record_ = false;  // whether runs go through it
  // The last run and its stream (only compared): arena and recordings are used by one run at a time
  // on the device as well. Null on the CPU, whose runs are over when they return.
  std::unique_ptr<Event> ran_;
  const Stream* ran_in_ = nullptr;
  std::uint64_t runs_ = 0;
  std::vector<void*> key_;  // addresses of the moving buffers, for the recorder
  std::vector<Moving> moving_;
  std::vector<Dynamic> dynamic_;
  std::vector<std::size_t> input_moving_;      // of each argument
  std::vector<std::size_t> grad_read_moving_;  // of each gradient read
  std::vector<Result> results_;
  std::vector<Result> grad_results_;
  std::vector<std::size_t> unread_slots_;    // gradient writes whose old gradient is not read
  std::vector<std::size_t> written_inputs_;  // arguments and gradient reads it writes
  std::vector<RefPtr<Storage>> storages_;    // of the run in progress; executor.cpp says which
  std::vector<std::vector<std::size_t>> start_, stop_;             // dynamic buffers, by step
  std::vector<std::pair<Storage*, std::int32_t>> written_states_;  // and the node that wrote last
  mutable std::mutex mutex_;
};

}  // namespace tandem::graph
