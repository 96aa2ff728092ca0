// Counters every launch passes, and an optional record of each launch.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/op.h"

namespace tandem {
class DeviceGraph;
}

namespace tandem::profiler {

/// Launches by this thread, in either mode: of kernels, and of recorded graphs (one, whatever is in
/// it). Views launch nothing.
std::uint64_t launches();

/// One launch.
struct Event {
  const char* op;  // "graph": a recorded one
  std::string kernel;
  std::int64_t start_ns, end_ns;  // of the steady clock, or after start_on_device()
};

/// Between start() and stop() every launch of this thread is timed (and made slower by that): by
/// the host, which waits for each.
void start();
/// The same by the device, with events before and after each launch on it, for which only stop()
/// waits. Times are good as long as the device lags behind the host: else the wait for the host is
/// in them.
void start_on_device(Device device);
std::vector<Event> stop();
bool recording();

/// Launches a plan, counting it and, while recording, timing it.
void launch(const PreparedOp& op, const LaunchArgs& args);
/// The same for a graph recorded on `device`.
void launch(DeviceGraph& graph, Device device, Stream& stream);

}  // namespace tandem::profiler
