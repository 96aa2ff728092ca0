#include "core/dtype.h"

#include <algorithm>

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
