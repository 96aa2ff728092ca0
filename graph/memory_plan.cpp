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

// Puts each buffer, in the given order, into the tightest gap left by the ones already placed
// whose lifetimes meet its own.
std::size_t place(const std::vector<Lifetime>& b, const std::vector<std::size_t>& order,
                  std::size_t alignment, std::vector<std::size_t>& offset) {
  std::vector<std::size_t> placed;  // by offset
  std::size_t arena = 0;
  for (std::size_t i : order) {
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

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& b, std::size_t alignment) {
  MemoryPlan plan;
  plan.offset.assign(b.size(), 0);
  for (const Lifetime& l : b) {
    if (l.last < l.first) {
      fail("memory plan", "a lifetime must not end before it begins",
           fmt::format("{} to {}", l.first, l.last));
    }
    plan.unplanned += align_up(l.bytes, alignment);
  }
  plan.lower_bound = live_set_bound(b, alignment);
  const auto length = [&](std::size_t i) { return b[i].last - b[i].first; };
  const auto try_order = [&](auto less) {
    std::vector<std::size_t> order(b.size()), offset(b.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), less);
    const std::size_t arena = place(b, order, alignment, offset);
    if (plan.arena == 0 || arena < plan.arena) {
      plan.arena = arena;
      plan.offset = std::move(offset);
    }
  };
  using I = std::size_t;
  try_order([&](I x, I y) { return b[x].bytes > b[y].bytes; });
  if (plan.arena > plan.lower_bound) {
    try_order([&](I x, I y) {
      return b[x].bytes * static_cast<std::size_t>(length(x) + 1) >
             b[y].bytes * static_cast<std::size_t>(length(y) + 1);
    });
  }
  if (plan.arena > plan.lower_bound) {
    try_order([&](I x, I y) { return length(x) > length(y); });
  }
  if (plan.arena > plan.lower_bound) {
    try_order([&](I x, I y) { return b[x].first < b[y].first; });
  }
  if (plan.arena > plan.lower_bound) {
    try_order([&](I x, I y) { return b[x].last > b[y].last; });
  }
  return plan;
}

}  // namespace tandem::graph
