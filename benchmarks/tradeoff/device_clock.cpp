#include "benchmarks/tradeoff/device_clock.h"

#include <algorithm>
#include <cmath>

#include "benchmarks/tradeoff/stats.h"
#include "core/backend.h"
#include "core/dispatch.h"
#include "ops/ops.h"

namespace tandem::tradeoff {

double busy_ms(std::vector<Activity> activities) {
  std::sort(activities.begin(), activities.end(),
            [](const Activity& a, const Activity& b) { return a.start_ns < b.start_ns; });
  std::uint64_t sum = 0, until = 0;
  for (const Activity& a : activities) {
    if (a.end_ns <= until) continue;
    sum += a.end_ns - std::max(a.start_ns, until);
    until = a.end_ns;
  }
  return static_cast<double>(sum) / 1e6;
}

// ------------------------------------------------------------------------------- head start

HeadStart::HeadStart(Device device) : device_(device) {
  Backend& b = backend(device);
  Stream& stream = b.stream(device.index);
  const auto begin = b.make_event(device.index), end = b.make_event(device.index);
  // Launches that take the device much longer than they take the host.
  constexpr double kEnoughMs = 0.05;
  constexpr std::int64_t kMost = std::int64_t{1} << 26;
  for (std::int64_t n = std::int64_t{1} << 14; n <= kMost; n *= 4) {
    constexpr int kLaunches = 4;
    work_ = zeros({n}, {.device = device});
    launch();  // makes ready what is made ready on first use
    begin->record(stream);
    for (int i = 0; i < kLaunches; ++i) launch();
    end->record(stream);
    launch_ms_ = end->milliseconds_since(*begin) / kLaunches;
    if (launch_ms_ >= kEnoughMs) break;
  }
  std::vector<double> ns;
  for (int i = 0; i < 9; ++i) {
    put(2 * kEnoughMs);
    begin->record(stream);
    end->record(stream);
    ns.push_back(end->milliseconds_since(*begin) * 1e6);
  }
  event_ns_ = median(ns);
}

void HeadStart::launch() const {
  const NoGrad off;
  Tensor(work_).add_(1);
}

void HeadStart::put(double ms) const {
  // A stream takes about a thousand launches before the host has to wait.
  constexpr double kMost = 256;
  const double n = std::clamp(std::ceil(ms / launch_ms_), 1.0, kMost);
  for (int i = 0; i < static_cast<int>(n); ++i) launch();
}

// ------------------------------------------------------------------------------- activity

ActivityProbe::ActivityProbe(ActivityRecorder* recorder) : recorder_(recorder) {
  if (!recorder_) why_not_ = "this build cannot ask the device what it ran (no CUPTI)";
}

std::optional<ActivityProbe::Busy> ActivityProbe::during(const std::function<void()>& work) {
  const auto ask = [&](const auto& f) {
    if (!why_not_.empty()) return;
    try {
      f();
    } catch (const DeviceError& e) {
      why_not_ = e.what();
    }
  };
  std::vector<Activity> ran;
  ask([&] { recorder_->start(); });
  work();
  ask([&] { ran = recorder_->stop(); });
  if (!why_not_.empty()) return std::nullopt;
  double sum = 0;
  for (const Activity& a : ran) sum += static_cast<double>(a.end_ns - a.start_ns) / 1e6;
  const std::size_t kernels = ran.size();
  return Busy{busy_ms(std::move(ran)), sum, kernels};
}

}  // namespace tandem::tradeoff
