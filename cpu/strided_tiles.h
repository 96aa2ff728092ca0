// Walking broadcast, strided operands in one common order, a tile at a time.
#pragma once
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "core/desc.h"

namespace tandem::cpu {

/// Elements a thread takes at least: below that, starting a second thread costs more than it
/// saves.
inline constexpr std::int64_t kElementwiseGrain = 32 * 1024;

/// The loops over all elements, innermost first, ordered by the memory of the first operand;
/// neighbouring axes are one loop where every operand allows it.
struct LoopNest {
  int depth = 0;
  std::int64_t size[kMaxRank] = {1};
  std::int64_t total = 1;
  // A tile stays within one pass of the innermost loop. Otherwise it goes on into the next ones,
  // which pays when they are short.
  bool by_rows = false;
  int axis[kMaxRank] = {};  // the innermost axis of the shape in each loop

  LoopNest() = default;
  LoopNest(const Shape& shape, std::span<const TensorDesc* const> operands);
  void choose_rows(std::span<const struct StridedAccess> accesses);
};

/// A position: the same element in every operand.
struct Cursor {
  std::int64_t linear = 0;
  std::int64_t index[kMaxRank] = {};

  Cursor(const LoopNest& nest, std::int64_t at) : linear(at) {
    for (int d = 0; d < nest.depth; ++d) {
      index[d] = at % nest.size[d];
      at /= nest.size[d];
    }
  }
  void advance(const LoopNest& nest, std::int64_t n) {
    linear += n;
    index[0] += n;
    for (int d = 0; d + 1 < nest.depth && index[d] >= nest.size[d]; ++d) {
      const std::int64_t carry = index[d] < 2 * nest.size[d] ? 1 : index[d] / nest.size[d];
      index[d] -= carry * nest.size[d];
      index[d + 1] += carry;
    }
  }
};

enum class AccessMode : std::uint8_t {
  linear,       // in the order of the loops, without gaps
  whole_splat,  // one element for all
  row,          // by rows: the row lies in one piece
  row_splat,    // by rows: one element for the row
  strided,      // anything else: tiles are copied to or from a buffer
};

struct StridedAccess {
  AccessMode mode = AccessMode::linear;
  std::int64_t element = 0;            // bytes
  std::int64_t stride[kMaxRank] = {};  // bytes, per loop

  StridedAccess(const LoopNest& nest, const Shape& shape, const TensorDesc& d);
  bool is_linear(const LoopNest& nest) const;
  bool is_whole_splat(const LoopNest& nest) const;
  void choose(const LoopNest& nest);
  bool is_splat() const { return mode == AccessMode::whole_splat || mode == AccessMode::row_splat; }

  std::int64_t offset(const LoopNest& nest, const Cursor& c) const {
    switch (mode) {
      case AccessMode::linear: return c.linear * element;
      case AccessMode::whole_splat: return 0;
      default: break;
    }
    std::int64_t o = 0;
    for (int d = 0; d < nest.depth; ++d) o += c.index[d] * stride[d];
    return o;
  }
};

/// Copies the n elements from the cursor on into `buffer`.
void gather(const LoopNest& nest, const StridedAccess& a, const Cursor& c, std::int64_t n,
            const void* base, void* buffer);
/// And back.
void scatter(const LoopNest& nest, const StridedAccess& a, const Cursor& c, std::int64_t n,
             const void* buffer, void* base);

}  // namespace tandem::cpu
