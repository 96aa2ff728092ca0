// What a device must offer. cpu/ and cuda/ implement it; nothing else knows they are there.
#pragma once
#include <memory>
#include <string>

#include "core/allocator.h"
#include "core/op.h"

namespace tandem {

/// An ordered queue of work on a device.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void synchronize() = 0;
};

/// A sequence of launches recorded by the device itself and replayed with one call.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual void launch(Stream& stream) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual int device_count() = 0;
  virtual std::string description() = 0;  // for `tandem --version`: libraries and their versions
  virtual Allocator& allocator(int device) = 0;
  virtual Stream& stream(int device) = 0;  // this thread's current stream
  /// Copies between host memory and this device, or within it. Blocks until done.
  virtual void copy(void* dst, Device dst_device, const void* src, Device src_device,
                    std::size_t bytes) = 0;
  virtual PlanFn kernel(std::uint16_t op_id) = 0;

  // Device graphs, where the device has them (`begin_capture` returns false where not).
  virtual bool begin_capture(Stream&) { return false; }
  virtual std::unique_ptr<DeviceGraph> end_capture(Stream&) { return nullptr; }
};

/// Throws DeviceError when this build or this machine lacks the device.
Backend& backend(DeviceType type);
inline Backend& backend(Device d) {
  return backend(d.type);
}
bool has_device(DeviceType type);

// Defined by cpu/ and cuda/ (or cuda/no_cuda.cpp, which returns null).
Backend* cpu_backend();
Backend* cuda_backend();
/// Why this build has no CUDA backend; null when it has one.
const char* cuda_missing();

}  // namespace tandem
