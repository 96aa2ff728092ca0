// Scalar code of the elementwise ops, written once: the CPU loops, the CUDA kernels and the fused
// kernels of both instantiate it, so fused and unfused results agree bit for bit. Read by the
// run-time CUDA compiler too, so: no standard headers beyond <math.h>, no host-only code.
//
//   functor::<op>::apply<T>(x…, p)
//
// T is the compute type: float, double, a signed integer, unsigned char or bool (the 16-bit floats
// are converted before and after). `p` holds the op's scalar parameters in T; null for most ops.
#pragma once
#include "core/half.h"
#ifndef __CUDACC_RTC__
#include <math.h>
#endif

namespace tandem {

// ------------------------------------------------------------------------- arithmetic helpers

namespace detail {

/// The type sums and products of T are formed in: unsigned for the signed integers, so that
/// overflow wraps instead of being undefined.
// clang-format off
template <class T> struct wrap_type { using type = T; };
template <> struct wrap_type<int> { using type = unsigned; };
template <> struct wrap_type<long> { using type = unsigned long; };
template <> struct wrap_type<long long> { using type = unsigned long long; };
template <class T> using wrap_t = typename wrap_type<T>::type;

// clang-format on

/// x < 0, without a comparison that compilers call pointless where T has no sign.
template <class T>
TANDEM_HD constexpr bool is_negative(T x) {
  if constexpr (static_cast<T>(-1) < T(0)) {
    return x < T(0);
  } else {
    return false;
  }
}

}  // namespace detail

/// Elementary functions. In f32 they are straight-line code over +, -, *, / and bit patterns: loops
/// over them vectorise, and every device gives the same bits. Errors are below 2 ulp, infinities,
/// NaN and denormals included. Polynomials are minimax fits (Remez) made for these ranges. The
/// f64 versions are the platform's.
namespace math {

using detail::bits_float;
using detail::float_bits;

// No constant: NVRTC has no name for it.
TANDEM_HD inline float infinity() {
  return bits_float(0x7f800000u);
}

// ln 2 in two parts; the first has 9 bits, so multiples of it up to 2^15 are exact.
inline constexpr float kLn2Hi = 0.693359375f, kLn2Lo = -2.12194440054690583e-4f;

TANDEM_HD inline float exp(float x) {
  // Beyond these bounds the result is inf or 0 anyway. A NaN passes both tests.
  x = x > 90.0f ? 90.0f : x;
  x = x < -105.0f ? -105.0f : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float t = x * 1.44269504088896341f + magic;
  const float n = t - magic;
  const int k = static_cast<int>(float_bits(t) - float_bits(magic));
  const float r = (x - n * kLn2Hi) - n * kLn2Lo;
  float p = 0.0001991991297f;
  p = p * r + 0.001394721202f;
  p = p * r + 0.008333261599f;
  p = p * r + 0.041666254f;
  p = p * r + 0.1666666687f;
  p = p * r + 0.5000000083f;
  p = (p * (r * r) + r) + 1.0f;
  // 2^k in two factors: a result may be denormal, or p * 2^128 still finite.
  const int k1 = k >> 1, k2 = k - k1;
  return p * bits_float(static_cast<unsigned>(k1 + 127) << 23) *
         bits_float(static_cast<unsigned>(k2 + 127) << 23);
}
TANDEM_HD inline double exp(double x) {
  return ::exp(x);
}

/// log(x * 2^-shift) for a normal, positive, finite x.
TANDEM_HD inline float log_normal(float x, float shift) {
  const unsigned u = float_bits(x);
  // x = 2^e m, m in [sqrt(1/2), sqrt(2)).
  const int e = static_cast<int>(u - 0x3f3504f3u) >> 23;
  const float f = bits_float(u - (static_cast<unsigned>(e) << 23)) - 1.0f;
  const float fe = static_cast<float>(e) - shift;
  const float z = f * f;
  float p = 0.06916097213f;
  p = p * f - 0.117889289f;
  p = p * f + 0.1187212981f;
  p = p * f - 0.1238445891f;
  p = p * f + 0.1421880286f;
  p = p * f - 0.166692483f;
  p = p * f + 0.2000221808f;
  p = p * f - 0.2499998656f;
  p = p * f + 0.333333106f;
  return (f + (f * z * p + fe * kLn2Lo - 0.5f * z)) + fe * kLn2Hi;
}
TANDEM_HD inline float log(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const float y = log_normal(tiny ? x * 8388608.0f : x, tiny ? 23.0f : 0.0f);
  const float edge = x == 0.0f ? -infinity() : (x == infinity() ? x : bits_float(0x7fc00000u));
  return (x > 0.0f) & (x < infinity()) ? y : edge;
}
TANDEM_HD inline double log(double x) {
  return ::log(x);
}

TANDEM_HD inline float log1p(float x) {
  const float u = 1.0f + x;
  // What rounding 1 + x lost, put back to first order.
  const float lost = x > 1.0f ? 1.0f - (u - x) : x - (u - 1.0f);
  const float y = log(u) + lost / u;
  return (x == 0.0f) | (x == infinity()) ? x : (x == -1.0f ? -infinity() : y);
}
/// log(1 + x) for x in [0, 1]; NaN of NaN.
TANDEM_HD inline float log1p_unit(float x) {
  const float u = 1.0f + x;
  return log_normal(u, 0.0f) + (x - (u - 1.0f)) / u;
}
TANDEM_HD inline double log1p_unit(double x) {
  return ::log1p(x);
}
TANDEM_HD inline double log1p(double x) {
  return ::log1p(x);
}

TANDEM_HD inline float tanh(float x) {
  const float a = ::fabsf(x);
  const float big = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
  const float z = a * a;
  float p = -0.005717089047f;
  p = p * z + 0.02065063224f;
  p = p * z - 0.05374351427f;
  p = p * z + 0.1333149153f;
  p = p * z - 0.3333328394f;
  const float small = a + a * (z * p);
  return ::copysignf(a < 0.625f ? small : big, x);
}
TANDEM_HD inline double tanh(double x) {
  return ::tanh(x);
}

/// erf for |x| < 0.84.
TANDEM_HD inline float erf_small(float x) {
  const float z = x * x;
  float p = 8.955870135e-5f;
  p = p * z - 0.0008269316921f;
  p = p * z + 0.005211280052f;
  p = p * z - 0.0268632175f;
  p = p * z + 0.1128375994f;
  p = p * z - 0.3761263777f;
  return x + x * (z * p + 0.128379167095512574f);
}
/// exp(t^2) erfc(t) for t >= 0.83, as a polynomial of (t - 2) / (t + 2).
TANDEM_HD inline float erfcx(float t) {
  const float u = 1.0f - 4.0f / (t + 2.0f);
  float p = 0.0001336619555f;
  p = p * u + 8.233551408e-5f;
  p = p * u - 0.0009760070095f;
  p = p * u - 0.0008582582503f;
  p = p * u + 0.00699799748f;
  p = p * u + 0.003734001705f;
  p = p * u - 0.07897868613f;
  p = p * u + 0.2416581577f;
  p = p * u - 0.4271858447f;
  return p * u + 0.2553956765f;
}
TANDEM_HD inline float erf(float x) {
  const float a = ::fabsf(x);
  const float t = a > 10.0f ? 10.0f : a;
  const float big = 1.0f - exp(-(t * t)) * erfcx(t);
  return ::copysignf(a < 0.84f ? erf_small(a) : big, x);
}
TANDEM_HD inline double erf(double x) {
  return ::erf(x);
}

/// exp(-x^2 / 2). Rounding the square would cost ulps in proportion to it, so x is split into a
/// part whose square is exact and a small rest.
TANDEM_HD inline float gauss(float x) {
  const float a = ::fabsf(x) > 20.0f ? 20.0f : ::fabsf(x);
  const float h = bits_float(float_bits(a) & 0xfffff000u);
  const float b = (a - h) * (a + h) * 0.5f;
  const float rest = 1.0f - b * (1.0f - b * (0.5f - b * 0.16666667f));
  return x != x ? x : exp(-0.5f * (h * h)) * rest;
}
TANDEM_HD inline double gauss(double x) {
  return ::exp(-0.5 * x * x);
}

/// The standard normal distribution function, given g = gauss(x).
TANDEM_HD inline float normal_cdf(float x, float g) {
  const float a = ::fabsf(x) * 0.707106781186547524f;
  const float tail = 0.5f * g * erfcx(a > 15.0f ? 15.0f : a);
  const float mid = 0.5f + 0.5f * erf_small(x * 0.707106781186547524f);
  return a < 0.84f ? mid : (x < 0.0f ? tail : 1.0f - tail);
}
TANDEM_HD inline double normal_cdf(double x, double) {
  return 0.5 * ::erfc(x * -0.707106781186547524400844362104849);
}

/// 1 / (1 + e^-x), with the small exponential on both sides so that neither loses digits.
template <class T>
TANDEM_HD inline T sigmoid(T x) {
  const T e = exp(x < T(0) ? x : -x);
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

/// begin + i * step. The product may overflow on the way to a result that does not.
template <class T>
TANDEM_HD inline T place_in_range(T begin, T step, long long i) {
  using W = detail::wrap_t<T>;
  return static_cast<T>(static_cast<W>(begin) + static_cast<W>(i) * static_cast<W>(step));
}

template <class T>
TANDEM_HD inline T int_pow(T base, T n) {
  using W = detail::wrap_t<T>;
  if (detail::is_negative(n)) {  // the quotient 1 / base^-n, truncated
    if (base == T(1)) return T(1);
    return base == T(-1) ? (n % T(2) == T(0) ? T(1) : T(-1)) : T(0);
  }
  W r = 1, b = static_cast<W>(base);
  for (W k = static_cast<W>(n); k != 0; k = static_cast<W>(k >> 1)) {
    if (k & 1) r = static_cast<W>(r * b);
    b = static_cast<W>(b * b);
  }
  return static_cast<T>(r);
}

template <class T>
struct Division {
  T quotient, rest;
};

/// a / b rounded down, and what that leaves: of b's sign, as in Python. Of integers, both are 0
/// where b is, and the smallest number over -1 wraps. Floats by way of fmod, which is exact on
/// every device: a quotient that rounds up to a whole number is not one too large. inf, NaN and the
/// signs of zeros are as in NumPy.
template <class T>
TANDEM_HD inline Division<T> floor_division(T a, T b) {
  if constexpr (detail::is_float_v<T>) {
    T rest = ::fmod(a, b);
    if (b == T(0)) return {a / b, rest};
    T quotient = (a - rest) / b;
    if (rest == T(0)) {
      rest = ::copysign(T(0), b);
    } else if ((b < T(0)) != (rest < T(0))) {
      rest += b;
      quotient -= T(1);
    }
    if (quotient == T(0)) return {::copysign(T(0), a / b), rest};
    const T below = ::floor(quotient);
    return {quotient - below > T(0.5) ? below + T(1) : below, rest};
  } else {
    if (b == T(0)) return {T(0), T(0)};
    if constexpr (static_cast<T>(-1) < T(0)) {
      // Processors stop at the smallest number over -1.
      using W = detail::wrap_t<T>;
      if (b == T(-1)) return {static_cast<T>(W(0) - static_cast<W>(a)), T(0)};
    }
    const T quotient = static_cast<T>(a / b), rest = static_cast<T>(a % b);
    const bool above = rest != T(0) && detail::is_negative(rest) != detail::is_negative(b);
    return {static_cast<T>(quotient - (above ? 1 : 0)), static_cast<T>(above ? rest + b : rest)};
  }
}

}  // namespace math

// ----------------------------------------------------------------------------------- the ops

namespace functor {

// --- one input

struct neg {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return static_cast<T>(-static_cast<detail::wrap_t<T>>(x));
  }
};
struct abs {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    if constexpr (detail::is_float_v<T>) return ::fabs(x);
    return detail::is_negative(x) ? neg::apply(x, static_cast<const T*>(nullptr)) : x;
  }
};
struct sign {  // NaN stays NaN
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return x > T(0) ? T(1) : (detail::is_negative(x) ? T(-1) : x);
  }
};
struct floor {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    if constexpr (detail::is_float_v<T>) return ::floor(x);
    return x;
  }
};
struct ceil {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    if constexpr (detail::is_float_v<T>) return ::ceil(x);
    return x;
  }
};
struct round {  // halves to even
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    if constexpr (detail::is_float_v<T>) return ::rint(x);
    return x;
  }
};
struct square {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    const auto w = static_cast<detail::wrap_t<T>>(x);
    return static_cast<T>(w * w);
  }
};
struct relu {  // NaN stays NaN
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return x <= T(0) ? T(0) : x;
  }
};
struct clamp {  // p: lo, hi. NaN stays NaN
  template <class T>
  TANDEM_HD static T apply(T x, const T* p) {
    const T y = x < p[0] ? p[0] : x;
    return y > p[1] ? p[1] : y;
  }
};
struct reciprocal {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return T(1) / x;
  }
};
struct exp {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return math::exp(x);
  }
};
struct log {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return math::log(x);
  }
};
struct log1p {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return math::log1p(x);
  }
};
struct sqrt {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return ::sqrt(x);
  }
};
struct rsqrt {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return T(1) / ::sqrt(x);
  }
};
struct sin {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return ::sin(x);
  }
};
struct cos {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return ::cos(x);
  }
};
struct acos {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return ::acos(x);
  }
};
struct asin {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return ::asin(x);
  }
};
struct atan {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return ::atan(x);
  }
};
struct erf {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return math::erf(x);
  }
};
struct tanh {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return math::tanh(x);
  }
};
struct sigmoid {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return math::sigmoid(x);
  }
};
struct leaky_relu {  // p: slope
  template <class T>
  TANDEM_HD static T apply(T x, const T* p) {
    return x > T(0) ? x : x * p[0];
  }
};
struct gelu {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return x * math::normal_cdf(x, math::gauss(x));
  }
};
struct silu {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    return x * math::sigmoid(x);
  }
};
struct softplus {
  template <class T>
  TANDEM_HD static T apply(T x, const T*) {
    const T y = math::log1p_unit(math::exp(-::fabs(x)));
    return (x > T(0) ? x : T(0)) + y;
  }
};
struct logical_not {
  template <class T>
  TANDEM_HD static bool apply(T x, const T*) {
    return x == T(0);
  }
};
struct isnan {
  template <class T>
  TANDEM_HD static bool apply(T x, const T*) {
    return x != x;
  }
};

// --- two inputs

struct add {  // of bools: or
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    using W = detail::wrap_t<T>;
    return static_cast<T>(static_cast<W>(a) + static_cast<W>(b));
  }
};
struct sub {
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    using W = detail::wrap_t<T>;
    return static_cast<T>(static_cast<W>(a) - static_cast<W>(b));
  }
};
struct mul {  // of bools: and
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    using W = detail::wrap_t<T>;
    return static_cast<T>(static_cast<W>(a) * static_cast<W>(b));
  }
};
struct div {
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    return a / b;
  }
};
struct pow {
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    if constexpr (detail::is_float_v<T>) {
      return ::pow(a, b);
    } else {
      return math::int_pow(a, b);
    }
  }
};
struct floor_divide {
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    return math::floor_division(a, b).quotient;
  }
};
struct remainder {
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    return math::floor_division(a, b).rest;
  }
};
struct maximum {  // NaN if either is
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    return (a > b) | (a != a) ? a : b;
  }
};
struct minimum {
  template <class T>
  TANDEM_HD static T apply(T a, T b, const T*) {
    return (a < b) | (a != a) ? a : b;
  }
};
struct eq {
  template <class T>
  TANDEM_HD static bool apply(T a, T b, const T*) {
    return a == b;
  }
};
struct ne {
  template <class T>
  TANDEM_HD static bool apply(T a, T b, const T*) {
    return a != b;
  }
};
struct lt {
  template <class T>
  TANDEM_HD static bool apply(T a, T b, const T*) {
    return a < b;
  }
};
struct le {
  template <class T>
  TANDEM_HD static bool apply(T a, T b, const T*) {
    return a <= b;
  }
};
struct gt {
  template <class T>
  TANDEM_HD static bool apply(T a, T b, const T*) {
    return a > b;
  }
};
struct ge {
  template <class T>
  TANDEM_HD static bool apply(T a, T b, const T*) {
    return a >= b;
  }
};
struct logical_and {
  template <class T>
  TANDEM_HD static bool apply(T a, T b, const T*) {
    return (a != T(0)) & (b != T(0));
  }
};
struct logical_or {
  template <class T>
  TANDEM_HD static bool apply(T a, T b, const T*) {
    return (a != T(0)) | (b != T(0));
  }
};

// --- three

struct where {
  template <class T>
  TANDEM_HD static T apply(bool c, T a, T b, const T*) {
    return c ? a : b;
  }
};

// --- gradients: g is the gradient of the result, x the input, y the result

struct relu_grad {
  template <class T>
  TANDEM_HD static T apply(T g, T y, const T*) {
    return y > T(0) ? g : T(0);
  }
};
struct leaky_relu_grad {  // p: slope
  template <class T>
  TANDEM_HD static T apply(T g, T x, const T* p) {
    return x > T(0) ? g : g * p[0];
  }
};
struct clamp_grad {  // p: lo, hi
  template <class T>
  TANDEM_HD static T apply(T g, T x, const T* p) {
    return (x >= p[0]) & (x <= p[1]) ? g : T(0);
  }
};
struct tanh_grad {
  template <class T>
  TANDEM_HD static T apply(T g, T y, const T*) {
    return g * (T(1) - y * y);
  }
};
struct sigmoid_grad {
  template <class T>
  TANDEM_HD static T apply(T g, T y, const T*) {
    return g * (y * (T(1) - y));
  }
};
struct gelu_grad {
  template <class T>
  TANDEM_HD static T apply(T g, T x, const T*) {
    const T e = math::gauss(x);
    return g * (math::normal_cdf(x, e) + x * (e * T(0.398942280401432677939946)));
  }
};
struct silu_grad {
  template <class T>
  TANDEM_HD static T apply(T g, T x, const T*) {
    const T s = math::sigmoid(x);
    return g * (s + x * (s * (T(1) - s)));
  }
};
struct softplus_grad {
  template <class T>
  TANDEM_HD static T apply(T g, T x, const T*) {
    return g * math::sigmoid(x);
  }
};

}  // namespace functor
}  // namespace tandem
