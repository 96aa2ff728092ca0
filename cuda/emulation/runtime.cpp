// The functions of the CUDA runtime that cuda/ uses, over host memory. See runtime.h.
#include "cuda/emulation/runtime.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

using namespace tandem::cuda::emulation;

namespace {

using Clock = std::chrono::steady_clock;

// ------------------------------------------------------------------------------ work

// A point in a stream that others wait for.
struct Marker {
  cudaStream_t stream = nullptr;
  bool done = false;
  Clock::time_point at;
};
using MarkerPtr = std::shared_ptr<Marker>;

enum class Kind : std::uint8_t { kernel, copy, set, host, other };

struct Op {
  std::function<void()> run;
  Kind kind;
  std::vector<std::size_t> after = {};  // in a graph: the nodes it waits for
};
using Ops = std::vector<Op>;

struct Capture {
  Ops ops;
  cudaStreamCaptureMode mode;
  bool broken = false;
  std::set<cudaStream_t> streams;
};

}  // namespace

struct CUstream_st {
  int device = 0;
  std::deque<Op> work;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> last;  // the nodes the next captured one waits for
};
struct CUevent_st {
  int device = 0;
  bool timing = true;
  MarkerPtr marker;
  std::shared_ptr<Capture> capture;  // recorded in it, at the nodes
  std::vector<std::size_t> nodes;
};
struct CUgraph_st {
  Ops ops;
};
struct CUgraphExec_st {
  std::shared_ptr<const Ops> ops;
};

namespace {

struct Block {
  std::size_t bytes;
  int device;
};

constexpr std::size_t kReserve = std::size_t{64} << 30;  // addresses, not memory
constexpr unsigned char kPoison = 0xCB, kGuardByte = 0xA5;
constexpr std::size_t kGuard = 256;

struct World {
  std::recursive_mutex mutex;
  int devices = 2;
  std::size_t memory = std::size_t{8} << 30;
  std::map<int, std::size_t> used;
  char* base = nullptr;
  std::map<std::size_t, std::size_t> holes;  // free ranges of addresses: start, length
  std::map<char*, Block> blocks;
  std::map<char*, std::size_t> pinned;
  std::set<cudaStream_t> streams;
  std::map<int, std::unique_ptr<CUstream_st>> null_streams;
  std::set<const void*> large_shared;
  std::map<std::string, std::pair<int, cudaError_t>> failures;
  int key = -1;
  int running = 0;
};

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local std::uint64_t call_count = 0;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
thread_local std::shared_ptr<Capture> thread_capture;
thread_local const Launch* running_launch = nullptr;

World& world();

// Running work may touch device memory, the host's own code may not.
class Access {
 public:
  Access() {
    if (world().running++ == 0) set(0);
  }
  ~Access() {
    if (--world().running == 0) set(PKEY_DISABLE_ACCESS);
  }
  static void set(unsigned rights) {
    if (world().key >= 0) pkey_set(world().key, rights);
  }
};

extern "C" void on_fault(int signal, siginfo_t* info, void*) {
  const auto* p = static_cast<char*>(info->si_addr);
  const World& w = world();
  char text[300] = "";
  if (running_launch) {
    std::snprintf(text, sizeof text,
                  "emulated kernel launched at %s:%u: %s at %p (block %u %u %u, thread %u %u %u)\n",
                  running_launch->where.file_name(), running_launch->where.line(),
                  signal == SIGSEGV ? "bad access" : "misaligned access or trap",
                  static_cast<const void*>(p), blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
                  threadIdx.y, threadIdx.z);
  } else if (signal == SIGSEGV && p >= w.base && p < w.base + kReserve) {
    std::snprintf(text, sizeof text,
                  "the host touches device memory at %p: on a GPU this is a crash\n",
                  static_cast<const void*>(p));
  }
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) std::abort();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

World& world() {
  static World* const w = [] {
    auto* x = new World;
    void* p = mmap(nullptr, kReserve, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    x->base = static_cast<char*>(p);
    x->holes[0] = kReserve;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    x->key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (x->key >= 0) pkey_mprotect(p, kReserve, PROT_READ | PROT_WRITE, x->key);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_RESETHAND;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGILL, &action, nullptr);
#endif
    return x;
  }();
  return *w;
}

// Every function of the runtime starts with one of these.
struct Call {
  explicit Call(const char* name) : lock(world().mutex) {
    ++call_count;
    const auto it = world().failures.find(name);
    if (it != world().failures.end() && --it->second.first == 0) {
      error = it->second.second;
      world().failures.erase(it);
    } else if (world().devices == 0) {
      error = cudaErrorNoDevice;
    }
  }
  std::lock_guard<std::recursive_mutex> lock;
  cudaError_t error = cudaSuccess;
};

cudaError_t result(cudaError_t e) {
  if (e != cudaSuccess && e != cudaErrorNotReady) last_error = e;
  return e;
}

#define TANDEM_CALL()               \
  const Call tandem_call(__func__); \
  if (tandem_call.error != cudaSuccess) return result(tandem_call.error)

cudaStream_t real(cudaStream_t s) {
  if (s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread) {
    auto& p = world().null_streams[current_device];
    if (!p) {
      p = std::make_unique<CUstream_st>();
      p->device = current_device;
    }
    return p.get();
  }
  return s;
}

bool run_one(cudaStream_t s) {
  if (s->work.empty()) return false;
  const Op op = std::move(s->work.front());
  s->work.pop_front();
  const Access access;
  op.run();
  return true;
}
void drain(cudaStream_t s) {
  while (run_one(s)) {
  }
}
void run_until(const MarkerPtr& m) {
  while (!m->done && run_one(m->stream)) {
  }
}

void put(cudaStream_t s, Op op) {
  if (!s->capture) {
    s->work.push_back(std::move(op));
    return;
  }
  op.after = s->last;
  s->last = {s->capture->ops.size()};
  s->capture->ops.push_back(std::move(op));
}

// A call that must not be made while this thread captures.
bool refused_by_capture() {
  if (!thread_capture || thread_mode == cudaStreamCaptureModeRelaxed ||
      thread_capture->mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  thread_capture->broken = true;
  return true;
}

// ------------------------------------------------------------------------------ memory

const std::pair<char* const, Block>* block_of(const void* p) {
  auto* at = static_cast<char*>(const_cast<void*>(p));
  auto it = world().blocks.upper_bound(at);
  if (it == world().blocks.begin()) return nullptr;
  --it;
  return at < it->first + it->second.bytes ? &*it : nullptr;
}
bool on_device(const void* p) {
  const auto* at = static_cast<const char*>(p);
  return at >= world().base && at < world().base + kReserve;
}
bool is_pinned(const void* p);
// A range that lies in one block, or of host memory: page-locked, or (unless the device must reach
// it) any other, of which nothing is known.
bool valid_range(const void* p, std::size_t bytes, bool device_only) {
  if (!on_device(p)) return p != nullptr && (!device_only || is_pinned(p));
  const auto* b = block_of(p);
  return b && static_cast<const char*>(p) + bytes <= b->first + b->second.bytes;
}
bool is_pinned(const void* p) {
  auto* at = static_cast<char*>(const_cast<void*>(p));
  auto it = world().pinned.upper_bound(at);
  if (it == world().pinned.begin()) return false;
  --it;
  return at < it->first + it->second;
}

void* take(std::size_t bytes) {
  World& w = world();
  const std::size_t need = (bytes + kGuard + 511) / 512 * 512;
  for (auto it = w.holes.begin(); it != w.holes.end(); ++it) {
    if (it->second < need) continue;
    const auto [start, length] = *it;
    w.holes.erase(it);
    if (length > need) w.holes[start + need] = length - need;
    char* p = w.base + start;
    w.blocks[p] = {bytes, current_device};
    w.used[current_device] += bytes;
    const Access access;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(p, need);
#endif
    std::memset(p, kPoison, bytes);
    std::memset(p + bytes, kGuardByte, kGuard);
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(p + bytes, need - bytes);
#endif
    return p;
  }
  return nullptr;
}

cudaError_t give(void* p) {
  World& w = world();
  const auto it = w.blocks.find(static_cast<char*>(p));
  if (it == w.blocks.end()) return cudaErrorInvalidValue;
  const std::size_t bytes = it->second.bytes, need = (bytes + kGuard + 511) / 512 * 512;
  const Access access;
  auto* c = static_cast<unsigned char*>(p);
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(p, need);
#endif
  for (std::size_t i = 0; i < kGuard; ++i) {
    if (c[bytes + i] != kGuardByte) {
      std::fprintf(stderr, "emulated device: something wrote %zu bytes past the end of a block\n",
                   i + 1);
      std::abort();
    }
  }
  w.used[it->second.device] -= bytes;
  w.blocks.erase(it);
  // Whoever still uses it must not get away with it. Whole pages go back to the system; madvise by
  // itself would round up, into the next block.
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<std::uintptr_t>(p), last = first + need;
  const auto begin = std::min((first + page - 1) / page * page, last);
  const auto end = std::max(last / page * page, begin);
  std::memset(p, kPoison, begin - first);
  std::memset(reinterpret_cast<void*>(end), kPoison, last - end);
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(p, need);
#endif
  auto [hole, fresh] = w.holes.emplace(static_cast<char*>(p) - w.base, need);
  if (const auto next = std::next(hole);
      next != w.holes.end() && hole->first + hole->second == next->first) {
    hole->second += next->second;
    w.holes.erase(next);
  }
  if (hole != w.holes.begin()) {
    const auto before = std::prev(hole);
    if (before->first + before->second == hole->first) {
      before->second += hole->second;
      w.holes.erase(hole);
    }
  }
  return cudaSuccess;
}

void drain_device(int device) {
  for (cudaStream_t s : world().streams) {
    if (s->device == device) drain(s);
  }
  if (auto& n = world().null_streams[device]) drain(n.get());
}

cudaError_t enqueue_copy(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind,
                         cudaStream_t s) {
  if (bytes == 0) return cudaSuccess;
  const bool to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (!valid_range(dst, bytes, to) || !valid_range(src, bytes, from)) return cudaErrorInvalidValue;
  put(s, {[=] { std::memmove(dst, src, bytes); }, Kind::copy});
  // The device cannot reach memory that is not page-locked by itself: the call itself copies.
  const bool pageable =
      (!on_device(dst) && !is_pinned(dst)) || (!on_device(src) && !is_pinned(src));
  if (pageable && !s->capture) drain(s);
  return cudaSuccess;
}

}  // namespace

// ------------------------------------------------------------------------------ for tests

namespace tandem::cuda::emulation {

void set_devices(int n) {
  const std::lock_guard lock(world().mutex);
  world().devices = n;
}
void set_memory(std::size_t bytes) {
  const std::lock_guard lock(world().mutex);
  world().memory = bytes;
}
std::uint64_t calls() {
  return call_count;
}
void fail_call(const char* name, cudaError_t code, int nth) {
  const std::lock_guard lock(world().mutex);
  world().failures[name] = {nth, code};
}
bool guards_memory() {
  return world().key >= 0;
}

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

// ------------------------------------------------------------------------------ the runtime

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

// --- memory

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  TANDEM_CALL();
  *p = nullptr;
  if (refused_by_capture()) return result(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (bytes > world().memory || world().used[current_device] > world().memory - bytes) {
    return result(cudaErrorMemoryAllocation);
  }
  *p = take(bytes);
  return *p ? cudaSuccess : result(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* p) {
  TANDEM_CALL();
  if (!p) return cudaSuccess;
  if (refused_by_capture()) return result(cudaErrorStreamCaptureUnsupported);
  if (const auto* b = block_of(p)) drain_device(b->second.device);
  return result(give(p));
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  TANDEM_CALL();
  *p = nullptr;
  if (refused_by_capture()) return result(cudaErrorStreamCaptureUnsupported);
  if (bytes > kReserve) return result(cudaErrorMemoryAllocation);
  const std::size_t size = (bytes + 255) / 256 * 256;
  *p = std::aligned_alloc(256, size);
  if (!*p) return result(cudaErrorMemoryAllocation);
  std::memset(*p, kPoison, size);
  world().pinned[static_cast<char*>(*p)] = size;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  return cudaHostAlloc(p, bytes, 0);
}
cudaError_t cudaFreeHost(void* p) {
  TANDEM_CALL();
  if (!p) return cudaSuccess;
  if (refused_by_capture()) return result(cudaErrorStreamCaptureUnsupported);
  if (world().pinned.erase(static_cast<char*>(p)) == 0) return result(cudaErrorInvalidValue);
  for (int d = 0; d < world().devices; ++d) drain_device(d);
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  TANDEM_CALL();
  if (!is_pinned(host)) return result(cudaErrorInvalidValue);
  *device = host;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s) {
  TANDEM_CALL();
  return result(enqueue_copy(dst, src, bytes, kind, real(s)));
}
cudaError_t cudaMemcpy(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind k) {
  // Streams made as non-blocking do not wait for the default stream, nor it for them.
  const cudaError_t e = cudaMemcpyAsync(dst, src, bytes, k, nullptr);
  if (e == cudaSuccess) drain(real(nullptr));
  return e;
}
cudaError_t cudaMemcpyPeerAsync(void* dst, int, const void* src, int, std::size_t bytes,
                                cudaStream_t s) {
  TANDEM_CALL();
  return result(enqueue_copy(dst, src, bytes, cudaMemcpyDeviceToDevice, real(s)));
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t s) {
  TANDEM_CALL();
  if (bytes == 0) return cudaSuccess;
  if (!valid_range(p, bytes, true)) return result(cudaErrorInvalidValue);
  put(real(s), {[=] { std::memset(p, value, bytes); }, Kind::set});
  return cudaSuccess;
}

// --- streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  TANDEM_CALL();
  *s = new CUstream_st;
  (*s)->device = current_device;
  world().streams.insert(*s);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int) {
  return cudaStreamCreateWithFlags(s, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  TANDEM_CALL();
  if (world().streams.erase(s) == 0) return result(cudaErrorInvalidResourceHandle);
  try {
    drain(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "emulated device: %s\n", e.what());
  }
  delete s;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  TANDEM_CALL();
  s = real(s);
  if (s->capture) {
    s->capture->broken = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  drain(s);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
  TANDEM_CALL();
  s = real(s);
  if (s->work.empty()) return cudaSuccess;
  run_one(s);  // whoever asks again and again shall get there
  return cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  TANDEM_CALL();
  s = real(s);
  if (e->capture) {
    if (s->capture && s->capture != e->capture) return result(cudaErrorStreamCaptureIsolation);
    if (!s->capture) {
      s->capture = e->capture;  // it joins
      s->capture->streams.insert(s);
      s->last.clear();
    }
    for (std::size_t n : e->nodes) {
      if (std::find(s->last.begin(), s->last.end(), n) == s->last.end()) s->last.push_back(n);
    }
    return cudaSuccess;
  }
  if (!e->marker) return cudaSuccess;  // nothing was recorded: nothing to wait for
  if (s->capture) return result(cudaErrorStreamCaptureIsolation);
  put(s, {[m = e->marker] { run_until(m); }, Kind::other});
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void* data) {
  TANDEM_CALL();
  put(real(s), {[=] { fn(data); }, Kind::host});
  return cudaSuccess;
}

// --- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned flags) {
  TANDEM_CALL();
  *e = new CUevent_st;
  (*e)->device = current_device;
  (*e)->timing = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  TANDEM_CALL();
  delete e;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  TANDEM_CALL();
  s = real(s);
  if (s->device != e->device) return result(cudaErrorInvalidResourceHandle);
  e->capture = s->capture;
  e->nodes = s->last;
  e->marker = nullptr;
  if (s->capture) return cudaSuccess;
  e->marker = std::make_shared<Marker>();
  e->marker->stream = s;
  put(s, {[m = e->marker] {
            m->at = Clock::now();
            m->done = true;
          },
          Kind::other});
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
  TANDEM_CALL();
  if (e->capture) return result(cudaErrorCapturedEvent);
  if (!e->marker || e->marker->done) return cudaSuccess;
  run_one(e->marker->stream);  // whoever asks again and again shall get there
  return cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  TANDEM_CALL();
  if (e->capture) return result(cudaErrorCapturedEvent);
  if (e->marker) run_until(e->marker);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  TANDEM_CALL();
  if (!a->marker || !b->marker || !a->timing || !b->timing) {
    return result(cudaErrorInvalidResourceHandle);
  }
  if (!a->marker->done || !b->marker->done) return result(cudaErrorNotReady);
  *ms = std::chrono::duration<float, std::milli>(b->marker->at - a->marker->at).count();
  return cudaSuccess;
}

// --- graphs

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  TANDEM_CALL();
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
  TANDEM_CALL();
  if (s == nullptr || s->capture) return result(cudaErrorIllegalState);
  s->capture = std::make_shared<Capture>();
  s->capture->mode = mode;
  s->capture->streams.insert(s);
  s->last.clear();
  thread_capture = s->capture;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status) {
  TANDEM_CALL();
  s = real(s);
  *status = !s->capture          ? cudaStreamCaptureStatusNone
            : s->capture->broken ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  TANDEM_CALL();
  *graph = nullptr;
  if (!s->capture) return result(cudaErrorIllegalState);
  const std::shared_ptr<Capture> c = s->capture;
  if (thread_capture == c) thread_capture = nullptr;
  // All that other streams put in must have been waited for.
  std::set<std::size_t> seen(s->last.begin(), s->last.end());
  for (std::size_t n = c->ops.size(); n-- > 0;) {
    if (!seen.contains(n)) continue;
    seen.insert(c->ops[n].after.begin(), c->ops[n].after.end());
  }
  bool joined = true;
  for (cudaStream_t x : c->streams) {
    for (std::size_t n : x->last) joined = joined && seen.contains(n);
  }
  for (cudaStream_t x : c->streams) {
    if (!world().streams.contains(x)) continue;
    x->capture = nullptr;
    x->last.clear();
  }
  if (c->broken) return result(cudaErrorStreamCaptureInvalidated);
  if (!joined) return result(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(c->ops)};
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t* nodes, std::size_t* n) {
  TANDEM_CALL();
  if (nodes) return result(cudaErrorNotSupported);
  *n = g->ops.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t g, unsigned long long) {
  TANDEM_CALL();
  *exec = new CUgraphExec_st{std::make_shared<const Ops>(g->ops)};
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  TANDEM_CALL();
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  TANDEM_CALL();
  put(real(s), {[ops = exec->ops] {
                  // Any order that the edges allow is right; the latest that may run goes first.
                  std::vector<std::size_t> waits(ops->size());
                  std::vector<std::vector<std::size_t>> next(ops->size());
                  std::set<std::size_t> ready;
                  for (std::size_t n = 0; n < ops->size(); ++n) {
                    waits[n] = (*ops)[n].after.size();
                    for (std::size_t k : (*ops)[n].after) next[k].push_back(n);
                    if (waits[n] == 0) ready.insert(n);
                  }
                  while (!ready.empty()) {
                    const std::size_t n = *ready.rbegin();
                    ready.erase(n);
                    (*ops)[n].run();
                    for (std::size_t k : next[n]) {
                      if (--waits[k] == 0) ready.insert(k);
                    }
                  }
                },
                Kind::other});
  return cudaSuccess;
}
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t g,
                                cudaGraphExecUpdateResultInfo* info) {
  TANDEM_CALL();
  bool same = exec->ops->size() == g->ops.size();
  for (std::size_t n = 0; same && n < g->ops.size(); ++n) {
    // Another kernel in a node's place is taken over.
    same = (*exec->ops)[n].kind == g->ops[n].kind && (*exec->ops)[n].after == g->ops[n].after;
  }
  *info = {};
  info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
  if (!same) return result(cudaErrorGraphExecUpdateFailure);
  exec->ops = std::make_shared<const Ops>(g->ops);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
  TANDEM_CALL();
  delete g;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e) {
  TANDEM_CALL();
  delete e;
  return cudaSuccess;
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
