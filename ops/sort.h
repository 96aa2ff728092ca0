// Order along an axis. Both sorts are stable: equal elements stay as they were, the first first. A
// NaN counts as larger than every number.
#pragma once
#include <utility>

#include "core/op.h"

namespace tandem {

/// Attributes of sort.
struct SortAttrs {
  std::int64_t axis = -1;
  bool descending = false;
  static constexpr auto fields() {
    return std::tuple{Field{"axis", &SortAttrs::axis}, Field{"descending", &SortAttrs::descending}};
  }
};

/// Attributes of topk.
struct TopkAttrs {
  std::int64_t k = 1, axis = -1;
  bool largest = true;
  static constexpr auto fields() {
    return std::tuple{Field{"k", &TopkAttrs::k}, Field{"axis", &TopkAttrs::axis},
                      Field{"largest", &TopkAttrs::largest}};
  }
};

/// The elements along `axis` in order, and the positions (i64) they had.
std::pair<Tensor, Tensor> sort(In x, int axis = -1, bool descending = false);
/// The `k` largest (or smallest) along `axis`, best first, and their positions (i64). ValueError
/// unless 0 <= k <= size of the axis; ShapeError on a 0-dim tensor.
std::pair<Tensor, Tensor> topk(In x, std::int64_t k, int axis = -1, bool largest = true);

}  // namespace tandem
