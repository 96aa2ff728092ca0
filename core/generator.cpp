#include "core/generator.h"

#include <map>
#include <mutex>

#include "core/backend.h"
#include "core/trace_guard.h"

namespace tandem {

namespace {

void write_state(const Tensor& state, std::uint64_t seed, std::uint64_t offset) {
  const std::uint64_t values[2] = {seed, offset};
  const Device d = state.device();
  backend(d).copy(state.raw_data(), d, values, kCPU, sizeof(values));
}

// Never destroyed: objects with static lifetime may still draw while the program ends.
struct DefaultGenerators {
  std::mutex mutex;
  std::uint64_t seed = 0;
  std::map<std::pair<DeviceType, int>, Generator> by_device;
};
void refuse_capture(std::uint64_t seed, std::uint64_t offset) {
  if (!trace_guards()) return;
  fail<CaptureError>("seed", "a generator cannot be seeded inside a capture",
                     fmt::format("seed {}, offset {}", seed, offset), "seeding before the call");
}

DefaultGenerators& defaults() {
  static auto* g = new DefaultGenerators;
  return *g;
}

}  // namespace

Generator::Generator(std::uint64_t seed, Device device)
    : state_(Tensor::empty({DType::i64, device, {2}})) {
  write_state(state_, seed, 0);
}

void Generator::seed(std::uint64_t seed) {
  set_state(seed, 0);
}

void Generator::set_state(std::uint64_t seed, std::uint64_t offset) {
  refuse_capture(seed, offset);
  write_state(state_, seed, offset);
  state_.impl()->storage->bump_version("seed", SrcLoc::current());
}

Generator& default_generator(Device device) {
  DefaultGenerators& g = defaults();
  const std::lock_guard lock(g.mutex);
  return g.by_device.try_emplace({device.type, device.index}, g.seed, device).first->second;
}

void manual_seed(std::uint64_t seed) {
  DefaultGenerators& g = defaults();
  // Here too: there may be no generator yet that would refuse.
  refuse_capture(seed, 0);
  const std::lock_guard lock(g.mutex);
  for (auto& [device, generator] : g.by_device) generator.seed(seed);
  g.seed = seed;
}

}  // namespace tandem
