// IEEE binary16 and bfloat16 as storage types. Arithmetic is done in float and rounded on store
// (round to nearest even), the same on the CPU and the GPU. This header is also read by the
// run-time CUDA compiler, so it includes nothing but what that compiler has.
#pragma once
#ifndef __CUDACC_RTC__
#include <cstdint>
#include <cstring>
#endif

#ifdef __CUDACC__
#define TANDEM_HD __host__ __device__
#else
#define TANDEM_HD
#endif

namespace tandem {

namespace detail {
TANDEM_HD inline unsigned float_bits(float f) {
  unsigned u;
#ifdef __CUDA_ARCH__
  u = __float_as_uint(f);
#else
  __builtin_memcpy(&u, &f, 4);
#endif
  return u;
}
TANDEM_HD inline float bits_float(unsigned u) {
  float f;
#ifdef __CUDA_ARCH__
  f = __uint_as_float(u);
#else
  __builtin_memcpy(&f, &u, 4);
#endif
  return f;
}
}  // namespace detail

/// bfloat16: the upper half of an IEEE 754 binary32. Rounds to nearest even.
struct BFloat16 {
  unsigned short bits = 0;
  BFloat16() = default;
  TANDEM_HD explicit BFloat16(float f) {
    const unsigned u = detail::float_bits(f);
    // A NaN must stay a NaN: rounding could carry its payload over into infinity.
    const unsigned nan = (u >> 16) | 0x40u;
    const unsigned rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    bits = static_cast<unsigned short>((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
  }
  TANDEM_HD explicit operator float() const {
    return detail::bits_float(static_cast<unsigned>(bits) << 16);
  }
};

/// IEEE 754 binary16. Rounds to nearest even.
struct Half {
  unsigned short bits = 0;
  Half() = default;
  TANDEM_HD explicit Half(float f) {
    const unsigned u = detail::float_bits(f);
    const unsigned sign = (u >> 16) & 0x8000u;
    const unsigned a = u & 0x7fffffffu;
    unsigned r;
    if (a > 0x7f800000u) {
      r = 0x7e00u | ((a >> 13) & 0x3ffu);
    } else if (a >= 0x477ff000u) {  // rounds to 65536 or more
      r = 0x7c00u;
    } else if (a < 0x38800000u) {  // below the smallest normal: let the FPU round at 2^-24
      const float shifted = detail::bits_float(a) + 0.5f;
      r = detail::float_bits(shifted) - 0x3f000000u;
    } else {
      r = (a + 0xfffu + ((a >> 13) & 1u) - 0x38000000u) >> 13;
    }
    bits = static_cast<unsigned short>(sign | r);
  }
  TANDEM_HD explicit operator float() const {
    const unsigned sign = (bits & 0x8000u) << 16;
    const unsigned e = (bits >> 10) & 0x1fu;
    const unsigned m = bits & 0x3ffu;
    if (e == 0) {
      const float v = static_cast<float>(m) * 5.9604644775390625e-08f;  // 2^-24
      return detail::bits_float(detail::float_bits(v) | sign);
    }
    if (e == 31) return detail::bits_float(sign | 0x7f800000u | (m << 13));
    return detail::bits_float(sign | ((e + 112u) << 23) | (m << 13));
  }
};

/// The type arithmetic on T is done in.
template <class T>
struct compute_type {
  using type = T;
};
template <>
struct compute_type<Half> {
  using type = float;
};
template <>
struct compute_type<BFloat16> {
  using type = float;
};
template <class T>
using compute_t = typename compute_type<T>::type;

namespace detail {

// clang-format off
template <class T> inline constexpr bool is_float_v = false;
template <> inline constexpr bool is_float_v<float> = true;
template <> inline constexpr bool is_float_v<double> = true;
template <class T> inline constexpr bool is_bool_v = false;
template <> inline constexpr bool is_bool_v<bool> = true;
// clang-format on

// Towards zero. C++ leaves open what becomes of values that do not fit, and processors differ: here
// they give the nearest that does, NaN gives 0. Without branches, so that loops vectorise.
template <class To, class From>
TANDEM_HD inline To to_integer(From v) {
  constexpr bool has_sign = static_cast<To>(-1) < To(0);
  constexpr int bits = 8 * static_cast<int>(sizeof(To)) - (has_sign ? 1 : 0);
  constexpr int precision = sizeof(From) == 4 ? 24 : 53;
  constexpr To most = static_cast<To>(~0ull >> (64 - bits));
  constexpr To least = has_sign ? static_cast<To>(-most - 1) : To(0);
  constexpr From end = static_cast<From>(1ull << (bits - 1)) * From(2);
  // The largest that can be converted.
  constexpr From last = bits <= precision ? static_cast<From>(most)
                                          : end - end / static_cast<From>(1ull << precision);
  From inside = v > static_cast<From>(least) ? v : static_cast<From>(least);
  inside = inside < last ? inside : last;
  const To r = static_cast<To>(inside);
  return v >= end ? most : (v == v ? r : To(0));
}

// The float next to v, or the one of its two neighbours whose last bit is set: rounding that once
// more to 16 bits gives what rounding v at once does. (Boldo, Melquiond: Emulation of FMA and
// correctly rounded sums, 2008.)
TANDEM_HD inline float to_odd_float(double v) {
  const float f = static_cast<float>(v);
  const double back = static_cast<double>(f);
  if (back == v || !(v == v)) return f;
  unsigned u = float_bits(f);
  if (v < 0 ? back < v : back > v) --u;  // towards zero
  return bits_float(u | 1u);
}
TANDEM_HD inline float to_odd_float(long long v) {
  // Odd already at bit 11 where a double would have to round: it has 53 bits.
  const bool wide = v >= (1ll << 53) || v <= -(1ll << 53);
  const long long kept = wide ? (v & ~0x7ffll) | ((v & 0x7ff) != 0 ? 0x800 : 0) : v;
  return to_odd_float(static_cast<double>(kept));
}

template <class T>
inline constexpr bool is_16_bit_v = false;
template <>
inline constexpr bool is_16_bit_v<Half> = true;
template <>
inline constexpr bool is_16_bit_v<BFloat16> = true;

}  // namespace detail

/// Value conversion between any two element types, rounded once. From floating to integral:
/// towards zero, to the nearest that the type holds, NaN to 0.
template <class To, class From>
TANDEM_HD inline To convert(From v) {
  using detail::is_bool_v, detail::is_float_v;
  const auto x = static_cast<compute_t<From>>(v);
  if constexpr (is_float_v<compute_t<From>> && !is_float_v<compute_t<To>> && !is_bool_v<To>) {
    return detail::to_integer<To>(x);
  } else if constexpr (detail::is_16_bit_v<To> && sizeof(From) == 8 && is_float_v<From>) {
    return static_cast<To>(detail::to_odd_float(x));
  } else if constexpr (detail::is_16_bit_v<To> && sizeof(From) >= 4 && !is_float_v<From>) {
    return static_cast<To>(detail::to_odd_float(static_cast<long long>(x)));
  } else {
    return static_cast<To>(static_cast<compute_t<To>>(x));
  }
}

}  // namespace tandem
