// Custom functions, checkpointing, anomaly mode.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "autograd/autograd.h"
#include "autograd/gradcheck.h"
#include "ops/ops.h"

namespace tandem {
namespace {

Tensor leaf(const Tensor& t) {
  Tensor x = t.detach();
  x.set_requires_grad();
  return x;
}

const autograd::CustomFunction kCube{[](std::span<const Tensor> in, std::vector<Tensor>& saved) {
                                       saved.push_back(in[0]);
                                       return std::vector{in[0] * in[0] * in[0]};
                                     },
                                     [](std::span<const Tensor> g, std::span<const Tensor> saved) {
                                       return std::vector{g[0] * square(saved[0]) * 3};
                                     },
                                     "cube"};

TEST(CustomFunction, UsesTheGradientGiven) {
  const Tensor x = leaf(Tensor::from<double>({2, -1}, {2}));
  sum(kCube({x})[0]).backward();
  EXPECT_EQ(x.grad().to_vector<double>(), (std::vector<double>{12, 3}));
  const auto f = [](const std::vector<Tensor>& in) { return kCube(in); };
  EXPECT_EQ(autograd::gradcheck(f, {x}), "");
  EXPECT_EQ(autograd::gradgradcheck(f, {x}), "");
}

TEST(CustomFunction, SeveralInputsAndOutputs) {
  const autograd::CustomFunction f{[](std::span<const Tensor> in, std::vector<Tensor>& saved) {
                                     saved = {in[0], in[1]};
                                     return std::vector{in[0] * in[1], in[0] + in[1]};
                                   },
                                   [](std::span<const Tensor> g, std::span<const Tensor> s) {
                                     // The second input's gradient by way of the product alone, so
                                     // one part is missing.
                                     return std::vector{g[0] * s[1] + g[1], g[0] * s[0] + g[1]};
                                   },
                                   "pair"};
  const Tensor a = leaf(Tensor::from<double>({2, 3}, {2})),
               b = leaf(Tensor::from<double>({5, 7}, {2}));
  EXPECT_EQ(autograd::gradcheck([&](const std::vector<Tensor>& in) { return f(in); }, {a, b}), "");
}

TEST(CustomFunction, NamesItselfInErrors) {
  const autograd::CustomFunction bad{
      [](std::span<const Tensor> in, std::vector<Tensor>&) { return std::vector{in[0] * 2}; },
      [](std::span<const Tensor>, std::span<const Tensor>) { return std::vector{ones({7})}; },
      "misfit"};
  const Tensor x = leaf(ones({2}));
  try {
    sum(bad({x})[0]).backward();
    FAIL() << "a gradient of the wrong shape";
  } catch (const AutogradError& e) {
    EXPECT_NE(std::string(e.what()).find("[misfit]"), std::string::npos) << e.what();
  }
  const autograd::CustomFunction few{
      [](std::span<const Tensor> in, std::vector<Tensor>&) { return std::vector{in[0] * 2}; },
      [](std::span<const Tensor>, std::span<const Tensor>) { return std::vector<Tensor>{}; },
      "few"};
  EXPECT_THROW(sum(few({x})[0]).backward(), AutogradError);
}

TEST(CustomFunction, NoticesAMutatedSavedTensor) {
  Tensor base = leaf(ones({2}));
  Tensor x = base * 2;
  const Tensor y = kCube({x})[0];
  {
    const NoGrad off;
    x.add_(1);
  }
  EXPECT_THROW(sum(y).backward(), AutogradError);
}

Tensor network(const Tensor& x, const Tensor& w) {
  Tensor h = x;
  for (int i = 0; i < 6; ++i) h = dropout(tanh(matmul(h, w)), 0.3);
  return h;
}

TEST(Checkpoint, EqualsTheRunThatKeepsEverything) {
  const Tensor w0 = full({8, 8}, 0.2) + eye(8) * 0.5, x0 = rand({4, 8});
  Tensor w = leaf(w0), x = leaf(x0);
  manual_seed(9);
  const Tensor plain = network(x, w);
  const Tensor after = rand({3});
  sum(square(plain)).backward();
  const auto gw = w.grad().to_vector<float>(), gx = x.grad().to_vector<float>();

  w = leaf(w0);
  x = leaf(x0);
  manual_seed(9);
  const Tensor lean = autograd::checkpoint(
      [&](const std::vector<Tensor>& in) { return std::vector{network(in[0], in[1])}; }, {x, w})[0];
  EXPECT_EQ(lean.to_vector<float>(), plain.to_vector<float>());
  const Tensor next = rand({3});
  EXPECT_EQ(next.to_vector<float>(), after.to_vector<float>());
  sum(square(lean)).backward();
  EXPECT_EQ(w.grad().to_vector<float>(), gw) << "the same masks the second time";
  EXPECT_EQ(x.grad().to_vector<float>(), gx);
  // Running again must not have moved the generator.
  manual_seed(9);
  network(x0, w0);
  rand({3});
  const auto want = default_generator().state().to_vector<std::int64_t>();
  manual_seed(9);
  Tensor v = leaf(x0);
  const Tensor again = autograd::checkpoint(
      [&](const std::vector<Tensor>& in) { return std::vector{network(in[0], in[1])}; },
      {v, w0})[0];
  rand({3});
  sum(again).backward();
  EXPECT_EQ(default_generator().state().to_vector<std::int64_t>(), want);
}

TEST(Checkpoint, KeepsLessAndReachesParametersInside) {
  Tensor w = leaf(full({1 << 16}, 0.5));
  const Tensor x = leaf(full({1 << 16}, 0.1));
  const auto f = [&](const std::vector<Tensor>& in) {
    Tensor h = in[0];
    for (int i = 0; i < 10; ++i) h = tanh(h * w);
    return std::vector{h};
  };
  const std::size_t before = cpu_allocator().stats().in_use;
  const Tensor y = autograd::checkpoint(f, {x})[0];
  EXPECT_LE(cpu_allocator().stats().in_use - before, std::size_t{2} << 18);
  sum(y).backward();
  const auto lean = w.grad().to_vector<float>();
  w.set_grad({});
  sum(f({x})[0]).backward();
  EXPECT_EQ(w.grad().to_vector<float>(), lean);
}

TEST(Checkpoint, DrawsTheSameNumbersAgainFromAnyGenerator) {
  const Tensor start = ones({64});
  Tensor grads[2];
  for (const bool checkpointed : {true, false}) {
    Generator own(5);
    manual_seed(3);
    const auto f = [&](const std::vector<Tensor>& in) {
      return std::vector{dropout(dropout(in[0], 0.5, true, &own), 0.5)};
    };
    Tensor x = start.clone().set_requires_grad();
    const Tensor y = checkpointed ? autograd::checkpoint(f, {x})[0] : f({x})[0];
    const auto drawn = own.state().to_vector<std::int64_t>();
    (y * y).sum().backward();
    grads[checkpointed] = x.grad();
    EXPECT_EQ(own.state().to_vector<std::int64_t>(), drawn);  // on from where it was
  }
  EXPECT_EQ(grads[1].to_vector<float>(), grads[0].to_vector<float>());
}

// What the function writes is written once, though it runs twice.
TEST(Checkpoint, LeavesSideEffectsAsTheyAre) {
  const Tensor start = rand({8, 3});
  std::vector<float> left[2], grads[2];
  for (const bool checkpointed : {true, false}) {
    Tensor m = zeros({3}), v = ones({3}), calls = zeros({1});
    const Tensor x = leaf(start);
    const auto f = [&](const std::vector<Tensor>& in) {
      calls.add_(1);
      return std::vector{batch_norm(in[0] * 2, {}, {}, m, v, true)};
    };
    const Tensor y = checkpointed ? autograd::checkpoint(f, {x})[0] : f({x})[0];
    batch_norm(x + 5, {}, {}, m, v, true);  // others write the same statistics in between
    sum(y * y * y).backward();
    left[checkpointed] = concat({m, v, calls}).to_vector<float>();
    grads[checkpointed] = x.grad().to_vector<float>();
  }
  EXPECT_EQ(left[1], left[0]);
  EXPECT_EQ(grads[1], grads[0]);
}

// A tape saves running statistics, too: that the second run wrote and restored them is no write.
TEST(Checkpoint, DoesNotSpoilWhatOthersSaved) {
  Tensor m = zeros({3}), v = ones({3});
  const Tensor x = leaf(rand({8, 3}));
  const Tensor y = autograd::checkpoint(
      [&](const std::vector<Tensor>& in) {
        return std::vector{batch_norm(in[0], {}, {}, m, v, true)};
      },
      {x})[0];
  const Tensor z = batch_norm(x, {}, {}, m, v, false);
  sum(y).backward();
  EXPECT_NO_THROW(sum(z).backward());
}

TEST(Checkpoint, NoticesWritesToWhatItReads) {
  const auto message = [](const std::function<void(Tensor&)>& write) -> std::string {
    Tensor w = leaf(full({2}, 2.0));
    const Tensor x = leaf(ones({2}));
    const Tensor y = autograd::checkpoint(
        [&](const std::vector<Tensor>& in) { return std::vector{in[0] * w * w}; }, {x})[0];
    {
      const NoGrad off;
      write(w);
    }
    try {
      sum(y).backward();
    } catch (const AutogradError& e) {
      return e.what();
    }
    EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{4, 4}));
    return "";
  };
  EXPECT_EQ(message([](Tensor&) {}), "");
  const int line = __LINE__ + 1;
  const std::string m = message([](Tensor& w) { w.mul_(3); });
  for (const std::string& part :
       {std::string("[checkpoint]"), std::string("needed for its gradient but was written over by"),
        std::string("'mul'"), "test_functions.cpp:" + std::to_string(line),
        std::string("version")}) {
    EXPECT_NE(m.find(part), std::string::npos) << part << " in " << m;
  }
  EXPECT_NE(message([](Tensor& w) { w.select(0, 1).fill_(7); }), "");
}

TEST(Checkpoint, RefusesGrad) {
  const Tensor x = leaf(ones({2}));
  const Tensor y = autograd::checkpoint(
      [](const std::vector<Tensor>& in) { return std::vector{exp(in[0])}; }, {x})[0];
  EXPECT_THROW(autograd::grad(sum(y), {x}), AutogradError);
}

struct Anomaly : testing::Test {
  Anomaly() { dispatch::set_anomaly_mode(true); }
  ~Anomaly() override { dispatch::set_anomaly_mode(false); }
};

TEST_F(Anomaly, NamesOpAndLine) {
  const Tensor x = leaf(Tensor::from<float>({1, 0}, {2}));
  const int line = __LINE__ + 2;
  try {
    const Tensor y = log(x);
    FAIL() << "log(0) is not finite";
  } catch (const ValueError& e) {
    const std::string m = e.what();
    EXPECT_NE(m.find("[log]"), std::string::npos) << m;
    EXPECT_NE(m.find("test_functions.cpp:" + std::to_string(line)), std::string::npos) << m;
    EXPECT_NE(m.find("-inf"), std::string::npos) << m;
    EXPECT_NE(m.find("finite"), std::string::npos) << m;
  }
}

TEST_F(Anomaly, BlamesTheForwardLineForABackwardNaN) {
  const Tensor x = leaf(Tensor::from<float>({0}, {1}));
  const int line = __LINE__ + 1;
  const Tensor y = sqrt(x);
  try {
    y.backward();
    FAIL() << "the gradient of sqrt at 0 is infinite";
  } catch (const ValueError& e) {
    const std::string m = e.what();
    EXPECT_NE(m.find("test_functions.cpp:" + std::to_string(line)), std::string::npos) << m;
  }
}

TEST_F(Anomaly, LeavesFiniteProgramsAlone) {
  const Tensor x = leaf(ones({3}));
  EXPECT_NO_THROW(sum(exp(x)).backward());
  EXPECT_TRUE(dispatch::anomaly_mode());
}

}  // namespace
}  // namespace tandem
