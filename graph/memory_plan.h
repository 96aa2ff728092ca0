// Lifetimes -> offsets in one arena. A pure function, tested without a device.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem::graph {

/// A buffer needed from step `first` to step `last`, both included.
struct Lifetime {
  std::size_t bytes;
  int first, last;
};

/// Where in one arena each temporary buffer lies.
struct MemoryPlan {
  std::vector<std::size_t> offset;  // of each buffer, a multiple of the alignment
  std::size_t arena = 0;            // bytes
  std::size_t lower_bound = 0;      // largest sum of aligned sizes alive at one step
  std::size_t unplanned = 0;        // sum of all: what no sharing at all would take
};

/// Places buffers so that no two alive at one step overlap. Tries two greedy ways (best fit;
/// filling from below) in several orders (largest first, longest-lived first, earliest first …) and
/// keeps the smallest arena. Throws ValueError on a lifetime that ends before it
/// begins, or begins before step 0.
MemoryPlan plan_memory(const std::vector<Lifetime>& buffers, std::size_t alignment);

}  // namespace tandem::graph
