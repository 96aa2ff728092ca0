// Counters every launch passes, and an optional record of each launch.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/op.h"

namespace tandem::profiler {

/// Kernel launches by this thread, in either mode. Views launch nothing.
std::uint64_t launches();
void count_launch();

/// One launch: times in nanoseconds of the steady clock.
struct Event {
  const char* op;
  std::string kernel;
  std::int64_t start_ns, end_ns;  // steady clock
};

/// Between start() and stop() every launch of this thread is timed (and made slower by that).
void start();
std::vector<Event> stop();
bool recording();

/// Launches a plan, counting it and, while recording, timing it.
void launch(const PreparedOp& op, const LaunchArgs& args);

}  // namespace tandem::profiler
