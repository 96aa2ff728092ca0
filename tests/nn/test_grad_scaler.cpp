// Loss scaling: steps are those without it, overflows are left out, the factor follows the rule.
#include <gtest/gtest.h>

#include <limits>

#include "graph/compile.h"
#include "nn/nn.h"
#include "tests/op_cases.h"

namespace tandem {
namespace {

using optim::GradScaler;

// Half of w², with an extra factor in the gradient.
Tensor loss_of(const Tensor& w, double factor) {
  return sum(w * w) * (0.5 * factor);
}

TEST(GradScaler, StepsAreThoseWithoutScaling) {
  for (const bool adam : {false, true}) {
    Tensor a = Tensor::from<float>({1, -2, 3}, {3}).set_requires_grad();
    Tensor b = a.clone().detach().set_requires_grad();
    const auto make = [&](const Tensor& t) -> optim::Optimizer {
      if (adam) return optim::Adam({t}, {.lr = 0.1});
      return optim::SGD({t}, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.25});
    };
    const optim::Optimizer plain = make(a), scaled = make(b);
    const GradScaler scaler({.init_scale = 1024});
    for (int i = 0; i < 5; ++i) {
      plain.zero_grad();
      loss_of(a, 1).backward();
      plain.step();
      scaled.zero_grad();
      scaler.scale(loss_of(b, 1)).backward();
      scaler.step(scaled);
      scaler.update();
    }
    EXPECT_EQ(cases::compare_bits(b, a), "");  // powers of two: exact
  }
}

TEST(GradScaler, LeavesOutOverflowsAndAdapts) {
  Tensor w = Tensor::from<float>({1, 2}, {2}).set_requires_grad();
  const optim::Adam opt({w}, {.lr = 0.1});
  const GradScaler scaler({.init_scale = 8, .growth_interval = 2});
  const auto step = [&](double factor) {
    opt.zero_grad();
    scaler.scale(loss_of(w, factor)).backward();
    scaler.step(opt);
    scaler.update();
  };
  const Tensor before = w.clone();
  step(std::numeric_limits<double>::infinity());
  EXPECT_EQ(cases::compare_bits(w, before), "");
  EXPECT_EQ(opt.state_dict()[1].second.item(), 0);  // "0.step": the step does not count
  EXPECT_EQ(scaler.factor(), 4);
  step(1);
  EXPECT_NE(cases::compare_bits(w, before), "");
  EXPECT_EQ(scaler.factor(), 4);
  step(1);
  EXPECT_EQ(scaler.factor(), 8);  // two in a row
  step(1);
  step(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(scaler.factor(), 4);
  step(1);
  EXPECT_EQ(scaler.factor(), 4);  // the count began anew
  step(1);
  EXPECT_EQ(scaler.factor(), 8);
}

TEST(GradScaler, UnscalesForClippingOnce) {
  Tensor w = Tensor::from<float>({3, 4}, {2}).set_requires_grad();
  const optim::SGD opt({w}, {.lr = 1});
  const GradScaler scaler({.init_scale = 16});
  scaler.scale(loss_of(w, 1)).backward();
  scaler.unscale(opt);
  EXPECT_EQ(w.grad().to_vector<float>(), (std::vector<float>{3, 4}));
  EXPECT_THROW(scaler.unscale(opt), ValueError);
  scaler.step(opt);
  EXPECT_EQ(w.to_vector<float>(), (std::vector<float>{0, 0}));
  scaler.update();
  scaler.unscale(opt);
}

TEST(GradScaler, DisabledIsNotThere) {
  Tensor w = Tensor::from<float>({3}, {1}).set_requires_grad();
  const optim::SGD opt({w}, {.lr = 1});
  const GradScaler scaler({.enabled = false});
  const Tensor loss = loss_of(w, 1);
  EXPECT_TRUE(scaler.scale(loss).same_as(loss));
  loss.backward();
  scaler.step(opt);
  scaler.update();
  EXPECT_EQ(w.item(), 0);
  EXPECT_EQ(scaler.factor(), 1);
}

TEST(GradScaler, RefusesNonsense) {
  EXPECT_THROW(GradScaler({.init_scale = 0}), ValueError);
  EXPECT_THROW(GradScaler({.growth_factor = 0.5}), ValueError);
  EXPECT_THROW(GradScaler({.backoff_factor = 0}), ValueError);
  EXPECT_THROW(GradScaler({.growth_interval = 0}), ValueError);
}

TEST(GradScaler, LoadsAllOrNothing) {
  const GradScaler scaler({.init_scale = 8});
  const StateDict good = GradScaler({.init_scale = 2}).state_dict();
  const auto refuses = [&](const StateDict& state, const std::string& text) {
    try {
      scaler.load_state_dict(state);
      ADD_FAILURE() << "nothing was thrown for " << text;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
    }
    EXPECT_EQ(scaler.factor(), 8) << text;
  };
  refuses({}, "got none for scale, growth_tracker; expected");
  refuses({good[0]}, "got none for growth_tracker; expected");
  refuses({good[0], good[1], {"found", ones({})}}, "got found; expected");
  refuses({good[0], {good[1].first, ones({2})}}, "another shape; got [2]; expected []");
  refuses({good[0], {good[1].first, ones({}, {.dtype = DType::i64})}},
          "another kind of dtype; got i64; expected f32");
  refuses({good[0], {good[1].first, Tensor()}}, "must be defined; got an undefined tensor");
}

TEST(GradScaler, StateCanBeSavedAndLoaded) {
  const GradScaler a({.init_scale = 2}), b;
  b.load_state_dict(a.state_dict());
  EXPECT_EQ(b.factor(), 2);
}

// In f16 the first factor is too large for this net: some steps are left out, in both modes alike.
TEST(GradScaler, AWholeStepInHalfPrecisionCanBeCaptured) {
  struct Training {
    nn::Sequential net = (manual_seed(3), models::lenet());
    optim::SGD opt{net.parameters(), {.lr = 0.02, .momentum = 0.9}};
    GradScaler scaler{{.init_scale = 16777216, .growth_interval = 4}};
    Tensor step(const Tensor& x, const Tensor& y) const {
      opt.zero_grad();
      Tensor loss;
      {
        const Autocast scope(DType::f16);
        loss = nn::cross_entropy(net(x), y);
      }
      scaler.scale(loss).backward();
      scaler.step(opt);
      scaler.update();
      return loss;
    }
  } eager, compiled;
  auto fast = compile([&](const Tensor& x, const Tensor& y) { return compiled.step(x, y); });
  Generator data(5);
  const Tensor x = rand({4, 1, 28, 28}, {}, &data);
  const Tensor y = randint(0, 5, {4}, {.dtype = DType::i64}, &data);
  bool lower = false, higher = false;
  for (int i = 0; i < 16; ++i) {
    const double before = eager.scaler.factor();
    default_generator().set_state(9, static_cast<std::uint64_t>(i) << 20);
    const Tensor a = eager.step(x, y);
    default_generator().set_state(9, static_cast<std::uint64_t>(i) << 20);
    const Tensor b = fast(x, y);
    ASSERT_EQ(cases::compare_bits(b, a), "") << "step " << i;
    ASSERT_EQ(eager.scaler.factor(), compiled.scaler.factor()) << "step " << i;
    lower = lower || eager.scaler.factor() < before;
    higher = higher || eager.scaler.factor() > before;
  }
  EXPECT_TRUE(lower && higher) << eager.scaler.factor();
  const StateDict p = eager.net.state_dict(), q = compiled.net.state_dict();
  for (std::size_t k = 0; k < p.size(); ++k) {
    ASSERT_EQ(cases::compare_bits(q[k].second, p[k].second), "") << p[k].first;
    for (const double v : p[k].second.to_vector<double>()) ASSERT_TRUE(std::isfinite(v));
  }
}

}  // namespace
}  // namespace tandem
