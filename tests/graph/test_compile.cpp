// compile(): state, gradients, randomness, views, signatures, the ledger, threads.
#include "graph/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "autograd/autograd.h"
#include "core/backend.h"
#include "core/profiler.h"
#include "core/trace_guard.h"
#include "nn/nn.h"
#include "tests/op_cases.h"

namespace tandem {
namespace {

using cases::compare_bits;

Tensor ramp(const Shape& s, double first = -1, double step = 0.25) {
  std::vector<double> v(static_cast<std::size_t>(numel(s)));
  for (std::size_t k = 0; k < v.size(); ++k) v[k] = first + step * static_cast<double>(k % 17);
  return Tensor::from<double>(v, s).to(DType::f32);
}
Tensor leaf(Tensor t) {
  t.set_requires_grad();
  return t;
}
std::string last_reason(auto& fast) {
  return fast.core().ledger().back().reason;
}

TEST(Compile, ReplaysWithNewArguments) {
  int runs = 0;
  auto fast = compile([&](const Tensor& x, const Tensor& y) {
    ++runs;
    return x * y + 1;
  });
  for (int i = 0; i < 7; ++i) {
    const Tensor x = ramp({3}, i), y = ramp({3}, 2 * i);
    EXPECT_EQ(compare_bits(fast(x, y), x * y + 1), "");
    EXPECT_EQ(runs, i < 3 ? 2 : 3) << "captured once, and to compare, now and at call 4";
  }
  EXPECT_EQ(fast.core().size(), 1);
  EXPECT_EQ(last_reason(fast), "first call");
}

TEST(Compile, KeepsTheShapeOfArgumentsAndResults) {
  struct Batch {
    Tensor x;
    std::vector<Tensor> rest;
    int scale;
    auto tree() { return std::tie(x, rest, scale); }
  };
  auto fast = compile([](const Batch& b, std::optional<Tensor> extra, const std::string& mode) {
    std::map<std::string, Tensor> out;
    Tensor s = b.x * b.scale;
    for (const Tensor& t : b.rest) s = s + t;
    if (extra) s = s + *extra;
    out["sum"] = mode == "neg" ? -s : s;
    return std::pair{out, std::tuple{s.shape()[0] + 0, b.x}};
  });
  const Tensor one = ones({2});
  auto r = fast(Batch{one, {one, one}, 3}, std::optional<Tensor>{}, std::string("pos"));
  EXPECT_EQ(r.first["sum"].to_vector<int>(), (std::vector<int>{5, 5}));
  EXPECT_EQ(std::get<0>(r.second), 2);
  EXPECT_EQ(std::get<1>(r.second).to_vector<int>(), (std::vector<int>{1, 1}));
  r = fast(Batch{one, {one, one}, 3}, std::optional<Tensor>{one}, std::string("neg"));
  EXPECT_EQ(r.first["sum"].to_vector<int>(), (std::vector<int>{-6, -6}));
  r = fast(Batch{one, {one}, 4}, std::optional<Tensor>{}, std::string("pos"));
  EXPECT_EQ(r.first["sum"].to_vector<int>(), (std::vector<int>{5, 5}));
  EXPECT_EQ(fast.core().size(), 3);
}

TEST(Compile, ResultsAreNewAtEveryCall) {
  const Tensor c = ramp({4});
  auto fast = compile([&](const Tensor& x) { return std::vector{x + c, x, c, x.slice(0, 1, 3)}; });
  const Tensor x = ramp({4}, 5);
  auto a = fast(x);
  const auto first = a[0].to_vector<float>();
  a[0].mul_(100);
  const auto b = fast(x);
  EXPECT_EQ(b[0].to_vector<float>(), first);
  EXPECT_EQ(b[1].to_vector<float>(), x.to_vector<float>());
  EXPECT_EQ(b[2].to_vector<float>(), c.to_vector<float>());
  EXPECT_EQ(b[3].to_vector<float>(), x.slice(0, 1, 3).to_vector<float>());
}

TEST(Compile, UpdatesStateInPlace) {
  Tensor counter = zeros({}), eager = zeros({}), buffer = zeros({3, 4}),
         eager_buffer = zeros({3, 4});
  const auto step = [](Tensor& n, Tensor& b, const Tensor& x) {
    n.add_(1);
    b.select(0, 1).mul_(0.5).add_(x);
    b.slice(1, 0, 4, 2).add_(n);
    return b.sum({0}) * n;
  };
  auto fast = compile([&](const Tensor& x) { return step(counter, buffer, x); });
  for (int i = 0; i < 4; ++i) {
    const Tensor x = ramp({4}, i);
    const Tensor want = step(eager, eager_buffer, x);
    EXPECT_EQ(compare_bits(fast(x), want), "") << fast.dump();
    EXPECT_EQ(compare_bits(counter, eager), "");
    EXPECT_EQ(compare_bits(buffer, eager_buffer), "");
  }
  // The host changes it between calls: the program sees that.
  buffer.fill_(7);
  eager_buffer.fill_(7);
  EXPECT_EQ(compare_bits(fast(ones({4})), step(eager, eager_buffer, ones({4}))), "");
  EXPECT_EQ(fast.core().size(), 1);
}

TEST(Compile, WritesArgumentsInPlace) {
  auto fast = compile([](Tensor x, const Tensor& y) {
    const Tensor before = x * 2;
    x.add_(y);
    return before + x;
  });
  for (int i = 0; i < 3; ++i) {
    Tensor x = ramp({3}, i);
    const Tensor y = ramp({3}, 1), old = x.clone();
    EXPECT_EQ(compare_bits(fast(x, y), old * 2 + (old + y)), "");
    EXPECT_EQ(compare_bits(x, old + y), "");
  }
}

// Views, and writes through them, in every order: what the tracer's aliasing must get right.
TEST(Compile, ViewsAndWritesEqualEager) {
  const auto program = [](const Tensor& x0, Tensor& state) {
    Tensor x = x0 * 1;
    Tensor row = x.select(0, 1), column = x.select(1, 0), all = x.view({12});
    const Tensor before = row + 0;
    row.add_(10);                    // through one view,
    const Tensor seen = column * 2;  // seen by another,
    all.slice(0, 0, 12, 3).mul_(-1);
    column.copy_(row.slice(0, 0, 3));
    x.t().slice(0, 1, 3).add_(state.slice(0, 0, 3));
    state.slice(0, 1, 3).add_(x.select(0, 2).slice(0, 0, 2));
    Tensor alias = x.detach();
    alias.add_(1);
    return std::vector{before, seen, x + 0, all * 1, state * 2, x.sum(), x.permute({1, 0}), row};
  };
  Tensor s1 = ramp({5}), s2 = ramp({5});
  for (const bool plan : {true, false}) {
    auto fast = compile([&](const Tensor& x) { return program(x, s1); }, {.memory_plan = plan});
    for (int i = 0; i < 3; ++i) {
      const Tensor x = ramp({3, 4}, i);
      const auto want = program(x, s2), got = fast(x);
      for (std::size_t k = 0; k < want.size(); ++k) {
        EXPECT_EQ(compare_bits(got[k], want[k]), "") << k << "\n" << fast.dump();
      }
      EXPECT_EQ(compare_bits(s1, s2), "");
    }
  }
}

TEST(Compile, GradientsEscape) {
  const Tensor w = leaf(ramp({4, 3})), v = leaf(ramp({4, 3}));
  const auto loss = [](const Tensor& w, const Tensor& x) {
    return sum(square(tanh(matmul(x, w))));
  };
  auto fast = compile([&](const Tensor& x) {
    const Tensor l = loss(w, x);
    l.backward();
    return l;
  });
  // Not cleared in between: they add up, and the program is captured for each of the two cases.
  for (int i = 0; i < 4; ++i) {
    const Tensor x = ramp({2, 4}, i);
    const Tensor want = loss(v, x);
    want.backward();
    EXPECT_EQ(compare_bits(fast(x), want), "");
    EXPECT_EQ(compare_bits(w.grad(), v.grad()), "") << "call " << i << "\n" << fast.dump();
  }
  EXPECT_EQ(fast.core().size(), 2);
  EXPECT_NE(last_reason(fast).find("gradient"), std::string::npos) << last_reason(fast);
  EXPECT_EQ(w.grad().strides(), v.grad().strides());
  // A gradient of the program is the user's: writing it must not reach into the arena.
  Tensor g = w.grad();
  const auto held = g.to_vector<float>();
  fast(ramp({2, 4}, 9));
  EXPECT_EQ(g.to_vector<float>(), held);
}

TEST(Compile, GradientsClearedInside) {
  Tensor w = leaf(ramp({4})), v = leaf(ramp({4}));
  const auto step = [](Tensor& w, const Tensor& x) {
    w.set_grad({});
    const Tensor l = sum(w * w * x);
    l.backward();
    {
      const NoGrad off;
      w.add_(w.grad() * -0.1);
    }
    return l;
  };
  auto fast = compile([&](const Tensor& x) { return step(w, x); });
  for (int i = 0; i < 5; ++i) {
    const Tensor x = ramp({4}, i);
    EXPECT_EQ(compare_bits(fast(x), step(v, x)), "");
    EXPECT_EQ(compare_bits(w, v), "");
    EXPECT_EQ(compare_bits(w.grad(), v.grad()), "");
  }
}

TEST(Compile, HigherOrderGradients) {
  auto fast = compile([](const Tensor& x) {
    Tensor in = x.detach();
    in.set_requires_grad();
    Tensor y = sum(pow(in, 4));
    for (int k = 0; k < 3; ++k) {
      y = sum(autograd::grad(y, {in}, {.create_graph = true})[0]);
    }
    return y;
  });
  EXPECT_EQ(fast(full({2}, 3.0)).item(), 2 * 24 * 3);
}

TEST(Compile, RandomNumbersGoOnAsEagerly) {
  const auto program = [](const Tensor& x) {
    return std::vector{dropout(x, 0.5), rand({3}), dropout(x * 2, 0.25)};
  };
  auto fast = compile(program);
  manual_seed(5);
  std::vector<std::vector<Tensor>> want;
  const Tensor x = ramp({10}, 1);
  for (int i = 0; i < 4; ++i) want.push_back(program(x));
  const auto end = default_generator().state().to_vector<std::int64_t>();
  manual_seed(5);
  for (int i = 0; i < 4; ++i) {
    // In turns: the sequence does not care who draws.
    const auto got = i == 2 ? program(x) : fast(x);
    for (std::size_t k = 0; k < 3; ++k)
      EXPECT_EQ(compare_bits(got[k], want[static_cast<std::size_t>(i)][k]), "") << i;
  }
  EXPECT_EQ(default_generator().state().to_vector<std::int64_t>(), end);
  EXPECT_EQ(fast.core().size(), 1);
}

TEST(Compile, CaptureHasNoEffectOfItsOwn) {
  manual_seed(1);
  Tensor n = zeros({});
  const Tensor w = leaf(ones({2}));
  auto fast = compile([&](const Tensor& x) {
    n.add_(1);
    sum(w * dropout(x, 0.5)).backward();
    throw ValueError("stop");
    return x;
  });
  EXPECT_THROW(fast(ones({2})), ValueError);
  EXPECT_EQ(n.item(), 0);
  EXPECT_FALSE(w.grad().defined());
  EXPECT_EQ(default_generator().state().to_vector<std::int64_t>()[1], 0);
  EXPECT_FALSE(dispatch::interceptor());
  EXPECT_EQ(trace_guards(), nullptr);
}

TEST(Ledger, SaysWhichKeyDiffered) {
  auto fast = compile([](const Tensor& x, int k) { return x * k; });
  const auto expect = [&](std::string part) {
    EXPECT_NE(last_reason(fast).find(part), std::string::npos) << last_reason(fast);
  };
  fast(ones({2, 3}), 1);
  fast(ones({2, 4}), 1);
  expect("argument 0: " + ones({2, 3}).desc().str() + " -> " + ones({2, 4}).desc().str());
  fast(ones({2, 4}, {.dtype = DType::f64}), 1);
  expect("f64[2, 4]");
  fast(ones({4, 2}).t().to(DType::f64), 1);
  expect("strides");
  fast(ones({2, 3}), 1);
  EXPECT_EQ(fast.core().size(), 4) << "the first program is still there";
  fast(ones({2, 3}), 2);
  expect("static arguments");
  fast(leaf(ones({2, 3})), 2);
  expect("requires_grad");
  {
    const NoGrad off;
    fast(ones({2, 3}), 2);
    expect("requires_grad");
    fast(leaf(ones({2, 3})), 2);
  }
  fast(ones({2, 3}), 2);
  const int before = fast.core().size();
  {
    const PolicyScope scope({.vendor = false});
    fast(ones({2, 3}), 2);
    expect("policy");
  }
  EXPECT_EQ(fast.core().size(), before + 1);
  EXPECT_EQ(fast.core().ledger().size(), static_cast<std::size_t>(before + 1));
  fast.core().clear();
  EXPECT_EQ(fast.core().size(), 0);
  EXPECT_EQ(fast(ones({2, 3}), 2).to_vector<int>(), std::vector<int>(6, 2));
}

TEST(Ledger, TapeSwitch) {
  auto fast = compile([](const Tensor& x) { return x * 2; });
  fast(ones({2}));
  const NoGrad off;
  fast(ones({2}));
  EXPECT_NE(last_reason(fast).find("tape"), std::string::npos) << last_reason(fast);
}

TEST(Guards, AChangedHostValueIsCapturedAnew) {
  Guarded<bool> training(true, "training mode");
  Guarded<double> rate(0.5, "rate");
  auto fast = compile([&](const Tensor& x) { return training.get() ? x * rate.get() : x; });
  EXPECT_EQ(fast(full({1}, 8)).item(), 4);
  training.set(false);
  EXPECT_EQ(fast(full({1}, 8)).item(), 8);
  EXPECT_NE(last_reason(fast).find("training mode"), std::string::npos) << last_reason(fast);
  training.set(true);
  EXPECT_EQ(fast(full({1}, 8)).item(), 4);
  EXPECT_EQ(fast.core().size(), 2) << "back to the first program";
  rate.set(0.25);
  EXPECT_EQ(fast(full({1}, 8)).item(), 2);
  EXPECT_EQ(fast.core().size(), 3);
  EXPECT_NE(last_reason(fast).find("rate"), std::string::npos) << last_reason(fast);
}

TEST(Guards, AReboundTensorIsCapturedAnew) {
  Tensor w = full({2}, 3);
  auto fast = compile([&](const Tensor& x) { return x * w; });
  EXPECT_EQ(fast(ones({2})).to_vector<int>(), (std::vector<int>{3, 3}));
  w = full({2}, 5);  // another tensor; the old one is gone
  EXPECT_EQ(fast(ones({2})).to_vector<int>(), (std::vector<int>{5, 5}));
  EXPECT_NE(last_reason(fast).find("dropped or replaced"), std::string::npos) << last_reason(fast);
  EXPECT_EQ(fast.core().size(), 1) << "the old program can never be used again";
}

TEST(Compile, IsNestable) {
  auto inner = compile([](const Tensor& x) { return x * 2; });
  auto outer = compile([&](const Tensor& x) { return inner(x) + inner(x + 1); });
  EXPECT_EQ(outer(full({1}, 3)).item(), 14);
  EXPECT_EQ(inner.core().size(), 0) << "became part of the outer program";
  EXPECT_EQ(inner(full({1}, 3)).item(), 6);
}

TEST(Compile, ThreadsMayShareAFunction) {
  auto fast = compile([](const Tensor& x) { return tanh(x) * 2 + x; });
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 30; ++i) {
        const Tensor x = ramp({5 + (i + t) % 3}, t + i);
        if (!compare_bits(fast(x), tanh(x) * 2 + x).empty()) ++wrong;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(fast.core().size(), 3);
}

TEST(Compile, SteadyReplayAllocatesResultsOnly) {
  const Tensor w = leaf(ramp({16, 16}));
  auto fast = compile(
      [&](const Tensor& x) {
        Tensor h = x;
        for (int i = 0; i < 4; ++i) h = tanh(matmul(h, w));
        return sum(h);
      },
      {.device_graph = false});
  const Tensor x = ramp({4, 16});
  fast(x);
  fast(x);
  const Device d = default_device();
  const auto before = backend(d).allocator(d.index).stats();
  const auto launches = profiler::launches();
  for (int i = 0; i < 10; ++i) fast(x);
  const auto after = backend(d).allocator(d.index).stats();
  EXPECT_EQ(after.allocations - before.allocations, 10u) << "one result each";
  EXPECT_EQ(profiler::launches() - launches, 10 * fast.core().program().executor->launches());
}

TEST(Reports, SayWhatTheyPromise) {
  Tensor state = zeros({4});
  auto fast = compile(
      [&](const Tensor& x) {
        state.add_(x);
        return relu(x * 2 + 1) + state;
      },
      {.without = {"cse"}});
  EXPECT_EQ(fast.explain(), "not captured yet\n");
  fast(ramp({4}));
  const std::string e = fast.explain(), d = fast.dump(), g = fast.core().dump_dot();
  for (const auto& p : graph::all_passes()) {
    if (p.exactness == Exactness::exact) {
      EXPECT_NE(e.find(p.name), std::string::npos) << p.name << " in\n" << e;
    }
  }
  for (const char* part :
       {"switched off", "memory plan", "bound", "first call", "launches", "captures", "exact"}) {
    EXPECT_NE(e.find(part), std::string::npos) << part << " in\n" << e;
  }
  for (const char* part : {"input 0", "state", "fused_elementwise", "add", "relu",
                           "test_compile.cpp:", "return", "state after", "<fuse>", "f32[4]"}) {
    EXPECT_NE(d.find(part), std::string::npos) << part << " in\n" << d;
  }
  EXPECT_EQ(g.substr(0, 8), "digraph ");
  EXPECT_NE(g.find("->"), std::string::npos);
  EXPECT_EQ(std::count(g.begin(), g.end(), '{'), std::count(g.begin(), g.end(), '}'));
  const auto l = fast.core().ledger().at(0);
  EXPECT_GT(l.nodes_captured, l.launches);
  EXPECT_GE(l.compile_ms, 0);
}

// An update whose result nobody in the program reads is no loose end.
TEST(Reports, DrawWhatAProgramLeavesBehind) {
  Tensor w = ramp({4}).set_requires_grad();
  const optim::Adam opt({w});
  auto fast = compile([&](const Tensor& x) {
    opt.zero_grad();
    const Tensor loss = sum(x * w * w);
    loss.backward();
    opt.step();
    return loss;
  });
  fast(ramp({4}));
  const std::string g = fast.core().dump_dot();
  const std::size_t at = g.find("[label=\"adam_step");
  ASSERT_NE(at, std::string::npos) << g;
  const std::size_t begin = g.rfind("  n", at);
  const std::string node = g.substr(begin, at - begin - 1);
  EXPECT_NE(g.find(node + " -> e"), std::string::npos) << node << " leads nowhere in\n" << g;
  EXPECT_NE(g.find("label=\"state after\""), std::string::npos) << g;
  EXPECT_NE(g.find("label=\"gradient slot\""), std::string::npos) << g;
  EXPECT_NE(g.find(" -> g0;"), std::string::npos) << g;
}

// A program says about its operations what they say about themselves: function, line, and whether
// it was their gradient.
TEST(Compile, ErrorsOfProgramsAreThoseOfEagerRuns) {
  struct Anomaly {
    explicit Anomaly(bool on) { dispatch::set_anomaly_mode(on); }
    ~Anomaly() { dispatch::set_anomaly_mode(false); }
  };
  const Tensor labels = Tensor::from<std::int64_t>({0, 1}, {2});
  const Tensor wrong = Tensor::from<std::int64_t>({0, 7}, {2});
  const Tensor weight = ones({2, 3}).set_requires_grad();
  const Tensor zero = zeros({2, 3}), one = ones({2, 3}), huge = full({2, 3}, INFINITY);
  struct Case {
    std::function<std::vector<Tensor>(const std::vector<Tensor>&)> f;
    std::vector<Tensor> good, bad;
    bool anomaly;
    std::vector<const char*> parts;
  };
  const std::vector<Case> cases{
      {[](const auto& a) { return std::vector{log(a[0]) * 2}; },
       {one},
       {zero},
       true,
       {"[log] anomaly mode"}},
      {[](const auto& a) { return std::vector{nn::mse_loss(a[0], a[1])}; },
       {one, one},
       {huge, one},
       true,
       {"[mse_loss] anomaly mode", " of sub ("}},
      {[&](const auto& a) { return autograd::grad(sqrt(a[0] * weight).sum(), {weight}); },
       {one},
       {zero},
       true,
       {"anomaly mode", "in the gradient of sqrt)"}},
      {[](const auto& a) { return std::vector{nn::cross_entropy(a[0], a[1])}; },
       {one, labels},
       {one, wrong},
       false,
       {"[cross_entropy]", "7"}},
      {[](const auto& a) { return std::vector{embedding(a[0], a[1])}; },
       {one, labels},
       {one, wrong},
       false,
       {"[embedding]", "7"}},
  };
  for (const Case& c : cases) {
    // What a kernel finds on another device is thrown later, and has no line.
    if (!default_device().is_cpu() && !c.anomaly) continue;
    const auto message = [](const auto& call) -> std::string {
      try {
        for (const Tensor& t : call()) t.to_vector<double>();
      } catch (const Error& e) {
        return e.what();
      }
      return "no error";
    };
    const auto run = [&](auto& f) { return message([&] { return f(c.bad); }); };
    const Anomaly mode(c.anomaly);
    const std::string eager = run(c.f);
    auto fast = compile(c.f);
    EXPECT_NO_THROW(fast(c.good)) << eager;
    EXPECT_EQ(run(fast), eager);
    for (const char* part : c.parts) EXPECT_THAT(eager, testing::HasSubstr(part));
    EXPECT_THAT(eager, testing::HasSubstr("(at test_compile.cpp:"));
  }
}

TEST(Compile, AnomalyModeLetsWrittenDownValuesBe) {
  const auto masked = [](const Tensor& x) {
    return maximum(x, Tensor::from<float>({-INFINITY, 0}, {2}));
  };
  dispatch::set_anomaly_mode(true);
  auto fast = compile(masked);
  for (const bool eager : {true, false}) {
    EXPECT_NO_THROW(eager ? masked(ones({2})) : fast(ones({2}))) << eager;
  }
  dispatch::set_anomaly_mode(false);
}

// Nobody wrote a line in the backward pass's own files.
TEST(Compile, GradientsAreBlamedOnLinesOfTheUser) {
  const Tensor w = ones({2}).set_requires_grad();
  auto fast = compile(
      [&](const Tensor& x) {
        (w * x + exp(w)).sum().backward();  // two parts to add, and a gradient that is there
        return x * 1;
      },
      {.without = {"fuse"}});
  fast(ones({2}));
  fast(ones({2}));
  const std::string text = fast.dump();
  EXPECT_EQ(text.find("backward.cpp"), std::string::npos) << text;
  EXPECT_NE(text.find(", gradient of "), std::string::npos) << text;
}

// The tape of a result ends with the capture. It must not keep alive a leaf that the function made,
// or the leaf's gradient would seem to be something to assign.
TEST(Compile, AResultMayKeepItsHistoryAfterBackward) {
  manual_seed(4);
  const nn::Linear layer(8, 1);
  const auto penalty = [&](const Tensor& input) {
    layer.zero_grad();
    const Tensor x = input.detach().set_requires_grad();
    const Tensor g = autograd::grad(tanh(layer(x)).sum(), {x}, {.create_graph = true})[0];
    Tensor p = (g * g).sum();
    p.backward();
    return p;
  };
  auto fast = compile(penalty);
  const Tensor x = randn({4, 8}), got = fast(x);
  const Tensor compiled_grad = layer.parameters()[0].grad().clone();
  EXPECT_EQ(got.to_bits(), penalty(x).to_bits());
  EXPECT_EQ(compiled_grad.to_bits(), layer.parameters()[0].grad().to_bits());
  EXPECT_TRUE(got.requires_grad());
  EXPECT_THROW(got.backward(), AutogradError) << "there is no tape behind it";
}

TEST(Reports, GapsAreWhatPassesBetweenReplays) {
  auto f = compile([](const Tensor& x) { return x + 1; });
  const Tensor x = ones({4});
  f(x);
  EXPECT_TRUE(f.core().gaps().empty()) << "nothing is noted before it is asked for";
  f(x);
  EXPECT_TRUE(f.core().gaps().empty()) << "one call has nothing before it";
  for (int i = 0; i < 3; ++i) f(x);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  f(x);
  const std::vector<double> us = f.core().gaps();
  ASSERT_EQ(us.size(), 3u);
  EXPECT_GE(us[2], 30e3);
  EXPECT_GT(us[2], us[0]);
  EXPECT_GE(us[0], 0);
}

}  // namespace
}  // namespace tandem
