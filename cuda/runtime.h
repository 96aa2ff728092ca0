// The CUDA runtime as the rest of this folder sees it: checked calls, streams, and faults (what a
// kernel found wrong with values it was given).
#pragma once
#include <cuda_runtime_api.h>

#include <string_view>

#include "core/backend.h"
#include "core/error.h"
#include "core/source.h"

namespace tandem::cuda {

[[noreturn]] void failed(cudaError_t code, const char* call, std::string_view context);
/// Throws DeviceError with the call, CUDA's name and text for the code, and the device:
/// `check(cudaMalloc(&p, n), "cudaMalloc", "4096 bytes")`.
inline void check(cudaError_t code, const char* call, std::string_view context = {}) {
  if (code != cudaSuccess) [[unlikely]]
    failed(code, call, context);
}

/// Makes `device` current for a scope.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_;
};

// ---------------------------------------------------------------------------------- faults

enum class FaultKind : int { none, index_out_of_range, label_out_of_range };

/// Page-locked host memory that kernels write when they meet a value the op does not allow. A
/// kernel cannot throw: it skips the element, notes the first fault, and the host throws at the
/// next synchronisation, naming the op.
struct Fault {
  int kind;         // FaultKind
  const char* op;   // a host address, never followed by the device
  long long value;  // what was met
  long long limit;  // allowed: 0 <= value < limit
};

// ---------------------------------------------------------------------------------- streams

class CudaStream final : public Stream {
 public:
  /// Not blocking against the legacy default stream; `handle` is taken over (null: makes one).
  explicit CudaStream(int device, cudaStream_t handle = nullptr);
  ~CudaStream() override;
  void synchronize() override;
  /// Throws what kernels noted in fault(), if anything, and clears it. Call after a wait.
  void raise_fault();

  int device() const { return device_; }
  cudaStream_t handle() const { return handle_; }
  Fault* fault() const { return fault_; }

 private:
  int device_;
  cudaStream_t handle_;
  Fault* fault_;
};

inline CudaStream& stream_of(const LaunchArgs& a) {
  return static_cast<CudaStream&>(*a.stream);
}

/// Properties that kernels are chosen by; read once per device.
struct DeviceInfo {
  int multiprocessors, major, minor;
  std::size_t shared_per_block;  // bytes, opted in
  std::size_t l2;                // bytes
};
const DeviceInfo& device_info(int device);

}  // namespace tandem::cuda
