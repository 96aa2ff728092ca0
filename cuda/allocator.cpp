#include "cuda/allocator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "core/caching_allocator.h"

namespace tandem::cuda {

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
// Small blocks have the sizes of SizeClass and are cut from slabs; taking and giving one back is a
// push and a pop. Large ones are cut from segments, best fit, and merged again.
constexpr std::size_t kSmall = kMiB / 2;
constexpr std::size_t kSlab = 2 * kMiB;
constexpr std::size_t kSegment = 32 * kMiB;  // what the device is asked for at least
constexpr std::size_t kLargeStep = kMiB / 16;
constexpr std::size_t kSplit = kMiB / 2;  // smaller remainders stay with their block
constexpr int kSmallClasses = SizeClass::of(kSmall) + 1;

// A memory checker must see every allocation by itself.
#if defined(TANDEM_CUDA_EMULATED) && defined(__SANITIZE_ADDRESS__)
constexpr bool kCaches = false;
#else
constexpr bool kCaches = true;
#endif

struct EventHandle {
  explicit EventHandle(CudaStream& s) {
    const DeviceScope scope(s.device());
    if (cudaEventCreateWithFlags(&event, cudaEventDisableTiming) != cudaSuccess) return;
    if (cudaEventRecord(event, s.handle()) == cudaSuccess) return;
    // Unrecorded it would count as reached, and its block as free. Freeing memory must not throw;
    // without an event the next look at the block does.
    cudaEventDestroy(event);
    event = nullptr;
  }
  ~EventHandle() {
    if (event) cudaEventDestroy(event);
  }
  EventHandle(const EventHandle&) = delete;
  EventHandle& operator=(const EventHandle&) = delete;
  cudaEvent_t event = nullptr;
};
using EventPtr = std::shared_ptr<EventHandle>;

struct Slab;

struct Block {
  char* at;
  std::size_t size;
  Pool* pool;
  Block* before = nullptr;  // large blocks: the neighbours in the segment
  Block* after = nullptr;
  Slab* slab = nullptr;  // small blocks
  bool free = false;
};

struct Slab {
  Block* home;
  std::size_t used = 0;
  std::vector<Block> blocks;
};

struct Smaller {
  using is_transparent = void;
  bool operator()(const Block* a, const Block* b) const {
    return a->size != b->size ? a->size < b->size : a->at < b->at;
  }
  bool operator()(const Block* a, std::size_t size) const { return a->size < size; }
};

struct Pending {
  Block* block;
  EventPtr event;
};

std::string readable(std::size_t bytes) {
  if (bytes < 10000) return fmt::format("{} bytes", bytes);
  const auto b = static_cast<double>(bytes);
  if (bytes < 100 * kMiB) return fmt::format("{:.2f} MiB", b / (1 << 20));
  return fmt::format("{:.2f} GiB", b / (1 << 30));
}

}  // namespace

class Pool {
 public:
  CudaStream* stream = nullptr;  // null: nobody's at the moment
  bool captured = false;         // a graph owns it
  std::vector<Block*> small[kSmallClasses];
  std::set<Block*, Smaller> large;
  std::vector<Pending> pending;  // freed on other streams
  std::vector<Block*> held;      // freed, but a graph may still write it
  std::vector<std::unique_ptr<Slab>> slabs;
  std::size_t segments = 0;
  EventPtr before_capture;
};

namespace {

class DeviceAllocator final : public Allocator {
 public:
  explicit DeviceAllocator(int device) : device_(device) { blocks_.reserve(4096); }

  void* allocate(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    CudaStream& s = current_stream(device_);
    const std::lock_guard lock(mutex_);
    if (!s.pool) [[unlikely]]
      attach(s);
    Block* b = take(*s.pool, bytes);
    b->free = false;
    ++stats_.allocations;
    stats_.in_use += b->size;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return b->at;
  }

  void deallocate(void* p, std::size_t) noexcept override {
    if (!p) return;
    CudaStream& s = current_stream(device_);
    const std::lock_guard lock(mutex_);
    Block* b = blocks_.find(p)->second;
    stats_.in_use -= b->size;
    Pool& pool = *b->pool;
    // Where nothing is cached, nothing can go back during a capture.
    if (pool.stream == &s && (kCaches || !s.capturing)) [[likely]] {
      give(b);
    } else if (pool.captured) {
      pool.held.push_back(b);
    } else {
      // Uses that a capture records are not in any stream: what counts was before it.
      pool.pending.push_back(
          {b, s.capturing ? s.pool->before_capture : std::make_shared<EventHandle>(s)});
    }
  }

  AllocatorStats stats() const override {
    const std::lock_guard lock(mutex_);
    AllocatorStats s = stats_;
    s.cached = reserved_ - s.in_use;
    return s;
  }
  void reset_peak() override {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }
  void trim() override {
    const std::lock_guard lock(mutex_);
    give_back();
  }

  // --- pools

  void release(CudaStream& s) {
    const std::lock_guard lock(mutex_);
    if (!s.pool) return;
    s.pool->stream = nullptr;
    idle_.push_back(s.pool);
    s.pool = nullptr;
  }
  Pool* begin_capture(CudaStream& s) {
    const std::lock_guard lock(mutex_);
    pools_.push_back(std::make_unique<Pool>());
    Pool* p = pools_.back().get();
    p->captured = true;
    p->stream = &s;
    p->before_capture = std::make_shared<EventHandle>(s);
    std::swap(s.pool, p);
    ++captures_;
    return p;
  }
  void end_capture(CudaStream& s, Pool* before) {
    const std::lock_guard lock(mutex_);
    s.pool->stream = nullptr;  // what is freed from here on the graph may still write
    s.pool->before_capture = nullptr;
    s.pool = before;
    --captures_;
  }
  void retire(Pool* p) {
    const std::lock_guard lock(mutex_);
    p->captured = false;
    for (Block* b : p->held) give(b);
    p->held.clear();
    if (p->segments == 0) {
      std::erase_if(pools_, [&](const auto& x) { return x.get() == p; });
    } else {
      idle_.push_back(p);
    }
  }

 private:
  void attach(CudaStream& s) {
    if (idle_.empty()) {
      pools_.push_back(std::make_unique<Pool>());
      s.pool = pools_.back().get();
    } else {
      s.pool = idle_.back();
      idle_.pop_back();
    }
    s.pool->stream = &s;
  }

  // ---- taking

  Block* take(Pool& pool, std::size_t bytes) {
    if (!kCaches) {
      if (captures_ == 0) reclaim(pool, true);
      return grow(pool, bytes, bytes);
    }
    if (bytes <= kSmall) {
      auto& list = pool.small[SizeClass::of(bytes)];
      if (list.empty()) [[unlikely]]
        refill(pool, bytes);
      Block* b = list.back();
      list.pop_back();
      ++b->slab->used;
      return b;
    }
    if (bytes >> 48) out_of_memory(bytes);  // beyond what rounding up can bear
    Block* b = take_large(pool, align_up(bytes, kLargeStep), bytes);
    blocks_.emplace(b->at, b);
    return b;
  }

  // At least one more small block of that class.
  void refill(Pool& pool, std::size_t bytes) {
    const int c = SizeClass::of(bytes);
    if (reclaim(pool, false) && !pool.small[c].empty()) return;
    const std::size_t size = SizeClass::size(c);
    auto slab = std::make_unique<Slab>();
    slab->home = take_large(pool, kSlab, bytes);
    slab->home->free = false;
    const std::size_t n = slab->home->size / size;
    slab->blocks.reserve(n);
    pool.small[c].reserve(pool.small[c].size() + n);
    for (std::size_t i = n; i-- > 0;) {
      slab->blocks.push_back({.at = slab->home->at + i * size,
                              .size = size,
                              .pool = &pool,
                              .slab = slab.get(),
                              .free = true});
      Block* b = &slab->blocks.back();
      blocks_.emplace(b->at, b);
      pool.small[c].push_back(b);
    }
    pool.slabs.push_back(std::move(slab));
  }

  Block* take_large(Pool& pool, std::size_t size, std::size_t asked) {
    auto it = pool.large.lower_bound(size);
    // What other streams gave back: first what is ready, then what this one must wait for.
    for (const bool wait : {false, true}) {
      if (it != pool.large.end() || pool.pending.empty()) break;
      reclaim(pool, wait);
      it = pool.large.lower_bound(size);
    }
    Block* b;
    if (it != pool.large.end()) {
      b = *it;
      pool.large.erase(it);
    } else {
      b = grow(pool, size, asked);
    }
    if (b->size - size >= kSplit) {
      auto* rest = new Block{.at = b->at + size,
                             .size = b->size - size,
                             .pool = &pool,
                             .before = b,
                             .after = b->after,
                             .free = true};
      if (rest->after) rest->after->before = rest;
      b->after = rest;
      b->size = size;
      pool.large.insert(rest);
    }
    return b;
  }

  // A new segment, as one block.
  Block* grow(Pool& pool, std::size_t size, std::size_t asked) {
    ++stats_.system_allocations;
    void* p = nullptr;
    std::size_t got = size;
    if (kCaches) {
      const std::size_t exact = align_up(size, kSlab);
      got = std::max(exact, kSegment);
      p = device_malloc(got);
      if (!p && got > exact) p = device_malloc(got = exact);
      if (!p && give_back()) p = device_malloc(got);
    } else {
      p = device_malloc(size);
    }
    if (!p) out_of_memory(asked);
    reserved_ += got;
    ++pool.segments;
    auto* b = new Block{.at = static_cast<char*>(p), .size = got, .pool = &pool};
    if (!kCaches) blocks_.emplace(b->at, b);
    return b;
  }

  void* device_malloc(std::size_t size) {
    const DeviceScope scope(device_);
    const RelaxedCapture relaxed;
    void* p = nullptr;
    const cudaError_t e = cudaMalloc(&p, size);
    if (e == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check(e, "cudaMalloc", fmt::format("{} bytes", size));
    return p;
  }

  [[noreturn]] void out_of_memory(std::size_t bytes) {
    std::size_t free = 0, total = 0, largest = 0;
    {
      const DeviceScope scope(device_);
      const RelaxedCapture relaxed;
      if (cudaMemGetInfo(&free, &total) != cudaSuccess) cudaGetLastError();
    }
    for (const auto& p : pools_) {
      if (!p->large.empty()) largest = std::max(largest, (*p->large.rbegin())->size);
    }
    fail<OutOfMemoryError>(
        "allocate", fmt::format("cuda:{} has no memory left", device_),
        fmt::format("a request for {} with {} in use, {} cached (largest block {}) and {} free of "
                    "the device's {}",
                    readable(bytes), readable(stats_.in_use), readable(reserved_ - stats_.in_use),
                    readable(largest), readable(free), readable(total)));
  }

  // ---- giving back

  void give(Block* b) {
    Pool& pool = *b->pool;
    b->free = true;
    if (!kCaches) {
      release_segment(b);
    } else if (b->slab) {
      --b->slab->used;
      pool.small[SizeClass::of(b->size)].push_back(b);
    } else {
      blocks_.erase(b->at);
      merge(b);
    }
  }

  void merge(Block* b) {
    Pool& pool = *b->pool;
    b->free = true;
    if (Block* next = b->after; next && next->free) {
      pool.large.erase(next);
      b->size += next->size;
      b->after = next->after;
      if (b->after) b->after->before = b;
      delete next;
    }
    if (Block* prev = b->before; prev && prev->free) {
      pool.large.erase(prev);
      prev->size += b->size;
      prev->after = b->after;
      if (prev->after) prev->after->before = prev;
      delete b;
      b = prev;
    }
    pool.large.insert(b);
  }

  // Blocks that other streams freed and are done with; with `wait` all of them, and this pool's
  // stream does not go on before they are. Whether there were any.
  bool reclaim(Pool& pool, bool wait) {
    std::size_t left = 0;
    const RelaxedCapture relaxed;
    for (Pending& x : pool.pending) {
      if (wait) {
        check(cudaStreamWaitEvent(pool.stream->handle(), x.event->event, 0), "cudaStreamWaitEvent");
      } else if (const cudaError_t e = cudaEventQuery(x.event->event); e != cudaSuccess) {
        if (e != cudaErrorNotReady) check(e, "cudaEventQuery");
        pool.pending[left++] = x;
        continue;
      }
      give(x.block);
    }
    const bool some = left < pool.pending.size();
    pool.pending.resize(left);
    return some;
  }

  void release_segment(Block* b) {
    const DeviceScope scope(device_);
    reserved_ -= b->size;
    --b->pool->segments;
    blocks_.erase(b->at);
    check(cudaFree(b->at), "cudaFree");
    delete b;
  }

  // Everything that nobody uses goes back to the device. Whether there was anything.
  bool give_back() {
    // cudaFree waits for the device, which a capture in progress does not survive.
    if (captures_ > 0) return false;
    const std::size_t before = reserved_;
    for (const auto& p : pools_) {
      if (p->captured) continue;
      for (Pending& x : p->pending) {
        check(cudaEventSynchronize(x.event->event), "cudaEventSynchronize");
        give(x.block);
      }
      p->pending.clear();
      const auto unused = [](const Block* b) { return b->slab->used == 0; };
      for (auto& list : p->small) std::erase_if(list, unused);
      std::erase_if(p->slabs, [&](const auto& slab) {
        if (slab->used != 0) return false;
        for (const Block& b : slab->blocks) blocks_.erase(b.at);
        merge(slab->home);
        return true;
      });
      std::vector<Block*> whole;
      for (Block* b : p->large) {
        if (!b->before && !b->after) whole.push_back(b);
      }
      for (Block* b : whole) {
        p->large.erase(b);
        release_segment(b);
      }
    }
    return reserved_ < before;
  }

  const int device_;
  mutable std::mutex mutex_;
  AllocatorStats stats_;
  std::size_t reserved_ = 0;
  int captures_ = 0;
  std::unordered_map<void*, Block*> blocks_;  // all that is handed out, and all small ones
  std::vector<std::unique_ptr<Pool>> pools_;
  std::vector<Pool*> idle_;
};

struct PinnedMemory {
  static constexpr const char* name = "page-locked host memory";
  static void* allocate(std::size_t size) {
    const RelaxedCapture relaxed;
    void* p = nullptr;
    const cudaError_t e = cudaHostAlloc(&p, size, cudaHostAllocPortable);
    if (e == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check(e, "cudaHostAlloc", fmt::format("{} bytes", size));
    return p;
  }
  static void free(void* p) {
    const RelaxedCapture relaxed;
    cudaFreeHost(p);
  }
};

DeviceAllocator& allocator_of(int device) {
  // Never destroyed: tensors with static lifetime may outlive any order of destruction.
  static std::array<std::atomic<DeviceAllocator*>, kMaxDevices> known;
  if (device < 0 || device >= kMaxDevices) require_device(device);
  auto& slot = known[static_cast<std::size_t>(device)];
  if (DeviceAllocator* a = slot.load(std::memory_order_acquire)) [[likely]]
    return *a;
  require_device(device);
  auto fresh = std::make_unique<DeviceAllocator>(device);
  DeviceAllocator* none = nullptr;
  return slot.compare_exchange_strong(none, fresh.get()) ? *fresh.release() : *none;
}

}  // namespace

Allocator& device_allocator(int device) {
  return allocator_of(device);
}

Allocator& pinned_allocator() {
  static auto* const a = new CachingAllocator<PinnedMemory>;
  return *a;
}

void release_pool(CudaStream& s) noexcept {
  allocator_of(s.device()).release(s);
}

CapturePool::CapturePool(CudaStream& s)
    : device_(s.device()), before_(allocator_of(device_).begin_capture(s)), pool_(s.pool) {}

void CapturePool::end(CudaStream& s) noexcept {
  allocator_of(device_).end_capture(s, before_);
}

CapturePool::~CapturePool() {
  allocator_of(device_).retire(pool_);
}

bool CapturePool::empty() const {
  return pool_->segments == 0;
}

}  // namespace tandem::cuda
