#include "core/allocator.h"

#include <atomic>
#include <bit>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace tandem {
namespace {

// Large blocks ask for huge pages: a weight of 12 MB is 3,000 ordinary pages, more than a core's
// translation cache holds, and walking the page tables showed in every kernel that streams it.
void* page_allocate(std::size_t size) {
#ifdef __linux__
  constexpr std::size_t huge = std::size_t{2} << 20;
  if (size >= 2 * huge) {
    void* p = std::aligned_alloc(huge, (size + huge - 1) / huge * huge);
    if (p) madvise(p, size, MADV_HUGEPAGE);  // a wish: without it the block is as good
    return p;
  }
#endif
  return std::aligned_alloc(kAlignment, size);
}

// A lock held for a few dozen instructions: an uncontended take costs one atomic exchange.
class SpinLock {
 public:
  void lock() {
    while (flag_.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
  }
  void unlock() { flag_.clear(std::memory_order_release); }

 private:
  std::atomic_flag flag_ = ATOMIC_FLAG_INIT;
};

class Guard {
 public:
  explicit Guard(SpinLock& l) : l_(l) { l_.lock(); }
  ~Guard() { l_.unlock(); }

 private:
  SpinLock& l_;
};

// Sizes are rounded up to four steps per power of two (at most a quarter is wasted), so blocks of
// nearly equal size can stand in for one another.
class CpuAllocator final : public Allocator {
 public:
  void* allocate(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    const int c = size_class(bytes);
    const std::size_t size = class_size(c);
    void* p = nullptr;
    {
      Guard g(lock_);
      ++stats_.allocations;
      stats_.in_use += size;
      if (stats_.in_use > stats_.peak) stats_.peak = stats_.in_use;
      if (!free_[c].empty()) {
        p = free_[c].back();
        free_[c].pop_back();
        stats_.cached -= size;
      } else {
        ++stats_.system_allocations;
      }
    }
    if (!p) p = system_allocate(size);
    return p;
  }

  void deallocate(void* p, std::size_t bytes) noexcept override {
    if (!p) return;
    const int c = size_class(bytes);
    Guard g(lock_);
    stats_.in_use -= class_size(c);
#if defined(__SANITIZE_ADDRESS__)
    std::free(p);  // AddressSanitizer must see every free
#else
    stats_.cached += class_size(c);
    free_[c].push_back(p);
#endif
  }

  AllocatorStats stats() const override {
    Guard g(lock_);
    return stats_;
  }
  void reset_peak() override {
    Guard g(lock_);
    stats_.peak = stats_.in_use;
  }
  void trim() override {
    Guard g(lock_);
    for (auto& list : free_) {
      for (void* p : list) std::free(p);
      list.clear();
    }
    stats_.cached = 0;
  }

 private:
  static constexpr int kShift = 8;  // the smallest block: 256 bytes
  static constexpr int kClasses = 4 * (64 - kShift);

  static int size_class(std::size_t bytes) {
    const std::size_t n = (bytes + kAlignment - 1) >> kShift;  // in units of 256 bytes
    if (n <= 4) return static_cast<int>(n) - 1;
    const int top = std::bit_width(n - 1) - 1;  // n - 1 in [2^top, 2^(top+1))
    const int quarter = static_cast<int>((n - 1) >> (top - 2)) & 3;
    return 4 + (top - 2) * 4 + quarter;
  }
  static std::size_t class_size(int c) {
    if (c < 4) return static_cast<std::size_t>(c + 1) << kShift;
    const int top = (c - 4) / 4 + 2, quarter = (c - 4) % 4;
    return (static_cast<std::size_t>(4 + quarter + 1) << (top - 2)) << kShift;
  }

  void* system_allocate(std::size_t size) {
    void* p = page_allocate(size);
    if (!p) {
      trim();
      p = page_allocate(size);
    }
    if (!p) {
      Guard g(lock_);
      stats_.in_use -= size;
      throw std::bad_alloc();
    }
    return p;
  }

  mutable SpinLock lock_;
  AllocatorStats stats_;
  std::vector<void*> free_[kClasses];
};

}  // namespace

Allocator& cpu_allocator() {
  // Never destroyed: tensors with static lifetime may outlive any order of destruction.
  static CpuAllocator* const a = new CpuAllocator;
  return *a;
}

}  // namespace tandem
