// One number that remembers whether it was written as an integer, a float or a bool.
#pragma once
#include <cstdint>
#include <string>
#include <type_traits>

#include "core/dtype.h"

namespace tandem {

/// A number that remembers whether it is bool, integral or floating (for type promotion); or
/// nothing.
class Scalar {
 public:
  enum class Kind : std::uint8_t { none, boolean, integer, real };

  constexpr Scalar() = default;
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr Scalar(T v) {
    if constexpr (std::is_same_v<T, bool>) {
      kind_ = Kind::boolean;
      i_ = v;
    } else if constexpr (std::is_integral_v<T>) {
      kind_ = Kind::integer;
      i_ = static_cast<std::int64_t>(v);
    } else {
      kind_ = Kind::real;
      d_ = static_cast<double>(v);
    }
  }

  constexpr bool defined() const { return kind_ != Kind::none; }
  constexpr Kind kind() const { return kind_; }
  constexpr double to_double() const { return kind_ == Kind::real ? d_ : static_cast<double>(i_); }
  std::int64_t to_int() const { return kind_ == Kind::real ? convert<std::int64_t>(d_) : i_; }
  template <class T>
  T to() const {  // bool: whether it is not 0
    if constexpr (std::is_same_v<T, bool>) {
      return kind_ == Kind::real ? d_ != 0 : i_ != 0;
    } else if constexpr (std::is_integral_v<T>) {
      return kind_ == Kind::real ? convert<T>(d_) : static_cast<T>(i_);
    } else {
      return convert<T>(to_double());
    }
  }
  /// Whether `t` holds the number, its fraction aside. Every number fits floating types and bool.
  bool fits(DType t) const;
  std::string str() const;
  std::uint64_t bits() const {
    std::uint64_t u;
    if (kind_ == Kind::real) {
      __builtin_memcpy(&u, &d_, 8);
    } else {
      u = static_cast<std::uint64_t>(i_);
    }
    return u;
  }
  /// Same kind and same bits: 0.0 and -0.0 differ, a NaN equals itself. As a cache key must.
  friend bool operator==(const Scalar& a, const Scalar& b) {
    return a.kind_ == b.kind_ && a.bits() == b.bits();
  }

 private:
  Kind kind_ = Kind::none;
  union {
    std::int64_t i_ = 0;
    double d_;
  };
};

/// The dtype of `tensor op scalar`: a scalar changes the tensor's type only when it is of a higher
/// category (bool < integral < floating), and then to bool, i64 or f32.
DType promote(DType tensor, const Scalar& scalar);

}  // namespace tandem
