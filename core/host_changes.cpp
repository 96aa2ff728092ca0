#include "core/host_changes.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <utility>

namespace tandem {
namespace {

constexpr std::size_t kMostKept = 1024;

// Read before each call of a compiled function; moves with `mutex` held.
std::atomic<std::uint64_t> epoch{0};
std::mutex mutex;

// When each changed last. What has no number goes by what people call it.
struct Known {
  std::map<std::pair<Subject, std::string>, std::pair<std::uint64_t, std::string>> last;
  std::uint64_t forgotten = 0;  // the epoch of the last change that is not in there
};
Known& known() {
  static auto& all = *new Known();  // modules may go after all statics
  return all;
}

void forget_half() {
  std::vector<std::uint64_t> epochs;
  for (const auto& [key, change] : known().last) epochs.push_back(change.first);
  const auto middle = epochs.begin() + static_cast<std::ptrdiff_t>(epochs.size() / 2);
  std::nth_element(epochs.begin(), middle, epochs.end());
  known().forgotten = *middle;
  std::erase_if(known().last, [&](const auto& e) { return e.second.first <= *middle; });
}

}  // namespace

std::uint64_t host_epoch() {
  return epoch.load(std::memory_order_relaxed);
}

void note_host_change(HostChange change) {
  const std::lock_guard lock(mutex);
  const std::uint64_t now = epoch.load(std::memory_order_relaxed) + 1;
  std::pair key(change.subject, change.subject == 0 ? change.what : std::string());
  known().last[std::move(key)] = {now, std::move(change.what)};
  if (known().last.size() > kMostKept) forget_half();
  epoch.store(now, std::memory_order_relaxed);
}

std::vector<HostChange> host_changes_since(std::uint64_t then) {
  const std::lock_guard lock(mutex);
  std::vector<HostChange> changes;
  for (const auto& [key, change] : known().last) {
    if (change.first > then) changes.push_back({key.first, change.second});
  }
  if (known().forgotten > then) changes.push_back({0, "something of long ago"});
  return changes;
}

}  // namespace tandem
