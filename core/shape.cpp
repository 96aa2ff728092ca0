#include "core/shape.h"

#include <limits>

#include "core/desc.h"

namespace tandem {

std::string Dims::str() const {
  std::string s = "[";
  for (int i = 0; i < n_; ++i) s += (i ? ", " : "") + std::to_string(v_[i]);
  return s + "]";
}

void Dims::too_long(int n) {
  fail<ShapeError>("shape", "a tensor has at most 8 axes", std::to_string(n));
}

std::int64_t checked_numel(const Shape& s, std::string_view op) {
  // Bytes must fit as well, so the limit leaves room for 8-byte elements.
  constexpr std::int64_t limit = std::numeric_limits<std::int64_t>::max() / 16;
  std::int64_t n = 1;
  bool empty = false;
  for (auto d : s) {
    if (d < 0) fail<ShapeError>(op, "sizes must not be negative", s.str());
    if (d == 0) empty = true;
    if (d > 0 && n > limit / d) fail<ShapeError>(op, "too many elements", s.str());
    if (d > 0) n *= d;
  }
  return empty ? 0 : n;
}

int wrap_axis(std::int64_t axis, int rank, std::string_view op) {
  const int r = rank == 0 ? 1 : rank;  // a 0-dim tensor accepts axis 0 and -1, as NumPy's sum does
  if (axis < -r || axis >= r) {
    fail<IndexError>(op, "axis out of range", std::to_string(axis),
                     fmt::format("{} to {}", -r, r - 1));
  }
  return static_cast<int>(axis < 0 ? axis + r : axis);
}

Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view op) {
  if (a == b) return a;
  const int r = std::max(a.size(), b.size());
  Shape out(r, 1);
  for (int i = 0; i < r; ++i) {
    const int ia = a.size() - r + i, ib = b.size() - r + i;
    const std::int64_t da = ia < 0 ? 1 : a[ia], db = ib < 0 ? 1 : b[ib];
    if (da != db && da != 1 && db != 1) {
      fail<ShapeError>(op, "shapes must broadcast: equal, or 1, counted from the last axis",
                       a.str() + " and " + b.str());
    }
    out[i] = da == 1 ? db : da;
  }
  return out;
}

const char* name_of(MemoryFormat f) {
  switch (f) {
    case MemoryFormat::contiguous: return "contiguous";
    case MemoryFormat::channels_last: return "channels_last";
    case MemoryFormat::preserve: break;
  }
  return "preserve";
}

// Descriptions are made before their sizes are checked (checked_numel): products that are too large
// wrap here and are refused there.
namespace {
std::int64_t times(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}
}  // namespace

Strides contiguous_strides(const Shape& s) {
  Strides st(s.size(), 1);
  std::int64_t n = 1;
  for (int i = s.size() - 1; i >= 0; --i) {
    st[i] = n;
    n = times(n, s[i] > 0 ? s[i] : 1);
  }
  return st;
}

Strides channels_last_strides(const Shape& s) {
  if (s.size() != 4) {
    fail<ShapeError>("channels_last", "the format is defined for rank 4 (N, C, H, W)", s.str());
  }
  const std::int64_t c = std::max<std::int64_t>(s[1], 1), h = std::max<std::int64_t>(s[2], 1),
                     w = std::max<std::int64_t>(s[3], 1);
  return {times(times(h, w), c), 1, times(w, c), c};
}

Strides strides_for(const Shape& s, MemoryFormat f) {
  return f == MemoryFormat::channels_last ? channels_last_strides(s) : contiguous_strides(s);
}

// ---------------------------------------------------------------------------------- TensorDesc

std::size_t TensorDesc::bytes() const {
  std::int64_t last = 0;
  for (int i = 0; i < rank(); ++i) {
    if (shape[i] == 0) return 0;
    last += (shape[i] - 1) * strides[i];
  }
  return static_cast<std::size_t>(last + 1) * size_of(dtype);
}

bool TensorDesc::is_contiguous() const {
  std::int64_t n = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != n) return false;
    n *= shape[i];
  }
  return true;
}

bool TensorDesc::is_channels_last() const {
  if (rank() != 4) return false;
  std::int64_t n = 1;
  for (int i : {1, 3, 2, 0}) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != n) return false;
    n *= shape[i];
  }
  return true;
}

bool TensorDesc::is_dense() const {
  if (is_contiguous()) return true;
  // Walk the axes from the smallest stride up; each must start where the last one ended.
  std::uint32_t left = (1u << rank()) - 1;
  std::int64_t n = 1;
  while (left) {
    int best = -1;
    for (int i = 0; i < rank(); ++i) {
      if (!(left >> i & 1)) continue;
      if (shape[i] == 1) {
        left &= ~(1u << i);
        continue;
      }
      if (best < 0 || strides[i] < strides[best]) best = i;
    }
    if (best < 0) break;
    if (strides[best] != n) return false;
    n *= shape[best];
    left &= ~(1u << best);
  }
  return true;
}

std::string TensorDesc::str() const {
  std::string s = name_of(dtype) + shape.str();
  if (!is_contiguous()) {
    s += is_channels_last() ? " channels_last" : " strides " + strides.str();
  }
  if (!device.is_cpu()) s += " " + device.str();
  return s;
}

}  // namespace tandem
