#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "nn/init.h"
#include "nn/layers.h"
#include "ops/ops.h"

namespace tandem {
namespace {

namespace init = nn::init;

struct Stats {
  double mean, sd, low, high;
};

Stats stats(const Tensor& t) {
  const auto v = t.to_vector<double>();
  double sum = 0, square = 0;
  for (const double x : v) sum += x;
  const double mean = sum / static_cast<double>(v.size());
  for (const double x : v) square += (x - mean) * (x - mean);
  return {mean, std::sqrt(square / static_cast<double>(v.size())),
          *std::min_element(v.begin(), v.end()), *std::max_element(v.begin(), v.end())};
}

// 100 x 50 with 9 taps: fan in 450, fan out 900; 45,000 values, so an sd is good to 0.5 %.
class Init : public testing::Test {
 protected:
  Tensor w_ = zeros({100, 50, 3, 3});
  Generator g_{11};
};

TEST_F(Init, Fans) {
  EXPECT_EQ(init::fans(w_).in, 450);
  EXPECT_EQ(init::fans(w_).out, 900);
  EXPECT_THROW(init::fans(zeros({3})), ShapeError);
}

TEST_F(Init, UniformRules) {
  const auto check = [&](double bound) {
    const Stats s = stats(w_);
    EXPECT_NEAR(s.mean, 0, bound * 0.02);
    EXPECT_NEAR(s.sd, bound / std::sqrt(3.0), bound * 0.02);
    EXPECT_GE(s.low, -bound);
    EXPECT_LE(s.high, bound);
    EXPECT_GT(s.high, 0.99 * bound);
  };
  init::kaiming_uniform(w_, {}, &g_);
  check(std::sqrt(6.0 / 450));
  init::kaiming_uniform(w_, {.a = std::sqrt(5.0), .fan = init::Fan::out}, &g_);
  check(std::sqrt(1.0 / 900));
  init::xavier_uniform(w_, 2, &g_);
  check(2 * std::sqrt(6.0 / 1350));
}

TEST_F(Init, NormalRules) {
  const auto check = [&](double mean, double sd) {
    const Stats s = stats(w_);
    EXPECT_NEAR(s.mean, mean, sd * 0.03);
    EXPECT_NEAR(s.sd, sd, sd * 0.02);
    EXPECT_GT(s.high, mean + 3 * sd);
  };
  init::normal(w_, 1, 0.5, &g_);
  check(1, 0.5);
  init::kaiming_normal(w_, {}, &g_);
  check(0, std::sqrt(2.0 / 450));
  init::xavier_normal(w_, 1, &g_);
  check(0, std::sqrt(2.0 / 1350));
}

TEST_F(Init, TruncatedNormal) {
  init::truncated_normal(w_, 0.5, 0.1, &g_);
  const Stats s = stats(w_);
  EXPECT_NEAR(s.mean, 0.5, 0.003);
  EXPECT_NEAR(s.sd, 0.1 * 0.8796, 0.002);  // sd of a standard normal cut at +-2
  EXPECT_GE(s.low, 0.3 - 1e-6);
  EXPECT_LE(s.high, 0.7 + 1e-6);
  EXPECT_LT(s.low, 0.302);
}

TEST_F(Init, Dirac) {
  Tensor w = ones({3, 2, 3, 3});
  init::dirac(w);
  const Tensor x = randn({1, 2, 5, 5});
  const auto y = conv2d(x, w, {}, {.padding = {1, 1}}).to_vector<float>();
  const auto in = x.to_vector<float>();
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], i < 50 ? in[i] : 0.0f);
}

TEST_F(Init, Orthogonal) {
  for (const Shape& shape : {Shape{5, 12}, Shape{12, 5}, Shape{4, 2, 3, 3}}) {
    Tensor w = zeros(shape, {.dtype = DType::f64});
    init::orthogonal(w, 2, &g_);
    const Tensor m = w.flatten(1);
    const Tensor p = m.dim(0) <= m.dim(1) ? matmul(m, m.t()) : matmul(m.t(), m);
    const auto v = p.to_vector<double>();
    const auto n = static_cast<std::size_t>(p.dim(0));
    for (std::size_t i = 0; i < v.size(); ++i) {
      EXPECT_NEAR(v[i], i % (n + 1) == 0 ? 4.0 : 0.0, 1e-12);
    }
  }
}

TEST_F(Init, ReproducibleAndOffTheTape) {
  Generator a(3), b(3);
  const nn::Conv2d x(3, 4, 3, {.generator = &a}), y(3, 4, 3, {.generator = &b});
  EXPECT_EQ(x.weight().to_vector<float>(), y.weight().to_vector<float>());
  EXPECT_EQ(x.bias().to_vector<float>(), y.bias().to_vector<float>());
  EXPECT_TRUE(x.weight().is_leaf());
  init::constant(x.weight(), 2);  // a leaf that wants a gradient may be initialised again
  EXPECT_EQ(x.weight().to_vector<float>(), std::vector<float>(108, 2.0f));
}

TEST_F(Init, KeepsLayoutAndDtype) {
  Tensor w = zeros({8, 4, 3, 3}).to(MemoryFormat::channels_last);
  init::kaiming_normal(w, {}, &g_);
  EXPECT_TRUE(w.is_channels_last());
  Generator a(3), b(3);
  Tensor f = zeros({4, 4}), h = zeros({4, 4}, {.dtype = DType::bf16});
  init::xavier_uniform(f, 1, &a);
  init::xavier_uniform(h, 1, &b);
  EXPECT_EQ(h.to_vector<float>(), f.to(DType::bf16).to_vector<float>());
}

TEST_F(Init, DefaultsOfTheLayers) {
  const nn::Linear l(400, 100);
  const Stats w = stats(l.weight()), b = stats(l.bias());
  EXPECT_NEAR(w.sd, 0.05 / std::sqrt(3.0), 0.0005);
  EXPECT_LE(std::max(w.high, b.high), 0.05);
  EXPECT_GE(std::min(w.low, b.low), -0.05);
}

}  // namespace
}  // namespace tandem
