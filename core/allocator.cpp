#include "core/allocator.h"

#include <cstdlib>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/caching_allocator.h"

namespace tandem {
namespace {

struct HostMemory {
  static constexpr const char* name = "host memory";
  // Large blocks ask for huge pages: a weight of 12 MB is 3,000 ordinary pages, more than a core's
  // translation cache holds, and walking the page tables showed in every kernel that streams it.
  static void* allocate(std::size_t size) {
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
  static void free(void* p) {
    std::free(p);
  }
};

}  // namespace

Allocator& cpu_allocator() {
  // Never destroyed: tensors with static lifetime may outlive any order of destruction.
  static auto* const a = new CachingAllocator<HostMemory>;
  return *a;
}

}  // namespace tandem
