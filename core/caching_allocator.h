// A cache of blocks in front of something slow that hands out memory: the host's allocator, and
// page-locked memory in cuda/.
#pragma once
#include <atomic>
#include <bit>
#include <thread>
#include <vector>

#include "core/allocator.h"
#include "core/error.h"

namespace tandem {

/// Sizes are rounded up to four steps per power of two (at most a quarter is wasted), so blocks of
/// nearly equal size can stand in for one another.
struct SizeClass {
  static constexpr int kShift = 8;  // the smallest block: 256 bytes
  static constexpr int kCount = 4 * (64 - kShift);

  /// The class of blocks for `bytes` > 0.
  static constexpr int of(std::size_t bytes) {
    const std::size_t n = (bytes + kAlignment - 1) >> kShift;  // in units of 256 bytes
    if (n <= 4) return static_cast<int>(n) - 1;
    const int top = std::bit_width(n - 1) - 1;  // n - 1 in [2^top, 2^(top+1))
    const int quarter = static_cast<int>((n - 1) >> (top - 2)) & 3;
    return 4 + (top - 2) * 4 + quarter;
  }
  static constexpr std::size_t size(int c) {
    if (c < 4) return static_cast<std::size_t>(c + 1) << kShift;
    const int top = (c - 4) / 4 + 2, quarter = (c - 4) % 4;
    return (static_cast<std::size_t>(4 + quarter + 1) << (top - 2)) << kShift;
  }
};

/// A lock held for a few dozen instructions: an uncontended take costs one atomic exchange.
class SpinLock {
 public:
  void lock() {  // gives way to others while it waits
    while (flag_.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
  }
  void unlock() { flag_.clear(std::memory_order_release); }

 private:
  std::atomic_flag flag_ = ATOMIC_FLAG_INIT;
};

/// Holds a spin lock for a scope.
class SpinGuard {
 public:
  explicit SpinGuard(SpinLock& l) : l_(l) { l_.lock(); }
  ~SpinGuard() { l_.unlock(); }
  SpinGuard(const SpinGuard&) = delete;
  SpinGuard& operator=(const SpinGuard&) = delete;

 private:
  SpinLock& l_;
};

/// `System` has `static void* allocate(std::size_t)`, null when there is no more,
/// `static void free(void*)`, and `static constexpr const char* name` for the error.
template <class System>
class CachingAllocator final : public Allocator {
 public:
  void* allocate(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    if (bytes >> 62) out_of_memory(bytes);  // beyond what rounding up can bear
    const int c = SizeClass::of(bytes);
    const std::size_t size = SizeClass::size(c);
    void* p = nullptr;
    {
      const SpinGuard g(lock_);
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
    const int c = SizeClass::of(bytes);
    const SpinGuard g(lock_);
    stats_.in_use -= SizeClass::size(c);
#if defined(__SANITIZE_ADDRESS__)
    System::free(p);  // AddressSanitizer must see every free
#else
    stats_.cached += SizeClass::size(c);
    free_[c].push_back(p);
#endif
  }

  AllocatorStats stats() const override {
    const SpinGuard g(lock_);
    return stats_;
  }
  void reset_peak() override {
    const SpinGuard g(lock_);
    stats_.peak = stats_.in_use;
  }
  void trim() override {
    const SpinGuard g(lock_);
    for (auto& list : free_) {
      for (void* p : list) System::free(p);
      list.clear();
    }
    stats_.cached = 0;
  }

 private:
  void* system_allocate(std::size_t size) {
    void* p = System::allocate(size);
    if (!p) {
      trim();
      p = System::allocate(size);
    }
    if (!p) {
      {
        const SpinGuard g(lock_);
        stats_.in_use -= size;
      }
      out_of_memory(size);
    }
    return p;
  }
  [[noreturn]] void out_of_memory(std::size_t bytes) const {
    fail<OutOfMemoryError>(
        "allocate", std::string("there is no more ") + System::name,
        std::to_string(bytes) + " bytes asked for, " + std::to_string(stats().in_use) + " in use");
  }

  mutable SpinLock lock_;
  AllocatorStats stats_;
  std::vector<void*> free_[SizeClass::kCount];
};

}  // namespace tandem
