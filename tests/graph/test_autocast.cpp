// Mixed precision: which type each op runs in, and that both modes agree about it.
#include <gtest/gtest.h>

#include "autograd/autograd.h"
#include "graph/compile.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/op_cases.h"

namespace tandem {
namespace {

TEST(Autocast, OpsRunInTheTypeOfTheirClass) {
  const Tensor x = randn({2, 3, 8, 8}), w = randn({4, 3, 3, 3}), m = randn({5, 6});
  for (const DType low : {DType::bf16, DType::f16}) {
    const Autocast scope(low);
    EXPECT_EQ(conv2d(x, w).dtype(), low);
    EXPECT_EQ(conv_transpose2d(conv2d(x, w), w).dtype(), low);
    EXPECT_EQ(matmul(m, m.t()).dtype(), low);
    EXPECT_EQ(linear(m, m).dtype(), low);
    const Tensor y = matmul(m, m.t());
    EXPECT_EQ(relu(y).dtype(), low);
    EXPECT_EQ((y + y).dtype(), low);
    EXPECT_EQ((y + m.sum()).dtype(), DType::f32);  // the promotion rules as always
    EXPECT_EQ(softmax(y, 1).dtype(), DType::f32);
    EXPECT_EQ(log_softmax(y, 1).dtype(), DType::f32);
    EXPECT_EQ(exp(y).dtype(), DType::f32);
    EXPECT_EQ(sum(y).dtype(), DType::f32);
    EXPECT_EQ(cross_entropy(y, zeros({5}, {.dtype = DType::i64})).dtype(), DType::f32);
    {
      const Autocast off(low, false);
      EXPECT_EQ(matmul(m, m.t()).dtype(), DType::f32);
    }
    EXPECT_EQ(matmul(m, m.t()).dtype(), low);
  }
  EXPECT_EQ(matmul(m, m.t()).dtype(), DType::f32);
}

TEST(Autocast, LeavesWideAndWholeNumbersAlone) {
  const Autocast scope;
  const Tensor d = randn({3, 3}, {.dtype = DType::f64});
  EXPECT_EQ(matmul(d, d).dtype(), DType::f64);
  EXPECT_EQ(softmax(d, 1).dtype(), DType::f64);
  EXPECT_EQ(matmul(d, randn({3, 3})).dtype(), DType::f64);
  const Tensor i = ones({3, 3}, {.dtype = DType::i32});
  EXPECT_EQ(matmul(i, i).dtype(), DType::i32);
  EXPECT_EQ(sum(i).dtype(), DType::i64);
}

TEST(Autocast, RefusesOtherTypes) {
  EXPECT_THROW(Autocast(DType::f32), TypeError);
  EXPECT_THROW(Autocast(DType::i32), TypeError);
  EXPECT_FALSE(autocast_mode().on);
}

TEST(Autocast, IsWhatCastingByHandGives) {
  const Tensor x = randn({4, 6}), w = randn({5, 6});
  const Tensor by_hand = linear(x.to(DType::bf16), w.to(DType::bf16));
  const Autocast scope;
  EXPECT_EQ(cases::compare_bits(linear(x, w), by_hand), "");
}

TEST(Autocast, GradientsOfMasterWeightsAreF32WhereverBackwardIsCalled) {
  Tensor grads[2];
  const Tensor x = randn({4, 6}), start = randn({5, 6});
  for (const bool inside : {true, false}) {
    Tensor w = start.clone().set_requires_grad();
    Tensor loss;
    {
      const Autocast scope;
      loss = cross_entropy(linear(x, w), zeros({4}, {.dtype = DType::i64}));
      if (inside) loss.backward();
    }
    if (!inside) loss.backward();
    EXPECT_EQ(w.grad().dtype(), DType::f32);
    grads[inside] = w.grad();
  }
  EXPECT_EQ(cases::compare_bits(grads[0], grads[1]), "");
}

TEST(Autocast, CheckpointRecomputesInTheSameType) {
  const Tensor x = randn({4, 6}), start = randn({6, 6});
  Tensor grads[2];
  for (const bool checkpointed : {true, false}) {
    Tensor w = start.clone().set_requires_grad();
    const auto f = [&](const std::vector<Tensor>& in) {
      return std::vector{linear(relu(linear(in[0], in[1])), in[1])};
    };
    Tensor y;
    {
      const Autocast scope;
      y = checkpointed ? autograd::checkpoint(f, {x, w})[0] : f({x, w})[0];
      EXPECT_EQ(y.dtype(), DType::bf16);
    }
    y.sum().backward();
    grads[checkpointed] = w.grad();
  }
  EXPECT_EQ(cases::compare_bits(grads[0], grads[1]), "");
}

TEST(Autocast, IsPartOfTheSignature) {
  const Tensor a = randn({3, 3});
  auto f = compile([](const Tensor& x) { return matmul(x, x); });
  EXPECT_EQ(f(a).dtype(), DType::f32);
  {
    const Autocast scope;
    EXPECT_EQ(f(a).dtype(), DType::bf16);
  }
  {
    const Autocast scope(DType::f16);
    EXPECT_EQ(f(a).dtype(), DType::f16);
  }
  EXPECT_EQ(f(a).dtype(), DType::f32);
  ASSERT_EQ(f.core().ledger().size(), 3u);
  EXPECT_NE(f.explain().find("autocast: off -> bf16"), std::string::npos) << f.explain();
}

struct Net {
  nn::Sequential net;
  optim::Optimizer opt;
  explicit Net(bool residual)
      : net((manual_seed(3),
             residual
                 ? models::resnet({.blocks = {1, 1}, .classes = 5, .width = 8, .small_input = true})
                 : models::lenet())),
        opt(optim::SGD(net.parameters(), {.lr = 0.05, .momentum = 0.9})) {}
  Tensor step(const Tensor& x, const Tensor& y) const {
    opt.zero_grad();
    Tensor loss;
    {
      const Autocast scope;
      loss = nn::cross_entropy(net(x), y);
    }
    loss.backward();
    opt.step();
    return loss;
  }
};

TEST(Autocast, CompiledTrainingEqualsEagerAndLearns) {
  for (const bool residual : {false, true}) {
    const Net eager(residual), compiled(residual);
    auto fast = compile([&](const Tensor& x, const Tensor& y) { return compiled.step(x, y); });
    Generator data(5);
    const Tensor x = residual ? rand({8, 3, 8, 8}, {}, &data) : rand({8, 1, 28, 28}, {}, &data);
    const Tensor y = randint(0, 5, {8}, {.dtype = DType::i64}, &data);
    float first = 0, last = 0;
    for (int i = 0; i < 40; ++i) {
      default_generator().set_state(9, static_cast<std::uint64_t>(i) << 20);
      const Tensor a = eager.step(x, y);
      default_generator().set_state(9, static_cast<std::uint64_t>(i) << 20);
      const Tensor b = fast(x, y);
      ASSERT_EQ(cases::compare_bits(b, a), "") << "loss of step " << i;
      (i == 0 ? first : last) = a.item<float>();
    }
    EXPECT_LT(last, first * 0.5f);
    const StateDict p = eager.net.state_dict(), q = compiled.net.state_dict();
    for (std::size_t k = 0; k < p.size(); ++k) {
      EXPECT_EQ(p[k].second.dtype(), p[k].second.dtype() == DType::i64 ? DType::i64 : DType::f32);
      ASSERT_EQ(cases::compare_bits(q[k].second, p[k].second), "") << p[k].first;
    }
  }
}

}  // namespace
}  // namespace tandem
