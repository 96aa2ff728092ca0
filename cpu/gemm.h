// The plain matrix product: c[i, j] = sum over k of a(i, k) b(k, j), for any element type and any
// way of finding the elements. Operands are asked for strips of a few lines and copy them, packed
// and converted, into the cache; so transposes, strides and the windows of a convolution cost a
// little packing and no workspace. The order of summation depends on the sizes alone.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "core/parallel.h"

namespace tandem::cpu {

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

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64, kMicroRows = 8;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32, kMicroRows = 4;
#else
inline constexpr int kVectorBytes = 16, kMicroRows = 4;
#endif

}  // namespace detail

/// What products of E are summed in.
template <class E>
using acc_t = typename detail::accumulator<E>::type;

template <class T>
struct Tile {
  static constexpr int lanes = detail::kVectorBytes / static_cast<int>(sizeof(T));
  static constexpr int mr = detail::kMicroRows, nr = 2 * lanes;  // of the innermost kernel
  static constexpr int m = 64, n = 128, depth = 128;             // of what is kept in cache
  static_assert(m % mr == 0 && n % nr == 0);
};

/// An index made of three nested ones, with a stride each: positions (n, y, x) of an image, taps
/// (c, ky, kx) of a kernel, or just elements of an axis.
struct Nested {
  std::int64_t size1 = 1, size2 = 1;  // of the two inner indices
  std::int64_t stride0 = 0, stride1 = 0, stride2 = 0;

  static Nested axis(std::int64_t stride) { return {.stride0 = stride}; }

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

  template <int R, class T>
  void load(std::int64_t base, std::int64_t line, int lines, std::int64_t k, int count,
            T* dst) const {
    const E* p = data + base + line * line_stride;
    auto at = depth.at(k);
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

/// For each of `batch` products, calls `store(batch, i, j, n, row)` with rows of the result.
/// `a_base(batch)` and `b_base(batch)` are handed to the operands' `load`.
template <class T, class A, class B, class BaseA, class BaseB, class Store>
void gemm(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, const A& a,
          const B& b, const BaseA& a_base, const BaseB& b_base, const Store& store) {
  using P = Tile<T>;
  using Vec [[gnu::vector_size(detail::kVectorBytes)]] = T;
  const std::int64_t rows = (m + P::m - 1) / P::m, columns = (n + P::n - 1) / P::n;
  const std::int64_t work = std::max<std::int64_t>(
      1, std::min<std::int64_t>(m, P::m) * std::min<std::int64_t>(n, P::n) * k);
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 17) / work);
  parallel_for(batch * rows * columns, grain, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) T pa[P::m * P::depth];
    alignas(64) T pb[P::n * P::depth];
    alignas(64) T c[P::m * P::n];
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t s = t / (rows * columns);
      const std::int64_t i0 = t / columns % rows * P::m, j0 = t % columns * P::n;
      const int mm = static_cast<int>(std::min<std::int64_t>(P::m, m - i0));
      const int nn = static_cast<int>(std::min<std::int64_t>(P::n, n - j0));
      const std::int64_t base_a = a_base(s), base_b = b_base(s);
      for (int i = 0; i < mm; ++i) std::fill_n(c + i * P::n, nn, T(0));
      for (std::int64_t k0 = 0; k0 < k; k0 += P::depth) {
        const int depth = static_cast<int>(std::min<std::int64_t>(P::depth, k - k0));
        for (int i = 0; i < mm; i += P::mr) {
          a.template load<P::mr>(base_a, i0 + i, std::min(P::mr, mm - i), k0, depth,
                                 pa + i * depth);
        }
        for (int j = 0; j < nn; j += P::nr) {
          b.template load<P::nr>(base_b, j0 + j, std::min(P::nr, nn - j), k0, depth,
                                 pb + j * depth);
        }
        for (int j = 0; j < nn; j += P::nr) {
          for (int i = 0; i < mm; i += P::mr) {
            Vec acc[P::mr][2] = {};
            const T* x = pa + i * depth;
            const T* y = pb + j * depth;
            for (int d = 0; d < depth; ++d, x += P::mr, y += P::nr) {
              const Vec y0 = *reinterpret_cast<const Vec*>(y);
              const Vec y1 = *reinterpret_cast<const Vec*>(y + P::lanes);
#pragma GCC unroll 8
              for (int r = 0; r < P::mr; ++r) {
                acc[r][0] += x[r] * y0;
                acc[r][1] += x[r] * y1;
              }
            }
            const int keep = std::min(P::mr, mm - i);
            for (int r = 0; r < P::mr; ++r) {  // constant bound: the sums stay in registers
              if (r >= keep) break;
              Vec* to = reinterpret_cast<Vec*>(c + (i + r) * P::n + j);
              to[0] += acc[r][0];
              to[1] += acc[r][1];
            }
          }
        }
      }
      for (int i = 0; i < mm; ++i) store(s, i0 + i, j0, nn, c + i * P::n);
    }
  });
}

}  // namespace tandem::cpu
