// Steps are counted for each parameter: one that gets a gradient late, or now and then, moves as
// its own count says, eagerly and compiled.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "graph/compile.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/on_gpu.h"

namespace tandem {
namespace {

constexpr int kSteps = 7, kParameters = 3;

/// Whether parameter i has a gradient at step t: always, from step 3 on, at every third step.
bool takes_part(int i, int t) {
  return i == 0 || (i == 1 ? t >= 3 : t % 3 == 1);
}
double gradient(int i, int t) {
  return std::sin(3.0 * t + 1.7 * i) + 0.3 * i;
}

struct Rule {
  const char* name;
  std::function<optim::Optimizer(const std::vector<Tensor>&)> make;
  /// Moves p by gradient g at the parameter's own step t, from 1; a and b are its slots.
  std::function<void(double& p, double g, double& a, double& b, int t)> step;
};

void adam(double& p, double g, double& m, double& v, int t) {
  m = 0.9 * m + 0.1 * g;
  v = 0.999 * v + 0.001 * g * g;
  p -= 0.1 / (1 - std::pow(0.9, t)) * m / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
}

const std::vector<Rule>& rules() {
  static const std::vector<Rule> all = {
      {"Adam",
       [](const std::vector<Tensor>& p) -> optim::Optimizer { return optim::Adam(p, {.lr = 0.1}); },
       adam},
      {"AdamW",
       [](const std::vector<Tensor>& p) -> optim::Optimizer {
         return optim::AdamW(p, {.lr = 0.1, .weight_decay = 0.2});
       },
       [](double& p, double g, double& m, double& v, int t) {
         p -= 0.1 * 0.2 * p;
         adam(p, g, m, v, t);
       }},
      {"SGD with dampening",
       [](const std::vector<Tensor>& p) -> optim::Optimizer {
         return optim::SGD(p, {.lr = 0.1, .momentum = 0.9, .dampening = 0.4});
       },
       [](double& p, double g, double& u, double&, int t) {
         u = 0.9 * u + (t == 1 ? 1 : 0.6) * g;
         p -= 0.1 * u;
       }},
  };
  return all;
}

std::vector<Tensor> parameters(DType dtype = DType::f64) {
  std::vector<Tensor> p;
  for (int i = 0; i < kParameters; ++i) {
    p.push_back(full({i + 1}, 0.5 * i - 0.75, {.dtype = dtype}).set_requires_grad());
  }
  return p;
}

/// One training step: each parameter that takes part has the gradient of its number in `g`.
Tensor train(const optim::Optimizer& opt, const std::vector<Tensor>& p, const Tensor& g,
             const std::string& parts) {
  opt.zero_grad();
  Tensor loss = zeros({}, {.dtype = p[0].dtype()});
  for (int i = 0; i < kParameters; ++i) {
    if (parts[static_cast<std::size_t>(i)] == '1') loss = loss + sum(p[i] * g.select(0, i));
  }
  loss.backward();
  opt.step();
  return loss;
}

Tensor gradients(int t, DType dtype = DType::f64) {
  std::vector<double> v;
  for (int i = 0; i < kParameters; ++i) v.push_back(gradient(i, t));
  return Tensor::from(v, {kParameters}).to(dtype);
}
std::string parts(int t) {
  std::string s;
  for (int i = 0; i < kParameters; ++i) s += takes_part(i, t) ? '1' : '0';
  return s;
}

TEST(OptimizerSteps, AreCountedForEachParameter) {
  for (const Rule& rule : rules()) {
    SCOPED_TRACE(rule.name);
    const auto p = parameters();
    const optim::Optimizer opt = rule.make(p);
    double want[kParameters], a[kParameters] = {}, b[kParameters] = {};
    int count[kParameters] = {};
    for (int i = 0; i < kParameters; ++i) want[i] = 0.5 * i - 0.75;
    for (int t = 0; t < kSteps; ++t) {
      train(opt, p, gradients(t), parts(t));
      for (int i = 0; i < kParameters; ++i) {
        if (takes_part(i, t)) rule.step(want[i], gradient(i, t), a[i], b[i], ++count[i]);
        for (const double v : p[static_cast<std::size_t>(i)].to_vector<double>()) {
          EXPECT_NEAR(v, want[i], 1e-12) << "parameter " << i << " after step " << t;
        }
      }
    }
    const Tensor counts = opt.state_dict()[1].second;
    EXPECT_EQ(counts.to_vector<int>(), std::vector<int>(count, count + kParameters));
  }
}

TEST(OptimizerSteps, AreTheSameCompiled) {
  for (const Rule& rule : rules()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(rule.name);
      const auto p = parameters(dtype), q = parameters(dtype);
      const optim::Optimizer eager = rule.make(p), compiled = rule.make(q);
      auto fast = compile(
          [&](const Tensor& g, const std::string& who) { return train(compiled, q, g, who); });
      for (int t = 0; t < kSteps; ++t) {
        train(eager, p, gradients(t, dtype), parts(t));
        fast(gradients(t, dtype), parts(t));
        for (std::size_t i = 0; i < p.size(); ++i) {
          ASSERT_EQ(p[i].to_bits(), q[i].to_bits()) << "parameter " << i << " after step " << t;
        }
      }
      const StateDict want = eager.state_dict(), got = compiled.state_dict();
      for (std::size_t k = 0; k < want.size(); ++k) {
        EXPECT_EQ(got[k].second.to_bits(), want[k].second.to_bits()) << want[k].first;
      }
    }
  }
}

TEST(OptimizerSteps, AreLoadedForEachParameter) {
  for (const Rule& rule : rules()) {
    SCOPED_TRACE(rule.name);
    const auto p = parameters(), q = parameters();
    const optim::Optimizer a = rule.make(p), b = rule.make(q);
    for (int t = 0; t < 4; ++t) train(a, p, gradients(t), parts(t));
    b.load_state_dict(a.state_dict());
    for (std::size_t i = 0; i < p.size(); ++i) {
      Tensor to = q[i].detach();
      to.copy_(p[i].detach());
    }
    for (int t = 4; t < kSteps; ++t) {
      train(a, p, gradients(t), parts(t));
      train(b, q, gradients(t), parts(t));
    }
    for (std::size_t i = 0; i < p.size(); ++i) EXPECT_EQ(p[i].to_bits(), q[i].to_bits());
  }
}

TEST(OptimizerSteps, OneNumberCountsForAll) {
  const auto p = parameters();
  const optim::Adam opt(p);
  StateDict state = opt.state_dict();
  ASSERT_EQ(state[1].first, "0.step");
  state[1].second = full({}, 12, {.dtype = DType::i64});
  opt.load_state_dict(state);
  EXPECT_EQ(opt.state_dict()[1].second.to_vector<int>(), std::vector<int>(kParameters, 12));
  state[1].second = zeros({kParameters + 1}, {.dtype = DType::i64});
  EXPECT_THROW(opt.load_state_dict(state), ShapeError);
  EXPECT_EQ(opt.state_dict()[1].second.to_vector<int>(), std::vector<int>(kParameters, 12));
}

using OptimizerStepsOnTwoDevices = testing::OnGpu;

TEST_F(OptimizerStepsOnTwoDevices, AreOneTensorInTheState) {
  const Device gpu{DeviceType::cuda, 0};
  const auto make = [&] {
    std::vector<Tensor> p;
    for (const Device d : {kCPU, gpu, kCPU}) {
      p.push_back(zeros({2}, {.dtype = DType::f64, .device = d}).set_requires_grad());
    }
    return p;
  };
  std::vector<Tensor> p = make(), q = make();
  const optim::Adam a(p, {.lr = 0.1}), b(q, {.lr = 0.1});
  const auto step = [](const optim::Adam& opt, std::vector<Tensor>& all, int t) {
    for (int i = 0; i < kParameters; ++i) {
      Tensor& x = all[static_cast<std::size_t>(i)];
      x.set_grad(takes_part(i, t) ? full_like(x, gradient(i, t)) : Tensor());
    }
    opt.step();
  };
  for (int t = 0; t < 5; ++t) step(a, p, t);
  ASSERT_EQ(a.state_dict()[1].first, "0.step");
  EXPECT_EQ(a.state_dict()[1].second.to_vector<int>(), (std::vector<int>{5, 2, 2}));
  b.load_state_dict(a.state_dict());
  EXPECT_EQ(b.state_dict()[1].second.to_vector<int>(), (std::vector<int>{5, 2, 2}));
  for (std::size_t i = 0; i < p.size(); ++i) q[i].detach().copy_(p[i].detach());
  for (int t = 5; t < kSteps; ++t) {
    step(a, p, t);
    step(b, q, t);
  }
  for (std::size_t i = 0; i < p.size(); ++i) EXPECT_EQ(p[i].to_bits(), q[i].to_bits());
}

}  // namespace
}  // namespace tandem
