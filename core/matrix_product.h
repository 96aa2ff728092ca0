// What matmul and linear have to compute, read off their operands' descriptions, for any device.
#pragma once
#include <algorithm>
#include <utility>

#include "core/axes.h"
#include "core/desc.h"
#include "core/half.h"

namespace tandem {

namespace detail {
template <class E>
struct accumulator {
  using type = compute_t<E>;
};
// Signed overflow is undefined, and integer products wrap.
template <>
struct accumulator<std::int32_t> {
  using type = std::uint32_t;
};
template <>
struct accumulator<std::int64_t> {
  using type = std::uint64_t;
};
template <>
struct accumulator<std::uint8_t> {
  using type = std::uint32_t;
};
template <>
struct accumulator<bool> {
  using type = std::uint32_t;
};
}  // namespace detail

/// What products of E are summed in.
template <class E>
using acc_t = typename detail::accumulator<E>::type;

/// c[s] = a[s] b[s] for matrices a [m, k], b [k, n] and c [m, n], one for each position s of the
/// batch. c is row-major, batch first; element (i, k) of a[s] is at a's offset of s + i a_row +
/// k a_col. Offsets in the batch: stride[0] for a, stride[1] for b, 0 where an operand repeats.
struct MatrixProduct {
  DType dtype;
  Axes<2> batch = {};
  std::int64_t m = 1, n = 1, k = 1;
  std::int64_t a_row = 0, a_col = 0, b_row = 0, b_col = 0;

  std::int64_t count() const { return batch.count; }
  bool empty() const { return count() == 0 || m == 0 || n == 0; }
};

/// Of matmul's operands: a [..., M, K] and b [..., K, N], or vectors. Batch axes are merged as far
/// as they go, and rows that share one right operand are rows of one larger product.
inline MatrixProduct matrix_product(const TensorDesc& a, const TensorDesc& b) {
  MatrixProduct p{.dtype = a.dtype};
  const int ra = a.rank(), rb = b.rank();
  p.k = a.shape.back();
  p.a_col = a.strides.back();
  if (ra > 1) p.m = a.dim(ra - 2), p.a_row = a.strides[ra - 2];
  p.b_row = b.strides[rb > 1 ? rb - 2 : 0];
  if (rb > 1) p.n = b.dim(rb - 1), p.b_col = b.strides[rb - 1];
  const int rank = std::max(ra, rb) - 2;
  for (int i = 0; i < rank; ++i) {
    const int ia = i - rank + ra - 2, ib = i - rank + rb - 2;
    const std::int64_t na = ia < 0 ? 1 : a.dim(ia), nb = ib < 0 ? 1 : b.dim(ib);
    p.batch.add(na == 1 ? nb : na, {na == 1 ? 0 : a.strides[ia], nb == 1 ? 0 : b.strides[ib]});
  }
  while (p.batch.rank() > 0) {
    const int last = p.batch.rank() - 1;
    const bool even = p.m == 1 || p.batch.stride[0][last] == p.a_row * p.m;
    if (p.batch.stride[1][last] != 0 || !even) break;
    std::array<std::int64_t, 2> step;
    const std::int64_t size = p.batch.pop(step);
    if (p.m == 1) p.a_row = step[0];
    p.m *= size;
  }
  return p;
}

/// Of linear's operands: x [..., in] and w [out, in], which is read as its transpose.
inline MatrixProduct linear_product(const TensorDesc& x, TensorDesc w) {
  std::swap(w.shape[0], w.shape[1]);
  std::swap(w.strides[0], w.strides[1]);
  return matrix_product(x, w);
}

}  // namespace tandem
