// Shapes, strides, descriptions, broadcasting, promotion, scalars, devices.
#include <gtest/gtest.h>

#include <limits>

#include "core/backend.h"
#include "core/desc.h"
#include "core/scalar.h"

namespace tandem {
namespace {

TEST(Dims, BehavesAsAList) {
  Dims d{2, 3};
  d.push_back(5);
  d.insert(0, 7);
  d.insert(4, 9);
  EXPECT_EQ(d, (Dims{7, 2, 3, 5, 9}));
  d.erase(1);
  d.erase(3);
  EXPECT_EQ(d, (Dims{7, 3, 5}));
  EXPECT_EQ(d.back(), 5);
  EXPECT_EQ(d.str(), "[7, 3, 5]");
  d.resize(2);
  d.resize(4);
  EXPECT_EQ(d, (Dims{7, 3, 0, 0}));
  EXPECT_EQ(Dims().str(), "[]");
  EXPECT_FALSE((Dims{1} == Dims{1, 1}));
  EXPECT_THROW(Dims(9, 1), ShapeError);
  EXPECT_THROW(Dims(std::vector<std::int64_t>(9, 1)), ShapeError);
  Dims full(8, 1);
  EXPECT_THROW(full.push_back(1), ShapeError);
}

TEST(Shape, CountsElements) {
  EXPECT_EQ(checked_numel({}, "op"), 1);
  EXPECT_EQ(checked_numel({2, 3, 4}, "op"), 24);
  EXPECT_EQ(checked_numel({2, 0, 4}, "op"), 0);
  EXPECT_THROW(checked_numel({2, -1}, "op"), ShapeError);
  EXPECT_THROW(checked_numel({std::int64_t{1} << 40, std::int64_t{1} << 40}, "op"), ShapeError);
  // A 0 does not make the rest harmless: strides are products of the others.
  EXPECT_THROW(checked_numel({0, std::int64_t{1} << 40, std::int64_t{1} << 40}, "op"), ShapeError);
}

TEST(Shape, WrapsAxes) {
  EXPECT_EQ(wrap_axis(0, 3, "op"), 0);
  EXPECT_EQ(wrap_axis(-1, 3, "op"), 2);
  EXPECT_EQ(wrap_axis(-3, 3, "op"), 0);
  EXPECT_EQ(wrap_axis(-1, 0, "op"), 0);
  EXPECT_THROW(wrap_axis(3, 3, "op"), IndexError);
  EXPECT_THROW(wrap_axis(-4, 3, "op"), IndexError);
  EXPECT_THROW(wrap_axis(std::numeric_limits<std::int64_t>::min(), 3, "op"), IndexError);
}

TEST(Shape, Broadcasts) {
  struct Row {
    Shape a, b, want;
  };
  for (const Row& r : std::initializer_list<Row>{{{}, {}, {}},
                                                 {{3}, {}, {3}},
                                                 {{2, 3}, {3}, {2, 3}},
                                                 {{2, 1}, {1, 3}, {2, 3}},
                                                 {{4, 1, 3}, {2, 1}, {4, 2, 3}},
                                                 {{0, 3}, {1, 3}, {0, 3}},
                                                 {{1}, {0}, {0}},
                                                 {{5, 0, 1}, {1, 1, 7}, {5, 0, 7}}}) {
    EXPECT_EQ(broadcast_shapes(r.a, r.b, "op"), r.want) << r.a.str() << r.b.str();
    EXPECT_EQ(broadcast_shapes(r.b, r.a, "op"), r.want) << r.b.str() << r.a.str();
  }
  EXPECT_THROW(broadcast_shapes({2, 3}, {2}, "op"), ShapeError);
  EXPECT_THROW(broadcast_shapes({0}, {2}, "op"), ShapeError);
}

TEST(Strides, OfBothFormats) {
  EXPECT_EQ(contiguous_strides({2, 3, 4}), (Strides{12, 4, 1}));
  EXPECT_EQ(contiguous_strides({}), Strides{});
  EXPECT_EQ(channels_last_strides({2, 3, 4, 5}), (Strides{60, 1, 15, 3}));
  EXPECT_EQ(strides_for({2, 3, 4, 5}, MemoryFormat::channels_last), (Strides{60, 1, 15, 3}));
  EXPECT_THROW(channels_last_strides({2, 3, 4}), ShapeError);
}

TEST(TensorDesc, KnowsItsLayout) {
  const auto desc = [](Shape s, Strides st) { return TensorDesc(DType::f32, kCPU, s, st); };
  struct Row {
    TensorDesc d;
    bool contiguous, channels_last, dense;
    std::size_t bytes;
  };
  for (const Row& r :
       std::initializer_list<Row>{{desc({2, 3}, {3, 1}), true, false, true, 24},
                                  {desc({2, 3}, {1, 2}), false, false, true, 24},
                                  {desc({2, 3}, {6, 2}), false, false, false, 44},
                                  {desc({2, 3}, {0, 1}), false, false, false, 12},
                                  {desc({2, 1}, {1, 99}), true, false, true, 8},
                                  {desc({}, {}), true, false, true, 4},
                                  {desc({0, 3}, {3, 1}), true, false, true, 0},
                                  {desc({2, 3, 4, 5}, {60, 1, 15, 3}), false, true, true, 480},
                                  {desc({2, 1, 4, 5}, {20, 1, 5, 1}), true, true, true, 160},
                                  {desc({2, 3, 1, 1}, {3, 1, 3, 3}), true, true, true, 24},
                                  {desc({2, 3, 4, 5}, {60, 20, 5, 1}), true, false, true, 480}}) {
    EXPECT_EQ(r.d.is_contiguous(), r.contiguous) << r.d.str();
    EXPECT_EQ(r.d.is_channels_last(), r.channels_last) << r.d.str();
    EXPECT_EQ(r.d.is_dense(), r.dense) << r.d.str();
    EXPECT_EQ(r.d.bytes(), r.bytes) << r.d.str();
  }
  EXPECT_EQ(desc({2, 3}, {3, 1}).str(), "f32[2, 3]");
  EXPECT_EQ(desc({2, 3, 4, 5}, {60, 1, 15, 3}).str(), "f32[2, 3, 4, 5] channels_last");
}

TEST(DType, PromotesAsTheTableSays) {
  using enum DType;
  const DType order[] = {f32, f64, f16, bf16, i32, i64, u8, boolean};
  const DType table[8][8] = {
      {f32, f64, f32, f32, f32, f32, f32, f32},  {f64, f64, f64, f64, f64, f64, f64, f64},
      {f32, f64, f16, f32, f16, f16, f16, f16},  {f32, f64, f32, bf16, bf16, bf16, bf16, bf16},
      {f32, f64, f16, bf16, i32, i64, i32, i32}, {f32, f64, f16, bf16, i64, i64, i64, i64},
      {f32, f64, f16, bf16, i32, i64, u8, u8},   {f32, f64, f16, bf16, i32, i64, u8, boolean}};
  for (int a = 0; a < 8; ++a) {
    for (int b = 0; b < 8; ++b) {
      EXPECT_STREQ(name_of(promote(order[a], order[b])), name_of(table[a][b]))
          << name_of(order[a]) << " with " << name_of(order[b]);
    }
  }
  for (DType t : order) {
    EXPECT_EQ(promote(t, Scalar(true)), t);
    EXPECT_EQ(promote(t, Scalar(2)), t == boolean ? i64 : t);
    EXPECT_EQ(promote(t, Scalar(2.5)), is_floating(t) ? t : f32);
    EXPECT_EQ(promote(t, Scalar()), t);
  }
}

TEST(Scalar, RemembersItsKind) {
  EXPECT_EQ(Scalar(3).kind(), Scalar::Kind::integer);
  EXPECT_EQ(Scalar(3.0f).kind(), Scalar::Kind::real);
  EXPECT_EQ(Scalar(false).kind(), Scalar::Kind::boolean);
  EXPECT_FALSE(Scalar().defined());
  EXPECT_FALSE(Scalar(0.0) == Scalar(-0.0));
  EXPECT_TRUE(Scalar(NAN) == Scalar(NAN));
  EXPECT_FALSE(Scalar(1) == Scalar(1.0));
  EXPECT_FALSE(Scalar(1) == Scalar(true));
  EXPECT_EQ(Scalar(2.75).to<int>(), 2);
  EXPECT_EQ(Scalar(-1).to<double>(), -1.0);
  EXPECT_EQ(Scalar(0.5).to<bool>(), true);
  EXPECT_EQ(Scalar(std::int64_t{1} << 60).to_int(), std::int64_t{1} << 60);
  EXPECT_EQ(Scalar(1.5).str(), "1.5");
  EXPECT_EQ(Scalar(true).str(), "true");
}

TEST(Device, Parses) {
  EXPECT_EQ(Device::parse("cpu"), kCPU);
  EXPECT_EQ(Device::parse("cuda"), (Device{DeviceType::cuda, 0}));
  EXPECT_EQ(Device::parse("cuda:3").index, 3);
  EXPECT_EQ(Device::parse("cuda:3").str(), "cuda:3");
  EXPECT_EQ(kCPU.str(), "cpu");
  for (const char* bad : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:999", "cpu:1"}) {
    EXPECT_THROW(Device::parse(bad), DeviceError) << bad;
  }
}

}  // namespace
}  // namespace tandem
