// The declarative builder: the same program, however it is written, is the same IR.
#include "graph/builder.h"

#include <gtest/gtest.h>

#include <functional>

#include "autograd/autograd.h"
#include "tests/op_cases.h"

namespace tandem::graph {
namespace {

using cases::compare_bits;

template <class F>
std::uint64_t captured_hash(F f, auto... args) {
  auto fast = compile(f);
  fast(args...);
  return fast.core().program().captured_hash;
}

TEST(Builder, TheExampleOfTheDocumentation) {
  Graph g;
  auto A = g.variable("A", {10}), B = g.variable("B", {10});
  auto f = g.compile(B * A);
  EXPECT_EQ(f({{"A", ones({10})}, {"B", full({10}, 2)}}).to_vector<int>(), std::vector<int>(10, 2));
  EXPECT_EQ(f.hash(), captured_hash([](const Tensor& a, const Tensor& b) { return b * a; },
                                    ones({10}), ones({10})));
  EXPECT_NE(f.hash(), captured_hash([](const Tensor& a, const Tensor& b) { return a * b; },
                                    ones({10}), ones({10})));
}

TEST(Builder, AnEmptyFunctionSaysSo) {
  const Function f;
  for (const std::function<void()>& use :
       std::vector<std::function<void()>>{[&] { f({}); }, [&] { f.run({}); }, [&] { f.program(); },
                                          [&] { f.hash(); }, [&] { f.dump(); }}) {
    try {
      use();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const ValueError& e) {
      EXPECT_EQ(
          std::string(e.what()),
          "[graph] the Function is empty; got no program; expected what Graph::compile gives");
    }
  }
}

TEST(Builder, ACallOfSeveralResultsIsRefusedBeforeItRuns) {
  Tensor count = zeros({1});
  Graph g;
  const Tensor x = g.variable("x", {1});
  std::vector<Tensor> results;
  {
    const auto scope = g.scope();
    count.add_(x);
    results = {x + 1, x + 2};
  }
  const Function f = g.compile(results);
  EXPECT_THROW(f({{"x", ones({1})}}), ValueError);
  EXPECT_EQ(count.item(), 0);
  EXPECT_EQ(f.run({{"x", ones({1})}})[1].item(), 3);
  EXPECT_EQ(count.item(), 1);
}

TEST(Builder, EqualProgramsHaveEqualHashes) {
  const auto program = [](const Tensor& x, const Tensor& w) {
    Tensor h = relu(matmul(x, w) + 1.5);
    h = h.reshape({2, 2, 2}).sum({1});
    return softmax(h) * Tensor::from<float>({1, 2}, {2});
  };
  const auto hash_of = [&](auto f) {
    Graph g;
    const auto scope = g.scope();
    const Tensor x = g.variable("x", {2, 3}), w = g.variable("w", {3, 4});
    return g.compile(f(x, w)).hash();
  };
  EXPECT_EQ(hash_of(program), captured_hash(program, ones({2, 3}), ones({3, 4})));
  EXPECT_EQ(hash_of(program), hash_of(program));
  // Anything that changes the result changes the hash.
  const std::uint64_t base = hash_of(program);
  EXPECT_NE(base, hash_of([&](const Tensor& x, const Tensor& w) { return program(x * 1, w); }));
  EXPECT_NE(base, captured_hash(program, ones({2, 3}, {.dtype = DType::f64}),
                                ones({3, 4}, {.dtype = DType::f64})));
  const auto with = [&](double c) {
    return hash_of([c](const Tensor& x, const Tensor&) { return x + c; });
  };
  EXPECT_EQ(with(1.0), with(1.0));
  EXPECT_NE(with(1.0), with(2.0));
  const auto constant = [&](float c) {
    return hash_of(
        [c](const Tensor& x, const Tensor&) { return x + Tensor::from<float>({c}, {1}); });
  };
  EXPECT_EQ(constant(1), constant(1));
  EXPECT_NE(constant(1), constant(2));
}

TEST(Builder, BackwardAndStateInAScope) {
  Tensor w = full({3}, 2), v = full({3}, 2);
  w.set_requires_grad();
  v.set_requires_grad();
  Graph g;
  const Tensor x = g.variable("x", {3});
  Tensor loss;
  {
    const auto scope = g.scope();
    loss = sum(square(x * w) + ones({3}));
    const Tensor grad = autograd::grad(loss, {w})[0];
    const NoGrad off;
    w.sub_(grad * 0.1);
  }
  auto f = g.compile(loss);
  EXPECT_EQ(w.to_vector<int>(), (std::vector<int>{2, 2, 2})) << "declared, not run";
  for (int i = 0; i < 3; ++i) {
    const Tensor in = full({3}, i);
    const Tensor want = sum(square(in * v) + ones({3}));
    const Tensor grad = autograd::grad(want, {v})[0];
    {
      const NoGrad off;
      v.sub_(grad * 0.1);
    }
    EXPECT_EQ(compare_bits(f({{"x", in}}), want), "");
    EXPECT_EQ(compare_bits(w, v), "");
  }
}

TEST(Builder, OneGraphSeveralFunctions) {
  Graph g;
  const Tensor x = g.variable("x", {2, 2});
  const Tensor y = exp(x), z = y + 1;
  auto fy = g.compile(y), fz = g.compile(z);
  auto both = g.compile(std::vector{y, z});
  const Tensor in = ones({2, 2});
  EXPECT_EQ(compare_bits(fy({{"x", in}}), exp(in)), "");
  EXPECT_EQ(compare_bits(fz({{"x", in}}), exp(in) + 1), "");
  EXPECT_EQ(both.run({{"x", in}}).size(), 2u);
  EXPECT_NE(g.dump({z}).find("input x"), std::string::npos) << g.dump({z});
  EXPECT_NE(fz.dump().find("input x"), std::string::npos);
}

TEST(Builder, FunctionsOutliveTheirGraph) {
  Function f;
  {
    Graph g;
    f = g.compile(g.variable("x", {2}) * 3);
  }
  EXPECT_EQ(f({{"x", ones({2})}}).to_vector<int>(), (std::vector<int>{3, 3}));
}

TEST(Builder, VariablesInChannelsLast) {
  Graph g;
  const Tensor like = ones({1, 2, 3, 3}).to(MemoryFormat::channels_last);
  auto f = g.compile(g.variable("x", like.desc()) + 1);
  const Tensor y = f({{"x", like}});
  EXPECT_TRUE(y.is_channels_last());
  EXPECT_EQ(sum(y).item(), 36);
}

}  // namespace
}  // namespace tandem::graph
