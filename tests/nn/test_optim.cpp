#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/error.h"
#include "core/grad_meta.h"
#include "nn/nn.h"
#include "ops/ops.h"

namespace tandem {
namespace {

using testing::HasSubstr;

// What the optimisers should do, written out for plain vectors of doubles.
using Vec = std::vector<double>;

struct Reference {
  std::vector<Vec> p, a, b;  // parameters and two slots
  int t = 0;

  explicit Reference(std::vector<Vec> parameters) : p(parameters), a(parameters), b(parameters) {
    for (auto* slots : {&a, &b}) {
      for (Vec& v : *slots) std::fill(v.begin(), v.end(), 0.0);
    }
  }
  void each(const std::vector<Vec>& g,
            const std::function<void(double& p, double g, double& a, double& b)>& f) {
    ++t;
    for (std::size_t i = 0; i < p.size(); ++i) {
      for (std::size_t k = 0; k < p[i].size(); ++k) f(p[i][k], g[i][k], a[i][k], b[i][k]);
    }
  }
  void sgd(const std::vector<Vec>& g, const optim::SgdOptions& o) {
    each(g, [&](double& x, double d, double& u, double&) {
      d += o.weight_decay * x;
      if (o.momentum > 0) {
        u = o.momentum * u + (t == 1 ? 1.0 : 1 - o.dampening) * d;
        d = o.nesterov ? d + o.momentum * u : u;
      }
      x -= o.lr * d;
    });
  }
  void adam(const std::vector<Vec>& g, const optim::AdamOptions& o, bool decoupled) {
    each(g, [&](double& x, double d, double& m, double& v) {
      if (decoupled) {
        x -= o.lr * o.weight_decay * x;
      } else {
        d += o.weight_decay * x;
      }
      m = o.beta1 * m + (1 - o.beta1) * d;
      v = o.beta2 * v + (1 - o.beta2) * d * d;
      const double c1 = 1 - std::pow(o.beta1, t), c2 = 1 - std::pow(o.beta2, t);
      if (o.eps_hat) {
        x -= o.lr * std::sqrt(c2) / c1 * m / (std::sqrt(v) + o.eps);
      } else {
        x -= o.lr / c1 * m / (std::sqrt(v / c2) + o.eps);
      }
    });
  }
};

const std::vector<Vec> kStart = {{0.5, -1.5, 2.0, 0.25}, {1.0, -0.75}};

std::vector<Tensor> leaves(DType dtype = DType::f64) {
  std::vector<Tensor> v;
  v.push_back(Tensor::from(kStart[0], {2, 2}).to(dtype));
  v.push_back(Tensor::from(kStart[1], {2}).to(dtype));
  for (Tensor& t : v) t.set_requires_grad();
  return v;
}

/// Gradients of step t: any numbers will do.
std::vector<Vec> gradients(int t) {
  std::vector<Vec> g = kStart;
  int n = 0;
  for (Vec& v : g) {
    for (double& x : v) {
      x = std::sin(3.0 * t + 1.7 * n) * (n % 3 + 0.5);
      ++n;
    }
  }
  return g;
}

void set_gradients(std::vector<Tensor>& p, const std::vector<Vec>& g) {
  for (std::size_t i = 0; i < p.size(); ++i) {
    p[i].set_grad(Tensor::from(g[i], p[i].shape()).to(p[i].dtype()));
  }
}

void expect_near(const std::vector<Tensor>& p, const std::vector<Vec>& expected, double tolerance) {
  for (std::size_t i = 0; i < p.size(); ++i) {
    const Vec v = p[i].to_vector<double>();
    for (std::size_t k = 0; k < v.size(); ++k) EXPECT_NEAR(v[k], expected[i][k], tolerance);
  }
}

template <class Options>
void compare(const std::function<optim::Optimizer(const std::vector<Tensor>&)>& make,
             const Options& o, void (*step)(Reference&, const std::vector<Vec>&, const Options&)) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    auto p = leaves(dtype);
    const optim::Optimizer opt = make(p);
    Reference r(kStart);
    for (int t = 0; t < 6; ++t) {
      const auto g = gradients(t);
      set_gradients(p, g);
      opt.step();
      step(r, g, o);
      expect_near(p, r.p, dtype == DType::f64 ? 1e-12 : 1e-5);
    }
  }
}

class Sgd : public testing::TestWithParam<optim::SgdOptions> {};

TEST_P(Sgd, EqualsTheReference) {
  compare<optim::SgdOptions>(
      [](const auto& p) { return optim::SGD(p, GetParam()); }, GetParam(),
      [](Reference& r, const std::vector<Vec>& g, const optim::SgdOptions& o) { r.sgd(g, o); });
}

INSTANTIATE_TEST_SUITE_P(
    Options, Sgd,
    testing::Values(optim::SgdOptions{.lr = 0.1}, optim::SgdOptions{.lr = 0.1, .weight_decay = 0.2},
                    optim::SgdOptions{.lr = 0.1, .momentum = 0.9},
                    optim::SgdOptions{.lr = 0.1, .momentum = 0.9, .dampening = 0.3},
                    optim::SgdOptions{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.2},
                    optim::SgdOptions{.lr = 0.1, .momentum = 0.9, .nesterov = true}));

class AdamTest : public testing::TestWithParam<optim::AdamOptions> {};

TEST_P(AdamTest, EqualsTheReference) {
  compare<optim::AdamOptions>([](const auto& p) { return optim::Adam(p, GetParam()); }, GetParam(),
                              [](Reference& r, const std::vector<Vec>& g,
                                 const optim::AdamOptions& o) { r.adam(g, o, false); });
  compare<optim::AdamOptions>(
      [](const auto& p) { return optim::AdamW(p, optim::AdamWOptions::of(GetParam())); },
      GetParam(),
      [](Reference& r, const std::vector<Vec>& g, const optim::AdamOptions& o) {
        r.adam(g, o, true);
      });
}

INSTANTIATE_TEST_SUITE_P(
    Options, AdamTest,
    testing::Values(optim::AdamOptions{.lr = 0.1},
                    optim::AdamOptions{.lr = 0.1, .beta1 = 0.5, .eps = 0.1},
                    optim::AdamOptions{
                        .lr = 0.1, .eps = 0.1, .weight_decay = 0.3, .eps_hat = true}));

TEST(Optim, SkipsParametersWithoutAGradient) {
  auto p = leaves();
  const optim::Adam opt(p, {.lr = 0.1});
  p[0].set_grad(ones({2, 2}, {.dtype = DType::f64}));
  opt.step();
  EXPECT_NE(p[0].to_vector<double>(), kStart[0]);
  EXPECT_EQ(p[1].to_vector<double>(), kStart[1]);
  opt.zero_grad();
  EXPECT_FALSE(p[0].grad().defined());
  const auto before = p[0].to_vector<double>();
  opt.step();  // nothing to do
  EXPECT_EQ(p[0].to_vector<double>(), before);
}

TEST(Optim, DescendsARealLoss) {
  const nn::Linear net(3, 1);
  const Tensor x = randn({64, 3}), y = matmul(x, Tensor::from<float>({1, -2, 3}, {3, 1})) + 0.5;
  for (const optim::Optimizer& opt : std::initializer_list<optim::Optimizer>{
           optim::SGD(net.parameters(), {.lr = 0.1, .momentum = 0.9, .nesterov = true}),
           optim::Adam(net.parameters(), {.lr = 0.05}),
           optim::AdamW(net.parameters(), {.lr = 0.05, .weight_decay = 0})}) {
    nn::init::constant(net.weight(), 0);
    nn::init::constant(net.bias(), 0);
    for (int i = 0; i < 300; ++i) {
      opt.zero_grad();
      nn::mse_loss(net(x), y).backward();
      opt.step();
    }
    EXPECT_LT(nn::mse_loss(net(x), y).item(), 1e-3);
  }
}

TEST(Optim, GroupsHaveTheirOwnOptions) {
  auto p = leaves();
  const optim::SGD opt(std::vector<optim::ParameterGroup<optim::SgdOptions>>{
      {{p[0]}, {.lr = 0.1}}, {{p[1]}, {.lr = 0.2, .weight_decay = 0.5}}});
  ASSERT_EQ(opt.groups(), 2);
  const auto g = gradients(0);
  set_gradients(p, g);
  opt.step();
  Reference a({kStart[0]}), b({kStart[1]});
  a.sgd({g[0]}, {.lr = 0.1});
  b.sgd({g[1]}, {.lr = 0.2, .weight_decay = 0.5});
  expect_near(p, {a.p[0], b.p[0]}, 1e-12);
  opt.set_lr(1, 0.3);
  EXPECT_EQ(opt.lr(0), 0.1);
  EXPECT_EQ(opt.lr(1), 0.3);
  EXPECT_THROW(opt.lr(2), IndexError);
}

TEST(Optim, MixedDtypesInOneGroup) {
  auto p = leaves(DType::f32);
  p[1] = Tensor::from(kStart[1], {2}).to(DType::bf16);
  p[1].set_requires_grad();
  const optim::Adam opt(p, {.lr = 0.1});
  for (const auto& [name, t] : opt.state_dict()) {
    if (name == "0.exp_avg.1") {
      EXPECT_EQ(t.dtype(), DType::f32);
    }
  }
  Reference r(kStart);
  for (int t = 0; t < 3; ++t) {
    set_gradients(p, gradients(t));
    opt.step();
    r.adam(gradients(t), {.lr = 0.1}, false);
  }
  expect_near(p, r.p, 0.02);
}

TEST(Optim, CopiesAreHandles) {
  auto p = leaves();
  const optim::Adam opt(p, {.lr = 0.1});
  const optim::Optimizer other = opt;
  other.set_lr(0.5);
  EXPECT_EQ(opt.lr(), 0.5);
}

TEST(Optim, StateRoundTripContinuesExactly) {
  for (const bool adam : {false, true}) {
    auto p = leaves(DType::f32), q = leaves(DType::f32);
    const auto make = [&](const std::vector<Tensor>& v) -> optim::Optimizer {
      if (adam) return optim::Adam(v, {.lr = 0.1});
      return optim::SGD(v, {.lr = 0.1, .momentum = 0.9, .dampening = 0.1});
    };
    const auto a = make(p), b = make(q);
    for (int t = 0; t < 3; ++t) {
      set_gradients(p, gradients(t));
      a.step();
    }
    a.set_lr(0.03);
    b.load_state_dict(a.state_dict());
    EXPECT_EQ(b.lr(), 0.03);
    for (std::size_t i = 0; i < p.size(); ++i) {
      Tensor target = q[i].detach();
      target.copy_(p[i].detach());
    }
    for (int t = 3; t < 6; ++t) {
      for (auto* v : {&p, &q}) set_gradients(*v, gradients(t));
      a.step();
      b.step();
      for (std::size_t i = 0; i < p.size(); ++i) {
        EXPECT_EQ(p[i].to_vector<float>(), q[i].to_vector<float>());
      }
    }
  }
}

TEST(Optim, StateErrors) {
  const optim::Adam opt(leaves());
  StateDict state = opt.state_dict();
  ASSERT_EQ(state.size(), 6u);
  EXPECT_EQ(state[0].first, "0.lr");
  EXPECT_EQ(state[1].first, "0.step");
  const auto expect = [&](const StateDict& s, const std::string& text) {
    try {
      opt.load_state_dict(s);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(text));
    }
  };
  StateDict missing(state.begin(), state.end() - 1);
  expect(missing, "got none for 0.exp_avg_sq.1; expected");
  StateDict more = state;
  more.emplace_back("1.lr", ones({}));
  expect(more, "does not have; got 1.lr; expected");
  StateDict wrong = state;
  wrong[2].second = ones({3});
  expect(wrong, "another shape; got [3]; expected [2, 2]");
  StateDict ints = state;
  ints[2].second = ones({2, 2}, {.dtype = DType::i64});
  expect(ints, "another kind of dtype; got i64; expected f64");
}

TEST(Optim, BadArguments) {
  auto p = leaves();
  EXPECT_THROW(optim::SGD(std::vector<Tensor>{}), ValueError);
  EXPECT_THROW(optim::SGD({p[0], p[0]}), ValueError);
  EXPECT_THROW(optim::SGD({p[0], Tensor()}), ValueError);
  EXPECT_THROW(optim::SGD({p[0] * 2}), ValueError);
  EXPECT_THROW(optim::SGD({ones({2}, {.dtype = DType::i64})}), TypeError);
  EXPECT_THROW(optim::SGD(p, {.lr = -1}), ValueError);
  EXPECT_THROW(optim::SGD(p, {.nesterov = true}), ValueError);
  EXPECT_THROW(optim::SGD(p, {.momentum = 0.9, .dampening = -0.1}), ValueError);
  EXPECT_THROW(optim::SGD(p, {.momentum = 0.9, .dampening = 1.1}), ValueError);
  EXPECT_THROW(optim::Adam(p, {.beta1 = 1}), ValueError);
  EXPECT_THROW(optim::Adam(p).set_lr(-0.1), ValueError);
}

/// Stands in for a capture in progress.
class Capturing {
 public:
  Capturing() { set_trace_guards(&guards_); }
  ~Capturing() { set_trace_guards(nullptr); }
  std::vector<std::function<bool()>>& checks() { return guards_.checks; }

 private:
  struct Guards final : TraceGuards {
    void guard(std::string, std::function<bool()> holds) override {
      checks.push_back(std::move(holds));
    }
    Tensor read_grad(const Tensor& leaf) override { return grad_meta(leaf)->grad; }
    void write_grad(const Tensor& leaf, const Tensor& g) override { grad_meta(leaf)->grad = g; }
    void gradients_taken(std::span<const Tensor>, std::span<const Tensor>) override {}
    void refused(const std::string&) override {}
    std::vector<std::function<bool()>> checks;
  };
  Guards guards_;
};

TEST(Optim, HostSideChangesInsideACaptureAreRefused) {
  const optim::SGD opt(leaves(), {.lr = 0.1});
  const optim::StepLR schedule(opt, {.step_size = 1});
  const nn::Dropout drop(0.5);
  Capturing capture;
  EXPECT_THROW(opt.set_lr(0.2), CaptureError);
  EXPECT_THROW(schedule.step(), CaptureError);
  EXPECT_THROW(drop.eval(), CaptureError);
  EXPECT_NO_THROW(drop.train());  // it is already
  EXPECT_THROW(drop.to(DType::f64), CaptureError);
  EXPECT_EQ(opt.lr(), 0.1);
}

TEST(Optim, WhatACaptureReadIsGuarded) {
  const optim::SGD opt(leaves(), {.lr = 0.1});
  const nn::Dropout drop(0.5);
  std::vector<std::function<bool()>> checks;
  {
    Capturing capture;
    opt.lr();
    drop.training();
    checks = capture.checks();
  }
  ASSERT_EQ(checks.size(), 2u);
  EXPECT_TRUE(checks[0]() && checks[1]());
  opt.set_lr(0.2);
  drop.eval();
  EXPECT_FALSE(checks[0]() || checks[1]());
}

std::vector<double> rates(const optim::Optimizer& opt, const optim::Schedule& s, int n) {
  std::vector<double> v;
  for (int i = 0; i < n; ++i) {
    v.push_back(opt.lr());
    s.step();
  }
  return v;
}

void expect_rates(const std::vector<double>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-12) << i;
}

TEST(Schedules, Values) {
  const auto make = [] { return optim::SGD(leaves(), {.lr = 0.8}); };
  auto opt = make();
  expect_rates(rates(opt, optim::StepLR(opt, {.step_size = 2, .gamma = 0.5}), 5),
               {0.8, 0.8, 0.4, 0.4, 0.2});
  opt = make();
  expect_rates(rates(opt, optim::MultiStepLR(opt, {.milestones = {1, 3}, .gamma = 0.1}), 5),
               {0.8, 0.08, 0.08, 0.008, 0.008});
  opt = make();
  // eta_min is a rate, not a factor; after t_max it goes up again.
  const double r = 0.35 * std::sqrt(0.5);
  expect_rates(rates(opt, optim::CosineAnnealingLR(opt, {.t_max = 4, .eta_min = 0.1}), 7),
               {0.8, 0.45 + r, 0.45, 0.45 - r, 0.1, 0.45 - r, 0.45});
  opt = make();
  const optim::LinearLROptions down{.start_factor = 1, .end_factor = 0, .total_iters = 4};
  expect_rates(rates(opt, optim::LinearLR(opt, down), 6), {0.8, 0.6, 0.4, 0.2, 0, 0});
  opt = make();
  expect_rates(rates(opt, optim::LinearLR(opt, {}), 7),
               {4.0 / 15, 28.0 / 75, 36.0 / 75, 44.0 / 75, 52.0 / 75, 0.8, 0.8});
  opt = make();
  expect_rates(rates(opt, optim::LinearWarmup(opt, {.total_iters = 4}), 6),
               {0, 0.2, 0.4, 0.6, 0.8, 0.8});
  // The rate it was made with does not count; 3 steps up, 6 down.
  opt = optim::SGD(leaves(), {.lr = 7});
  const optim::OneCycleLR cycle(
      opt, {.max_lr = {0.8}, .total_steps = 10, .pct_start = 0.4, .div_factor = 4});
  const double least = 0.2 / 1e4;
  expect_rates(rates(opt, cycle, 12),
               {0.2, 0.35, 0.65, 0.8, least + (0.8 - least) * (2 + std::sqrt(3)) / 4,
                least + (0.8 - least) * 0.75, (0.8 + least) / 2, least + (0.8 - least) * 0.25,
                least + (0.8 - least) * (2 - std::sqrt(3)) / 4, least, least, least});
}

TEST(Schedules, WrongOptions) {
  const optim::SGD opt(leaves(), {.lr = 0.8});
  EXPECT_THROW(optim::StepLR(opt, {.step_size = 0}), ValueError);
  EXPECT_THROW(optim::CosineAnnealingLR(opt, {.t_max = 0}), ValueError);
  EXPECT_THROW(optim::LinearLR(opt, {.total_iters = 0}), ValueError);
  EXPECT_THROW(optim::LinearWarmup(opt, {.total_iters = -1}), ValueError);
  EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1}, .total_steps = 0}), ValueError);
  EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {}, .total_steps = 9}), ValueError);
  EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1, 2}, .total_steps = 9}), ValueError);
  EXPECT_EQ(opt.lr(), 0.8);
}

TEST(Schedules, WarmupIntoAnotherFromTheRateThatOneWasMadeWith) {
  const optim::SGD opt(leaves(), {.lr = 0.8});
  const optim::OneCycleLR after(
      opt, {.max_lr = {0.8}, .total_steps = 12, .pct_start = 0.5, .div_factor = 2});
  const optim::LinearWarmup s(opt, {.total_iters = 2, .after = after});
  const auto r = rates(opt, s, 8);
  EXPECT_NEAR(r[1], 0.4, 1e-12);
  EXPECT_NEAR(r[2], 0.4, 1e-12);  // the cycle's start
  EXPECT_NEAR(r[7], 0.8, 1e-12);  // its top
}

TEST(Schedules, EachGroupInProportionAndResumable) {
  auto p = leaves();
  const optim::SGD opt(std::vector<optim::ParameterGroup<optim::SgdOptions>>{{{p[0]}, {.lr = 1}},
                                                                             {{p[1]}, {.lr = 2}}});
  const optim::LinearLR s(opt, {.start_factor = 1, .end_factor = 0, .total_iters = 10});
  s.set_steps(4);
  EXPECT_NEAR(opt.lr(0), 0.6, 1e-12);
  EXPECT_NEAR(opt.lr(1), 1.2, 1e-12);
  s.step();
  EXPECT_EQ(s.steps(), 5);
  EXPECT_NEAR(opt.lr(0), 0.5, 1e-12);
  EXPECT_NEAR(s.lr(0, 1), 2, 1e-12);
  // A smallest rate is the same for all groups, a top one may differ.
  const optim::CosineAnnealingLR down(opt, {.t_max = 1, .eta_min = 0.1});
  down.step();
  EXPECT_NEAR(opt.lr(0), 0.1, 1e-12);
  EXPECT_NEAR(opt.lr(1), 0.1, 1e-12);
  const optim::OneCycleLR cycle(opt, {.max_lr = {3, 4}, .total_steps = 4, .pct_start = 0.5});
  cycle.step();
  EXPECT_NEAR(opt.lr(0), 3, 1e-12);
  EXPECT_NEAR(opt.lr(1), 4, 1e-12);
}

TEST(Schedules, StatesGoOnFromRatesThatHaveChanged) {
  const Tensor w = Tensor::from<float>({1, 2}, {2}).set_requires_grad();
  optim::SGD opt({w}, {.lr = 1}), other({w}, {.lr = 1});
  optim::CosineAnnealingLR s(opt, {.t_max = 10});
  for (int i = 0; i < 5; ++i) s.step();
  other.load_state_dict(opt.state_dict());
  const optim::CosineAnnealingLR t(other, {.t_max = 10});  // from the rate it has by now
  t.load_state_dict(s.state_dict());
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(opt.lr(), other.lr());
    EXPECT_EQ(s.steps(), t.steps());
    s.step(), t.step();
  }
  const auto state = [](double steps, double base) {
    return StateDict{{"steps", full({}, steps, {DType::i64})},
                     {"base", full({1}, base, {DType::f64})}};
  };
  for (const StateDict& bad :
       {state(-1, 1), state(1, -1), state(1, std::nan("")), StateDict{{"steps", zeros({})}},
        StateDict{{"steps", zeros({}, {DType::i64})}, {"base", zeros({2}, {DType::f64})}}}) {
    EXPECT_THROW(t.load_state_dict(bad), Error);
    EXPECT_EQ(s.steps(), t.steps());
    EXPECT_EQ(t.rule().base[0], 1);
    EXPECT_EQ(opt.lr(), other.lr());
  }
}

TEST(Schedules, TheUpdateUsesTheNewRate) {
  auto p = leaves();
  const optim::SGD opt(p, {.lr = 0.1});
  opt.set_lr(0.5);
  const auto g = gradients(0);
  set_gradients(p, g);
  opt.step();
  Reference r(kStart);
  r.sgd(g, {.lr = 0.5});
  expect_near(p, r.p, 1e-12);
}

}  // namespace
}  // namespace tandem
