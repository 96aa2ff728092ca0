#include "graph/memory_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/allocator.h"
#include "core/error.h"

namespace tandem::graph {
namespace {

std::size_t live_set_bound(const std::vector<Lifetime>& b, std::size_t alignment) {
  std::map<int, std::int64_t> change;
  for (const Lifetime& l : b) {
    const auto n = static_cast<std::int64_t>(align_up(l.bytes, alignment));
    change[l.first] += n;
    change[l.last + 1] -= n;
  }
  std::int64_t now = 0, most = 0;
  for (const auto& [step, delta] : change) {
    now += delta;
    most = std::max(most, now);
  }
  return static_cast<std::size_t>(most);
}

// All buffers, those of the largest `key` first.
template <class Key>
std::vector<std::size_t> sorted(const std::vector<Lifetime>& b, const Key& key) {
  std::vector<std::size_t> order(b.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t x, std::size_t y) { return key(b[x]) > key(b[y]); });
  return order;
}

// Puts each buffer, those of the largest `key` first, into the tightest gap left by the ones
// already placed whose lifetimes meet its own.
template <class Key>
std::size_t place(const std::vector<Lifetime>& b, const Key& key, std::size_t alignment,
                  std::vector<std::size_t>& offset) {
  std::vector<std::size_t> placed;  // by offset
  std::size_t arena = 0;
  for (std::size_t i : sorted(b, key)) {
    const std::size_t need = align_up(b[i].bytes, alignment);
    offset[i] = 0;
    if (need == 0) continue;
    std::size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (std::size_t j : placed) {
      if (b[j].last < b[i].first || b[i].last < b[j].first) continue;
      if (offset[j] >= end + need && offset[j] - end < best_gap) {
        best = end;
        best_gap = offset[j] - end;
      }
      end = std::max(end, offset[j] + align_up(b[j].bytes, alignment));
    }
    offset[i] = best == SIZE_MAX ? end : best;
    arena = std::max(arena, offset[i] + need);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), i,
                         [&](std::size_t x, std::size_t y) { return offset[x] < offset[y]; }),
        i);
  }
  return arena;
}

// Fills the arena from below, as one packs a strip: where the surface over time is lowest, puts the
// buffer with the largest `key` among those that fit there for all their life, or, if there is
// none, gives that place up. (Burke, Kendall, Whitwell: A new placement heuristic for the
// orthogonal stock-cutting problem, 2004; for memory: Sekiyama, Imai, Negishi, Urano, 2018.)
template <class Key>
std::size_t fill(const std::vector<Lifetime>& b, const Key& key, std::size_t alignment,
                 std::vector<std::size_t>& offset) {
  std::vector<std::size_t> left = sorted(b, key);
  std::erase_if(left, [&](std::size_t i) { return b[i].bytes == 0; });
  int steps = 0;
  for (const Lifetime& l : b) steps = std::max(steps, l.last + 1);
  std::vector<std::size_t> surface(static_cast<std::size_t>(steps), 0);
  std::size_t arena = 0;
  while (!left.empty()) {
    const auto lowest = std::min_element(surface.begin(), surface.end());
    const std::size_t height = *lowest;
    const auto end =
        std::find_if(lowest, surface.end(), [&](std::size_t h) { return h != height; });
    const int from = static_cast<int>(lowest - surface.begin()),
              to = static_cast<int>(end - surface.begin());
    const auto fits = std::find_if(left.begin(), left.end(), [&](std::size_t i) {
      return b[i].first >= from && b[i].last < to;
    });
    if (fits != left.end()) {
      const Lifetime& l = b[*fits];
      offset[*fits] = height;
      const std::size_t top = height + align_up(l.bytes, alignment);
      std::fill(surface.begin() + l.first, surface.begin() + l.last + 1, top);
      arena = std::max(arena, top);
      left.erase(fits);
    } else {
      std::size_t beside = SIZE_MAX;
      if (lowest != surface.begin()) beside = *(lowest - 1);
      if (end != surface.end()) beside = std::min(beside, *end);
      std::fill(lowest, end, beside);
    }
  }
  return arena;
}

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& b, std::size_t alignment) {
  MemoryPlan plan;
  plan.offset.assign(b.size(), 0);
  for (const Lifetime& l : b) {
    if (l.first < 0 || l.last < l.first) {
      fail("memory plan", "a lifetime must not end before it begins",
           fmt::format("{} to {}", l.first, l.last), "steps from 0 on");
    }
    plan.unplanned += align_up(l.bytes, alignment);
  }
  plan.lower_bound = live_set_bound(b, alignment);
  const auto attempt = [&](const auto& put) {
    if (plan.arena == plan.lower_bound) return;  // nothing to gain
    std::vector<std::size_t> offset(b.size(), 0);
    const std::size_t arena = put(offset);
    if (plan.arena != 0 && arena >= plan.arena) return;
    plan.arena = arena;
    plan.offset = std::move(offset);
  };
  const auto try_key = [&](const auto& key) {
    attempt([&](auto& offset) { return place(b, key, alignment, offset); });
    attempt([&](auto& offset) { return fill(b, key, alignment, offset); });
  };
  const auto steps = [](const Lifetime& l) {
    return static_cast<std::size_t>(l.last - l.first + 1);
  };
  try_key([&](const Lifetime& l) { return std::pair(l.bytes, steps(l)); });
  try_key([&](const Lifetime& l) { return std::pair(l.bytes * steps(l), l.bytes); });
  try_key([&](const Lifetime& l) { return std::pair(steps(l), l.bytes); });
  try_key([&](const Lifetime& l) { return -l.first; });
  try_key([&](const Lifetime& l) { return l.last; });
  return plan;
}

}  // namespace tandem::graph
