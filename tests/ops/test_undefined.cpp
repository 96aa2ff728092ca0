// An undefined tensor given to a public operation, in every place that must be defined, is an error
// that names the operation and the user's line.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "autograd/autograd.h"
#include "ops/ops.h"

namespace tandem {
namespace {

struct Call {
  const char* op;  // as the message names it
  std::function<void()> call;
};

// A row for each tensor argument. `_` is undefined, `x` a matrix.
std::vector<Call> calls() {
  static const Tensor _;
  static const Tensor x = ones({2, 3});
  static const Tensor i = zeros({2, 3}, {.dtype = DType::i64});
  static const Tensor image = ones({1, 2, 4, 4}), weight = ones({2, 2, 3, 3});
  static Tensor none;
  std::vector<Call> r;
  const auto row = [&r](const char* op, std::function<void()> f) {
    r.push_back({op, std::move(f)});
  };

#define UNARY(name) row(#name, [] { name(_); });
#define BINARY(name)              \
  row(#name, [] { name(_, x); }); \
  row(#name, [] { name(x, _); });
#define WITH_SCALAR(name) \
  BINARY(name)            \
  row(#name, [] { name(_, 2); });

  // clang-format off
  UNARY(neg) UNARY(abs) UNARY(sign) UNARY(floor) UNARY(ceil) UNARY(round) UNARY(square)
  UNARY(reciprocal) UNARY(exp) UNARY(log) UNARY(log1p) UNARY(sqrt) UNARY(rsqrt) UNARY(sin)
  UNARY(cos) UNARY(acos) UNARY(asin) UNARY(atan) UNARY(erf) UNARY(tanh) UNARY(sigmoid) UNARY(relu)
  UNARY(leaky_relu) UNARY(gelu)
  UNARY(silu) UNARY(softplus) UNARY(logical_not) UNARY(isnan) UNARY(copy)
  UNARY(sum) UNARY(mean) UNARY(prod) UNARY(max) UNARY(min) UNARY(var) UNARY(argmax) UNARY(argmin)
  UNARY(any) UNARY(all) UNARY(sort) UNARY(softmax) UNARY(log_softmax) UNARY(bernoulli)
  WITH_SCALAR(add) WITH_SCALAR(sub) WITH_SCALAR(mul) WITH_SCALAR(div) WITH_SCALAR(pow)
  WITH_SCALAR(floor_divide) WITH_SCALAR(remainder) WITH_SCALAR(maximum) WITH_SCALAR(minimum)
  WITH_SCALAR(eq) WITH_SCALAR(ne) WITH_SCALAR(lt) WITH_SCALAR(le) WITH_SCALAR(gt) WITH_SCALAR(ge)
  BINARY(logical_and) BINARY(logical_or) BINARY(matmul) BINARY(linear) BINARY(mse_loss)
  BINARY(cross_entropy);
  // clang-format on
#undef UNARY
#undef BINARY
#undef WITH_SCALAR

  row("clamp", [] { clamp(_, 0, 1); });
  row("where", [] { where(_, x, x); });
  row("where", [] { where(gt(x, 0), _, x); });
  row("where", [] { where(gt(x, 0), x, _); });
  row("cast", [] { cast(_, DType::f64); });
  row("sum", [] { sum(_, {0}, true); });
  row("argmax", [] { argmax(_, {0}); });
  row("cumsum", [] { cumsum(_, 0); });
  row("topk", [] { topk(_, 1); });
  row("zeros_like", [] { zeros_like(_); });
  row("ones_like", [] { ones_like(_); });
  row("fill", [] { fill(none, 1); });
  row("assign", [] { assign(none, x); });
  row("assign", [] {
    Tensor to = x.clone();
    assign(to, _);
  });
  row("nll_loss", [] { nll_loss(_, i); });
  row("nll_loss", [] { nll_loss(x, _); });

  row("concat", [] { concat({_, x}); });
  row("concat", [] { concat({x, _}); });
  row("stack", [] { stack({_, x}); });
  row("stack", [] { stack({x, _}); });
  row("pad", [] { pad(_, {1, 1}); });
  row("flip", [] { flip(_, {0}); });
  row("roll", [] { roll(_, {1}, {0}); });
  row("gather", [] { gather(_, 0, i); });
  row("gather", [] { gather(x, 0, _); });
  row("scatter_add", [] { scatter_add(_, 0, i, x); });
  row("scatter_add", [] { scatter_add(x, 0, _, x); });
  row("scatter_add", [] { scatter_add(x, 0, i, _); });
  row("index_select", [] { index_select(_, 0, i); });
  row("index_select", [] { index_select(x, 0, _); });
  row("index_add", [] { index_add(_, 0, i, x); });
  row("index_add", [] { index_add(x, 0, _, x); });
  row("index_add", [] { index_add(x, 0, i, _); });
  row("embedding", [] { embedding(_, i); });
  row("embedding", [] { embedding(x, _); });
  row("one_hot", [] { one_hot(_, 3); });
  row("split", [] { split(_, 1); });
  row("split", [] { split(_, std::vector<std::int64_t>{1}); });
  row("chunk", [] { chunk(_, 2); });

  row("conv2d", [] { conv2d(_, weight); });
  row("conv2d", [] { conv2d(image, _); });
  row("conv_transpose2d", [] { conv_transpose2d(_, weight); });
  row("conv_transpose2d", [] { conv_transpose2d(image, _); });
  row("conv2d_grad_input", [] { conv2d_grad_input(_, weight, {1, 2, 4, 4}); });
  row("conv2d_grad_weight", [] { conv2d_grad_weight(image, _, {2, 2, 3, 3}); });
  row("max_pool2d", [] { max_pool2d(_, {.kernel = {2}}); });
  row("max_pool2d_with_indices", [] { max_pool2d_with_indices(_, {.kernel = {2}}); });
  row("avg_pool2d", [] { avg_pool2d(_, {.kernel = {2}}); });
  row("adaptive_avg_pool2d", [] { adaptive_avg_pool2d(_, {1, 1}); });
  row("batch_norm", [] { batch_norm(_, {}, {}, none, none, true); });
  row("layer_norm", [] { layer_norm(_, {3}); });
  row("dropout", [] { dropout(_, 0.5); });
  row("dropout", [] { dropout(_, 0.5, false); });
  row("sgd_step", [] { sgd_step({{_}}, {{x}}, {}, ones({}), {}); });
  row("sgd_step", [] { sgd_step({{x}}, {{_}}, {}, ones({}), {}); });
  row("sgd_step", [] { sgd_step({{x}}, {{x}}, {}, _, {}); });
  row("adam_step", [] { adam_step({{x}}, {{x}}, {{x.clone()}}, {{x.clone()}}, ones({}), _, {}); });

  row("reshape", [] { _.reshape({2}); });
  row("view", [] { _.view({2}); });
  row("flatten", [] { _.flatten(); });
  row("transpose", [] { _.transpose(0, 1); });
  row("t", [] { _.t(); });
  row("permute", [] { _.permute({0}); });
  row("squeeze", [] { _.squeeze(0); });
  row("unsqueeze", [] { _.unsqueeze(0); });
  row("expand", [] { _.expand({2}); });
  row("slice", [] { _.slice(0, 0, 1); });
  row("select", [] { _.select(0, 0); });
  row("to", [] { _.to(DType::f64); });
  row("to", [] { _.to(MemoryFormat::channels_last); });
  row("to", [] { _.to(kCPU); });
  row("contiguous", [] { _.contiguous(); });
  row("clone", [] { _.clone(); });
  row("sum", [] { _.sum(); });
  row("mean", [] { _.mean({0}); });
  row("add_", [] { Tensor().add_(x); });
  row("add_", [] { x.clone().add_(_); });
  row("add_", [] { Tensor().add_(1); });
  row("sub_", [] { x.clone().sub_(_); });
  row("mul_", [] { x.clone().mul_(_); });
  row("mul_", [] { Tensor().mul_(2); });
  row("copy_", [] { Tensor().copy_(x); });
  row("copy_", [] { x.clone().copy_(_); });
  row("fill_", [] { Tensor().fill_(1); });
  row("zero_", [] { Tensor().zero_(); });
  row("set_requires_grad", [] { Tensor().set_requires_grad(); });
  row("set_grad", [] { Tensor().set_grad(x); });
  row("register_hook", [] { autograd::register_hook(_, [](const Tensor& g) { return g; }); });
  return r;
}

TEST(Undefined, IsAnErrorOfTheOperation) {
  for (const Call& c : calls()) {
    try {
      c.call();
      ADD_FAILURE() << c.op << " took an undefined tensor";
    } catch (const ValueError& e) {
      const std::string m = e.what();
      EXPECT_EQ(m.rfind("[" + std::string(c.op) + "] ", 0), 0u) << c.op << ": " << m;
      EXPECT_NE(m.find("must be defined; got an undefined tensor; expected "), std::string::npos)
          << m;
      EXPECT_NE(m.find("(at test_undefined.cpp:"), std::string::npos) << m;
    }
  }
}

// What is asked of a tensor without an operation has no line of its own.
TEST(Undefined, HasNothingToTell) {
  const Tensor t;
  for (const std::function<void()>& ask : std::vector<std::function<void()>>{
           [&] { t.desc(); }, [&] { t.shape(); }, [&] { t.strides(); }, [&] { t.dim(0); },
           [&] { t.rank(); }, [&] { t.numel(); }, [&] { t.dtype(); }, [&] { t.device(); },
           [&] { t.is_contiguous(); }, [&] { t.is_symbolic(); }, [&] { t.raw_data(); },
           [&] { t.data<float>(); }, [&] { t.item(); }, [&] { t.to_vector<float>(); },
           [&] { t.to_bools(); }, [&] { t.requires_grad(); }, [&] { t.is_leaf(); },
           [&] { t.grad(); }, [&] { t.detach(); }}) {
    EXPECT_THROW(ask(), ValueError);
  }
  EXPECT_FALSE(t.defined());
  EXPECT_THROW(t.backward(), AutogradError);
  EXPECT_THROW(autograd::grad(ones({}).set_requires_grad() * 2, {t}), AutogradError);
}

}  // namespace
}  // namespace tandem
