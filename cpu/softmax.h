// Softmax along one axis of dense memory, shared by softmax, log_softmax and cross_entropy.
#pragma once
#include <cmath>

#include "core/functors.h"
#include "cpu/lanes.h"
#include "cpu/operand.h"

namespace tandem::cpu {

/// An axis of dense memory: element (o, i, j) is at (o * size + i) * inner + j.
struct Slices {
  std::int64_t outer = 1, size = 1, inner = 1;

  Slices(const TensorDesc& dense, int axis) {
    const std::int64_t n = dense.numel();
    if (dense.rank() == 0 || n == 0) {
      outer = n;
      return;
    }
    size = dense.dim(axis);
    // By sizes, not strides: the stride of an axis of size 1 may be anything.
    static constexpr int kChannelsLast[] = {0, 2, 3, 1};
    const bool contiguous = dense.is_contiguous();
    for (int k = dense.rank() - 1; k >= 0; --k) {
      const int i = contiguous ? k : kChannelsLast[k];
      if (i == axis) break;
      inner *= dense.dim(i);
    }
    outer = n / size / inner;
  }
};

// Columns handled together where the axis is not the innermost one.
inline constexpr std::int64_t kColumns = 64;

/// Calls f(first element's offset, columns) for blocks of neighbouring columns.
template <class F>
void each_column_block(const Slices& s, const F& f) {
  const std::int64_t blocks = (s.inner + kColumns - 1) / kColumns;
  parallel_for(s.outer * blocks, grain_for(4 * s.size * std::min(s.inner, kColumns)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t t = begin; t < end; ++t) {
                   const std::int64_t j = t % blocks * kColumns;
                   f(t / blocks * s.size * s.inner + j, std::min(kColumns, s.inner - j));
                 }
               });
}

template <class A, class F>
double blocked_sum(std::int64_t n, const F& f) {
  constexpr std::int64_t kBlock = 1024;
  double total = 0;
  for (std::int64_t b = 0; b < n; b += kBlock) {
    const auto part = lane_sums<A, 1>(std::min(kBlock, n - b),
                                      [&](std::int64_t i) { return std::array<A, 1>{f(b + i)}; });
    total += static_cast<double>(part[0]);
  }
  return total;
}

template <bool Log, class T, class O>
void softmax_row(const T* x, O* y, std::int64_t n) {
  using A = compute_t<T>;
  constexpr std::int64_t kBlock = 1024;
  // The exponentials are kept in y if it can hold them unrounded.
  constexpr bool kKeep = !Log && std::is_same_v<O, A>;
  // A NaN missed by the maximum comes back with the sum.
  const A top = lane_max<A>(n, [x](std::int64_t i) { return static_cast<A>(x[i]); });
  A buffer[kKeep ? 1 : kBlock];
  double sum = 0;
  for (std::int64_t b = 0; b < n; b += kBlock) {
    const std::int64_t len = std::min(kBlock, n - b);
    A* e = buffer;
    if constexpr (kKeep) e = y + b;
    const T* from = x + b;
#pragma GCC ivdep
    for (std::int64_t i = 0; i < len; ++i) e[i] = math::exp(static_cast<A>(from[i]) - top);
    sum += static_cast<double>(
        lane_sums<A, 1>(len, [e](std::int64_t i) { return std::array<A, 1>{e[i]}; })[0]);
  }
  if constexpr (Log) {
    const A log_sum = static_cast<A>(std::log(sum));
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = static_cast<O>((static_cast<A>(x[i]) - top) - log_sum);
    }
  } else {
    const A s = static_cast<A>(sum);
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
      if constexpr (kKeep) {
        y[i] = y[i] / s;
      } else {
        y[i] = static_cast<O>(math::exp(static_cast<A>(x[i]) - top) / s);
      }
    }
  }
}

template <bool Log, class T, class O>
void softmax_columns(const T* x, O* y, std::int64_t n, std::int64_t step, std::int64_t columns) {
  using A = compute_t<T>;
  A top[kColumns], scale[kColumns];
  double sum[kColumns];
  for (std::int64_t j = 0; j < columns; ++j) top[j] = -INFINITY, sum[j] = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const A v = static_cast<A>(x[i * step + j]);
      top[j] = v > top[j] ? v : top[j];
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      sum[j] += static_cast<double>(math::exp(static_cast<A>(x[i * step + j]) - top[j]));
    }
  }
  for (std::int64_t j = 0; j < columns; ++j) {
    scale[j] = static_cast<A>(Log ? std::log(sum[j]) : sum[j]);
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma GCC ivdep
    for (std::int64_t j = 0; j < columns; ++j) {
      const A v = static_cast<A>(x[i * step + j]) - top[j];
      y[i * step + j] = static_cast<O>(Log ? v - scale[j] : math::exp(v) / scale[j]);
    }
  }
}

/// y := softmax(x) or log_softmax(x); x and y may be one buffer.
template <bool Log, class T, class O>
void softmax_slices(const Slices& s, const T* x, O* y) {
  if (s.inner == 1) {
    parallel_for(s.outer, grain_for(4 * s.size), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        softmax_row<Log>(x + r * s.size, y + r * s.size, s.size);
      }
    });
  } else {
    each_column_block(s, [&](std::int64_t at, std::int64_t columns) {
      softmax_columns<Log>(x + at, y + at, s.size, s.inner, columns);
    });
  }
}

}  // namespace tandem::cpu
