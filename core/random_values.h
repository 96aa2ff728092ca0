// What random words become: the arithmetic of the random ops, the same on every device.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/box_muller.h"
#include "core/philox.h"

namespace tandem {

/// Random bits -> [0, 1): 24 of them, or 32 in f64.
template <class C>
TANDEM_HD inline C unit_real(unsigned word) {
  return unit_float(word);
}
template <>
TANDEM_HD inline double unit_real<double>(unsigned word) {
  return static_cast<double>(word) * 0x1p-32;
}

/// Uniform in [lo, hi), rounded to T. C: the type T is computed in.
template <class T, class C = compute_t<T>>
struct UniformReal {
  C lo, span, last;  // span: hi - lo; last: the largest value to be given

  UniformReal(double from, double to)
      : lo(static_cast<C>(from)),
        span(static_cast<C>(to - from)),
        last(last_below(lo, static_cast<C>(to))) {}

  // The largest T below `hi`, but no less than `lo`: what would round up to `hi` becomes this.
  static C last_below(C lo, C hi) {
    C step = std::max(std::abs(hi) * std::numeric_limits<C>::epsilon() / 2,
                      std::numeric_limits<C>::denorm_min());
    C v = static_cast<C>(convert<T>(hi));
    for (; !(v < hi); step *= 2) v = static_cast<C>(convert<T>(hi - step));
    return std::max(v, lo);
  }
  TANDEM_HD T operator()(unsigned word) const {
    const C v = lo + span * unit_real<C>(word);
    return convert<T>(v < last ? v : last);
  }
};

/// Integers in [lo, lo + span), span at most 2^32.
template <class T>
struct UniformInteger {
  long long lo;
  unsigned long long span;

  TANDEM_HD T operator()(unsigned word) const {
    return static_cast<T>(lo + static_cast<long long>(word * span >> 32));
  }
};

/// Whether dropout keeps an element: `threshold` of the 2^24 upper parts of a word do not.
TANDEM_HD inline bool dropout_keeps(unsigned word, unsigned threshold) {
  return (word >> 8) >= threshold;
}

}  // namespace tandem
