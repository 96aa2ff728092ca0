// Programs that run in turn in one process share the default generator. So that each draws the
// numbers it would draw alone, each takes its own place in the sequence along.
#pragma once
#include <cstdint>

#include "core/generator.h"

namespace tandem::tradeoff {

/// One program's place in the default generator's sequence.
class Draws {
 public:
  explicit Draws(Device device) : device_(device) { pause(); }
  /// From here on the default generator goes on where pause() left it.
  void resume() const { default_generator(device_).set_state(seed_, offset_); }
  void pause() {
    const auto s = default_generator(device_).state().to_vector<std::int64_t>();
    seed_ = static_cast<std::uint64_t>(s[0]);
    offset_ = static_cast<std::uint64_t>(s[1]);
  }

 private:
  Device device_;
  std::uint64_t seed_ = 0, offset_ = 0;
};

}  // namespace tandem::tradeoff
