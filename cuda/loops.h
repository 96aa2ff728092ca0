// How a kernel walks several tensors with 32-bit arithmetic: divisions by fixed numbers, and
// tensors that are too large for it in pieces.
#pragma once
#include <array>
#include <span>
#include <vector>

#include "core/axes.h"
#include "core/desc.h"
#include "cuda/divisor.h"

namespace tandem::cuda {

/// The axes of a tensor by descending strides: loops in this order follow its memory.
inline Dims memory_order(const TensorDesc& d) {
  Dims order;
  for (int i = 0; i < d.rank(); ++i) {
    int at = order.size();
    while (at > 0 && d.strides[static_cast<int>(order[at - 1])] < d.strides[i]) --at;
    order.insert(at, i);
  }
  return order;
}

/// Stride of `d`, broadcast to `rank` axes, along axis `i` of those.
inline std::int64_t broadcast_stride(const TensorDesc& d, int i, int rank) {
  const int own = i - (rank - d.rank());
  return own < 0 || d.dim(own) == 1 ? 0 : d.strides[own];
}

/// Tensors walked together in the memory order of `leader`, broadcast to its shape. Those that are
/// null, or left of N, are not there (all strides 0).
template <int N>
Axes<N> axes_of(const TensorDesc& leader, std::span<const TensorDesc* const> tensors) {
  Axes<N> axes;
  for (const std::int64_t d : memory_order(leader)) {
    const int i = static_cast<int>(d);
    std::array<std::int64_t, N> stride{};
    for (std::size_t k = 0; k < tensors.size(); ++k) {
      if (tensors[k]) stride[k] = broadcast_stride(*tensors[k], i, leader.rank());
    }
    axes.add(leader.dim(i), stride);
  }
  return axes;
}

/// Part of a walk, small enough that every offset within it is below the limit.
template <int N>
struct Piece {
  Axes<N> axes;
  std::array<std::int64_t, N> base{};  // in elements
};

/// The pieces of a walk that is not empty, in which no offset reaches `limit`.
template <int N>
std::vector<Piece<N>> pieces_of(const Axes<N>& axes, std::int64_t limit = std::int64_t{1} << 31) {
  std::vector<Piece<N>> todo = {{axes}}, done;
  while (!todo.empty()) {
    Piece<N> p = todo.back();
    todo.pop_back();
    // The axis that goes farthest in a tensor that goes too far.
    int axis = -1;
    std::int64_t farthest = 0;
    for (int k = 0; k < N; ++k) {
      std::int64_t reach = 0;
      for (int d = 0; d < p.axes.rank(); ++d) reach += (p.axes.size[d] - 1) * p.axes.stride[k][d];
      if (reach < limit) continue;
      for (int d = 0; d < p.axes.rank(); ++d) {
        const std::int64_t goes = (p.axes.size[d] - 1) * p.axes.stride[k][d];
        if (goes > farthest) farthest = goes, axis = d;
      }
    }
    if (axis < 0) {
      done.push_back(p);
      continue;
    }
    // Along the innermost axis in multiples of the widest packs.
    const std::int64_t n = p.axes.size[axis], half = n >= 128 ? (n / 2 + 63) / 64 * 64 : n / 2;
    for (const bool second : {true, false}) {
      Piece<N> q{{}, p.base};
      for (int d = 0; d < p.axes.rank(); ++d) {
        std::array<std::int64_t, N> stride;
        for (int k = 0; k < N; ++k) stride[k] = p.axes.stride[k][d];
        const std::int64_t size = d != axis ? p.axes.size[d] : second ? n - half : half;
        q.axes.add(size, stride);
        if (d == axis && second) {
          for (int k = 0; k < N; ++k) q.base[k] += half * stride[k];
        }
      }
      todo.push_back(q);
    }
  }
  return done;
}

}  // namespace tandem::cuda
