#include "core/compare.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "core/error.h"

namespace tandem {

namespace {

bool same(DType t, std::uint64_t a, std::uint64_t b) {
  return a == b || (is_floating(t) && std::isnan(std::bit_cast<double>(a)) &&
                    std::isnan(std::bit_cast<double>(b)));
}

std::string value(DType t, std::uint64_t bits) {
  if (is_floating(t)) return fmt::format("{:.17g}", std::bit_cast<double>(bits));
  return std::to_string(static_cast<std::int64_t>(bits));
}

}  // namespace

std::optional<Difference> first_difference(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) {
    fail("first_difference", "both must have one dtype and shape",
         a.desc().str() + " and " + b.desc().str());
  }
  return first_difference(a.dtype(), a.to_bits(), b.to_bits());
}

std::optional<Difference> first_difference(DType dtype, std::span<const std::uint64_t> a,
                                           std::span<const std::uint64_t> b) {
  if (a.size() != b.size()) {
    fail("first_difference", "both must have as many elements",
         fmt::format("{} and {}", a.size(), b.size()));
  }
  std::optional<Difference> d;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (same(dtype, a[i], b[i])) continue;
    if (!d) d = {0, static_cast<std::int64_t>(i), value(dtype, a[i]), value(dtype, b[i])};
    ++d->count;
  }
  return d;
}

}  // namespace tandem
