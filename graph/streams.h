// Which steps of a program may run at the same time on a device with several queues (streams), and
// where one queue must wait for another. Pure functions: tested without a device.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace tandem::graph {

/// A stretch of memory, as addresses.
struct MemoryRange {
  std::uintptr_t begin, end;
};
/// What one launch touches. A buffer read and written counts as written.
struct MemoryAccess {
  std::vector<MemoryRange> reads, writes;
};

/// For each step the earlier ones it must come after, because of memory that one of the two writes;
/// ascending. Addresses and not values are compared: so buffers that share a place in the arena one
/// after the other keep their order too. Steps already ordered through others may be left out.
std::vector<std::vector<int>> dependencies(std::span<const MemoryAccess> steps);

/// On which stream each node runs, and what waits for what.
struct StreamSchedule {
  struct Step {
    int stream = 0;
    std::vector<int> waits;  // steps of other streams this one's stream must wait for first
    bool signals = false;    // some later step waits for this one
  };
  std::vector<Step> steps;  // in program order
  int streams = 1;
  std::vector<int> ends;  // the last step of each stream but the first, to be joined at the end
};

/// Puts each step into one of at most `max_streams` streams: behind a step it depends on where it
/// can, so that a chain stays in one stream. Waits already implied by others are left out.
StreamSchedule schedule_streams(std::span<const std::vector<int>> dependencies, int max_streams);

}  // namespace tandem::graph
