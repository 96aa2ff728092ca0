// Devices, errors and launches of the emulated runtime. See runtime.h.
#include "cuda/emulation/runtime.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "cuda/emulation/world.h"

namespace tandem::cuda::emulation {

void launch(const Launch& l, std::function<void()> run) {
  const std::lock_guard lock(world().mutex);
  ++call_count;
  const auto refuse = [&](std::string_view why) {
    fail<DeviceError>(
        "emulated launch", fmt::format("{}:{}: {}", l.where.file_name(), l.where.line(), why),
        fmt::format("blocks ({}, {}, {}), threads ({}, {}, {}), {} bytes shared", l.blocks.x,
                    l.blocks.y, l.blocks.z, l.threads.x, l.threads.y, l.threads.z, l.shared));
  };
  const std::uint64_t threads = std::uint64_t{l.threads.x} * l.threads.y * l.threads.z;
  const std::uint64_t blocks = std::uint64_t{l.blocks.x} * l.blocks.y * l.blocks.z;
  if (threads == 0 || threads > 1024 || l.threads.z > 64) refuse("a block has 1 to 1024 threads");
  if (blocks == 0 || l.blocks.x > 0x7fffffff || l.blocks.y > 65535 || l.blocks.z > 65535) {
    refuse("no such grid can be launched");
  }
  if (l.shared > 232448 || (l.shared > 49152 && !world().large_shared.contains(l.kernel))) {
    refuse("more shared memory than allowed (beyond 48 KiB a kernel must be told so)");
  }
  cudaStream_t s = real(l.stream);
  if (s->device != current_device) refuse("the stream is not of the current device");
  put(s, {[l, run = std::move(run)] {
            running_launch = &l;
            struct Reset {
              ~Reset() { running_launch = nullptr; }
            } reset;
            run_kernel(l, run);
          },
          Kind::kernel});
}

}  // namespace tandem::cuda::emulation

using namespace tandem::cuda::emulation;

extern "C" {

// --- devices

cudaError_t cudaGetDeviceCount(int* n) {
  TANDEM_CALL();
  *n = world().devices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  TANDEM_CALL();
  if (device < 0 || device >= world().devices) return result(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  TANDEM_CALL();
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  TANDEM_CALL();
  if (device < 0 || device >= world().devices) return result(cudaErrorInvalidDevice);
  *p = {};
  std::snprintf(p->name, sizeof p->name, "emulated device");
  p->totalGlobalMem = world().memory;
  p->multiProcessorCount = 4;
  p->major = 9;
  p->minor = 0;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->sharedMemPerBlock = 49152;
  p->sharedMemPerBlockOptin = 232448;
  p->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr a, int device) {
  TANDEM_CALL();
  if (device < 0 || device >= world().devices) return result(cudaErrorInvalidDevice);
  switch (a) {
    case cudaDevAttrMultiProcessorCount: *value = 4; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
    case cudaDevAttrL2CacheSize: *value = 1 << 20; break;
    default: return result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  TANDEM_CALL();
  if (refused_by_capture()) return result(cudaErrorStreamCaptureUnsupported);
  drain_device(current_device);
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  TANDEM_CALL();
  *total = world().memory;
  *free = world().memory - std::min(world().memory, world().used[current_device]);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  const cudaError_t e = last_error;
  last_error = cudaSuccess;
  return e;
}
cudaError_t cudaPeekAtLastError() {
  return last_error;
}
const char* cudaGetErrorName(cudaError_t e) {
  switch (e) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorIllegalState: return "cudaErrorIllegalState";
    case cudaErrorGraphExecUpdateFailure: return "cudaErrorGraphExecUpdateFailure";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    default: return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnjoined:
      return "capture was not ended in the same state as it was begun: unjoined work";
    default: return "an error of the emulated runtime";
  }
}

// --- kernels

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute a, int value) {
  TANDEM_CALL();
  if (a == cudaFuncAttributeMaxDynamicSharedMemorySize && value > 232448) {
    return result(cudaErrorInvalidValue);
  }
  world().large_shared.insert(kernel);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const void*, int threads,
                                                          std::size_t) {
  TANDEM_CALL();
  *n = std::max(1, 2048 / std::max(1, threads));
  return cudaSuccess;
}

}  // extern "C"
