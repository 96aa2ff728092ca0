// The CUDA runtime as the rest of this folder sees it: checked calls, devices, streams, events,
// and faults (what a kernel found wrong with values it was given).
#pragma once
#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "core/backend.h"
#include "core/error.h"
#include "core/source.h"

namespace tandem::cuda {

class Pool;

[[noreturn]] void failed(cudaError_t code, const char* call, std::string_view context);
/// Throws DeviceError with the call, CUDA's name and text for the code, and the device:
/// `check(cudaMalloc(&p, n), "cudaMalloc", "4096 bytes")`.
inline void check(cudaError_t code, const char* call, std::string_view context = {}) {
  if (code != cudaSuccess) [[unlikely]]
    failed(code, call, context);
}

// ---------------------------------------------------------------------------------- devices

inline constexpr int kMaxDevices = 16;

/// How many devices can be used; 0 when the driver or the devices are missing. Asked once.
int device_count();
/// Throws DeviceError, naming the reason, unless the machine has the device.
void require_device(int device);

namespace detail {
extern constinit thread_local int current_device;  // as this thread last set it; -1: never
void set_device(int device);
}  // namespace detail

/// Makes `device` this thread's current one. Costs nothing if it is.
inline void use_device(int device) {
  if (detail::current_device != device) [[unlikely]]
    detail::set_device(device);
}

/// Makes `device` current for a scope.
class DeviceScope {
 public:
  explicit DeviceScope(int device) : before_(detail::current_device) { use_device(device); }
  ~DeviceScope() {
    if (before_ >= 0) use_device(before_);
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_;
};

/// Properties that kernels are chosen by; read once per device.
struct DeviceInfo {
  int multiprocessors, major, minor;
  std::size_t shared_per_block;  // bytes, opted in
  std::size_t l2;                // bytes
};
const DeviceInfo& device_info(int device);

/// For a scope, calls that may not be made while a stream of this thread is captured: what they
/// make or ask for is none of the graph's business.
class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// ---------------------------------------------------------------------------------- faults

enum class FaultKind : int { none, index_out_of_range, label_out_of_range, count_out_of_range };

/// Page-locked host memory that kernels write when they meet a value the op does not allow. A
/// kernel cannot throw: it skips the element, notes the first fault, and the host throws at the
/// next synchronisation, naming the op. One per device, not per stream: what a graph recorded on
/// one stream notes must be found by whoever waits for the stream it is replayed on.
struct Fault {
  int kind;         // FaultKind; -1 while the rest is being written
  const char* op;   // a host address, never followed by the device
  long long value;  // what was met
  long long limit;  // allowed: 0 <= value < limit
};
/// The device's, made at the first call.
Fault* fault_slot(int device);
/// Throws what kernels noted, if anything, and clears it. Call after a wait.
void raise_fault(int device);

// ---------------------------------------------------------------------------------- streams

class CudaStream final : public Stream {
 public:
  /// Does not block against the legacy default stream.
  explicit CudaStream(int device);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  void synchronize() override;

  int device() const { return device_; }
  cudaStream_t handle() const { return handle_; }
  Fault* fault() const { return fault_; }

  /// Whether what is put in is being recorded into a graph.
  bool capturing = false;
  /// Where the allocator keeps what was freed in this stream's order (cuda/allocator.cpp).
  Pool* pool = nullptr;

 private:
  int device_;
  cudaStream_t handle_ = nullptr;
  Fault* fault_;
};

/// This thread's current stream of a device that exists.
CudaStream& current_stream(int device);
/// Null: the device's default stream, which all threads share. Returns the one before.
CudaStream* set_current_stream(int device, CudaStream* s);

/// The stream of a launch, its device made current.
inline CudaStream& stream_of(const LaunchArgs& a) {
  auto& s = static_cast<CudaStream&>(*a.stream);
  use_device(s.device());
  return s;
}

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(int device);
  ~CudaEvent() override;
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  void record(Stream& stream) override;
  void block(Stream& stream) override;
  void synchronize() override;
  double milliseconds_since(Event& earlier) override;
  /// For destructors: what went wrong is left for those who ask.
  void wait() noexcept { cudaEventSynchronize(handle_); }

 private:
  int device_;
  cudaEvent_t handle_ = nullptr;
};

}  // namespace tandem::cuda
