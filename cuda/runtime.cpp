#include "cuda/runtime.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>

#include "cuda/allocator.h"

namespace tandem::cuda {

void failed(cudaError_t code, const char* call, std::string_view context) {
  cudaGetLastError();  // errors that are not sticky must not be found again by the next call
  std::string what(call);
  if (!context.empty()) what += fmt::format(" ({})", context);
  if (detail::current_device >= 0) what += fmt::format(" on cuda:{}", detail::current_device);
  fail<DeviceError>("cuda", what + " failed",
                    fmt::format("{}: {}", cudaGetErrorName(code), cudaGetErrorString(code)));
}

// ---------------------------------------------------------------------------------- devices

namespace detail {
constinit thread_local int current_device = -1;

void set_device(int device) {
  check(cudaSetDevice(device), "cudaSetDevice", fmt::format("device {}", device));
  current_device = device;
}
}  // namespace detail

namespace {

struct Devices {
  int count = 0;
  std::string why_none;
};
const Devices& devices() {
  static const Devices d = [] {
    Devices x;
    const cudaError_t e = cudaGetDeviceCount(&x.count);
    if (e != cudaSuccess) {
      cudaGetLastError();
      x.count = 0;
      x.why_none = fmt::format("{}: {}", cudaGetErrorName(e), cudaGetErrorString(e));
    } else if (x.count == 0) {
      x.why_none = "cudaGetDeviceCount found none";
    }
    x.count = std::min(x.count, kMaxDevices);
    return x;
  }();
  return d;
}

}  // namespace

int device_count() {
  return devices().count;
}

void require_device(int device) {
  const Devices& d = devices();
  if (device >= 0 && device < d.count) return;
  if (d.count == 0) {
    fail<DeviceError>("device", fmt::format("there is no usable GPU ({})", d.why_none),
                      fmt::format("cuda:{}", device), "cpu");
  }
  fail<DeviceError>("device", "no such device", fmt::format("cuda:{}", device),
                    d.count == 1 ? "cuda:0" : fmt::format("cuda:0 to cuda:{}", d.count - 1));
}

const DeviceInfo& device_info(int device) {
  static std::array<std::atomic<const DeviceInfo*>, kMaxDevices> known;
  require_device(device);
  auto& slot = known[static_cast<std::size_t>(device)];
  if (const DeviceInfo* i = slot.load(std::memory_order_acquire)) return *i;
  const auto get = [&](cudaDeviceAttr a) {
    int v = 0;
    check(cudaDeviceGetAttribute(&v, a, device), "cudaDeviceGetAttribute");
    return v;
  };
  auto info = std::make_unique<DeviceInfo>();
  info->multiprocessors = get(cudaDevAttrMultiProcessorCount);
  info->major = get(cudaDevAttrComputeCapabilityMajor);
  info->minor = get(cudaDevAttrComputeCapabilityMinor);
  info->shared_per_block = static_cast<std::size_t>(get(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  info->l2 = static_cast<std::size_t>(get(cudaDevAttrL2CacheSize));
  const DeviceInfo* none = nullptr;
  if (slot.compare_exchange_strong(none, info.get())) return *info.release();
  return *none;
}

// ---------------------------------------------------------------------------------- faults

Fault* fault_slot(int device) {
  static std::array<std::once_flag, kMaxDevices> once;
  static std::array<Fault*, kMaxDevices> slots;
  require_device(device);
  const auto d = static_cast<std::size_t>(device);
  std::call_once(once[d], [&] {
    const DeviceScope scope(device);
    void* p = nullptr;
    check(cudaHostAlloc(&p, sizeof(Fault), cudaHostAllocPortable | cudaHostAllocMapped),
          "cudaHostAlloc", "the fault slot");
    slots[d] = new (p) Fault{};
  });
  return slots[d];
}

void raise_fault(int device) {
  Fault& f = *fault_slot(device);
  const std::atomic_ref<int> kind(f.kind);
  const int found = kind.load(std::memory_order_acquire);
  if (found <= 0) [[likely]]
    return;
  const Fault copy = f;
  kind.store(0, std::memory_order_release);
  const auto kind_found = static_cast<FaultKind>(found);
  const char* what = kind_found == FaultKind::label_out_of_range   ? "label"
                     : kind_found == FaultKind::count_out_of_range ? "step count"
                                                                   : "index";
  // Not through `fail`: what happens to be running now is not what went wrong.
  const std::string message =
      tandem::detail::error_message(copy.op, fmt::format("{} must be in [0, {})", what, copy.limit),
                                    fmt::format("{}", copy.value), {});
  if (kind_found == FaultKind::count_out_of_range) throw ValueError(message);
  throw IndexError(message);
}

// ---------------------------------------------------------------------------------- streams

namespace {
constinit thread_local std::array<CudaStream*, kMaxDevices> current{};
}

CudaStream::CudaStream(int device) : device_(device), fault_(fault_slot(device)) {
  const DeviceScope scope(device);
  check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

CudaStream::~CudaStream() {
  CudaStream*& mine = current[static_cast<std::size_t>(device_)];
  if (mine == this) mine = nullptr;
  // Whatever went wrong is reported by those who wait, not by a destructor.
  const DeviceScope scope(device_);
  cudaStreamSynchronize(handle_);
  release_pool(*this);
  cudaStreamDestroy(handle_);
}

void CudaStream::synchronize() {
  check(cudaStreamSynchronize(handle_), "cudaStreamSynchronize");
  raise_fault(device_);
}

namespace {

CudaStream& default_stream(int device) {
  // Never destroyed: tensors with static lifetime are freed in its order.
  static std::array<std::once_flag, kMaxDevices> once;
  static std::array<CudaStream*, kMaxDevices> streams;
  require_device(device);
  const auto d = static_cast<std::size_t>(device);
  std::call_once(once[d], [&] { streams[d] = new CudaStream(device); });
  return *streams[d];
}

}  // namespace

CudaStream& current_stream(int device) {
  if (device < 0 || device >= kMaxDevices) require_device(device);
  CudaStream*& s = current[static_cast<std::size_t>(device)];
  if (!s) [[unlikely]]
    s = &default_stream(device);
  return *s;
}

CudaStream* set_current_stream(int device, CudaStream* s) {
  CudaStream* before = &current_stream(device);
  if (s && s->device() != device) {
    fail<DeviceError>("set_stream", "the stream is of another device",
                      fmt::format("cuda:{}", s->device()), fmt::format("cuda:{}", device));
  }
  current[static_cast<std::size_t>(device)] = s ? s : &default_stream(device);
  return before;
}

// ---------------------------------------------------------------------------------- events

CudaEvent::CudaEvent(int device) : device_(device) {
  const DeviceScope scope(device);
  check(cudaEventCreateWithFlags(&handle_, cudaEventDefault), "cudaEventCreateWithFlags");
}
CudaEvent::~CudaEvent() {
  const DeviceScope scope(device_);
  cudaEventDestroy(handle_);
}
void CudaEvent::record(Stream& stream) {
  auto& s = static_cast<CudaStream&>(stream);
  use_device(s.device());
  check(cudaEventRecord(handle_, s.handle()), "cudaEventRecord");
}
void CudaEvent::block(Stream& stream) {
  auto& s = static_cast<CudaStream&>(stream);
  use_device(s.device());
  check(cudaStreamWaitEvent(s.handle(), handle_, 0), "cudaStreamWaitEvent");
}
void CudaEvent::synchronize() {
  use_device(device_);
  check(cudaEventSynchronize(handle_), "cudaEventSynchronize");
  raise_fault(device_);
}
double CudaEvent::milliseconds_since(Event& earlier) {
  auto& e = static_cast<CudaEvent&>(earlier);
  use_device(device_);
  check(cudaEventSynchronize(e.handle_), "cudaEventSynchronize");
  check(cudaEventSynchronize(handle_), "cudaEventSynchronize");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, e.handle_, handle_), "cudaEventElapsedTime");
  return ms;
}

}  // namespace tandem::cuda
