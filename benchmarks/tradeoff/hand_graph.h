// A step recorded into a device graph by hand: what a careful user of the eager mode does.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "core/backend.h"
#include "graph/compile.h"

namespace tandem::tradeoff {

/// Runs its first step eagerly, records the second and replays it from then on. That is right for a
/// step as those here are, because
/// - its arguments are copied into tensors that stay;
/// - parameters, optimiser slots and generators are written in place, on the device: a replay finds
///   their values of then, random offsets included;
/// - all that the step allocates, its gradients too, is the graph's own and stays with it
///   (Backend::begin_capture);
/// - nothing in it looks at a value, and kernels were made ready in the first step.
/// What else the step read of the host would be frozen, and nothing here would notice: finding that
/// out, or giving up memory between steps, is what compile() does.
class HandGraph {
 public:
  /// `step` must outlive this.
  HandGraph(const graph::TensorFunction& step, Device device);

  /// Results are the same tensors at every replay, with new values.
  std::vector<Tensor> run(std::span<const Tensor> arguments);

  /// Of recording and making ready; the first replay is in it.
  double record_ms() const { return record_ms_; }
  /// The device's memory in use at most while the step was recorded, which stays taken.
  std::size_t peak_bytes() const { return peak_bytes_; }

 private:
  const graph::TensorFunction& step_;
  Device device_;
  std::vector<Tensor> arguments_, results_;
  std::unique_ptr<DeviceGraph> graph_;
  double record_ms_ = 0;
  std::size_t peak_bytes_ = 0;
};

}  // namespace tandem::tradeoff
