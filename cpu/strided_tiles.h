// Walking broadcast, strided operands in one common order, a tile at a time.
#pragma once
#include <algorithm>
#include <span>

#include "core/desc.h"

namespace tandem::cpu {

/// Elements a thread takes at least: below that, starting a second thread costs more than it
/// saves.
inline constexpr std::int64_t kElementwiseGrain = 32 * 1024;

/// How the loops are cut into tiles. The memory order of the first operand decides the order of the
/// loops; then:
enum class Tiling : std::uint8_t {
  flat,    // any run of elements; it goes on from one pass of the innermost loop into the next
  rows,    // within one pass of the innermost loop, which is long
  blocks,  // rectangles of the two innermost loops: some operand is transposed against the first
};

struct StridedAccess;

/// The loops over all elements, innermost first; neighbouring axes are one loop where every operand
/// allows it.
struct LoopNest {
  int depth = 0;
  std::int64_t size[kMaxRank] = {1};
  std::int64_t total = 1;
  Tiling tiling = Tiling::flat;
  std::int64_t block[2] = {};  // of Tiling::blocks
  int axis[kMaxRank] = {};     // the innermost axis of the shape in each loop

  LoopNest() = default;
  LoopNest(const Shape& shape, std::span<const TensorDesc* const> operands);
  /// May exchange two loops, here and in the accesses.
  void choose_tiling(std::span<StridedAccess> accesses);
  /// Limits a block to `elements`.
  void fit_block(std::int64_t elements);

  // Work is counted, and cut for threads, in units: elements or blocks.
  std::int64_t units() const {
    return tiling == Tiling::blocks ? total / (size[0] * size[1]) * blocks(0) * blocks(1) : total;
  }
  std::int64_t grain() const {
    if (tiling != Tiling::blocks) return kElementwiseGrain;
    return std::max<std::int64_t>(1, kElementwiseGrain / (block[0] * block[1]));
  }
  std::int64_t blocks(int d) const { return (size[d] + block[d] - 1) / block[d]; }
};

/// A position: the same element in every operand, where a tile starts.
struct Cursor {
  std::int64_t unit = 0;
  std::int64_t index[kMaxRank] = {};

  Cursor(const LoopNest& nest, std::int64_t at) : unit(at) {
    for (int d = 0; at != 0 && d < nest.depth; ++d) {
      const bool in_block = nest.tiling == Tiling::blocks && d < 2;
      const std::int64_t n = in_block ? nest.blocks(d) : nest.size[d];
      index[d] = at % n * (in_block ? nest.block[d] : 1);
      at /= n;
    }
  }
  /// Elements of the tile that starts here, at most `limit` unless it is a block.
  std::int64_t tile(const LoopNest& nest, std::int64_t limit, std::int64_t end) const {
    switch (nest.tiling) {
      case Tiling::flat: return std::min(limit, end - unit);
      case Tiling::rows: return std::min({limit, end - unit, nest.size[0] - index[0]});
      case Tiling::blocks: break;
    }
    return extent(nest, 0) * extent(nest, 1);
  }
  /// Of the block that starts here.
  std::int64_t extent(const LoopNest& nest, int d) const {
    return std::min(nest.block[d], nest.size[d] - index[d]);
  }
  /// To the next tile, past one of n elements.
  void advance(const LoopNest& nest, std::int64_t n) {
    int d = 0;
    if (nest.tiling == Tiling::blocks) {
      ++unit;
      for (; d < 2; ++d) {
        index[d] += nest.block[d];
        if (index[d] < nest.size[d]) return;
        index[d] = 0;
      }
      if (nest.depth > 2) ++index[2];
    } else {
      unit += n;
      index[0] += n;
    }
    for (; d + 1 < nest.depth && index[d] >= nest.size[d]; ++d) {
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
      case AccessMode::linear: return c.unit * element;
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
