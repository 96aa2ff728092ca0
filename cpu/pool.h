// What the pooling kernels share: sizes, layout and windows.
#pragma once
#include <vector>

#include "cpu/operand.h"
#include "ops/pool.h"

namespace tandem::cpu::pool {

using i64 = std::int64_t;
using i32 = std::int32_t;

inline constexpr i64 kBlock = 64;    // channels handled together
inline constexpr i64 kPlane = 1024;  // elements of short rows laid end to end

// The pooling of [N, C, H, W] planes, in one of the two dense layouts.
struct Geometry {
  i64 n, c, h, w, oh, ow;
  i64 kh = 1, kw = 1, sh = 1, sw = 1, ph = 0, pw = 0;
  bool channels_last;

  // `large` has the size before pooling, `small` that after.
  Geometry(const TensorDesc& large, const TensorDesc& small, const TensorDesc& layout_of)
      : n(large.dim(0)),
        c(large.dim(1)),
        h(large.dim(2)),
        w(large.dim(3)),
        oh(small.dim(2)),
        ow(small.dim(3)),
        channels_last(layout_of.is_channels_last()) {}
  Geometry(const TensorDesc& large, const TensorDesc& small, const TensorDesc& layout_of,
           const PoolAttrs& a)
      : Geometry(large, small, layout_of) {
    kh = a.kernel[0], kw = a.kernel[1], sh = a.stride[0], sw = a.stride[1];
    ph = a.padding[0], pw = a.padding[1];
  }

  i64 planes() const { return n * c; }
  bool halves() const {  // whole 2x2 windows side by side
    return kh == 2 && kw == 2 && sh == 2 && sw == 2 && ph == 0 && pw == 0 && 2 * oh <= h &&
           2 * ow <= w;
  }
  /// The position of each such window's first input, where rows are short enough to be joined.
  std::vector<std::int32_t> first_inputs() const {
    std::vector<std::int32_t> p;
    if (channels_last || !halves() || w > kPlane) return p;
    for (i64 o = 0; o < oh * ow; ++o) {
      p.push_back(static_cast<std::int32_t>(2 * (o / ow * w + o % ow)));
    }
    return p;
  }
  Strides strides(const Shape& s) const {
    return strides_for(s, channels_last ? MemoryFormat::channels_last : MemoryFormat::contiguous);
  }
};

struct Range {
  i64 begin, end;
};
// Inputs of window `o`, and windows that hold input `i`, along one axis.
inline Range window(i64 o, i64 k, i64 s, i64 p, i64 size) {
  const i64 b = o * s - p;
  return {std::max<i64>(b, 0), std::min(b + k, size)};
}
inline Range windows_of(i64 i, i64 k, i64 s, i64 p, i64 count) {
  const i64 first = i + p - k;  // the last window that ends before i
  return {first < 0 ? 0 : first / s + 1, std::min((i + p) / s + 1, count)};
}

}  // namespace tandem::cpu::pool
