// Gradients between what a program sees and what lies outside: arguments that hang together on the
// tape, hooks, histories. Eagerly a gradient flows on; where a program would lose a part of it that
// is an error, and nothing else is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/autograd.h"
#include "graph/builder.h"
#include "graph/compile.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

using autograd::grad;

float first(const Tensor& t) {
  return t.to_vector<float>()[0];
}
Tensor leaf(float value = 1) {
  return full({2}, value).set_requires_grad();
}
void expect_refused(const std::function<void()>& call, const char* part) {
  EXPECT_THAT(test::message_of<CaptureError>(call),
              testing::AllOf(testing::HasSubstr("[compile]"), testing::HasSubstr(part)));
}

TEST(GradientTies, ArgumentsThatAreOneTensor) {
  const auto both = [](const Tensor& a, const Tensor& b) {
    return grad((a * a + 3 * b * b).sum(), {a})[0];
  };
  const Tensor x = leaf(), w = leaf();
  EXPECT_EQ(first(both(x, x)), 8);
  auto fast = compile(both);
  expect_refused([&] { fast(x, x); }, "is argument 0, too");
  expect_refused([&] { fast(x, x.reshape({2})); }, "argument 0, too");
  EXPECT_EQ(first(fast(x, x.detach())), 2);
  EXPECT_EQ(first(fast(x, w)), 2);
  EXPECT_EQ(first(fast(x, x.detach().set_requires_grad())), 2) << "a leaf of its own, eagerly too";

  auto uses = compile([&](const Tensor& a) { return grad((a * a * w).sum(), {w})[0]; });
  EXPECT_EQ(first(uses(x)), 1);
  expect_refused([&] { uses(w); }, "is a tensor the function uses");
  EXPECT_EQ(first(uses(w.detach())), 1);
  auto wants = compile([&](const Tensor& a) { return grad((a * a * w).sum(), {a})[0]; });
  expect_refused([&] { wants(w); }, "is a tensor the function uses");
  auto forward = compile([&](const Tensor& a) { return a * w; });
  EXPECT_EQ(first(forward(w)), 1) << "harmless where no gradient is taken";
}

TEST(GradientTies, AlsoWhereTheTapeIsOnOnlyInside) {
  const auto both = [](const Tensor& a, const Tensor& b) {
    const EnableGrad on;
    return grad((a * b).sum(), {a})[0];
  };
  const Tensor x = leaf(3);
  auto fast = compile(both);
  const NoGrad off;
  EXPECT_EQ(first(both(x, x)), 6);
  expect_refused([&] { fast(x, x); }, "is argument 0, too");
}

TEST(GradientTies, ArgumentsWithHistory) {
  const Tensor w = leaf(), v = leaf();
  const auto uses = [&](const Tensor& a) { return grad((a * w).sum(), {w})[0]; };
  EXPECT_EQ(first(uses(w * 3)), 6);
  auto fast = compile(uses);
  expect_refused([&] { fast(w * 3); }, "was computed from a tensor the function uses");
  EXPECT_EQ(first(fast((w * 3).detach())), 3);
  EXPECT_EQ(first(fast(v * 3)), 3) << "another history does not matter";

  const auto two = [](const Tensor& a, const Tensor& b) { return grad((a * b).sum(), {b})[0]; };
  auto fast_two = compile(two);
  EXPECT_EQ(first(two(w * 3, w)), 6);
  expect_refused([&] { fast_two(w * 3, w); }, "was computed from argument 1");
  const Tensor h = w * 3;
  expect_refused([&] { fast_two(h * 2, h); }, "was computed from argument 1");
  EXPECT_EQ(first(fast_two(w * 3, w * 5)), 3) << "siblings do not hang together";
  const std::vector<Tensor> halves = split(w * 2, 1, 0);
  EXPECT_EQ(first(fast_two(halves[0], halves[1])), 2);

  auto only_asked = compile([&](const Tensor& a) {
    return grad((a * 2).sum(), {a, w}, {.allow_unused = true})[0];
  });
  expect_refused([&] { only_asked(w * 3); }, "was computed from a tensor the function uses");
}

TEST(GradientTies, OutsideTensorsComputedFromAnArgument) {
  const Tensor w = leaf(), v = leaf(), c = w * 3;
  const auto f = [&](const Tensor& a) {
    return grad((a * c).sum(), {a}, {.retain_graph = true})[0];
  };
  EXPECT_EQ(first(f(w)), 6);
  auto fast = compile(f);
  expect_refused([&] { fast(w); }, "is a tensor the function uses");
  EXPECT_EQ(first(fast(v)), 3);
  // Through a tape that was there before, replay could not notice that it was used up or that
  // what it saved was written over.
  auto through =
      compile([&](const Tensor& a) { return grad((a * c).sum(), {w}, {.retain_graph = true})[0]; });
  EXPECT_THAT(test::message_of<CaptureError>([&] { through(v); }),
              testing::HasSubstr("recorded before the capture"));
}

TEST(GradientTies, NoTieWhereNoGradientFlows) {
  const Tensor w = leaf(0.5F), x = leaf();
  auto detached = compile([&](const Tensor& a) { return grad((a.detach() * w).sum(), {w})[0]; });
  EXPECT_EQ(first(detached(w)), 0.5F);
  auto values_only = compile([&](const Tensor& a) { return grad((a * w.detach()).sum(), {a})[0]; });
  EXPECT_EQ(first(values_only(w)), 0.5F);
  autograd::register_hook(x, [](const Tensor& g) { return g * 10; });
  auto other_target = compile([&](const Tensor& a) { return grad((a * w).sum(), {w})[0]; });
  EXPECT_EQ(first(other_target(x)), 1) << "nobody asks for the gradient that has a hook";
}

TEST(GradientTies, Hooks) {
  const auto f = [](const Tensor& a) { return grad((a * a).sum(), {a})[0]; };
  const auto tenfold = [](const Tensor& g) { return g * 10; };
  const Tensor x = leaf();
  auto fast = compile(f);
  EXPECT_EQ(first(fast(x)), 2);
  const auto hook = autograd::register_hook(x, tenfold);
  EXPECT_EQ(first(f(x)), 20);
  expect_refused([&] { fast(x); }, "argument 0 wants a gradient and has gradient hooks");
  hook.remove();
  EXPECT_EQ(first(fast(x)), 2);
  const Tensor y = x * 1;
  const auto inner = autograd::register_hook(y, tenfold);
  expect_refused([&] { fast(y); }, "gradient hooks");
  inner.remove();
  EXPECT_EQ(first(fast(y)), 2);
  auto inside = compile([&](const Tensor& a) {
    autograd::register_hook(a, tenfold);
    return grad((a * a).sum(), {a})[0];
  });
  EXPECT_EQ(first(inside(leaf())), 20);
}

// What a compiled function gives has a history that nobody knows.
TEST(GradientTies, ResultsOfCompiledFunctions) {
  auto twice = compile([](const Tensor& x) {
    const Tensor a = x * 2;
    return std::vector{a, a * 2};
  });
  const Tensor x = leaf();
  const auto unknown = [](const std::function<void()>& call) {
    EXPECT_THAT(test::message_of<AutogradError>(call),
                testing::AllOf(testing::HasSubstr("[compile] a backward pass reached the result"),
                               testing::Not(testing::HasSubstr("in the gradient of"))));
  };
  const auto r = twice(x);
  EXPECT_EQ(first(grad((r[0] * r[0]).sum(), {r[0]})[0]), 4) << "one alone is as good as a leaf";
  unknown([&] { (r[0] * 3).sum().backward(); });
  unknown([&] { grad((r[0] * r[1]).sum(), {r[0]}); });
  unknown([&] { grad((r[0] * r[1]).sum(), {r[0], r[1]}); });
  const auto product = [](const Tensor& a, const Tensor& b) { return grad((a * b).sum(), {a})[0]; };
  auto fast = compile(product);
  expect_refused([&] { fast(r[0], r[1]); }, "is a result of a compiled function");
  EXPECT_EQ(first(fast(r[0].detach().set_requires_grad(), r[1].detach())), 4);
  // A state that is handed from call to call, cut off from its past inside.
  auto step = compile([](const Tensor& w, const Tensor& h, const Tensor& c) {
    const Tensor next = tanh(h.detach() * w), cell = c.detach() + next;
    return std::vector{next, cell, grad(cell.sum(), {w})[0]};
  });
  std::vector<Tensor> state{leaf(), leaf()};
  for (int i = 0; i < 3; ++i) {
    auto next = step(x, state[0], state[1]);
    state = {next[0], next[1]};
  }
}

// Whether a parameter is frozen decides what the results may be used for.
TEST(GradientTies, FreezingIsNoticedInTheResults) {
  for (const bool frozen_first : {true, false}) {
    SCOPED_TRACE(frozen_first);
    Tensor w = full({2}, 3), v = leaf();
    w.set_requires_grad(!frozen_first);
    auto fast = compile([&](const Tensor& a) { return (a * w).sum(); });
    const Tensor a = ones({2});
    const auto train = [&] {
      v.set_grad({});
      (fast(a) + v.sum()).backward();
    };
    for (const bool frozen : {frozen_first, !frozen_first}) {
      w.set_requires_grad(!frozen);
      if (frozen) {
        EXPECT_NO_THROW(train());
      } else {
        EXPECT_THROW(train(), AutogradError);
      }
    }
  }
}

TEST(GradientTies, LeavesMadeInsideCostNoCapture) {
  Tensor w = leaf();
  int runs = 0;
  auto fast = compile([&](const Tensor& x) {
    ++runs;
    const Tensor own = w.detach().set_requires_grad();
    const auto f = [](const std::vector<Tensor>& in) { return std::vector{in[0] * in[1]}; };
    w.set_grad({});
    autograd::checkpoint(f, {x, w})[0].sum().backward();
    return grad((own * x).sum(), {own})[0];
  });
  for (int i = 0; i < 64; ++i) EXPECT_EQ(first(fast(full({2}, 5))), 5);
  EXPECT_LE(runs, 12) << "checks, not one capture a call";
}

TEST(GradientTies, AReplacedParameterIsNoticed) {
  Tensor w = leaf(2);
  auto fast = compile([&](const Tensor& x) {
    const Tensor own = w.detach().set_requires_grad();
    return grad((x * w * w).sum(), {w})[0] + grad((own * x).sum(), {own})[0] * 0;
  });
  EXPECT_EQ(first(fast(ones({2}))), 4);
  w = leaf(5);
  EXPECT_EQ(first(fast(ones({2}))), 10);
  EXPECT_EQ(fast.core().size(), 1) << "nothing is kept for what is gone";
}

TEST(GradientTies, AnotherTensorAtTheSameAddressIsNone) {
  const Tensor w = leaf(), v = leaf();
  Tensor h = w * 3;
  auto fast = compile([&](const Tensor& a) { return grad((a * h).sum(), {a})[0]; });
  fast(v);
  h = h.detach();  // its tape entry is free, and the next one takes its place
  for (int i = 0; i < 4; ++i) EXPECT_EQ(first(fast(v * 2)), 3);
}

// A function that hands a tensor from outside through has an entry on the tape all the same.
TEST(GradientTies, OperationsOfTheFunctionItselfAreInside) {
  const Tensor w = leaf(2);
  autograd::CustomFunction reversed;
  reversed.forward = [](std::span<const Tensor> in, std::vector<Tensor>&) {
    return std::vector<Tensor>(in.begin(), in.end());
  };
  reversed.backward = [](std::span<const Tensor> g, std::span<const Tensor>) {
    return std::vector<Tensor>{-g[0]};
  };
  const auto f = [&](const Tensor& x) { return grad((reversed({w})[0] * x).sum(), {w})[0]; };
  EXPECT_EQ(first(f(ones({2}))), -1);
  auto fast = compile(f);
  EXPECT_EQ(first(fast(ones({2}))), -1);
}

TEST(GradientTies, AFunctionDoesNotChangeItsArguments) {
  auto fast = compile([](const Tensor& a, const Tensor& b) {
    Tensor(a).set_requires_grad();
    Tensor(b).set_requires_grad();
    return grad((a * b).sum(), {a})[0];
  });
  EXPECT_THAT(test::message_of<CaptureError>([&] { fast(ones({2}), ones({2})); }),
              testing::HasSubstr("changed whether argument 0 requires a gradient"));
}

// What the function reads through its own variables.
TEST(GradientTies, AnotherTensorsGradientIsNoticed) {
  const Tensor u = leaf(), v = leaf();
  Tensor(u).set_grad(full({2}, 1));
  Tensor(v).set_grad(full({2}, 2));
  const Tensor* now = &u;
  auto fast = compile([&](const Tensor& x) { return x * now->grad(); }, {.check_interval = 4});
  fast(ones({2}));
  now = &v;
  EXPECT_THROW(
      {
        for (int i = 0; i < 8; ++i) fast(ones({2}));
      },
      CaptureError);
  bool vendor = true;
  auto chooses = compile(
      [&](const Tensor& x) {
        const PolicyScope scope({.vendor = vendor});
        return matmul(x, x);
      },
      {.check_interval = 4});
  chooses(ones({2, 2}));
  vendor = false;
  EXPECT_THROW(
      {
        for (int i = 0; i < 8; ++i) chooses(ones({2, 2}));
      },
      CaptureError);
}

TEST(GradientTies, DeclaredPrograms) {
  graph::Graph g;
  const Tensor a = g.variable("a", {2});
  Tensor s = zeros({2});
  const Tensor w = leaf();
  EXPECT_THAT(test::message_of<CaptureError>([&] { s.add_(a); }),
              testing::HasSubstr("declared program writes a tensor from outside"));
  graph::Function reads;
  {
    const auto scope = g.scope();
    s.add_(a);
    reads = g.compile(a + s * 2);
  }
  EXPECT_EQ(first(reads({{"a", ones({2})}})), 3);
  EXPECT_THAT(test::message_of<CaptureError>([&] { g.compile(w); }),
              testing::HasSubstr("does not depend on anything declared"));
  const auto f = g.compile((a * w).sum());
  EXPECT_THROW((f({{"a", ones({2})}}) + w.sum()).backward(), AutogradError);
  auto calls = compile([&](const Tensor& x) { return f({{"a", x}}); });
  EXPECT_THAT(test::message_of<CaptureError>([&] { calls(ones({2})); }),
              testing::HasSubstr("cannot become part of another program"));
  auto doubled = compile([](const Tensor& x) { return x * 2; });
  EXPECT_EQ(first(g.compile(doubled(a))({{"a", ones({2})}})), 2);
}

}  // namespace
}  // namespace tandem
