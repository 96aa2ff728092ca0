#include "benchmarks/tradeoff/hand_graph.h"

#include <chrono>

#include "core/profiler.h"
#include "ops/ops.h"

namespace tandem::tradeoff {

HandGraph::HandGraph(const graph::TensorFunction& step, Device device)
    : step_(step), device_(device) {}

std::vector<Tensor> HandGraph::run(std::span<const Tensor> arguments) {
  const bool first = arguments_.empty();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const NoGrad off;
    if (first) {
      arguments_.push_back(arguments[i].clone());
    } else {
      arguments_[i].copy_(arguments[i]);
    }
  }
  if (first) return step_(arguments_);
  Backend& b = backend(device_);
  Stream& stream = b.stream(device_.index);
  if (graph_) {
    profiler::launch(*graph_, device_, stream);
    return results_;
  }
  Allocator& memory = b.allocator(device_.index);
  memory.reset_peak();
  const auto t0 = std::chrono::steady_clock::now();
  graph_ = record_graph(b, stream, [&] { results_ = step_(arguments_); });
  profiler::launch(*graph_, device_, stream);
  record_ms_ =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - t0).count();
  peak_bytes_ = memory.stats().peak;
  return results_;
}

}  // namespace tandem::tradeoff
