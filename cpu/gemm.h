// The plain matrix product: c[i, j] = sum over k of a(i, k) b(k, j), for any element type and any
// way of finding the elements. Operands are asked for strips of a few lines and copy them, packed
// and converted, into the cache; so transposes, strides and the windows of a convolution cost a
// little packing and no workspace. The order of summation depends on the sizes alone.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/matrix_product.h"
#include "core/parallel.h"
#include "cpu/simd.h"

namespace tandem::cpu {

namespace detail {
inline constexpr int kMicroRows = kVectorBytes == 64 ? 8 : 4;

}  // namespace detail

template <class T>
struct Tile {
  static constexpr int lanes = kVectorBytes / static_cast<int>(sizeof(T));
  static constexpr int mr = detail::kMicroRows, nr = 2 * lanes;  // of the innermost kernel
  static constexpr int m = 128, n = 256, depth = 256;  // of what is kept in cache; m: or more
  static_assert(m % mr == 0 && n % nr == 0);
};

/// An index made of three nested ones, with a stride each: positions (n, y, x) of an image, taps
/// (c, ky, kx) of a kernel, or just elements of an axis.
struct Nested {
  std::int64_t size1 = 1, size2 = 1;  // of the two inner indices
  std::int64_t stride0 = 0, stride1 = 0, stride2 = 0;

  static Nested axis(std::int64_t stride) { return {.stride0 = stride}; }
  bool is_axis(std::int64_t stride) const { return size1 * size2 == 1 && stride0 == stride; }

  struct Cursor {
    const Nested& of;
    std::int64_t i0, i1, i2;
    std::int64_t offset() const { return i0 * of.stride0 + i1 * of.stride1 + i2 * of.stride2; }
    void next() {
      if (++i2 < of.size2) return;
      i2 = 0;
      if (++i1 < of.size1) return;
      i1 = 0;
      ++i0;
    }
  };
  Cursor at(std::int64_t i) const {
    const std::int64_t rest = i / size2;
    return {*this, rest / size1, rest % size1, i % size2};
  }
};

/// An operand whose element (line, k) lies at batch offset + line * line_stride + depth[k].
template <class E>
struct StridedOperand {
  const E* data;
  std::int64_t line_stride;
  Nested depth;

  /// The lines from `line` on at depth k, if each lies along memory in the type summed in.
  const acc_t<E>* along_memory(std::int64_t base, std::int64_t line, std::int64_t k) const {
    if constexpr (std::is_same_v<E, acc_t<E>>) {
      if (depth.is_axis(1)) return data + base + line * line_stride + k;
    }
    return nullptr;
  }

  template <int R, class T>
  void load(std::int64_t base, std::int64_t line, int lines, std::int64_t k, int count,
            T* dst) const {
    const E* p = data + base + line * line_stride;
    if constexpr (std::is_same_v<E, float> && std::is_same_v<T, float> && R % 8 == 0) {
      if (lines == R && depth.is_axis(1)) {  // along memory: blocks turned over in registers
        const float* q = p + k;
        int i = 0;
        for (; i + 8 <= count; i += 8) {
          for (int r = 0; r < R; r += 8) {
            transpose8(q + r * line_stride + i, line_stride, dst + i * R + r, R);
          }
        }
        for (; i < count; ++i) {
          for (int r = 0; r < R; ++r) dst[i * R + r] = q[r * line_stride + i];
        }
        return;
      }
    }
    auto at = depth.at(k);
    if (lines == R && line_stride == 1) {
      for (int i = 0; i < count; ++i, at.next(), dst += R) {
        const E* q = p + at.offset();
        for (int r = 0; r < R; ++r) dst[r] = static_cast<T>(q[r]);
      }
      return;
    }
    for (int i = 0; i < count; ++i, at.next(), dst += R) {
      const E* q = p + at.offset();
      if (lines == R) {
        for (int r = 0; r < R; ++r) dst[r] = static_cast<T>(q[r * line_stride]);
      } else {
        for (int r = 0; r < R; ++r) {
          dst[r] = r < lines ? static_cast<T>(q[r * line_stride]) : T(0);
        }
      }
    }
  }
};

/// Where a result can be written as it is made, without a buffer in between.
template <class T>
struct Destination {
  T* data = nullptr;  // null: call store(batch, i, j, n, row) instead
  std::int64_t row = 0;
  bool stream = false;  // past the caches
};

namespace detail {

// acc += x y for mr lines of x and nr of y. x lies packed (line after line within each k), or as it
// is in memory, `ld` elements from line to line and consecutive in k.
template <class T, bool Packed>
inline void multiply_tile(int depth, const T* x, std::int64_t ld, const T* y,
                          Vector<T> (&acc)[Tile<T>::mr][2]) {
  using P = Tile<T>;
  constexpr int line = 64 / static_cast<int>(sizeof(T));
  for (int d = 0; d < depth; ++d, x += Packed ? P::mr : 1, y += P::nr) {
    if (!Packed && d % line == 0) {  // pieces of lines are too short for the processor to see ahead
      for (int r = 0; r < P::mr; ++r) __builtin_prefetch(x + (P::mr + r) * ld);
    }
    const auto y0 = *reinterpret_cast<const Vector<T>*>(y);
    const auto y1 = *reinterpret_cast<const Vector<T>*>(y + P::lanes);
#pragma GCC unroll 8
    for (int r = 0; r < P::mr; ++r) {
      const Vector<T> xr = (Packed ? x[r] : x[r * ld]) - Vector<T>{};
      acc[r][0] = multiply_add<T>(xr, y0, acc[r][0]);
      acc[r][1] = multiply_add<T>(xr, y1, acc[r][1]);
    }
  }
}

// Writes (first) or adds the first `keep` rows of a tile.
template <class T>
inline void put_tile(T* c, std::int64_t ldc, int keep, bool first, bool stream,
                     const Vector<T> (&acc)[Tile<T>::mr][2]) {
  for (int r = 0; r < Tile<T>::mr; ++r) {  // constant bound: the sums stay in registers
    if (r >= keep) break;
    auto* to = reinterpret_cast<Vector<T>*>(c + r * ldc);
    if (stream) {
      stream_store<T>(to, acc[r][0]);
      stream_store<T>(to + 1, acc[r][1]);
    } else {
      to[0] = first ? acc[r][0] : to[0] + acc[r][0];
      to[1] = first ? acc[r][1] : to[1] + acc[r][1];
    }
  }
}

inline std::int64_t pieces(std::int64_t i, std::int64_t size) {
  return (i + size - 1) / size;
}

// Lines of `a` that a task takes: the more, the less often `b` is packed anew. As many as there is
// room for, if they are packed, with `buffered` columns that are multiplied into the buffer; but
// the tasks must be a multiple of the threads, or many. Decides nothing about the order of
// summation.
template <class T>
std::int64_t rows_of_task(std::int64_t others, std::int64_t m, std::int64_t k, bool packed,
                          std::int64_t buffered) {
  using P = Tile<T>;
  std::int64_t most = m;
  if (packed) most = std::min(most, P::m * (P::depth / std::clamp<std::int64_t>(k, 1, P::depth)));
  if (buffered > 0) most = std::min(most, P::m * (P::n / (pieces(buffered, P::nr) * P::nr)));
  const std::int64_t threads = num_threads(), finest = pieces(m, P::m);
  std::int64_t parts = std::min(finest, pieces(m, most));
  while (parts < finest && others * parts % threads != 0 && others * parts < 4 * threads) ++parts;
  return pieces(pieces(m, parts), P::mr) * P::mr;
}

}  // namespace detail

/// For each of `batch` products, writes to `place(batch, i, j)` or calls `store(batch, i, j, n,
/// row)` with pieces of rows of the result. (`place` gives nothing for all of it, or for none but
/// columns that fill no tile.) `a_base(batch)` and `b_base(batch)` are handed to the
/// operands' `load`.
template <class T, class A, class B, class BaseA, class BaseB, class Store, class Place>
void gemm(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, const A& a,
          const B& b, const BaseA& a_base, const BaseB& b_base, const Store& store,
          const Place& place) {
  using P = Tile<T>;
  if (batch * m * n == 0) return;
  const std::int64_t columns = detail::pieces(n, P::n), last = n - (columns - 1) * P::n;
  // Columns of the widest tile that cannot be written in place.
  const std::int64_t buffered = place(0, 0, 0).data == nullptr ? std::min<std::int64_t>(n, P::n)
                                : last % P::nr != 0            ? last
                                                               : 0;
  const std::int64_t task_m = detail::rows_of_task<T>(
      batch * columns, m, k, a.along_memory(a_base(0), 0, 0) == nullptr, buffered);
  const std::int64_t rows = detail::pieces(m, task_m);
  const std::int64_t work = std::max<std::int64_t>(
      1, std::min<std::int64_t>(m, task_m) * std::min<std::int64_t>(n, P::n) * k);
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 17) / work);
  parallel_for(batch * rows * columns, grain, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) T pa[P::m * P::depth];
    alignas(64) T pb[P::n * P::depth];
    alignas(64) T buffer[P::m * P::n];
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t s = t / (rows * columns);
      const std::int64_t i0 = t / columns % rows * task_m, j0 = t % columns * P::n;
      const int mm = static_cast<int>(std::min<std::int64_t>(task_m, m - i0));
      const int nn = static_cast<int>(std::min<std::int64_t>(P::n, n - j0));
      const std::int64_t base_a = a_base(s), base_b = b_base(s);
      const std::int64_t buffer_row = detail::pieces(nn, P::nr) * P::nr;
      Destination<T> c{.data = nullptr};
      if (nn % P::nr == 0) c = place(s, i0, j0);
      const bool to_buffer = c.data == nullptr;
      if (to_buffer) c = {.data = buffer, .row = buffer_row};
      if (k == 0) {
        for (int i = 0; i < mm; ++i) std::fill_n(c.data + i * c.row, nn, T(0));
      }
      for (std::int64_t k0 = 0; k0 < k; k0 += P::depth) {
        const int depth = static_cast<int>(std::min<std::int64_t>(P::depth, k - k0));
        // Lines of `a` that lie along memory are read where they are.
        const T* in_place = a.along_memory(base_a, i0, k0);
        // But for the last few, if they fill no tile: they are all that is packed then.
        const auto packed = [&](int i) { return in_place == nullptr || i + P::mr > mm; };
        const auto strip = [&](int i) { return in_place == nullptr ? pa + i * depth : pa; };
        for (int i = 0; i < mm; i += P::mr) {
          if (!packed(i)) continue;
          a.template load<P::mr>(base_a, i0 + i, std::min(P::mr, mm - i), k0, depth, strip(i));
        }
        for (int j = 0; j < nn; j += P::nr) {
          b.template load<P::nr>(base_b, j0 + j, std::min(P::nr, nn - j), k0, depth,
                                 pb + j * depth);
        }
        const auto tile = [&](int i, int j) {
          Vector<T> acc[P::mr][2] = {};
          if (packed(i)) {
            detail::multiply_tile<T, true>(depth, strip(i), 0, pb + j * depth, acc);
          } else {
            detail::multiply_tile<T, false>(depth, in_place + i * a.line_stride, a.line_stride,
                                            pb + j * depth, acc);
          }
          detail::put_tile<T>(c.data + i * c.row + j, c.row, std::min(P::mr, mm - i), k0 == 0,
                              c.stream && k <= P::depth, acc);
        };
        // What comes from memory is gone through once.
        if (in_place != nullptr) {
          for (int i = 0; i < mm; i += P::mr) {
            for (int j = 0; j < nn; j += P::nr) tile(i, j);
          }
        } else {
          for (int j = 0; j < nn; j += P::nr) {
            for (int i = 0; i < mm; i += P::mr) tile(i, j);
          }
        }
      }
      if (c.stream) stream_fence();
      if (!to_buffer) continue;
      for (int i = 0; i < mm; ++i) store(s, i0 + i, j0, nn, buffer + i * buffer_row);
    }
  });
}

template <class T, class A, class B, class BaseA, class BaseB, class Store>
void gemm(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, const A& a,
          const B& b, const BaseA& a_base, const BaseB& b_base, const Store& store) {
  gemm<T>(batch, m, n, k, a, b, a_base, b_base, store,
          [](std::int64_t, std::int64_t, std::int64_t) { return Destination<T>{}; });
}

}  // namespace tandem::cpu
