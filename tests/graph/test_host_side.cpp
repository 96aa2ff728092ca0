// What a captured function takes from the host side besides its arguments: each change there must
// be noticed, or refused when the function is captured.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "autograd/autograd.h"
#include "graph/builder.h"
#include "graph/compile.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

float value(const Tensor& t) {
  return t.to_vector<float>().at(0);
}

TEST(HostSide, ValuesOfOutsideTensorsCannotBeRead) {
  const Tensor w = full({1}, 2.0);
  auto f = compile([=](const Tensor& x) { return w.item() > 1 ? x * 2 : x * 3; });
  EXPECT_THROW(f(ones({1})), CaptureError);
  auto g = compile([=](const Tensor& x) { return x * w.data<float>()[0]; });
  EXPECT_THROW(g(ones({1})), CaptureError);
}

TEST(HostSide, FreezingAParameterIsNoticed) {
  Tensor w = full({1}, 3.0).set_requires_grad(), u = full({1}, 2.0).set_requires_grad();
  auto f = compile([=](const Tensor& x) {
    Tensor(w).set_grad({});
    Tensor(u).set_grad({});
    Tensor loss = (x * w * u).sum();
    loss.backward();
    return loss;
  });
  f(ones({1}));
  EXPECT_EQ(value(w.grad()), 2);
  w.set_requires_grad(false);
  f(ones({1}));
  EXPECT_FALSE(w.grad().defined());
  w.set_requires_grad(true);
  f(ones({1}));
  EXPECT_EQ(value(w.grad()), 2);
  EXPECT_EQ(f.core().ledger().size(), 2u);  // the first program was right again
}

TEST(HostSide, WhetherAGradientIsWantedMayBeAllThatIsRead) {
  Tensor w = ones({1});
  auto f = compile([=](const Tensor& x) { return w.requires_grad() ? x * 3 : x * 2; });
  for (int i = 0; i < 6; ++i) {
    w.set_requires_grad(i % 3 == 2);
    EXPECT_EQ(value(f(ones({1}))), i % 3 == 2 ? 3 : 2) << i;
  }
  EXPECT_EQ(f.core().ledger().size(), 2U);
}

TEST(HostSide, NumbersOfDifferentKindsAreDifferentPrograms) {
  // Their bits are the same: 2.0 is 2^62, and INT64_MIN is -0.0.
  for (const auto& [was, is] : std::vector<std::pair<Scalar, Scalar>>{
           {2.0, std::int64_t{1} << 62}, {false, 0.0}, {2.0, false}, {-0.0, INT64_MIN}}) {
    Scalar s = was;
    auto f = compile([&](const Tensor& x) { return x * s; }, {.check_interval = 2});
    f(ones({1}));
    s = is;
    EXPECT_THROW(f(ones({1})), CaptureError) << was.str() << " " << is.str();
  }
}

TEST(HostSide, AParameterFrozenForAnotherStepIsAsItWas) {
  Tensor a = full({1}, 3.0).set_requires_grad(), b = full({1}, 2.0).set_requires_grad();
  const auto step = [=](const Tensor& x) {
    for (const Tensor& p : {a, b}) Tensor(p).set_grad({});
    Tensor loss = (x * a * b).sum();
    loss.backward();
    return loss;
  };
  auto first = compile(step), second = compile(step);
  for (int i = 0; i < 20; ++i) {
    Tensor(b).set_requires_grad(false);
    first(ones({1}));
    EXPECT_EQ(value(a.grad()), 2);
    EXPECT_FALSE(b.grad().defined());
    Tensor(b).set_requires_grad(true);
    Tensor(a).set_requires_grad(false);
    second(ones({1}));
    EXPECT_EQ(value(b.grad()), 3);
    EXPECT_FALSE(a.grad().defined());
    Tensor(a).set_requires_grad(true);
  }
  for (auto* f : {&first, &second}) {
    ASSERT_EQ(f->core().ledger().size(), 1U);
    EXPECT_LE(f->core().ledger()[0].confirmed, 1) << "the other was not frozen before";
  }
  // One function that is called either way has a program for each.
  auto both = compile(step);
  for (int i = 0; i < 20; ++i) {
    Tensor(a).set_requires_grad(i % 2 == 0);
    both(ones({1}));
    EXPECT_EQ(a.grad().defined(), i % 2 == 0);
    EXPECT_EQ(value(b.grad()), 3);
  }
  EXPECT_EQ(both.core().ledger().size(), 2U);
}

TEST(HostSide, AHookOnAParameterIsNoticed) {
  Tensor w = ones({1}).set_requires_grad();
  auto f = compile([=](const Tensor& x) {
    Tensor(w).set_grad({});
    Tensor loss = (x * w).sum();
    loss.backward();
    return loss;
  });
  f(ones({1}));
  EXPECT_EQ(value(w.grad()), 1);
  autograd::register_hook(w, [](const Tensor& g) { return g * 10; });
  f(ones({1}));
  EXPECT_EQ(value(w.grad()), 10);
}

TEST(HostSide, ALayerAddedLaterIsNoticed) {
  nn::Sequential net;
  net.add(nn::Linear(2, 2));
  auto f = compile([=](const Tensor& x) { return net(x); });
  f(ones({1, 2}));
  net.add(nn::Linear(2, 3));
  EXPECT_EQ(f(ones({1, 2})).shape(), Shape({1, 3}));
}

TEST(HostSide, AGradientThatSharesMemoryIsRefused) {
  Tensor p = ones({1}).set_requires_grad(), g = ones({1});
  p.set_grad(g);
  auto f = compile([=](const Tensor& x) {
    const Tensor r = x + 1;
    Tensor slot = p.grad();
    slot.mul_(Scalar(2));
    return r * 3;
  });
  EXPECT_THROW(f(g), CaptureError);
}

TEST(HostSide, StaticArgumentsAreToldApart) {
  auto f = compile([](const Tensor& x, const std::string& a, const std::string& b) {
    return x * static_cast<double>(a.size()) + 100. * static_cast<double>(b.size());
  });
  EXPECT_EQ(value(f(ones({1}), std::string("a';'b"), std::string("c"))), 105);
  EXPECT_EQ(value(f(ones({1}), std::string("a"), std::string("b';'c"))), 501);
  auto g = compile([](const Tensor& x, auto n) { return std::pair(x, n); });
  EXPECT_EQ(g(ones({1}), 1).second, 1);
  EXPECT_EQ(g(ones({1}), 1L).second, 1L);
}

TEST(HostSide, AHostResultThatChangesIsRefused) {
  int calls = 0;
  auto f = compile([&](const Tensor& x) { return std::pair(x + 1, ++calls); });
  EXPECT_THROW(f(ones({1})), CaptureError);
}

TEST(HostSide, CheckpointedActivationsCompile) {
  Tensor w = full({1}, 3.0).set_requires_grad();
  auto f = compile([=](const Tensor& x) {
    Tensor(w).set_grad({});
    Tensor c = autograd::checkpoint(
        [](const std::vector<Tensor>& in) { return std::vector<Tensor>{in[0] * in[0]}; },
        {x * w})[0];
    c.backward();
    return c;
  });
  for (int i = 0; i < 3; ++i) f(ones({1}));
  EXPECT_EQ(value(w.grad()), 6);
  EXPECT_EQ(f.core().ledger().size(), 1u);
}

TEST(HostSide, CheckpointedSideEffectsHappenOncePerStep) {
  manual_seed(4);
  const Tensor start = randn({6, 3});
  std::vector<float> mean[2], grads[2];
  for (const bool compiled : {true, false}) {
    Tensor m = zeros({3}), v = ones({3});
    Tensor w = start.clone().set_requires_grad();
    const auto step = [&](const Tensor& x) {
      w.set_grad({});
      const Tensor y = autograd::checkpoint(
          [&](const std::vector<Tensor>& in) {
            return std::vector<Tensor>{batch_norm(dropout(in[0], 0.5), {}, {}, m, v, true)};
          },
          {x * w})[0];
      const Tensor loss = (y * y * y).sum();
      loss.backward();
      return loss;
    };
    manual_seed(5);
    auto f = compile(step);
    for (int i = 0; i < 4; ++i) {
      const Tensor x = full({6, 3}, 1.0 + i);
      if (compiled) {
        f(x);
      } else {
        step(x);
      }
    }
    mean[compiled] = m.to_vector<float>();
    grads[compiled] = w.grad().to_vector<float>();
  }
  EXPECT_EQ(mean[1], mean[0]);
  EXPECT_EQ(grads[1], grads[0]);
  // Four steps of eager, without checkpointing.
  Tensor m = zeros({3}), v = ones({3});
  manual_seed(5);
  for (int i = 0; i < 4; ++i) {
    batch_norm(dropout(full({6, 3}, 1.0 + i) * start, 0.5), {}, {}, m, v, true);
  }
  EXPECT_EQ(mean[0], m.to_vector<float>());
}

TEST(HostSide, ACheckpointDeclaredOutsideAScopeDrawsTheSameNumbersAgain) {
  Tensor w = ones({64}).set_requires_grad();
  graph::Graph g;
  const Tensor y = autograd::checkpoint(
      [](const std::vector<Tensor>& in) { return std::vector<Tensor>{dropout(in[0], 0.5)}; },
      {g.variable("x", {64}) * w})[0];
  std::optional<graph::Function> f;
  {
    const auto scope = g.scope();
    y.sum().backward();
    f = g.compile(y);
  }
  std::vector<float> last;
  for (int i = 0; i < 3; ++i) {
    w.set_grad({});
    const auto drawn = f->run({{"x", ones({64})}})[0].to_vector<float>();
    EXPECT_EQ(w.grad().to_vector<float>(), drawn);  // the mask, doubled
    EXPECT_NE(drawn, last);
    last = drawn;
  }
}

TEST(HostSide, ACheckpointDoesNotMixDrawsOfAProgramWithOthers) {
  const Tensor w = ones({64}).set_requires_grad();
  graph::Graph g;
  const Tensor x = g.variable("x", {64}) * w;
  const auto drawn = [](const std::vector<Tensor>& in) {
    return std::vector<Tensor>{dropout(in[0], 0.5) * bernoulli(full({64}, 0.5))};
  };
  EXPECT_THAT(test::message_of<CaptureError>([&] { autograd::checkpoint(drawn, {x}); }),
              testing::HasSubstr("graph.scope() around the checkpoint"));
  const auto scope = g.scope();
  EXPECT_NO_THROW(autograd::checkpoint(drawn, {x}));
}

TEST(HostSide, ACheckpointInACaptureNoticesWritesToWhatItReads) {
  Tensor w = full({2}, 2.0), p = ones({2}).set_requires_grad();
  auto f = compile([&](const Tensor& x) {
    p.set_grad({});
    const Tensor y = autograd::checkpoint(
        [&](const std::vector<Tensor>& in) { return std::vector<Tensor>{in[0] * w * w}; },
        {x * p})[0];
    w.mul_(3);
    y.sum().backward();
    return y;
  });
  try {
    f(ones({2}));
    FAIL() << "w was written between the two runs";
  } catch (const AutogradError& e) {
    EXPECT_NE(std::string(e.what()).find("written over by 'mul'"), std::string::npos) << e.what();
  }
}

TEST(HostSide, AnInPlaceWriteFromAViewOfTheSameTensorEqualsEager) {
  manual_seed(3);
  Tensor b = randn({64, 64}), c = b.clone();
  auto f = compile([=](const Tensor& x) {
    Tensor t = b;
    t.add_(t.t());
    return x;
  });
  f(ones({1}));
  c.add_(c.t());
  EXPECT_EQ(b.to_vector<float>(), c.to_vector<float>());
}

TEST(DeclaredGraph, GradientsOutliveTheGraph) {
  Tensor w = ones({1}).set_requires_grad();
  {
    graph::Graph g;
    const Tensor a = g.variable("A", {1});
    std::optional<graph::Function> f;
    {
      const auto scope = g.scope();
      Tensor loss = (a * w).sum();
      loss.backward();
      f = g.compile(loss);
    }
    EXPECT_FALSE(w.grad().defined());  // declared, not run
    f->run({{"A", full({1}, 3.0)}});
  }
  EXPECT_EQ(value(w.grad()), 3);
}

TEST(DeclaredGraph, RefusesWhatItWasNotDeclaredFor) {
  Tensor w = ones({1}).set_requires_grad();
  {
    graph::Graph g;
    const Tensor a = g.variable("A", {1});
    EXPECT_THROW((a * w).sum().backward(), CaptureError);  // no scope
  }
  EXPECT_FALSE(w.grad().defined());

  graph::Graph g;
  Tensor a = g.variable("A", {1});
  const Tensor y = g.variable("B", {1}) + 1;
  a.add_(Scalar(5));
  const graph::Function f = g.compile(y * 3);
  const Tensor t = ones({1});
  EXPECT_THROW(f({{"A", t}, {"B", t}}), CaptureError);
  EXPECT_EQ(value(f({{"A", ones({1})}, {"B", t}})), 6);
  EXPECT_THROW(graph::Function{}.run({}), ValueError);

  w.set_grad(ones({1}));
  graph::Graph h;
  const Tensor x = h.variable("X", {1});
  std::optional<graph::Function> step;
  {
    const auto scope = h.scope();
    Tensor loss = (x * w).sum();
    loss.backward();
    step = h.compile(loss);
  }
  w.set_grad({});
  EXPECT_THROW(step->run({{"X", ones({1})}}), CaptureError);  // it accumulates into a gradient
}

TEST(FailedCapture, LeavesNoTraceOfWritesThatNeverHappened) {
  Tensor w = ones({3}).set_requires_grad();
  Tensor buffer = ones({3});
  const Tensor loss = (w * buffer).sum();  // saves the buffer
  auto f = compile([&](const Tensor& x) {
    buffer.add_(x);
    if (x.item() > 0) return x;  // refused
    return x * 2;
  });
  EXPECT_THROW(f(ones({1})), CaptureError);
  EXPECT_EQ(buffer.to_vector<float>(), (std::vector<float>{1, 1, 1}));
  loss.backward();  // and not "was written over"
  EXPECT_EQ(w.grad().to_vector<float>(), (std::vector<float>{1, 1, 1}));
}

TEST(Capture, WritesOfARunAreNoted) {
  Tensor w = ones({3}).set_requires_grad();
  Tensor buffer = ones({3});
  const Tensor loss = (w * buffer).sum();
  auto f = compile([&](const Tensor& x) {
    buffer.add_(x);
    return x * 2;
  });
  f(ones({1}));
  EXPECT_EQ(buffer.to_vector<float>(), (std::vector<float>{2, 2, 2}));
  EXPECT_THROW(loss.backward(), AutogradError);
}

}  // namespace
}  // namespace tandem
