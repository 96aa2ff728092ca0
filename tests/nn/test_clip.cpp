// Gradients are clipped to a norm or a range, eagerly and compiled alike.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "graph/compile.h"
#include "nn/nn.h"
#include "tests/op_cases.h"

namespace tandem {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<Tensor> with_gradients(DType t = DType::f32) {
  std::vector<Tensor> all;
  for (const std::vector<float>& g : {std::vector<float>{3, -4}, std::vector<float>{12}}) {
    Tensor p = zeros({std::ssize(g)}, {t}).set_requires_grad();
    p.set_grad(Tensor::from(g, {std::ssize(g)}).to(t));
    all.push_back(p);
  }
  all.push_back(zeros({2}).set_requires_grad());  // without one
  return all;
}

TEST(ClipGradients, ToANorm) {
  const std::vector<Tensor> p = with_gradients();
  for (const auto& [type, norm] : {std::pair{2.0, 13.0}, {1.0, 19.0}, {kInfinity, 12.0}}) {
    const std::vector<Tensor> q = with_gradients();
    EXPECT_NEAR(optim::clip_grad_norm(q, 0.5, type).item(), norm, 1e-5) << type;
    EXPECT_NEAR(q[0].grad().to_vector<float>()[1], -4 * 0.5 / norm, 1e-6) << type;
    EXPECT_NEAR(q[1].grad().item(), 12 * 0.5 / norm, 1e-6) << type;
    EXPECT_FALSE(q[2].grad().defined());
  }
  EXPECT_EQ(optim::clip_grad_norm(p, 20).item(), 13);
  EXPECT_EQ(p[0].grad().to_vector<float>(), (std::vector<float>{3, -4})) << "short enough";
  EXPECT_EQ(optim::clip_grad_norm(std::vector<Tensor>{p[2]}, 1).item(), 0);
  // Of nothing there is no largest element, and no limit is one, too.
  std::vector<Tensor> more = with_gradients();
  more.insert(more.begin(), zeros({0}).set_requires_grad());
  more[0].set_grad(zeros({0}));
  EXPECT_EQ(optim::clip_grad_norm(more, kInfinity, kInfinity).item(), 12);
  EXPECT_EQ(more[2].grad().item(), 12);
}

TEST(ClipGradients, SumsOfSixteenBitsAreWide) {
  std::vector<Tensor> p = with_gradients(DType::f16);
  p[0].set_grad(full({2}, 300, {DType::f16}));  // whose square f16 does not have
  const Tensor norm = optim::clip_grad_norm(p, 1);
  EXPECT_EQ(norm.dtype(), DType::f32);
  EXPECT_NEAR(norm.item(), std::hypot(300, 300, 12), 1e-3);
  EXPECT_EQ(p[0].grad().dtype(), DType::f16);
}

TEST(ClipGradients, ToARange) {
  const std::vector<Tensor> p = with_gradients();
  optim::clip_grad_value(p, 3.5);
  EXPECT_EQ(p[0].grad().to_vector<float>(), (std::vector<float>{3, -3.5}));
  EXPECT_EQ(p[1].grad().item(), 3.5);
}

TEST(ClipGradients, OptionsAreInRange) {
  const std::vector<Tensor> p = with_gradients();
  EXPECT_THROW(optim::clip_grad_norm(p, -1), ValueError);
  EXPECT_THROW(optim::clip_grad_norm(p, 1, 0), ValueError);
  EXPECT_THROW(optim::clip_grad_norm(p, std::nan("")), ValueError);
  EXPECT_THROW(optim::clip_grad_value(p, -1), ValueError);
}

TEST(ClipGradients, StepsAreTheSameCompiled) {
  Tensor a = Tensor::from<float>({1, -2, 3}, {3}).set_requires_grad();
  Tensor b = a.clone().detach().set_requires_grad();
  const auto step_of = [](const Tensor& w, const optim::Optimizer& opt) {
    return [&w, opt](const Tensor& x) {
      opt.zero_grad();
      sum(w * w * x).backward();
      const Tensor norm = optim::clip_grad_norm(std::vector<Tensor>{w}, 1.5);
      opt.step();
      return norm;
    };
  };
  const auto eager = step_of(a, optim::SGD({a}, {.lr = 0.25}));
  auto compiled = compile(step_of(b, optim::SGD({b}, {.lr = 0.25})));
  for (int i = 0; i < 6; ++i) {  // clipped first, and not in the end
    const Tensor x = full({3}, 2.0 - 0.3 * i);
    EXPECT_EQ(cases::compare_bits(compiled(x), eager(x)), "") << i;
    EXPECT_EQ(cases::compare_bits(b, a), "") << i;
  }
}

}  // namespace
}  // namespace tandem
