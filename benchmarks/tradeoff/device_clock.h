// Times on a device that runs behind the host: launches return before their work is done.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/activity.h"
#include "core/tensor.h"

namespace tandem::tradeoff {

/// Milliseconds in which at least one of these ran.
double busy_ms(std::vector<Activity> activities);

/// Makes a device lag behind the host, so that what is put in next runs without waiting for the
/// host. Only then do events around a launch measure the launch and not the host's pace.
class HeadStart {
 public:
  explicit HeadStart(Device device);
  /// Puts about `ms` of work into the current stream, less if that took too many launches.
  void put(double ms) const;
  /// Nanoseconds between two events with nothing in between.
  double event_ns() const { return event_ns_; }

 private:
  void launch() const;

  Device device_;
  Tensor work_;
  double launch_ms_ = 0, event_ns_ = 0;
};

/// Asks the device what it ran, if it can say.
class ActivityProbe {
 public:
  /// Null: there is nothing to ask.
  explicit ActivityProbe(ActivityRecorder* recorder);
  struct Busy {
    double busy_ms;    // some kernel ran
    double kernel_ms;  // the sum over kernels
    std::size_t kernels;
  };
  /// Runs `work`, which must be over when it returns; nothing if the device cannot say what that
  /// was, and from then on it is not asked again.
  std::optional<Busy> during(const std::function<void()>& work);
  /// Why it cannot, or "".
  const std::string& why_not() const { return why_not_; }

 private:
  ActivityRecorder* recorder_;
  std::string why_not_;
};

}  // namespace tandem::tradeoff
