// Caching allocators. Every block is 256-byte aligned in both modes, so where a buffer comes from
// can never change which algorithm a kernel picks.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tandem {

inline constexpr std::size_t kAlignment = 256;

/// The next multiple of `a`.
constexpr std::size_t align_up(std::size_t n, std::size_t a = kAlignment) {
  return (n + a - 1) / a * a;
}

/// What an allocator did since it was made; sizes in bytes.
struct AllocatorStats {
  std::uint64_t allocations = 0;         // calls to allocate()
  std::uint64_t system_allocations = 0;  // of these, how many went to the operating system
  std::size_t in_use = 0;                // bytes handed out now
  std::size_t peak = 0;                  // largest in_use since reset_peak()
  std::size_t cached = 0;                // bytes held but not handed out
};

/// Memory of one device. Thread-safe.
class Allocator {
 public:
  virtual ~Allocator() = default;
  /// A block of at least `bytes` (0 gives nullptr). Throws OutOfMemoryError.
  virtual void* allocate(std::size_t bytes) = 0;
  /// `bytes` as passed to allocate().
  virtual void deallocate(void* p, std::size_t bytes) noexcept = 0;
  virtual AllocatorStats stats() const = 0;
  virtual void reset_peak() = 0;
  /// Gives every cached block back to the system.
  virtual void trim() = 0;
};

/// The host's caching allocator, shared by all threads.
Allocator& cpu_allocator();

}  // namespace tandem
