// A program's launches as device graphs: recorded once for each set of addresses, then replayed
// with one call.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "graph/streams.h"

namespace tandem::graph {

/// One launch, with where its pointers stand in the executor's table.
struct RecordedStep {
  const PreparedOp* call;
  std::size_t in, out;  // first input, first output; the workspace comes after the outputs
};

/// A program's launches, recorded by the device at the second run and replayed with one call from
/// then on.
class LaunchRecorder {
 public:
  struct Stats {
    std::uint64_t recorded = 0;  // graphs made ready
    std::uint64_t updated = 0;   // graphs given new pointers
    std::uint64_t replayed = 0;
    double ms = 0;  // spent on recording, making ready and updating
  };

  /// `why_not` says why there is none, if so: the device has no graphs, or what was tried could not
  /// be recorded.
  LaunchRecorder(Device device, std::vector<RecordedStep> steps);

  bool usable() const { return why_not_.empty(); }
  const std::string& why_not() const { return why_not_; }

  /// Runs the launches with these pointers, after the work in `stream`. `key` are the addresses
  /// that change from run to run: a graph recorded for the same ones is replayed, else the one
  /// unused for longest gets the new pointers. False, with nothing run, if they cannot be recorded.
  bool run(std::span<void* const> pointers, std::span<void* const> key, Stream& stream);

  const Stats& stats() const { return stats_; }
  int streams() const { return schedule_.streams; }

 private:
  struct Recording {
    std::vector<void*> key;
    std::unique_ptr<DeviceGraph> graph;
    std::uint64_t last = 0;  // run
  };
  // A training step alternates between few sets: the result of the step before is still held.
  static constexpr std::size_t kMost = 4;
  static constexpr int kStreams = 4;

  std::unique_ptr<DeviceGraph> record(std::span<void* const> pointers);
  Recording& keep(std::unique_ptr<DeviceGraph> graph, std::span<void* const> key);
  void plan_streams(std::span<void* const> pointers);
  void launch_all(std::span<void* const> pointers);

  Device device_;
  std::vector<RecordedStep> steps_;
  std::string why_not_;
  StreamSchedule schedule_;
  // Recorded on streams that nobody else knows: a capture takes in whatever any thread puts into
  // its stream, and no other thread may wait for it. The first is the one the others start from.
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<std::unique_ptr<Event>> events_;  // of steps that others wait for; null elsewhere
  std::unique_ptr<Event> fork_;
  std::vector<Recording> recordings_;
  std::uint64_t runs_ = 0;
  Stats stats_;
};

}  // namespace tandem::graph
