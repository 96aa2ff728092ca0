// Random number generators: (seed, offset) in device memory, an ordinary tensor that random ops
// mutate. So capture records it like any other state, and replay goes on where the last call was.
#pragma once
#include "core/tensor.h"

namespace tandem {

/// A stream of random numbers (Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011). Its state is a tensor, so that compiled programs advance it as eager ones
/// do. Copies share it.
class Generator {
 public:
  explicit Generator(std::uint64_t seed, Device device = default_device());
  /// Starts over from `seed`, offset 0. Not allowed inside a capture.
  void seed(std::uint64_t seed);
  /// i64[2]: seed, and the number of Philox blocks (of four words) used so far.
  const Tensor& state() const { return state_; }
  void set_state(std::uint64_t seed, std::uint64_t offset);

 private:
  Tensor state_;
};

/// The device's default generator, shared by all threads. Seed 0 until `manual_seed`.
Generator& default_generator(Device device = default_device());
/// Seeds the default generator of every device.
void manual_seed(std::uint64_t seed);

}  // namespace tandem
