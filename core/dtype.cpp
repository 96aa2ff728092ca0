#include "core/dtype.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <fmt/format.h>

#include "core/scalar.h"

namespace tandem {

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_floating(a) != is_floating(b)) return is_floating(a) ? a : b;
  if (is_floating(a)) {
    if (is_low_precision(a) && is_low_precision(b)) return DType::f32;
    return size_of(a) > size_of(b) ? a : b;
  }
  // i32 < i64; u8 fits into both; bool into all.
  if (a == DType::boolean) return b;
  if (b == DType::boolean) return a;
  return size_of(a) > size_of(b) ? a : b;
}

DType promote(DType tensor, const Scalar& s) {
  switch (s.kind()) {
    case Scalar::Kind::none:
    case Scalar::Kind::boolean: return tensor;
    case Scalar::Kind::integer: return tensor == DType::boolean ? DType::i64 : tensor;
    case Scalar::Kind::real: break;
  }
  return is_floating(tensor) ? tensor : DType::f32;
}

bool Scalar::fits(DType t) const {
  if (kind_ == Kind::none || kind_ == Kind::boolean || is_floating(t) || t == DType::boolean) {
    return true;
  }
  const double v = kind_ == Kind::real ? std::trunc(d_) : 0;  // NaN fits nowhere
  switch (t) {
    case DType::u8: return kind_ == Kind::real ? v >= 0 && v <= 255 : i_ >= 0 && i_ <= 255;
    case DType::i32:
      return kind_ == Kind::real ? v >= -0x1p31 && v < 0x1p31 : i_ >= INT32_MIN && i_ <= INT32_MAX;
    default: return kind_ == Kind::integer || (v >= -0x1p63 && v < 0x1p63);
  }
}

std::string Scalar::str() const {
  switch (kind_) {
    case Kind::none: return "none";
    case Kind::boolean: return i_ ? "true" : "false";
    case Kind::integer: return std::to_string(i_);
    case Kind::real: break;
  }
  return fmt::format("{}", d_);
}

}  // namespace tandem
