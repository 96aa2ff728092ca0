// Printing tensors the way people read them: aligned columns, long axes abbreviated.
#include <algorithm>
#include <cmath>
#include <ostream>

#include "core/tensor.h"

namespace tandem {
namespace {

constexpr std::int64_t kEdge = 3;          // items shown at each end of an abbreviated axis
constexpr std::int64_t kSummarise = 1000;  // abbreviate tensors with more elements than this

struct Formatter {
  const Tensor& t;
  std::vector<double> floats;
  std::vector<std::int64_t> ints;
  bool abbreviate;
  int precision = 4;
  bool scientific = false, whole = true;
  std::size_t width = 0;

  explicit Formatter(const Tensor& tensor) : t(tensor), abbreviate(t.numel() > kSummarise) {
    if (is_floating(t.dtype())) {
      floats = t.to_vector<double>();
      double largest = 0, smallest = INFINITY;
      for (double v : floats) {
        if (!std::isfinite(v)) continue;
        if (v != std::floor(v)) whole = false;
        if (v != 0) {
          largest = std::max(largest, std::fabs(v));
          smallest = std::min(smallest, std::fabs(v));
        }
      }
      scientific = largest >= 1e8 || (largest > 0 && smallest < 1e-4 && !whole) ||
                   (largest > 0 && !whole && largest / smallest > 1e6);
    } else {
      ints = t.to_vector<std::int64_t>();
    }
    for_shown(0, 0, [&](std::int64_t i) { width = std::max(width, element(i).size()); });
  }

  std::string element(std::int64_t i) const {
    const auto k = static_cast<std::size_t>(i);
    if (t.dtype() == DType::boolean) return ints[k] ? "true" : "false";
    if (!is_floating(t.dtype())) return std::to_string(ints[k]);
    const double v = floats[k];
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
    if (scientific) return fmt::format("{:.{}e}", v, precision);
    if (whole) return fmt::format("{:.0f}.", v);
    return fmt::format("{:.{}f}", v, precision);
  }

  // Row-major index of the first element below `axis` and the elements each step of it covers.
  std::int64_t block(int axis) const {
    std::int64_t n = 1;
    for (int a = axis + 1; a < t.rank(); ++a) n *= t.shape()[a];
    return n;
  }

  template <class F>
  void for_shown(int axis, std::int64_t base, F&& f) const {
    if (axis == t.rank()) return f(base);
    const std::int64_t n = t.shape()[axis], step = block(axis);
    for (std::int64_t i = 0; i < n; ++i) {
      if (skip(i, n)) continue;
      for_shown(axis + 1, base + i * step, f);
    }
  }
  bool skip(std::int64_t i, std::int64_t n) const {
    return abbreviate && n > 2 * kEdge && i >= kEdge && i < n - kEdge;
  }

  void print(std::string& out, int axis, std::int64_t base) const {
    if (axis == t.rank()) {
      const std::string e = element(base);
      out += std::string(width - e.size(), ' ') + e;
      return;
    }
    const std::int64_t n = t.shape()[axis], step = block(axis);
    const bool innermost = axis == t.rank() - 1;
    const std::string gap =
        innermost ? ", "
                  : "," + std::string(static_cast<std::size_t>(t.rank() - axis - 1), '\n') +
                        std::string(static_cast<std::size_t>(axis + 1), ' ');
    out += "[";
    for (std::int64_t i = 0; i < n; ++i) {
      if (skip(i, n)) {
        if (i == kEdge) out += gap + "...";
        continue;
      }
      if (i) out += gap;
      print(out, axis + 1, base + i * step);
    }
    out += "]";
  }
};

}  // namespace

std::string Tensor::str() const {
  if (!defined()) return "tensor(undefined)";
  if (is_symbolic()) return "tensor(symbolic, " + desc().str() + ")";
  std::string out;
  Formatter(*this).print(out, 0, 0);
  return out + (rank() > 1 && numel() > 0 ? "\n" : "  ") + desc().str();
}

std::ostream& operator<<(std::ostream& os, const Tensor& t) {
  return os << t.str();
}

}  // namespace tandem
