// Each pass on programs whose result can be told by hand, and the verifier on programs broken by
// hand.
#include "graph/passes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "autograd/autograd.h"
#include "graph/compile.h"
#include "graph/tracer.h"
#include "tests/message_of.h"
#include "tests/op_cases.h"

namespace tandem::graph {
namespace {

Program capture(const std::vector<Shape>& shapes,
                const std::function<std::vector<Tensor>(std::vector<Tensor>&)>& f) {
  RefPtr<Tracer> tracer(new Tracer);
  std::vector<Tensor> in;
  for (const Shape& s : shapes) in.push_back(tracer->input({DType::f32, default_device(), s}));
  const CaptureScope scope(*tracer);
  return tracer->finish(f(in));
}

int count(const Program& p, std::string_view op) {
  return static_cast<int>(std::count_if(p.nodes.begin(), p.nodes.end(),
                                        [&](const Node& n) { return n.op().name == op; }));
}
Program checked(Program (*pass)(const Program&, PassStats&), const Program& p, int changed,
                int nodes) {
  PassStats s;
  Program out = pass(p, s);
  EXPECT_EQ(s.changed, changed) << dump(p) << "->\n" << dump(out);
  EXPECT_EQ(static_cast<int>(out.nodes.size()), nodes) << dump(p) << "->\n" << dump(out);
  EXPECT_FALSE(s.detail.empty());
  EXPECT_NO_THROW(verify(out, "test"));
  return out;
}

TEST(Dce, RemovesWhatNothingNeeds) {
  const Program p = capture({{3}}, [](auto& in) {
    exp(exp(in[0]));  // two dead nodes
    const Tensor used = in[0] + 1;
    used.slice(0, 0, 1);  // a dead view
    return std::vector{used * 2};
  });
  EXPECT_EQ(p.nodes.size(), 5u);
  checked(eliminate_dead_code, p, 3, 2);
}

TEST(Dce, KeepsEffects) {
  Tensor state = zeros({3});
  const Program p = capture({{3}}, [&](auto& in) {
    state.add_(in[0]);
    in[0].mul_(2);
    rand({2});
    return std::vector{in[0] + 0};
  });
  EXPECT_EQ(p.effects.size(), 3u) << "a state, an argument, a generator";
  checked(eliminate_dead_code, p, 0, 4);
}

TEST(Dce, ForgetsForwardValuesNobodySaved) {
  Tensor w = ones({3});
  w.set_requires_grad();
  const Program p = capture({{3}}, [&](auto& in) { return autograd::grad(sum(in[0] * w), {w}); });
  PassStats s;
  const Program out = eliminate_dead_code(p, s);
  EXPECT_EQ(count(p, "sum"), 1);
  EXPECT_EQ(count(out, "sum"), 0) << dump(out);
}

TEST(Cse, MergesEqualCalls) {
  const Program p = capture({{3}, {3}}, [](auto& in) {
    const Tensor a = in[0] * in[1], b = in[0] * in[1];
    const Tensor c = exp(a), d = exp(b);
    return std::vector{c + d, in[1] * in[0] - 0.0};
  });
  const Program out = checked(eliminate_common_subexpressions, p, 2, 5);
  EXPECT_EQ(count(out, "exp"), 1);
  EXPECT_EQ(count(out, "mul"), 2) << "another order of the operands is another call";
}

TEST(Cse, LooksAtAttributesTypesAndLayout) {
  const Program p = capture({{3, 3}}, [](auto& in) {
    return std::vector{sum(in[0], {0}) + sum(in[0], {1}), (in[0] + 1) * (in[0] + 1.0),
                       exp(in[0]) + exp(in[0].t())};
  });
  checked(eliminate_common_subexpressions, p, 0, static_cast<int>(p.nodes.size()));
}

TEST(Cse, SeesWritesInBetween) {
  const Program p = capture({{3}}, [](auto& in) {
    Tensor x = in[0] * 1;
    const Tensor a = exp(x);
    x.add_(1);
    const Tensor b = exp(x);  // of other contents
    return std::vector{a + b};
  });
  checked(eliminate_common_subexpressions, p, 0, 5);
}

TEST(Cse, LeavesBuffersThatAreWrittenOrReturned) {
  const Program p = capture({{3}}, [](auto& in) {
    Tensor a = in[0] * 2, b = in[0] * 2;
    a.add_(1);  // would change b as well
    return std::vector{a * b, in[0] + 5, in[0] + 5};
  });
  checked(eliminate_common_subexpressions, p, 0, 6);
}

TEST(Cse, LeavesRandomOps) {
  const Program p = capture(
      {{3}}, [](auto& in) { return std::vector{dropout(in[0], 0.5) + dropout(in[0], 0.5)}; });
  checked(eliminate_common_subexpressions, p, 0, 3);
}

TEST(Fold, ComputesWhatIsKnown) {
  const Program p = capture({{3}}, [](auto& in) {
    const Tensor table = exp(arange(0, 3).to(DType::f32)) + ones({3});
    return std::vector{in[0] * table};
  });
  const Program out = checked(fold_constants, p, static_cast<int>(p.nodes.size()) - 1, 1);
  ASSERT_EQ(out.constants.size(), 1u);
  const Tensor want = exp(arange(0, 3).to(DType::f32)) + ones({3});
  EXPECT_EQ(cases::compare_bits(out.constants[0].tensor, want), "");
}

TEST(Fold, LeavesResultsWritesAndRandomness) {
  const Program p = capture({{3}}, [](auto& in) {
    Tensor fresh = zeros({3});
    fresh.add_(in[0]);
    return std::vector{ones({3}), fresh, rand({3}) + 0, in[0] + 1};
  });
  const Program out = checked(fold_constants, p, 0, static_cast<int>(p.nodes.size()));
  EXPECT_EQ(count(out, "full"), 2);
}

TEST(Fold, LeavesWhatIsWrittenLater) {
  const Program p = capture({{3}}, [](auto& in) {
    Tensor sum = zeros({3});
    sum.add_(in[0]);  // a folded `sum` would remember this from run to run
    Tensor table = Tensor::from<float>({1, 2, 3}, {3});
    table.select(0, 1).add_(1);
    return std::vector{sum * 2 + table};
  });
  checked(fold_constants, p, 0, static_cast<int>(p.nodes.size()));
}

TEST(Fold, LeavesLargeTensors) {
  const Program p = capture({{1000, 100}}, [](auto& in) {
    return std::vector{in[0] + exp(zeros({1000, 100}))};
  });
  checked(fold_constants, p, 0, 3);
}

TEST(Fuse, ChainsBecomeOneNode) {
  const Program p =
      capture({{4, 5}, {5}}, [](auto& in) { return std::vector{relu(in[0] * in[1] + 1) * 0.5}; });
  const Program out = checked(fuse_elementwise, p, 4, 1);
  EXPECT_EQ(count(out, "fused_elementwise"), 1);
  EXPECT_NE(dump(out).find("relu"), std::string::npos) << "the dump shows what is inside";
  EXPECT_EQ(out.nodes[0].inputs.size(), 2u);
  ASSERT_FALSE(out.nodes[0].passes.empty());
  EXPECT_STREQ(out.nodes[0].passes.back(), "fuse");
}

TEST(Fuse, KeepsIntermediateResultsThatAreUsedElsewhere) {
  const Program p = capture({{4, 5}}, [](auto& in) {
    const Tensor a = exp(in[0]), b = a * 2;
    return std::vector{b + 1, a, matmul(b, b.t())};
  });
  const Program out = checked(fuse_elementwise, p, 3, 3);  // fused, view, matmul
  EXPECT_EQ(out.nodes[0].outputs.size(), 3u) << dump(out);
}

TEST(Fuse, SplitsWhatIsTooLargeForAKernel) {
  const Program many_results = capture({{4, 5}}, [](auto& in) {
    std::vector<Tensor> r = {in[0] * 2};
    for (int k = 0; k < 5; ++k) r.push_back(exp(r.back()));
    return r;
  });
  const Program out = checked(fuse_elementwise, many_results, 6, 2);
  EXPECT_EQ(count(out, "fused_elementwise"), 2) << dump(out);

  const std::vector<Shape> shapes(30, Shape{4, 5});
  const Program many_inputs = capture(shapes, [](auto& in) {
    Tensor sum = in[0];
    for (std::size_t k = 1; k < in.size(); ++k) sum = sum + in[k];
    return std::vector{sum};
  });
  EXPECT_EQ(count(checked(fuse_elementwise, many_inputs, 29, 2), "fused_elementwise"), 2);
}

TEST(Fuse, NotAcrossShapesOrWrites) {
  const Program p = capture({{4, 5}}, [](auto& in) {
    Tensor x = in[0] * 2;
    const Tensor s = sum(x, {0}) + 1;  // another shape
    const Tensor y = exp(x);
    x.add_(s);  // y must have read x before
    return std::vector{y * 3, x - 1};
  });
  PassStats s;
  const Program out = fuse_elementwise(p, s);
  EXPECT_NO_THROW(verify(out, "test"));
  EXPECT_EQ(count(out, "add"), 2) << "the sum's and the one in place: " << dump(out);
}

TEST(Inplace, TakesBuffersThatDie) {
  const Program p =
      capture({{4, 5}}, [](auto& in) { return std::vector{exp(tanh(matmul(in[0], in[0].t())))}; });
  const Program out = checked(reuse_buffers, p, 2, 4);
  EXPECT_EQ(out.nodes[2].reuse, 0) << dump(out);
  EXPECT_EQ(out.nodes[3].reuse, 0) << dump(out);
}

TEST(Inplace, NotWhatIsNeededLater) {
  const Program p = capture({{4, 4}}, [](auto& in) {
    const Tensor a = matmul(in[0], in[0]);
    const Tensor view = a.select(0, 1);
    const Tensor b = exp(a);                                     // a is read again,
    const Tensor c = b.to(DType::f64);                           // another size,
    return std::vector{a, b + in[0], sum(view), c, exp(in[0])};  // and arguments are not ours
  });
  PassStats s;
  const Program out = reuse_buffers(p, s);
  EXPECT_NO_THROW(verify(out, "test"));
  for (const Node& n : out.nodes) {
    if (n.op().name != std::string_view("exp")) continue;
    EXPECT_EQ(n.reuse, -1) << dump(out);
  }
}

TEST(Inplace, NotUnderAnotherViewOfTheSameMemory) {
  const Program p = capture({{4, 4}}, [](auto& in) {
    const Tensor a = matmul(in[0], in[0]);
    return std::vector{a + a.t()};  // row by row, the transpose would be read too late
  });
  const Program out = checked(reuse_buffers, p, 0, 3);
  EXPECT_EQ(out.nodes[2].reuse, -1) << dump(out);
}

// Ops that read elements of one input in another order than they write the other.
TEST(Inplace, NotOverAnInputThatIsReadTwice) {
  const Tensor index = Tensor::from<std::int64_t>({1, 1, 3, 0}, {4});
  const auto twice = [&](const Tensor& x) {
    const Tensor h = exp(x), k = exp(x * 2);
    return std::vector{scatter_add(h, 0, index, h), index_add(k, 0, index, k)};
  };
  const Tensor x = Tensor::from<float>({0.1F, 0.7F, -0.3F, 0.2F}, {4});
  auto fast = compile(twice);
  const auto want = twice(x), got = fast(x);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(cases::compare_bits(got[i], want[i]), "") << i;
}

TEST(Passes, AreListedInOrder) {
  std::vector<std::string> names;
  for (const Pass& p : all_passes()) {
    names.push_back(p.name);
    EXPECT_EQ(&find_pass(p.name), &p);
    EXPECT_STRNE(p.summary, "");
  }
  // The order they run in: each makes work for those after it, and what one fuses none can merge.
  EXPECT_EQ(names, (std::vector<std::string>{"fold", "cse", "dce", "reorder", "epilogue",
                                             "vendor_epilogue", "fuse", "inplace"}));
}

TEST(Passes, DoNotChangeTheirArgument) {
  const Program p = capture({{4, 4}}, [](auto& in) {
    return std::vector{relu(in[0] * 2 + ones({4})) + relu(in[0] * 2 + ones({4}))};
  });
  const std::string before = dump(p);
  const auto h = hash(p);
  for (const Pass& pass : all_passes()) {
    PassStats s;
    pass.run(p, s);
    EXPECT_EQ(dump(p), before) << pass.name;
    EXPECT_EQ(hash(p), h) << pass.name;
  }
}

TEST(Passes, AreIdempotent) {
  Program p = capture({{4, 4}}, [](auto& in) {
    const Tensor a = in[0] * 2, b = in[0] * 2;
    exp(a);
    return std::vector{relu(a + ones({4})) + relu(b + ones({4}))};
  });
  for (const Pass& pass : all_passes()) {
    PassStats s, again;
    p = pass.run(p, s);
    const Program q = pass.run(p, again);
    EXPECT_EQ(hash(q), hash(p)) << pass.name << "\n" << dump(p) << dump(q);
    EXPECT_EQ(again.changed, 0) << pass.name;
  }
}

// ------------------------------------------------------------------------------ the verifier

Program sample() {
  return capture({{3}, {3}}, [](auto& in) {
    Tensor a = in[0] + in[1];
    const Tensor b = exp(a);
    a.mul_(b);
    return std::vector{a + 1, b};
  });
}

void expect_broken(const Program& p, const char* part) {
  try {
    verify(p, "a test");
    ADD_FAILURE() << "accepted; expected '" << part << "'\n" << dump(p);
  } catch (const InternalError& e) {
    const std::string m = e.what();
    EXPECT_NE(m.find(part), std::string::npos) << m;
    EXPECT_NE(m.find("a test"), std::string::npos) << m;
  }
}

TEST(Verifier, AcceptsWhatIsRight) {
  EXPECT_NO_THROW(verify(sample(), "capture"));
  EXPECT_EQ(sample().nodes.size(), 4u);
}

TEST(Verifier, FindsEachKindOfDamage) {
  Program p = sample();
  std::swap(p.nodes[0], p.nodes[1]);
  expect_broken(p, "before it is defined");

  p = sample();
  std::swap(p.nodes[1], p.nodes[2]);  // exp(a) after a was written over
  p.nodes[1].inputs[1] = p.inputs[1];
  expect_broken(p, "written over");

  p = sample();
  p.nodes[3].inputs[0] = p.nodes[0].outputs[0];  // the old a
  expect_broken(p, "written over");

  p = sample();
  p.nodes[1].outputs[0] = p.nodes[0].outputs[0];
  expect_broken(p, "defined twice");

  p = sample();
  p.nodes[1].inputs.push_back(0);
  expect_broken(p, "wrong number of inputs");

  p = sample();
  p.nodes[1].outputs.push_back(p.add_value(p.values[0].desc));
  expect_broken(p, "wrong number of outputs");

  p = sample();
  p.values[static_cast<std::size_t>(p.nodes[1].outputs[0])].desc.dtype = DType::f64;
  expect_broken(p, "does not match its op");

  p = sample();
  p.outputs[0] = p.add_value(p.values[0].desc);
  expect_broken(p, "a result is not defined");

  p = sample();
  p.outputs[1] = p.nodes[0].outputs[0];
  expect_broken(p, "a result was written over");

  p = sample();
  p.outputs[0] = 1000;
  expect_broken(p, "a result is not defined");

  p = sample();
  p.nodes[1].inputs[0] = 1000;
  expect_broken(p, "before it is defined");

  p = sample();
  p.nodes[1].outputs[0] = -1;
  expect_broken(p, "out of range");

  p = sample();
  p.nodes[1].reuse = 5;
  expect_broken(p, "does not fit");

  p = sample();
  p.nodes[1].reuse = 0;  // exp over a, which is written and read afterwards
  expect_broken(p, "written over");

  p = sample();
  const ValueId v = p.add_value(TensorDesc(DType::f32, kCPU, {3}));
  p.constants.push_back({v, ones({4})});
  expect_broken(p, "constant");
}

TEST(Verifier, RunsAfterEveryPass) {
  const Pass harmless{"harmless", Exactness::exact, "changes nothing",
                      [](const Program& p, PassStats&) { return p; }};
  const Pass wrong{"wrong", Exactness::exact, "breaks the order", [](const Program& p, PassStats&) {
                     Program r = p;
                     std::swap(r.nodes[0], r.nodes[1]);
                     return r;
                   }};
  const Pass right_again{"right_again", Exactness::exact, "repairs what the one before it broke",
                         [](const Program& p, PassStats&) {
                           Program r = p;
                           std::swap(r.nodes[0], r.nodes[1]);
                           return r;
                         }};
  EXPECT_NO_THROW(compile_program(sample(), {}, std::vector{harmless}));
  for (const auto& passes :
       {std::vector{harmless, wrong}, std::vector{harmless, wrong, right_again}}) {
    EXPECT_THAT(test::message_of<InternalError>([&] { compile_program(sample(), {}, passes); }),
                testing::HasSubstr("wrong"));
  }
  Program p = sample();
  std::swap(p.nodes[0], p.nodes[1]);
  EXPECT_THAT(
      test::message_of<InternalError>([&] { compile_program(p, {}, std::vector{right_again}); }),
      testing::HasSubstr("capture"));
}

}  // namespace
}  // namespace tandem::graph
