// Half and BFloat16 against a definition in double: every 16-bit pattern, and every float that lies
// between two neighbours, on them, or next to their midpoint.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/half.h"

namespace tandem {
namespace {

// What the bits mean: sign, exponent, fraction.
double value_of(unsigned bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const unsigned fraction = bits & ((1u << fraction_bits) - 1);
  const int e = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (e == (1 << exponent_bits) - 1) {
    return fraction ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  }
  const double scale = std::ldexp(1.0, (e == 0 ? 1 : e) - bias - fraction_bits);
  return sign * scale * (fraction + (e == 0 ? 0.0 : std::ldexp(1.0, fraction_bits)));
}

template <class T>
struct Format;
template <>
struct Format<Half> {
  static constexpr int exponent = 5, fraction = 10;
};
template <>
struct Format<BFloat16> {
  static constexpr int exponent = 8, fraction = 7;
};

template <class T>
T from_bits(unsigned bits) {
  T t;
  t.bits = static_cast<unsigned short>(bits);
  return t;
}

template <class T>
class SixteenBits : public testing::Test {};
using Types = testing::Types<Half, BFloat16>;
TYPED_TEST_SUITE(SixteenBits, Types);

TYPED_TEST(SixteenBits, EveryPatternMeansWhatItShould) {
  using F = Format<TypeParam>;
  for (unsigned b = 0; b < 0x10000; ++b) {
    const double want = value_of(b, F::exponent, F::fraction);
    const float got = static_cast<float>(from_bits<TypeParam>(b));
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << b;
    } else {
      ASSERT_EQ(static_cast<double>(got), want) << b;
      ASSERT_EQ(std::signbit(got), std::signbit(want)) << b;
    }
  }
}

TYPED_TEST(SixteenBits, EveryPatternSurvivesARoundTrip) {
  for (unsigned b = 0; b < 0x10000; ++b) {
    const float f = static_cast<float>(from_bits<TypeParam>(b));
    const unsigned back = TypeParam(f).bits;
    if (std::isnan(f)) {
      ASSERT_TRUE(std::isnan(static_cast<float>(from_bits<TypeParam>(back)))) << b;
      ASSERT_EQ(back >> 15, b >> 15);
    } else {
      ASSERT_EQ(back, b);
    }
  }
}

// Between each two neighbours: the midpoint goes to the even one, what lies beside it to the
// nearer.
TYPED_TEST(SixteenBits, RoundsToNearestEven) {
  using F = Format<TypeParam>;
  const unsigned infinity = ((1u << F::exponent) - 1) << F::fraction;
  for (unsigned sign : {0u, 0x8000u}) {
    for (unsigned b = 0; b < infinity; ++b) {
      const double lo = value_of(b, F::exponent, F::fraction);
      // Above the largest number stands the one that would come next.
      const double hi = b + 1 == infinity ? 2 * lo - value_of(b - 1, F::exponent, F::fraction)
                                          : value_of(b + 1, F::exponent, F::fraction);
      const float middle = static_cast<float>((lo + hi) / 2);
      if (static_cast<double>(middle) != (lo + hi) / 2) continue;  // bf16's below float's smallest
      const float s = sign ? -1.0f : 1.0f;
      const auto round = [&](float f) { return TypeParam(s * f).bits - sign; };
      ASSERT_EQ(round(middle), b + (b & 1)) << b;
      ASSERT_EQ(round(std::nextafter(middle, 0.0f)), b) << b;
      ASSERT_EQ(round(std::nextafter(middle, INFINITY)), b + 1) << b;
    }
  }
}

TYPED_TEST(SixteenBits, Extremes) {
  using F = Format<TypeParam>;
  const unsigned infinity = ((1u << F::exponent) - 1) << F::fraction;
  EXPECT_EQ(TypeParam(std::numeric_limits<float>::max()).bits, infinity);
  EXPECT_EQ(TypeParam(-std::numeric_limits<float>::infinity()).bits, infinity | 0x8000u);
  EXPECT_EQ(TypeParam(-0.0f).bits, 0x8000u);
  EXPECT_EQ(TypeParam(std::numeric_limits<float>::denorm_min()).bits, 0u);
  // NaNs whose payload lies in the lower half only must not become infinity.
  for (unsigned payload : {1u, 0x1000u, 0xffffu, 0x7fffffu}) {
    EXPECT_TRUE(
        std::isnan(static_cast<float>(TypeParam(detail::bits_float(0x7f800000u | payload)))));
    EXPECT_TRUE(
        std::isnan(static_cast<float>(TypeParam(detail::bits_float(0xff800000u | payload)))));
  }
}

TEST(Convert, BetweenAllTypes) {
  EXPECT_EQ(convert<int>(Half(3.75f)), 3);
  EXPECT_EQ(convert<int>(BFloat16(-3.75f)), -3);
  EXPECT_EQ(static_cast<float>(convert<Half>(2049)), 2048.0f);
  EXPECT_EQ(convert<bool>(Half(0.5f)), true);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(Half(1.0f / 3))),
            static_cast<float>(BFloat16(static_cast<float>(Half(1.0f / 3)))));
  EXPECT_EQ(convert<double>(BFloat16(1.5f)), 1.5);
}

}  // namespace
}  // namespace tandem
