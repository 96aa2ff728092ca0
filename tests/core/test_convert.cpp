// Conversions between element types are defined for every value, and the same on every device.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/scalar.h"

namespace tandem {
namespace {

template <class To, class From>
void check_integer(From v) {
  using L = std::numeric_limits<To>;
  // long double holds all of both.
  const long double t = std::trunc(static_cast<long double>(v));
  const To want = std::isnan(v)                                ? To(0)
                  : t <= static_cast<long double>(L::lowest()) ? L::lowest()
                  : t >= static_cast<long double>(L::max())    ? L::max()
                                                               : static_cast<To>(t);
  EXPECT_EQ(convert<To>(v), want) << v;
}

template <class From>
void check_floating() {
  using L = std::numeric_limits<From>;
  std::vector<From> values = {0,  L::quiet_NaN(), L::infinity(), L::max(), L::denorm_min(), 0.5,
                              3.7};
  for (int e = 7; e <= 65; ++e) {
    const From p = std::ldexp(From(1), e);
    values.insert(values.end(),
                  {p, std::nextafter(p, From(0)), std::nextafter(p, L::max()), p - 1, p + 1});
  }
  for (const From v : values) {
    for (const From x : {v, -v}) {
      check_integer<std::uint8_t>(x);
      check_integer<std::int32_t>(x);
      check_integer<std::int64_t>(x);
      EXPECT_EQ(convert<bool>(x), !(x == 0)) << x;
    }
  }
}

TEST(Convert, FloatingToIntegral) {
  check_floating<float>();
  check_floating<double>();
  EXPECT_EQ(convert<std::uint8_t>(Half(-3.5f)), 0);
  EXPECT_EQ(convert<std::int32_t>(BFloat16(1e20f)), std::numeric_limits<std::int32_t>::max());
}

// Through f32 these would be rounded twice: first to the middle of two neighbours, then to even.
TEST(Convert, RoundsOnceTo16Bits) {
  const double tiny = 0x1p-40;
  EXPECT_EQ(static_cast<float>(convert<Half>(1 + 0x1p-11)), 1);
  EXPECT_EQ(static_cast<float>(convert<Half>(1 + 0x1p-11 + tiny)), 1 + 0x1p-10f);
  EXPECT_EQ(static_cast<float>(convert<Half>(-1 - 0x1p-11 - tiny)), -1 - 0x1p-10f);
  EXPECT_EQ(static_cast<float>(convert<Half>(1 + 3 * 0x1p-11 - tiny)), 1 + 0x1p-10f);
  EXPECT_EQ(static_cast<float>(convert<Half>(0x1p-25 + 0x1p-70)), 0x1p-24f);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(1 + 0x1p-8 + tiny)), 1 + 0x1p-7f);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(0x1.ffp127 - 0x1p80)), 0x1.fep127f);
  EXPECT_TRUE(std::isinf(static_cast<float>(convert<BFloat16>(0x1.ffp127))));
  EXPECT_TRUE(std::isinf(static_cast<float>(convert<BFloat16>(1e300))));
  EXPECT_TRUE(std::isnan(static_cast<float>(convert<Half>(double(NAN)))));
  const std::int64_t half = (std::int64_t{1} << 40) + (std::int64_t{1} << 32);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(half)), 0x1p40f);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(half + 1)), 0x1.02p40f);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(-half - 1)), -0x1.02p40f);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>((1 << 30) + (1 << 22) + 1)), 0x1.02p30f);
  const std::int64_t large = (std::int64_t{1} << 62) + (std::int64_t{1} << 54);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(large)), 0x1p62f);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(large + 1)), 0x1.02p62f);
  EXPECT_EQ(static_cast<float>(convert<BFloat16>(-large - 1)), -0x1.02p62f);
}

TEST(Convert, BetweenIntegersKeepsTheLowBits) {
  EXPECT_EQ(convert<std::uint8_t>(std::int32_t{-1}), 255);
  EXPECT_EQ(convert<std::int32_t>((std::int64_t{1} << 32) + 5), 5);
}

TEST(Scalar, FitsWhatATypeHolds) {
  const auto fits = [](Scalar s, DType t) { return s.fits(t); };
  for (const Scalar s : {Scalar(0), Scalar(255), Scalar(255.9), Scalar(true), Scalar()}) {
    EXPECT_TRUE(fits(s, DType::u8)) << s.str();
  }
  for (const Scalar s : {Scalar(-1), Scalar(256), Scalar(-1.0), Scalar(256.0), Scalar(NAN)}) {
    EXPECT_FALSE(fits(s, DType::u8)) << s.str();
    EXPECT_TRUE(fits(s, DType::f16)) << s.str();
    EXPECT_TRUE(fits(s, DType::boolean)) << s.str();
  }
  EXPECT_TRUE(fits(-0x1p31, DType::i32));
  EXPECT_FALSE(fits(0x1p31, DType::i32));
  EXPECT_TRUE(fits(std::int64_t{INT32_MIN}, DType::i32));
  EXPECT_FALSE(fits(std::int64_t{INT32_MAX} + 1, DType::i32));
  EXPECT_TRUE(fits(-0x1p63, DType::i64));
  EXPECT_FALSE(fits(0x1p63, DType::i64));
  EXPECT_FALSE(fits(INFINITY, DType::i64));
}

}  // namespace
}  // namespace tandem
