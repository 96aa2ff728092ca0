// Where a tensor lives.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "core/source.h"

namespace tandem {

/// Where a tensor lies and its ops run.
enum class DeviceType : std::uint8_t { cpu, cuda };

/// A device type and which of them: `cpu`, `cuda:1`.
struct Device {
  DeviceType type = DeviceType::cpu;
  std::uint8_t index = 0;

  bool is_cpu() const { return type == DeviceType::cpu; }
  bool is_cuda() const { return type == DeviceType::cuda; }
  std::string str() const;  // "cpu", "cuda:0"
  /// Parses "cpu", "cuda", "cuda:1". Throws DeviceError.
  static Device parse(std::string_view s, SrcLoc loc = SrcLoc::current());
  friend bool operator==(const Device&, const Device&) = default;
};

/// Host memory.
inline constexpr Device kCPU{};

/// The device new tensors are created on when none is named (per thread; the CPU at first).
Device default_device();
/// The device need not be there: the first tensor made on it says so (DeviceError).
void set_default_device(Device d);

}  // namespace tandem
