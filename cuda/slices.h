// Slices of tensors along one axis.
#pragma once
#include "cuda/block.h"

namespace tandem::cuda {

/// K tensors walked slice by slice: the slices in row-major order of the other axes, `size`
/// elements each, `step[k]` apart in tensor k.
template <int K>
struct Slices {
  Walk<K> kept;
  long long size = 1;
  long long step[K] = {};

  Sharing share;  // of a slice's elements among threads
};

/// `strides` are those of tensors of this shape; with fewer, of tensors without the axis.
template <int K>
Slices<K> slices_of(const Shape& shape, int axis, const std::array<Strides, K>& strides) {
  Slices<K> s;
  Axes<K> kept;
  for (int i = 0; i < shape.size(); ++i) {
    std::array<std::int64_t, K> at = {};
    for (int k = 0; k < K; ++k) {
      const bool whole = strides[k].size() == shape.size();
      if (i == axis) {
        if (whole) s.step[k] = strides[k][i];
      } else {
        at[k] = strides[k][whole || i < axis ? i : i - 1];
      }
    }
    if (i == axis) {
      s.size = shape[i];
    } else {
      kept.add(shape[i], at);
    }
  }
  s.kept = walk_of(kept);
  const int last = kept.rank() - 1;
  const bool column = last >= 0 && kept.stride[0][last] != 0 && kept.stride[0][last] < s.step[0];
  s.share = share(s.kept.count, s.size, column);
  return s;
}

}  // namespace tandem::cuda
