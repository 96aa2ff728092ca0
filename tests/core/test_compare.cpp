// Bits compared: what counts as a difference, and what is said of it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/compare.h"
#include "core/error.h"
#include "ops/ops.h"

namespace tandem {
namespace {

TEST(Compare, SaysWhichElementAndWhat) {
  const Tensor a = Tensor::from<float>({1, 2, 3, 4}, {2, 2});
  const Tensor b = Tensor::from<float>({1, 2, 3.5, 5}, {2, 2});
  EXPECT_FALSE(first_difference(a, a).has_value());
  EXPECT_FALSE(first_difference(a, a.clone()).has_value());
  const auto d = first_difference(a, b);
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->index, 2);
  EXPECT_EQ(d->count, 2);
  EXPECT_EQ(d->a, "3");
  EXPECT_EQ(d->b, "3.5");
}

TEST(Compare, ByBitsButForNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto one = [](float x) { return Tensor::from<float>({x}, {1}); };
  EXPECT_TRUE(first_difference(one(0.0f), one(-0.0f)).has_value());
  EXPECT_EQ(first_difference(one(0.0f), one(-0.0f))->b, "-0");
  EXPECT_FALSE(first_difference(one(nan), one(std::copysign(nan, -1.0f))).has_value());
  EXPECT_TRUE(first_difference(one(nan), one(1)).has_value());
  EXPECT_TRUE(first_difference(one(1), one(std::nextafter(1.0f, 2.0f))).has_value());
  // What would be NaN if it were floating.
  const auto whole = [](std::int64_t x) { return Tensor::from<std::int64_t>({x}, {1}); };
  EXPECT_EQ(first_difference(whole(-1), whole(-2))->a, "-1");
}

TEST(Compare, GapsOfStridedTensorsDoNotCount) {
  const Tensor a = Tensor::from<float>({1, 2, 3, 4}, {2, 2});
  const Tensor b = Tensor::from<float>({1, 9, 3, 9}, {2, 2});
  EXPECT_FALSE(first_difference(a.slice(1, 0, 1), b.slice(1, 0, 1)).has_value());
  EXPECT_EQ(first_difference(a, b.clone())->index, 1);
  EXPECT_FALSE(first_difference(a.transpose(0, 1), a.transpose(0, 1).contiguous()).has_value());
}

TEST(Compare, RefusesWhatCannotBeEqual) {
  const Tensor a = ones({2, 2});
  EXPECT_THROW(first_difference(a, ones({4})), ValueError);
  EXPECT_THROW(first_difference(a, ones({2, 2}, {.dtype = DType::f64})), ValueError);
  const std::uint64_t bits[] = {1, 2};
  EXPECT_THROW(first_difference(DType::f32, bits, std::span(bits).first(1)), ValueError);
}

}  // namespace
}  // namespace tandem
