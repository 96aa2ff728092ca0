// What a device itself says it did, where it can say so.
#pragma once
#include <cstdint>
#include <vector>

namespace tandem {

/// One kernel, copy or fill: from when to when, in nanoseconds of a clock of the device's. Those of
/// several streams may overlap.
struct Activity {
  std::uint64_t start_ns, end_ns;
};

/// Has the device note everything it runs, also inside of graphs. Slows launches down while it
/// does, and on some systems a little for the rest of the process; until start() it costs nothing.
class ActivityRecorder {
 public:
  virtual ~ActivityRecorder() = default;
  /// Throws DeviceError, naming the reason, where the system does not allow it.
  virtual void start() = 0;
  /// What ran since start(). The work must be over: synchronize its streams before. Throws
  /// DeviceError if records were lost.
  virtual std::vector<Activity> stop() = 0;
};

}  // namespace tandem
