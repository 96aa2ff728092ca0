// The tape: chains, sharing, modes, hooks, higher order, memory, threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <thread>

#include "autograd/autograd.h"
#include "autograd/gradcheck.h"
#include "core/backend.h"
#include "core/inline_array.h"
#include "ops/ops.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

Tensor leaf(std::initializer_list<double> v, Shape s = {}) {
  Tensor t = Tensor::from<double>(v, v.size() == 1 && s.empty() ? Shape{} : s);
  t.set_requires_grad();
  return t;
}
std::vector<double> values(const Tensor& t) {
  return t.to_vector<double>();
}

TEST(Backward, Chain) {
  const Tensor x = leaf({2});
  const Tensor y = exp(square(x) * 0.5);
  y.backward();
  EXPECT_NEAR(x.grad().item(), 2 * std::exp(2.0), 1e-12);
  EXPECT_TRUE(y.requires_grad());
  EXPECT_FALSE(y.is_leaf());
  EXPECT_TRUE(x.is_leaf());
  EXPECT_FALSE(x.grad().requires_grad());
}

TEST(Backward, SharedSubexpressions) {
  const Tensor x = leaf({3});
  const Tensor a = x * x, b = a + a * x;  // x^2 + x^3
  (b * b).backward();
  EXPECT_DOUBLE_EQ(x.grad().item(), 2 * (9 + 27) * (6 + 27));
  // A diamond of 60 levels has 2^60 paths: each node must be visited once.
  const Tensor z = leaf({1});
  Tensor t = z;
  for (int i = 0; i < 60; ++i) t = (t + t) * 0.5;
  t.backward();
  EXPECT_DOUBLE_EQ(z.grad().item(), 1);
}

TEST(Backward, Accumulates) {
  Tensor x = leaf({1, 2}, {2});
  sum(x * 3).backward();
  const Tensor first = x.grad();
  sum(x * 4).backward();
  EXPECT_EQ(values(x.grad()), (std::vector<double>{7, 7}));
  x.set_grad({});
  EXPECT_FALSE(x.grad().defined());
  sum(x).backward();
  EXPECT_EQ(values(x.grad()), (std::vector<double>{1, 1}));
}

TEST(Backward, GradientsAreNotShared) {
  // Both leaves get the very same gradient; writing one must not change the other.
  Tensor a = leaf({1, 2}, {2}), b = leaf({3, 4}, {2});
  sum(a + b).backward();
  Tensor g = a.grad();
  g.mul_(10);
  EXPECT_EQ(values(b.grad()), (std::vector<double>{1, 1}));
}

TEST(Backward, BroadcastsAreSummed) {
  const Tensor a = leaf({1, 2, 3}, {3}), b = leaf({1, 2}, {2, 1});
  sum(a * b).backward();
  EXPECT_EQ(values(a.grad()), (std::vector<double>{3, 3, 3}));
  EXPECT_EQ(values(b.grad()), (std::vector<double>{6, 6}));
  EXPECT_EQ(b.grad().shape(), (Shape{2, 1}));
}

TEST(Backward, MixedTypesGiveEachItsOwn) {
  Tensor a = Tensor::from<float>({1, 2}, {2}), b = Tensor::from<double>({3, 4}, {2});
  a.set_requires_grad();
  b.set_requires_grad();
  sum(a * b).backward();
  EXPECT_EQ(a.grad().dtype(), DType::f32);
  EXPECT_EQ(b.grad().dtype(), DType::f64);
  EXPECT_EQ(values(a.grad()), (std::vector<double>{3, 4}));
}

TEST(Backward, Seeds) {
  const Tensor x = leaf({1, 2}, {2});
  (x * x).backward(Tensor::from<double>({1, 10}, {2}));
  EXPECT_EQ(values(x.grad()), (std::vector<double>{2, 40}));
  const Tensor y = leaf({5});
  const std::vector<Tensor> out = {y * 2, y * y};
  const auto g = autograd::grad(out, std::vector{y}, {});
  EXPECT_DOUBLE_EQ(g[0].item(), 2 + 10);
}

TEST(Grad, LeavesSlotsAlone) {
  const Tensor x = leaf({2}), unused = leaf({1});
  const Tensor mid = x * x;
  const auto g = autograd::grad(mid * 3, {mid, x}, {.retain_graph = true});
  EXPECT_DOUBLE_EQ(g[0].item(), 3);
  EXPECT_DOUBLE_EQ(g[1].item(), 12);
  EXPECT_FALSE(x.grad().defined());
  const auto u = autograd::grad(x * 2, {x, unused}, {.allow_unused = true});
  EXPECT_DOUBLE_EQ(u[0].item(), 2);
  EXPECT_FALSE(u[1].defined());
  EXPECT_THROW(autograd::grad(x * 2, {x, unused}), AutogradError);
}

TEST(Grad, AnyOrder) {
  const Tensor x = leaf({1.5});
  Tensor y = pow(x, 5);
  const double want[] = {
      5 * std::pow(1.5, 4), 20 * std::pow(1.5, 3), 60 * std::pow(1.5, 2), 120 * 1.5, 120, 0};
  for (int order = 0; order < 5; ++order) {
    y = autograd::grad(y, {x}, {.create_graph = true})[0];
    EXPECT_NEAR(y.item(), want[order], 1e-10) << order + 1;
  }
  // sin to fourth order, through backward().
  Tensor z = leaf({0.7});
  Tensor s = sin(z);
  for (int k = 0; k < 4; ++k) s = autograd::grad(s, {z}, {.create_graph = true})[0];
  EXPECT_NEAR(s.item(), std::sin(0.7), 1e-12);
  const auto f = [](const std::vector<Tensor>& in) {
    return autograd::grad(sum(tanh(in[0]) * in[0]), {in[0]}, {.create_graph = true});
  };
  const Tensor v = leaf({0.3, -0.8, 1.1}, {3});
  EXPECT_EQ(autograd::gradcheck(f, {v}), "");
  EXPECT_EQ(autograd::gradgradcheck(f, {v}), "");
}

TEST(Grad, CreateGraphThroughBackward) {
  Tensor x = leaf({3});
  pow(x, 3).backward({}, false, true);
  EXPECT_DOUBLE_EQ(x.grad().item(), 27);
  const Tensor g = x.grad();
  EXPECT_TRUE(g.requires_grad());
  EXPECT_DOUBLE_EQ(autograd::grad(g, {x})[0].item(), 18);
  x.set_grad({});  // the gradient's history holds x, which holds the gradient
}

TEST(Gradcheck, FindsAWrongGradient) {
  const autograd::CustomFunction wrong{
      [](std::span<const Tensor> in, std::vector<Tensor>&) { return std::vector{square(in[0])}; },
      [](std::span<const Tensor> g, std::span<const Tensor>) { return std::vector{g[0] * 2}; },
      "wrong"};
  const Tensor x = leaf({0.4, 2}, {2});
  const auto message =
      autograd::gradcheck([&](const std::vector<Tensor>& in) { return wrong(in); }, {x});
  EXPECT_NE(message.find("input 0"), std::string::npos) << message;
  EXPECT_NE(autograd::gradgradcheck(
                [&](const std::vector<Tensor>& in) {
                  return std::vector{pow(in[0].detach(), 2) * in[0]};
                },
                {x}),
            "")
      << "detach hides part of the second derivative";
}

TEST(Modes, NoGradAndDetach) {
  const Tensor x = leaf({2});
  {
    const NoGrad off;
    EXPECT_FALSE(grad_enabled());
    EXPECT_FALSE((x * 2).requires_grad());
    const EnableGrad on;
    EXPECT_TRUE((x * 2).requires_grad());
  }
  EXPECT_TRUE(grad_enabled());
  const Tensor d = (x * 3).detach();
  EXPECT_FALSE(d.requires_grad());
  (d * x).backward();
  EXPECT_DOUBLE_EQ(x.grad().item(), 6);
  EXPECT_FALSE((ones({2}) * 2).requires_grad());
  EXPECT_FALSE(gt(x, 0).requires_grad());
}

TEST(Tape, RetainGraph) {
  const Tensor x = leaf({2});
  const Tensor y = square(x);
  y.backward({}, true);
  y.backward();
  EXPECT_DOUBLE_EQ(x.grad().item(), 8);
  EXPECT_THROW(y.backward(), AutogradError);
}

TEST(Tape, KeepsOnlyWhatGradientsNeed) {
  const std::size_t before = cpu_allocator().stats().in_use;
  Tensor x = zeros({1 << 18});
  x.set_requires_grad();
  Tensor y = x;
  for (int i = 0; i < 8; ++i) y = y + 1.0;  // no intermediate value is needed
  EXPECT_LE(cpu_allocator().stats().in_use - before, std::size_t{3} << 20);
  y = Tensor();
  x = Tensor();
  EXPECT_EQ(cpu_allocator().stats().in_use, before);
}

TEST(Tape, IsFreedAfterBackward) {
  Tensor x = zeros({1 << 16});
  x.set_requires_grad();
  const std::size_t before = cpu_allocator().stats().in_use;
  {
    Tensor y = x;
    for (int i = 0; i < 8; ++i) y = exp(y) * 0.5;
    sum(y).backward();
  }
  x.set_grad({});
  EXPECT_EQ(cpu_allocator().stats().in_use, before);
}

TEST(Tape, DeepChainsNeedNoStack) {
  Tensor x = leaf({1});
  Tensor y = x;
  for (int i = 0; i < 100000; ++i) y = y + 1;
  y.backward();
  EXPECT_DOUBLE_EQ(x.grad().item(), 1);
  Tensor z = x;
  for (int i = 0; i < 100000; ++i) z = z * 1.0;
  z = Tensor();  // freed without a backward pass
  Tensor w = x;
  for (int i = 0; i < 20000; ++i) w = w * x;
  autograd::grad(w, {x});
}

// What a forward pass keeps of memory for its gradient, and what of that is left when the gradient
// has been taken and the loss is still held.
std::pair<std::size_t, std::size_t> bytes_kept(const Tensor& x,
                                               const std::function<Tensor(const Tensor&)>& f) {
  Allocator& memory = backend(default_device()).allocator(default_device().index);
  f(x).backward();  // from here on x has a gradient
  const std::size_t before = memory.stats().in_use;
  const Tensor loss = f(x);
  const std::size_t during = memory.stats().in_use;
  loss.backward();
  return {during - before, memory.stats().in_use - before};
}

// Operations of many inputs or several outputs, too.
TEST(Tape, FreesSavedTensorsWhileTheLossLives) {
  const auto leaf_of = [](const Shape& s) { return ones(s).set_requires_grad(); };
  const Tensor columns = leaf_of({4, 4096}), image = leaf_of({2, 2, 64, 64});
  Tensor mean = zeros({4096}), var = ones({4096});
  const auto labels = zeros({4}, {.dtype = DType::i64});
  struct Case {
    const char* name;
    Tensor x;
    std::function<Tensor(const Tensor&)> f;
    std::size_t kept;  // at least
  };
  const Case cases[] = {
      {"batch_norm", columns,
       [&](const Tensor& x) { return sum(batch_norm(x, {}, {}, mean, var, true)); }, 3 * 4 * 4096},
      {"dropout", columns, [](const Tensor& x) { return sum(dropout(x, 0.5)); }, 4 * 4096},
      {"max_pool2d", image, [](const Tensor& x) { return sum(max_pool2d(x, {.kernel = {2}})); },
       4 * 2 * 2 * 32 * 32},
      {"cross_entropy", columns, [&](const Tensor& x) { return cross_entropy(x, labels); },
       4 * 4 * 4096},
      {"layer_norm", columns, [](const Tensor& x) { return sum(layer_norm(x, {4096})); }, 4 * 4096},
  };
  for (const Case& c : cases) {
    const auto [during, after] = bytes_kept(c.x, c.f);
    EXPECT_GE(during, c.kept) << c.name;
    EXPECT_LE(after, std::size_t{1024}) << c.name;
  }
}

TEST(InlineArray, AResizeLetsGoOfEverything) {
  const auto shared = std::make_shared<int>(1);
  InlineArray<std::shared_ptr<int>, 2> a(1);
  a[0] = shared;
  a.resize(0);
  EXPECT_EQ(shared.use_count(), 1);
  a.resize(3);
  a[2] = shared;
  a.resize(2);
  EXPECT_EQ(shared.use_count(), 1);
  EXPECT_EQ(a.size(), 2u);
  EXPECT_EQ(a[1], nullptr);
}

TEST(Hooks, CanBeTakenAwayAgain) {
  const Tensor x = leaf({2});
  const autograd::HookHandle tenfold =
      autograd::register_hook(x, [](const Tensor& g) { return g * 10; });
  const autograd::HookHandle more =
      autograd::register_hook(x, [](const Tensor& g) { return g + 1; });
  const auto grad_now = [&] {
    Tensor(x).set_grad({});
    (x * 3).backward();
    return x.grad().item();
  };
  EXPECT_EQ(grad_now(), 31);
  tenfold.remove();
  EXPECT_EQ(grad_now(), 4);
  tenfold.remove();
  EXPECT_EQ(grad_now(), 4);
  more.remove();
  EXPECT_EQ(grad_now(), 3);
  autograd::HookHandle late;
  {
    const Tensor gone = leaf({1});
    late = autograd::register_hook(gone * 2, [](const Tensor&) { return Tensor{}; });
  }
  late.remove();
  autograd::HookHandle().remove();
}

TEST(Hooks, KeepShapeAndDtype) {
  const std::vector<GradHook> wrong{[](const Tensor& g) { return g.sum(); },
                                    [](const Tensor& g) { return g.to(DType::f32); }};
  for (const GradHook& hook : wrong) {
    for (const bool of_leaf : {true, false}) {
      const Tensor x = leaf({1, 1}, {2}), y = x * 2;
      autograd::register_hook(of_leaf ? x : y, hook);
      EXPECT_THAT(test::message_of<AutogradError>([&] { sum(y).backward(); }),
                  testing::AllOf(testing::HasSubstr("[register_hook]"),
                                 testing::HasSubstr("expected f64[2]")));
    }
  }
}

// A list of hooks that changes while it is walked through.
TEST(Hooks, MayRegisterAndRemoveHooks) {
  const Tensor x = leaf({2}), mid = x * 3;
  int added = 0;
  std::vector<autograd::HookHandle> handles(2);
  for (int k = 0; k < 2; ++k) {
    const Tensor t = k ? mid : x;
    handles[static_cast<std::size_t>(k)] = autograd::register_hook(t, [&, t, k](const Tensor& g) {
      for (int i = 0; i < 100; ++i) {
        autograd::register_hook(t, [&](const Tensor&) {
          ++added;
          return Tensor{};
        });
      }
      handles[static_cast<std::size_t>(k)].remove();
      return g * 2;
    });
  }
  mid.backward({}, true);
  EXPECT_EQ(added, 0);
  EXPECT_EQ(x.grad().item(), 12);
  mid.backward();
  EXPECT_EQ(added, 200);
  EXPECT_EQ(x.grad().item(), 15);
}

TEST(Hooks, SeeAndReplace) {
  const Tensor x = leaf({2});
  const Tensor mid = x * 3;
  std::vector<double> seen;
  autograd::register_hook(mid, [&](const Tensor& g) {
    seen.push_back(g.item());
    return g * 10;
  });
  autograd::register_hook(mid, [&](const Tensor& g) {
    seen.push_back(g.item());
    return Tensor{};
  });
  autograd::register_hook(x, [&](const Tensor& g) {
    seen.push_back(g.item());
    return g + 1;
  });
  (mid * mid + x).backward();
  EXPECT_EQ(seen, (std::vector<double>{12, 120, 361}));  // the leaf's: once, the whole sum
  EXPECT_DOUBLE_EQ(x.grad().item(), 362);
  EXPECT_THROW(autograd::register_hook(ones({1}), [](const Tensor& g) { return g; }),
               AutogradError);
}

TEST(InPlace, IsDifferentiated) {
  const Tensor x = leaf({2, 3}, {2});
  Tensor y = x * 1.0;
  y.add_(square(x)).mul_(2).mul_(Tensor::from<double>({1, 10}, {2})).sub_(x);
  sum(y).backward();  // 2 c (x + x^2) - x
  EXPECT_EQ(values(x.grad()), (std::vector<double>{9, 139}));
  Tensor v = leaf({1});
  {
    const NoGrad off;
    v.mul_(5);
  }
  EXPECT_EQ(v.item(), 5);
  EXPECT_TRUE(v.is_leaf());
}

TEST(Views, AreDifferentiated) {
  const Tensor x = leaf({1, 2, 3, 4, 5, 6}, {2, 3});
  sum(square(x.t().slice(0, 1, 3).select(1, 0))).backward();
  EXPECT_EQ(values(x.grad()), (std::vector<double>{0, 4, 6, 0, 0, 0}));
}

TEST(Ties, ShareTheGradient) {
  const Tensor x = leaf({3, 1, 3, 3}, {4});
  max(x).backward();
  for (double g : {values(x.grad())[0], values(x.grad())[2], values(x.grad())[3]}) {
    EXPECT_NEAR(g, 1.0 / 3, 1e-15);
  }
  const Tensor a = leaf({2}), b = leaf({2});
  maximum(a, b).backward();
  EXPECT_DOUBLE_EQ(a.grad().item(), 0.5);
  EXPECT_DOUBLE_EQ(b.grad().item(), 0.5);
  const Tensor c = leaf({-1, 1, 5}, {3});
  sum(clamp(c, -1, 1)).backward();
  EXPECT_EQ(values(c.grad()), (std::vector<double>{1, 1, 0}));
}

TEST(Prod, HasAGradientAtZero) {
  const Tensor one = leaf({2, 0, 3}, {3});
  prod(one).backward();
  EXPECT_EQ(values(one.grad()), (std::vector<double>{0, 6, 0}));
  const Tensor two = leaf({0, 0, 3}, {3});
  prod(two).backward();
  EXPECT_EQ(values(two.grad()), (std::vector<double>{0, 0, 0}));
}

TEST(Threads, RunIndependentTapes) {
  std::vector<std::thread> threads;
  std::vector<double> got(4);
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([t, &got] {
      Tensor w = full({3, 3}, 0.1 * static_cast<double>(t + 1), {.dtype = DType::f64});
      w.set_requires_grad();
      for (int i = 0; i < 200; ++i) {
        Tensor x = ones({2, 3}, {.dtype = DType::f64});
        sum(tanh(matmul(x, w))).backward();
        if (i % 3 == 0) {
          const NoGrad off;
          w.add_(w.grad() * -0.001);
          w.set_grad({});
        }
      }
      got[t] = sum(w).item();
    });
  }
  for (auto& t : threads) t.join();
  for (std::size_t t = 0; t < 4; ++t) {
    // The same again on this thread.
    Tensor w = full({3, 3}, 0.1 * static_cast<double>(t + 1), {.dtype = DType::f64});
    w.set_requires_grad();
    for (int i = 0; i < 200; ++i) {
      Tensor x = ones({2, 3}, {.dtype = DType::f64});
      sum(tanh(matmul(x, w))).backward();
      if (i % 3 == 0) {
        const NoGrad off;
        w.add_(w.grad() * -0.001);
        w.set_grad({});
      }
    }
    EXPECT_EQ(got[t], sum(w).item());
  }
}

TEST(Modes, BelongToTheThread) {
  const NoGrad off;
  bool other = false;
  std::thread([&] { other = grad_enabled(); }).join();
  EXPECT_TRUE(other);
}

}  // namespace
}  // namespace tandem
