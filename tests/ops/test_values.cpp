// Special values and integer arithmetic: what the table of cases, which stays with ordinary
// numbers, does not ask for.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/policy.h"
#include "graph/compile.h"
#include "ops/ops.h"

namespace tandem {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Function {
  const char* name;
  Tensor (*f)(In);
  double (*ref)(double);
};
const Function kFunctions[] = {
    {"neg", neg, [](double x) { return -x; }},
    {"abs", tandem::abs, [](double x) { return std::fabs(x); }},
    {"floor", tandem::floor, [](double x) { return std::floor(x); }},
    {"ceil", tandem::ceil, [](double x) { return std::ceil(x); }},
    {"round", tandem::round, [](double x) { return std::nearbyint(x); }},
    {"square", square, [](double x) { return x * x; }},
    {"reciprocal", reciprocal, [](double x) { return 1 / x; }},
    {"exp", tandem::exp, [](double x) { return std::exp(x); }},
    {"log", tandem::log, [](double x) { return std::log(x); }},
    {"log1p", tandem::log1p, [](double x) { return std::log1p(x); }},
    {"sqrt", tandem::sqrt, [](double x) { return std::sqrt(x); }},
    {"rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }},
    {"sin", tandem::sin, [](double x) { return std::sin(x); }},
    {"cos", tandem::cos, [](double x) { return std::cos(x); }},
    {"acos", tandem::acos, [](double x) { return std::acos(x); }},
    {"asin", tandem::asin, [](double x) { return std::asin(x); }},
    {"atan", tandem::atan, [](double x) { return std::atan(x); }},
    {"erf", tandem::erf, [](double x) { return std::erf(x); }},
    {"tanh", tandem::tanh, [](double x) { return std::tanh(x); }},
    {"sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }},
    {"softplus", softplus, [](double x) { return x > 30 ? x : std::log1p(std::exp(x)); }},
};

TEST(SpecialValues, EqualTheStandardLibrary) {
  const std::vector<double> in = {0.0,   -0.0, kInf, -kInf, kNaN, 1e-40, -1e-40,    1e-30, 1e30,
                                  -1e30, 80,   -80,  100,   -100, 0.5,   -0.5,      1,     -1,
                                  2.5,   3.5,  -2.5, 1e-8,  88.7, -103,  33554431.0};
  for (const Function& fn : kFunctions) {
    for (const DType t : {DType::f64, DType::f32}) {
      const Tensor x = Tensor::from<double>(in, {static_cast<std::int64_t>(in.size())}).to(t);
      const auto rounded = x.to_vector<double>(), got = fn.f(x).to_vector<double>();
      for (std::size_t k = 0; k < in.size(); ++k) {
        double want = fn.ref(rounded[k]);
        if (t == DType::f32) want = static_cast<float>(want);
        const std::string what = fmt::format("{}({}) in {}", fn.name, rounded[k], name_of(t));
        if (std::isnan(want)) {
          EXPECT_TRUE(std::isnan(got[k])) << what << " = " << got[k];
        } else if (std::isinf(want) || want == 0) {
          EXPECT_EQ(got[k], want) << what;
        } else {
          const double unit = t == DType::f32 ? 0x1p-24 : 0x1p-53;
          // Denormal results may be a few units of the smallest number off.
          const double tiny = t == DType::f32 ? 3e-45 : 1e-323;
          EXPECT_LE(std::fabs(got[k] - want), 6 * unit * std::fabs(want) + tiny) << what;
        }
      }
    }
  }
}

TEST(SpecialValues, NaNsSpread) {
  const Tensor nan = full({1}, kNaN), one = ones({1});
  for (const Tensor& t :
       {maximum(nan, one), maximum(one, nan), minimum(nan, one), minimum(one, nan), relu(nan),
        clamp(nan, 0, 1), sign(nan), leaky_relu(nan), gelu(nan), silu(nan), nan * 0.0}) {
    EXPECT_TRUE(std::isnan(t.item())) << t.str();
  }
  EXPECT_FALSE(eq(nan, nan).item<bool>());
  EXPECT_TRUE(ne(nan, nan).item<bool>());
  EXPECT_FALSE(lt(nan, one).item<bool>());
  EXPECT_TRUE(isnan(nan).item<bool>());
  for (const bool vendor : {true, false}) {
    const PolicyScope scope({.vendor = vendor});
    Tensor x = ones({2, 40});
    x.select(0, 1).slice(0, 17, 18).fill_(kNaN);
    EXPECT_TRUE(std::isnan(max(x).item()));
    EXPECT_TRUE(std::isnan(min(x, {1}).to_vector<double>()[1]));
    EXPECT_EQ(max(x, {1}).to_vector<double>()[0], 1);
    EXPECT_EQ(argmax(x).item<int>(), 40 + 17);
    EXPECT_EQ(argmin(x, {1}).to_vector<int>()[1], 17);
    EXPECT_TRUE(any(x, {1}).to_bools()[1]);
    Tensor image = ones({1, 1, 4, 4});
    image.select(2, 1).select(2, 1).fill_(kNaN);
    const auto pooled = max_pool2d(image, {.kernel = {2, 2}}).to_vector<double>();
    EXPECT_TRUE(std::isnan(pooled[0]));
    EXPECT_EQ(pooled[3], 1);
    EXPECT_TRUE(std::isnan(softmax(full({3}, -kInf)).to_vector<double>()[0]));
  }
  const auto [values, at] = sort(Tensor::from<float>({2, NAN, 1}, {3}));
  EXPECT_EQ(at.to_vector<int>(), (std::vector<int>{2, 0, 1})) << "a NaN counts as largest";
}

TEST(SpecialValues, SoftmaxDoesNotOverflow) {
  for (const DType t : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    const Tensor x = Tensor::from<double>({10000, 10000, -10000}, {3}).to(t);
    const auto p = softmax(x).to_vector<double>();
    EXPECT_NEAR(p[0], 0.5, 1e-3) << name_of(t);
    EXPECT_EQ(p[2], 0) << name_of(t);
    const auto q = softmax(Tensor::from<float>({0, -INFINITY}, {2}).to(t)).to_vector<double>();
    EXPECT_EQ(q[0], 1);
    EXPECT_EQ(q[1], 0);
    EXPECT_TRUE(std::isfinite(
        cross_entropy(x.reshape({1, 3}), Tensor::from<std::int64_t>({2}, {1})).item()));
  }
}

TEST(SpecialValues, LossOfNothing) {
  const Tensor x = zeros({2, 3}), ignored = full({2}, -100, {.dtype = DType::i64});
  EXPECT_TRUE(std::isnan(cross_entropy(x, ignored).item()));
  EXPECT_EQ(cross_entropy(x, ignored, {.reduction = Reduction::sum}).item(), 0);
  Tensor w = zeros({2, 3});
  w.set_requires_grad();
  cross_entropy(w, Tensor::from<std::int64_t>({1, -100}, {2})).backward();
  const auto g = w.grad().to_vector<double>();
  EXPECT_NEAR(g[1], 1.0 / 3 - 1, 1e-6);
  EXPECT_EQ(g[4], 0) << "an ignored sample has no gradient";
}

TEST(Integers, WrapAround) {
  const auto big = std::numeric_limits<std::int32_t>::max();
  const Tensor i = Tensor::from<std::int32_t>({big, -big - 1}, {2});
  EXPECT_EQ((i + 1).to_vector<std::int32_t>(), (std::vector<std::int32_t>{-big - 1, -big}));
  EXPECT_EQ((-i).to_vector<std::int32_t>(), (std::vector<std::int32_t>{-big, -big - 1}));
  EXPECT_EQ((i * 2).to_vector<std::int32_t>(), (std::vector<std::int32_t>{-2, 0}));
  EXPECT_EQ(abs(i).to_vector<std::int32_t>()[1], -big - 1);
  const Tensor u = Tensor::from<std::uint8_t>({3, 250}, {2});
  EXPECT_EQ((u - 5).to_vector<int>(), (std::vector<int>{254, 245}));
  EXPECT_EQ((u + u).to_vector<int>(), (std::vector<int>{6, 244}));
  EXPECT_EQ(sum(u).item<std::int64_t>(), 253) << "sums are i64";
  EXPECT_EQ(sum(i).item<std::int64_t>(), -1);
  const Tensor l = Tensor::from<std::int64_t>({std::int64_t{1} << 62}, {1});
  EXPECT_EQ((l + 1).item<std::int64_t>(), (std::int64_t{1} << 62) + 1) << "not by way of double";
  EXPECT_EQ(maximum(l, l - 1).item<std::int64_t>(), std::int64_t{1} << 62);
  EXPECT_EQ(l.to(DType::i32).to(DType::i64).item<std::int64_t>(), 0);
  EXPECT_TRUE(gt(l + 1, l).item<bool>());
}

TEST(Integers, Powers) {
  const Tensor x = Tensor::from<std::int64_t>({0, 1, -1, 2, -3}, {5});
  EXPECT_EQ(pow(x, 0).to_vector<int>(), (std::vector<int>{1, 1, 1, 1, 1}));
  EXPECT_EQ(pow(x, 3).to_vector<int>(), (std::vector<int>{0, 1, -1, 8, -27}));
  EXPECT_EQ(pow(2, Tensor::from<std::int64_t>({0, 10, 62}, {3})).to_vector<std::int64_t>(),
            (std::vector<std::int64_t>{1, 1024, std::int64_t{1} << 62}));
}

TEST(Integers, Division) {
  const Tensor a = Tensor::from<std::int32_t>({7, -7, 1}, {3}),
               b = Tensor::from<std::int32_t>({2, 2, 0}, {3});
  const Tensor q = a / b;
  EXPECT_EQ(q.dtype(), DType::f32);
  EXPECT_EQ(q.to_vector<double>(), (std::vector<double>{3.5, -3.5, kInf}));
}

TEST(Integers, FloorDivision) {
  const std::int64_t most = INT64_MAX, least = INT64_MIN, big = (std::int64_t{1} << 60) + 1;
  const std::vector<std::int64_t> x = {7, -7, 7, -7, 6, 0, 5, -5, least, least, big, most};
  const std::vector<std::int64_t> y = {2, 2, -2, -2, -3, -3, 0, 0, -1, 1, 10, least};
  const Tensor a = Tensor::from(x, {12}), b = Tensor::from(y, {12});
  EXPECT_EQ(floor_divide(a, b).to_vector<std::int64_t>(),
            (std::vector<std::int64_t>{3, -4, -4, 3, -2, 0, 0, 0, least, least, big / 10, -1}));
  EXPECT_EQ(remainder(a, b).to_vector<std::int64_t>(),
            (std::vector<std::int64_t>{1, 1, -1, -1, 0, 0, 0, 0, 0, 0, 7, -1}));
  const Tensor u = Tensor::from<std::uint8_t>({250, 3, 9}, {3}),
               v = Tensor::from<std::uint8_t>({7, 255, 0}, {3});
  EXPECT_EQ(floor_divide(u, v).to_vector<int>(), (std::vector<int>{35, 0, 0}));
  EXPECT_EQ(remainder(u, v).to_vector<int>(), (std::vector<int>{5, 3, 0}));
}

// Values NumPy 2 gives.
TEST(SpecialValues, FloorDivision) {
  const std::vector<double> x = {6, 6.5, -6.5, 5, -5, 5, -1, 0.0, -0.0, 1, -1, kInf, kNaN, 1e17};
  const std::vector<double> y = {0.1, -2, 2, kInf, kInf, -kInf, -kInf, -2.0, 2, -0.0, 0, 1, 1, 3};
  const std::vector<double> quotient = {59,   -4,   -4,    0,     -1,   -1,   0,
                                        -0.0, -0.0, -kInf, -kInf, kNaN, kNaN, 33333333333333332};
  const std::vector<double> rest = {
      0.09999999999999967, -1.5, 1.5, 5, kInf, -kInf, -1, -0.0, 0, kNaN, kNaN, kNaN, kNaN, 1};
  const auto same = [](const std::vector<double>& got, const std::vector<double>& want) {
    for (std::size_t i = 0; i < want.size(); ++i) {
      EXPECT_TRUE(std::isnan(want[i]) ? std::isnan(got[i]) : got[i] == want[i]) << i;
      EXPECT_TRUE(want[i] != 0 || std::signbit(got[i]) == std::signbit(want[i])) << i;
    }
  };
  const Tensor a = Tensor::from(x, {14}), b = Tensor::from(y, {14});
  same(floor_divide(a, b).to_vector<double>(), quotient);
  same(remainder(a, b).to_vector<double>(), rest);
}

// Long enough for vectors of the processor, by themselves and inside a fused program.
TEST(Integers, FromFloatsThatDoNotFit) {
  const std::vector<double> v = {kNaN, kInf, -kInf, 3e9, -3e9, 1e20, -1e20, 255.5, 256, -0.5, 2.75};
  std::vector<double> many;
  for (int i = 0; i < 10; ++i) many.insert(many.end(), v.begin(), v.end());
  const auto repeated = [](std::vector<std::int64_t> w) {
    std::vector<std::int64_t> r;
    for (int i = 0; i < 10; ++i) r.insert(r.end(), w.begin(), w.end());
    return r;
  };
  const std::int64_t most = INT32_MAX, least = INT32_MIN;
  for (const DType from : {DType::f32, DType::f64}) {
    const Tensor x = Tensor::from<double>(many, {static_cast<std::int64_t>(many.size())}).to(from);
    EXPECT_EQ(x.to(DType::i32).to(DType::i64).to_vector<std::int64_t>(),
              repeated({0, most, least, most, least, most, least, 255, 256, 0, 2}));
    EXPECT_EQ(x.to(DType::u8).to(DType::i64).to_vector<std::int64_t>(),
              repeated({0, 255, 0, 255, 0, 255, 0, 255, 255, 0, 2}));
    EXPECT_EQ(x.to(DType::i64).to_vector<std::int64_t>(),
              repeated({0, INT64_MAX, INT64_MIN, 3000000000, -3000000000, INT64_MAX, INT64_MIN, 255,
                        256, 0, 2}));
    auto f = compile([](const Tensor& t) { return add(neg(t).to(DType::i32), 0); });
    EXPECT_EQ(f(x).to_vector<std::int32_t>(), neg(x).to(DType::i32).to_vector<std::int32_t>());
  }
}

TEST(Promotion, OfMixedOperands) {
  const Tensor i = full({2}, 3, {.dtype = DType::i32}), h = full({2}, 0.5, {.dtype = DType::f16}),
               b = full({2}, 0.25, {.dtype = DType::bf16}),
               d = full({2}, 0.125, {.dtype = DType::f64}),
               u = full({2}, 200, {.dtype = DType::u8});
  EXPECT_EQ((i + h).dtype(), DType::f16);
  EXPECT_EQ((h + b).dtype(), DType::f32);
  EXPECT_EQ((h + b).to_vector<double>()[0], 0.75);
  EXPECT_EQ((b * d).dtype(), DType::f64);
  EXPECT_EQ((u + i).dtype(), DType::i32);
  EXPECT_EQ((u + i).to_vector<int>()[0], 203);
  EXPECT_EQ(matmul(u.reshape({1, 2}), i.reshape({2, 1})).item<int>(), 1200);
  EXPECT_EQ((gt(d, 0) + i).dtype(), DType::i32);
  EXPECT_EQ((gt(d, 0) * 2.5).dtype(), DType::f32);
  EXPECT_EQ(where(gt(d, 0), i, h).dtype(), DType::f16);
}

TEST(Promotion, OfJoinedTensors) {
  const auto of = [](DType t) { return ones({2}, {.dtype = t}); };
  constexpr DType all[] = {DType::boolean, DType::u8,  DType::i32,  DType::i64,
                           DType::f16,     DType::f32, DType::bf16, DType::f64};
  for (const DType a : all) {
    for (const DType b : all) {
      for (const Tensor& joined : {concat({of(a), of(b)}), stack({of(a), of(b)})}) {
        EXPECT_EQ(joined.dtype(), promote(a, b)) << name_of(a) << " and " << name_of(b);
        EXPECT_EQ(joined.to_vector<int>(), std::vector<int>(4, 1));
      }
    }
  }
  // The types of all of them count, in any order.
  EXPECT_EQ(concat({of(DType::bf16), of(DType::i32), of(DType::f16)}).dtype(), DType::f32);
  const std::vector<double> want = {1, 0, 200, 0.5};
  const Tensor mixed = concat({gt(Tensor::from<float>({1, 0}, {2}), 0),
                               full({1}, 200, {.dtype = DType::u8}), full({1}, 0.5)});
  EXPECT_EQ(mixed.dtype(), DType::f32);
  EXPECT_EQ(mixed.to_vector<double>(), want);
}

TEST(Promotion, OfJoinedTensorsIsDifferentiable) {
  Tensor h = full({2}, 0.5, {.dtype = DType::f16}), d = full({2}, 2, {.dtype = DType::f64});
  h.set_requires_grad();
  d.set_requires_grad();
  const Tensor ids = full({2}, 3, {.dtype = DType::i64});
  for (const bool stacked : {false, true}) {
    h.set_grad({});
    d.set_grad({});
    const Tensor all = stacked ? stack({h, ids, d}) : concat({h, ids, d});
    sum(square(all)).backward();
    EXPECT_EQ(h.grad().dtype(), DType::f16);
    EXPECT_EQ(h.grad().to_vector<double>(), std::vector<double>(2, 1));
    EXPECT_EQ(d.grad().dtype(), DType::f64);
    EXPECT_EQ(d.grad().to_vector<double>(), std::vector<double>(2, 4));
  }
}

TEST(Reductions, AreAccurate) {
  // A million tenths: naive summation in f32 is off by more than 900.
  const Tensor x = full({1000, 1000}, 0.1);
  for (const bool vendor : {true, false}) {
    const PolicyScope scope({.vendor = vendor});
    EXPECT_NEAR(sum(x).item(), 100000, 0.5);
    EXPECT_NEAR(sum(x, {0}).to_vector<double>()[7], 100, 1e-4);
    EXPECT_NEAR(mean(x.to(DType::bf16)).item(), 0.1, 1e-3);
    EXPECT_NEAR(var(x + 1000.0).item(), 0, 1e-4) << "in one pass it would be 60";
    EXPECT_EQ(sum(ones({300, 300}, {.dtype = DType::f16}).slice(0, 0, 200)).item(), 60000);
  }
}

TEST(EmptyTensors, HaveNeutralElements) {
  const Tensor e = zeros({0});
  EXPECT_EQ(sum(e).item(), 0);
  EXPECT_EQ(prod(e).item(), 1);
  EXPECT_TRUE(std::isnan(mean(e).item()));
  EXPECT_TRUE(std::isnan(var(ones({1})).item()));
  EXPECT_EQ(var(ones({1}), {}, false, false).item(), 0);
  EXPECT_FALSE(any(e).item<bool>());
  EXPECT_TRUE(all(e).item<bool>());
  EXPECT_EQ(matmul(zeros({2, 0}), zeros({0, 3})).to_vector<int>(), std::vector<int>(6, 0));
  Tensor x = zeros({0, 3});
  x.set_requires_grad();
  sum(exp(x) * 2).backward();
  EXPECT_EQ(x.grad().shape(), (Shape{0, 3}));
}

TEST(Integers, ComparisonsKnowNumbersBeyondTheType) {
  const Tensor x = Tensor::from<std::uint8_t>({0, 44, 255}, {3});  // 300 would be 44
  const auto trues = [](const Tensor& t) { return t.sum().item(); };
  EXPECT_EQ(trues(eq(x, 300)), 0);
  EXPECT_EQ(trues(ne(x, 300)), 3);
  EXPECT_EQ(trues(lt(x, 300)), 3);
  EXPECT_EQ(trues(ge(x, -1)), 3);
  EXPECT_EQ(trues(gt(300, x)), 3);
  EXPECT_EQ(trues(le(std::int64_t{1} << 40, x.to(DType::i32))), 0);
}

}  // namespace
}  // namespace tandem
