#include "core/backend.h"

#include <atomic>
#include <charconv>

namespace tandem {

std::string Device::str() const {
  return is_cpu() ? "cpu" : "cuda:" + std::to_string(index);
}

Device Device::parse(std::string_view s, SrcLoc loc) {
  const ErrorSite at(loc);
  if (s == "cpu") return {};
  if (s == "cuda") return {DeviceType::cuda, 0};
  if (s.starts_with("cuda:")) {
    unsigned i = 0;
    const auto r = std::from_chars(s.data() + 5, s.data() + s.size(), i);
    if (r.ec == std::errc() && r.ptr == s.data() + s.size() && s.size() > 5 && i < 256) {
      return {DeviceType::cuda, static_cast<std::uint8_t>(i)};
    }
  }
  fail<DeviceError>("device", "unknown device", "'" + std::string(s) + "'",
                    "'cpu', 'cuda' or 'cuda:N'");
}

bool has_device(DeviceType type) {
  if (type == DeviceType::cpu) return true;
  Backend* b = cuda_backend();
  return b && b->device_count() > 0;
}

namespace {
std::atomic<bool> devices_in_use{false};
}

bool uses_devices() {
  return devices_in_use.load(std::memory_order_relaxed);
}

Backend& backend(DeviceType type) {
  // Looked up once: this is on the path of every call.
  static Backend* const cpu = cpu_backend();
  if (type == DeviceType::cpu) return *cpu;
  static Backend* const cuda = [] {
    Backend* b = cuda_backend();
    if (b && b->device_count() == 0) b->stream(0);  // throws, and says why there is none
    devices_in_use = b != nullptr;                  // who asked in vain goes on as before
    return b;
  }();
  if (!cuda) {
    fail<DeviceError>("device",
                      fmt::format("this build of Tandem has no CUDA backend ({})", cuda_missing()),
                      "cuda", "cpu");
  }
  return *cuda;
}

}  // namespace tandem
