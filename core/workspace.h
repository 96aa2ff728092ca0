// What a plan works out when it needs memory of its own: parts of the workspace, and whether an
// operand's layout makes a copy there necessary.
#pragma once
#include <utility>

#include "core/allocator.h"
#include "core/shape.h"

namespace tandem {

/// Reserves `bytes` of the workspace: its offset.
inline std::size_t reserve(std::size_t& workspace_bytes, std::size_t bytes) {
  return std::exchange(workspace_bytes, workspace_bytes + align_up(bytes));
}

/// Whether two layouts of one shape put every element at the same place.
inline bool same_layout(const Shape& shape, const Strides& a, const Strides& b) {
  for (int i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && a[i] != b[i]) return false;
  }
  return true;
}

}  // namespace tandem
