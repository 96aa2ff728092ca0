#include "core/host_changes.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>

namespace tandem {
namespace {

constexpr std::size_t kMostKept = 256;

// Read before each call of a compiled function; moves with `mutex` held.
std::atomic<std::uint64_t> epoch{0};
std::mutex mutex;

std::deque<HostChange>& kept() {  // the newest last: what moved the epoch to where it is
  static auto& changes = *new std::deque<HostChange>();  // modules may go after all statics
  return changes;
}

}  // namespace

std::uint64_t host_epoch() {
  return epoch.load(std::memory_order_relaxed);
}

void note_host_change(HostChange change) {
  const std::lock_guard lock(mutex);
  kept().push_back(std::move(change));
  if (kept().size() > kMostKept) kept().pop_front();
  epoch.fetch_add(1, std::memory_order_relaxed);
}

std::vector<HostChange> host_changes_since(std::uint64_t then) {
  const std::lock_guard lock(mutex);
  const std::uint64_t n = host_epoch() - then;
  const auto known = static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(n, kept().size()));
  std::vector<HostChange> changes(kept().end() - known, kept().end());
  if (changes.size() < n) changes.push_back({0, "something of long ago"});
  return changes;
}

}  // namespace tandem
