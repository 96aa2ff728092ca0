// Memory of the emulated device and page-locked memory of the host: where it lies, whose it is, and
// the runtime's functions over it.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/emulation/world.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

using namespace tandem::cuda::emulation;

namespace {

constexpr unsigned char kPoison = 0xCB, kGuardByte = 0xA5;
constexpr std::size_t kGuard = 256;

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

extern "C" {

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

}  // extern "C"
