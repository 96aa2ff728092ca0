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

struct Changes {
  std::vector<std::uint64_t> epochs;  // the last one, or of what is toggled the last ones
  HostChange last;

  bool since(std::uint64_t then) const {
    if (epochs.back() <= then) return false;
    const auto later = epochs.end() - std::upper_bound(epochs.begin(), epochs.end(), then);
    const bool all_known = later < kMostToggles;
    return !last.toggle || !all_known || later % 2 != 0;
  }
  static constexpr std::ptrdiff_t kMostToggles = 16;
};

// What has no number goes by what people call it.
struct Known {
  std::map<std::pair<Subject, std::string>, Changes> all;
  std::uint64_t forgotten = 0;  // the epoch of the last change that is not in there
};
Known& known() {
  static auto& all = *new Known();  // modules may go after all statics
  return all;
}

void forget_half() {
  std::vector<std::uint64_t> epochs;
  for (const auto& [key, changes] : known().all) epochs.push_back(changes.epochs.back());
  const auto middle = epochs.begin() + static_cast<std::ptrdiff_t>(epochs.size() / 2);
  std::nth_element(epochs.begin(), middle, epochs.end());
  known().forgotten = *middle;
  std::erase_if(known().all, [&](const auto& e) { return e.second.epochs.back() <= *middle; });
}

}  // namespace

Subject new_subject() {
  static std::atomic<Subject> last{0};
  return last += 2;
}

std::uint64_t host_epoch() {
  return epoch.load(std::memory_order_relaxed);
}

void note_host_change(HostChange change) {
  const std::lock_guard lock(mutex);
  const std::uint64_t now = epoch.load(std::memory_order_relaxed) + 1;
  std::pair key(change.subject, change.subject == 0 ? change.what : std::string());
  Changes& changes = known().all[std::move(key)];
  const std::ptrdiff_t most = change.toggle ? Changes::kMostToggles : 1;
  if (std::ssize(changes.epochs) == most) changes.epochs.erase(changes.epochs.begin());
  changes.epochs.push_back(now);
  changes.last = std::move(change);
  if (known().all.size() > kMostKept) forget_half();
  epoch.store(now, std::memory_order_relaxed);
}

std::vector<HostChange> host_changes_since(std::uint64_t then) {
  const std::lock_guard lock(mutex);
  std::vector<HostChange> found;
  for (const auto& [key, changes] : known().all) {
    if (changes.since(then)) found.push_back(changes.last);
  }
  if (known().forgotten > then) found.push_back({0, "something of long ago"});
  return found;
}

}  // namespace tandem
