// Verify mode: silent on what is right, and at the first wrong node it stops.
#include "graph/verify_mode.h"

#include <gtest/gtest.h>

#include "autograd/autograd.h"
#include "graph/tracer.h"
#include "tests/op_cases.h"

namespace tandem::graph {
namespace {

TEST(VerifyMode, PassesOnRightPrograms) {
  Tensor w = full({3, 3}, 0.5), state = zeros({3});
  w.set_requires_grad();
  auto fast = compile(
      [&](const Tensor& x) {
        w.set_grad({});
        state.add_(1);
        const Tensor l = sum(dropout(tanh(matmul(x, w) + state), 0.5));
        l.backward();
        const NoGrad off;
        w.sub_(w.grad() * 0.1);
        return l;
      },
      {.verify = true});
  manual_seed(4);
  for (int i = 0; i < 3; ++i) EXPECT_NO_THROW(fast(full({2, 3}, i)));
  EXPECT_EQ(state.to_vector<int>(), (std::vector<int>{3, 3, 3})) << "one step a call, not two";
  EXPECT_EQ(default_generator().state().to_vector<std::int64_t>()[1], 3 * 2);
}

// Whether a gradient is copied hangs on who else holds it; the capture must not count as somebody.
TEST(VerifyMode, AcceptsCheckpointsOfLeavesMadeInside) {
  auto fast = compile(
      [](const Tensor& x) {
        Tensor l = x.clone().set_requires_grad();
        const auto f = [](const std::vector<Tensor>& in) { return std::vector{relu(in[0])}; };
        autograd::checkpoint(f, {l})[0].backward(x);
        Tensor g = l.grad();
        l.set_grad({});
        return g;
      },
      {.verify = true});
  for (int i = 0; i < 2; ++i) EXPECT_NO_THROW(fast(ones({3})));
}

struct Planted {
  CompiledProgram program;
  TensorFunction f;
};

// A program whose passes (all but those that would hide the plant) went wrong in one place.
Planted plant(const std::function<void(Program&)>& damage) {
  Planted r;
  r.f = [](std::span<const Tensor> in) {
    const Tensor c = Tensor::from<float>({1, 2, 3}, {3});
    const Tensor a = in[0] * c, b = exp(a);
    return std::vector{b - 1};
  };
  RefPtr<Tracer> tracer(new Tracer);
  const std::vector<Tensor> in = {tracer->input(TensorDesc(DType::f32, default_device(), {3}))};
  Program p;
  {
    const CaptureScope scope(*tracer);
    const auto out = r.f(in);
    p = tracer->finish(out);
  }
  r.program.captured = p;
  damage(p);
  r.program.executor = std::make_unique<Executor>(std::move(p), ExecutorOptions{});
  return r;
}

void expect_found(const std::function<void(Program&)>& damage,
                  std::initializer_list<const char*> parts) {
  const Planted p = plant(damage);
  const Tensor x = full({3}, 0.5);
  const Tensor* args[] = {&x};
  try {
    verify_against_eager(p.program, args, p.f);
    ADD_FAILURE() << "the damage was not seen";
  } catch (const CaptureError& e) {
    for (const char* part : parts) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << part << " in " << e.what();
    }
  }
}

TEST(VerifyMode, PassesOnTheSampleItself) {
  const Planted p = plant([](Program&) {});
  const Tensor x = full({3}, 0.5);
  const Tensor* args[] = {&x};
  EXPECT_EQ(cases::compare_bits(verify_against_eager(p.program, args, p.f)[0], p.f({&x, 1})[0]),
            "");
}

TEST(VerifyMode, FindsAWrongConstant) {
  expect_found(
      [](Program& p) {
        ASSERT_EQ(p.constants.size(), 1u);
        p.constants[0].tensor = Tensor::from<float>({1, 2, 4}, {3});
      },
      {"[verify]", "copy", "element 2"});
}

TEST(VerifyMode, FindsAWrongOperationAndNamesItsLine) {
  expect_found(
      [](Program& p) {
        Node& n = p.nodes[2];
        ASSERT_STREQ(n.op().name, "exp");
        const TensorDesc* in = &n.call->in[0];
        n.call = RefPtr<const PreparedOp>(&dispatch::prepare(op::square, {&in, 1}, {}));
        n.passes.push_back("planted");
      },
      {"[verify]", "element 0", "test_verify_mode.cpp:", "planted", "eager", "compiled"});
}

TEST(VerifyMode, FindsTheFirstOfTwo) {
  expect_found(
      [](Program& p) {
        p.constants[0].tensor = Tensor::from<float>({1, 2, 4}, {3});
        Node& n = p.nodes[2];
        const TensorDesc* in = &n.call->in[0];
        n.call = RefPtr<const PreparedOp>(&dispatch::prepare(op::square, {&in, 1}, {}));
      },
      {"copy"});
}

TEST(VerifyMode, FindsAFunctionThatChangedMeanwhile) {
  bool more = false;
  auto fast = compile(
      [&](const Tensor& x) {
        const Tensor y = x * 2;
        return more ? exp(y) : y + 1;
      },
      {.verify = true});
  fast(ones({2}));
  more = true;
  try {
    fast(ones({2}));
    ADD_FAILURE();
  } catch (const CaptureError& e) {
    EXPECT_NE(std::string(e.what()).find("exp"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace tandem::graph
