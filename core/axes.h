// Loops over several tensors at once, worked out from their sizes and strides when a kernel is
// planned, for any device.
#pragma once
#include <array>

#include "core/shape.h"

namespace tandem {

/// Axes walked together by N operands, outermost first. Sizes of 1 are dropped and neighbours that
/// all operands step through evenly are merged, so loops are as long as they can be.
template <int N>
struct Axes {
  Dims size;
  std::array<Dims, N> stride;
  std::int64_t count = 1;

  int rank() const { return size.size(); }
  /// Appends an axis inside those there are.
  void add(std::int64_t n, const std::array<std::int64_t, N>& s) {
    count *= n;
    if (n == 1) return;
    const int last = rank() - 1;
    bool even = last >= 0;
    for (int k = 0; even && k < N; ++k) even = stride[k][last] == s[k] * n;
    if (even) {
      size[last] *= n;
      for (int k = 0; k < N; ++k) stride[k][last] = s[k];
    } else {
      size.push_back(n);
      for (int k = 0; k < N; ++k) stride[k].push_back(s[k]);
    }
  }
  /// Takes the innermost axis out: its size (1 if there is none) and its strides.
  std::int64_t pop(std::array<std::int64_t, N>& s) {
    s = {};
    if (rank() == 0) return 1;
    const int last = rank() - 1;
    const std::int64_t n = size[last];
    for (int k = 0; k < N; ++k) {
      s[k] = stride[k][last];
      stride[k].erase(last);
    }
    size.erase(last);
    count = 1;
    for (auto v : size) count *= v;
    return n;
  }
};

}  // namespace tandem
