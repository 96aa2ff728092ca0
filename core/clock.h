// Time as it passes for the user.
#pragma once
#include <chrono>

namespace tandem {

using Clock = std::chrono::steady_clock;

/// Milliseconds.
inline double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}
inline double ms_since(Clock::time_point t) {
  return ms_between(t, Clock::now());
}

}  // namespace tandem
