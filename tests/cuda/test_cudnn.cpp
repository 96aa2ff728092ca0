// cuDNN: what it is asked to do, what it offers for GPUs that are not there, and (on one that is)
// that its results are those of our own kernels.
#include "cuda/cudnn.h"

#include <thread>

#include "cuda/cudnn_rules.h"
#include "cuda/runtime.h"
#include "cuda/table.h"
#include "ops/op_list.h"
#include "ops/ops.h"
#include "tests/cuda/kernels.h"
#include "tests/op_cases.h"

namespace tandem::cuda::testing {
namespace {

using namespace cudnn;

enum class Layout { nchw, nhwc };

TensorDesc image(DType t, const Shape& s, Layout l) {
  return {t, gpu(), s, l == Layout::nhwc ? channels_last_strides(s) : contiguous_strides(s)};
}

/// A call that need not be run.
template <class A>
struct Call {
  const OpDef* op;
  std::vector<TensorDesc> in;
  A attrs;
  Policy policy = {};
  std::vector<TensorDesc> out = {};

  PlanRequest request() {
    std::vector<const TensorDesc*> p;
    for (const auto& d : in) p.push_back(&d);
    InferContext c(*op, p, &attrs);
    op->infer(c);
    out = c.outputs;
    return {*op, in, out, &attrs, policy};
  }
};

struct Conv {
  std::int64_t n, c, size, filters, kernel, padding, stride, groups, dilation = 1;
  std::int64_t out() const {
    return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
  }
  std::string str() const {
    return fmt::format(
        "[{}, {}, {}, {}] to {} by {}x{}, padding {}, stride {}, {} groups, dilation {}", n, c,
        size, size, filters, kernel, kernel, padding, stride, groups, dilation);
  }
};

using ConvCall = Call<ConvAttrs>;

ConvAttrs attrs_of(const Conv& v) {
  return {.stride = {v.stride, v.stride},
          .padding = {v.padding, v.padding},
          .dilation = {v.dilation, v.dilation},
          .groups = v.groups,
          .size = {}};
}

ConvCall call_of(const Conv& v, ConvPass pass, DType t, Layout l, bool bias = false) {
  const TensorDesc x = image(t, {v.n, v.c, v.size, v.size}, l);
  const TensorDesc w = image(t, {v.filters, v.c / v.groups, v.kernel, v.kernel}, l);
  const TensorDesc y = image(t, {v.n, v.filters, v.out(), v.out()}, l);
  ConvAttrs a = attrs_of(v);
  switch (pass) {
    case ConvPass::forward: {
      ConvCall c{&op::conv2d, {x, w}, a};
      if (bias) c.in.emplace_back(t, gpu(), Shape{v.filters});
      return c;
    }
    case ConvPass::grad_input:
      a.size = {v.size, v.size};
      return {&op::conv2d_grad_input, {y, w}, a};
    case ConvPass::grad_weight: break;
  }
  a.size = {v.kernel, v.kernel};
  if (l == Layout::nhwc) a.format = MemoryFormat::channels_last;
  return {&op::conv2d_grad_weight, {x, y}, a};
}

constexpr Conv kSmall{8, 16, 10, 32, 3, 1, 1, 1};

// ------------------------------------------------------------------------------------ decisions

TEST(CudnnRules, BarEnginesThatThePolicyDoesNotAllow) {
  const Policy strict, tf32{.tf32 = true}, loose{.deterministic = false};
  const DType f32 = DType::f32, f16 = DType::f16;
  EXPECT_TRUE(engine_allowed(0, f32, strict, false));
  EXPECT_FALSE(engine_allowed(kTensorCores, f32, strict, false));
  EXPECT_TRUE(engine_allowed(kTensorCores, f32, tf32, false));
  EXPECT_TRUE(engine_allowed(kTensorCores, f16, strict, false)) << "products of f16 are exact";
  EXPECT_FALSE(engine_allowed(kNondeterministic, f16, strict, false));
  EXPECT_TRUE(engine_allowed(kNondeterministic, f16, loose, false));
  EXPECT_FALSE(engine_allowed(kRoundsInputs, f32, tf32, false));
  EXPECT_FALSE(engine_allowed(kRoundsSums, f16, loose, false));
  EXPECT_FALSE(engine_allowed(kCoarseWinograd, f32, loose, false));
  EXPECT_FALSE(engine_allowed(kCompiled, f16, strict, false));
  EXPECT_TRUE(engine_allowed(kCompiled, f16, strict, true));
}

TEST(CudnnRules, LeaveSomeCallsToOurKernels) {
  const auto refused = [](ConvCall c) {
    return !conv_case(c.request(), ConvPass::forward).has_value();
  };
  const auto call = [](DType t) { return call_of(kSmall, ConvPass::forward, t, Layout::nchw); };
  EXPECT_FALSE(refused(call(DType::f32)));
  EXPECT_FALSE(refused(call(DType::bf16)));
  EXPECT_TRUE(refused(call(DType::f64)));
  ConvCall c = call(DType::f16);
  c.policy.vendor = false;
  EXPECT_TRUE(refused(c));
  Conv v = kSmall;
  v.n = 0;
  EXPECT_TRUE(refused(call_of(v, ConvPass::forward, DType::f32, Layout::nchw))) << "empty";
  v.n = (std::int64_t{1} << 31) / (16 * 10 * 10) + 1;
  EXPECT_TRUE(refused(call_of(v, ConvPass::forward, DType::f32, Layout::nchw))) << "2^31 elements";
  c = call_of(kSmall, ConvPass::forward, DType::f32, Layout::nchw, true);
  EXPECT_FALSE(refused(c));
  c.in[2].strides = {2};
  EXPECT_TRUE(refused(c)) << "a bias with gaps";
}

std::string copies(const ConvCase& c) {
  std::string s;
  for (const Operand& o : c.operands) s += o.copied ? 'c' : '-';
  return s + (c.operands[0].packed.strides[1] == 1 ? " nhwc" : " nchw");
}

TEST(CudnnRules, ComputeInTheLayoutThatCopiesLeast) {
  using enum Layout;
  const auto of = [](ConvPass pass, Layout a, Layout b) {
    ConvCall c = call_of(kSmall, pass, DType::f32, nchw);
    c.in[0] = image(DType::f32, c.in[0].shape, a);
    c.in[1] = image(DType::f32, c.in[1].shape, b);
    const auto found = conv_case(c.request(), pass);
    return found ? copies(*found) : "none";
  };
  EXPECT_EQ(of(ConvPass::forward, nchw, nchw), "--- nchw");
  EXPECT_EQ(of(ConvPass::forward, nhwc, nhwc), "--- nhwc");
  EXPECT_EQ(of(ConvPass::forward, nhwc, nchw), "-c- nhwc");
  EXPECT_EQ(of(ConvPass::forward, nchw, nhwc), "c-- nhwc");
  EXPECT_EQ(of(ConvPass::grad_input, nhwc, nchw), "-c- nhwc");
  EXPECT_EQ(of(ConvPass::grad_weight, nhwc, nhwc), "--c nhwc") << "a contiguous weight";
  EXPECT_EQ(of(ConvPass::grad_weight, nchw, nhwc), "c-c nhwc") << "gy is larger than x";

  // One channel is both layouts.
  ConvCall c = call_of({4, 1, 8, 6, 3, 1, 1, 1}, ConvPass::forward, DType::f32, nchw);
  EXPECT_EQ(copies(*conv_case(c.request(), ConvPass::forward)), "--- nhwc");
  // Every second row, and one that stands for all.
  c = call_of(kSmall, ConvPass::forward, DType::f32, nchw);
  c.in[0].strides[2] *= 2;
  EXPECT_EQ(copies(*conv_case(c.request(), ConvPass::forward)), "c-- nchw");
  c = call_of(kSmall, ConvPass::grad_weight, DType::f32, nchw);
  c.in[1].strides = {0, 0, 0, 0};
  EXPECT_EQ(copies(*conv_case(c.request(), ConvPass::grad_weight)), "-c- nchw");
}

TEST(CudnnRules, GiveAConvolutionThatGoesOnABias) {
  using enum Operand::From;
  const auto of = [](bool bias, bool relu) {
    ConvCall c = call_of(kSmall, ConvPass::forward, DType::f16, Layout::nhwc, bias);
    c.attrs.relu = relu;
    return *conv_case(c.request(), ConvPass::forward);
  };
  ConvCase c = of(false, false);
  EXPECT_EQ(c.bias, -1);
  EXPECT_EQ(c.operands.size(), 3u);
  EXPECT_FALSE(c.relu);
  c = of(true, false);
  ASSERT_EQ(c.bias, 3);
  EXPECT_EQ(c.operands[3].from, input);
  EXPECT_EQ(c.operands[3].index, 2);
  EXPECT_EQ(c.operands[3].packed.shape, (Shape{1, 32, 1, 1}));
  c = of(false, true);
  ASSERT_EQ(c.bias, 3);
  EXPECT_EQ(c.operands[3].from, zeros);
  EXPECT_TRUE(c.relu);

  Conv wide = kSmall;
  wide.filters = kZeroBytes / 4 + 1;
  ConvCall large = call_of(wide, ConvPass::forward, DType::f32, Layout::nchw);
  EXPECT_TRUE(conv_case(large.request(), ConvPass::forward));
  large.attrs.relu = true;
  EXPECT_FALSE(conv_case(large.request(), ConvPass::forward)) << "more than our zeros";
}

ConvCall normed_call(const Conv& v, bool bias = false) {
  ConvCall c = call_of(v, ConvPass::forward, DType::f16, Layout::nhwc, bias);
  for (int i = 0; i < 4; ++i) c.in.emplace_back(DType::f32, gpu(), Shape{v.c});
  c.attrs.normed = true;
  c.attrs.eps = 1e-5;
  return c;
}

TEST(CudnnRules, NormaliseFromTheWorkspace) {
  using enum Operand::From;
  ConvCall call = normed_call(kSmall, true);
  ConvCase c = *conv_case(call.request(), ConvPass::forward);
  EXPECT_EQ(c.sums, -1);
  ASSERT_EQ(c.scale, 4);
  for (const std::size_t i : {4u, 5u}) {
    EXPECT_EQ(c.operands[i].from, workspace);
    EXPECT_TRUE(c.operands[i].copied);
    EXPECT_EQ(c.operands[i].packed.dtype, DType::f16);
    EXPECT_EQ(c.operands[i].packed.shape, (Shape{1, 16, 1, 1}));
  }
  c = *conv_case(call.request(), ConvPass::forward, true);
  ASSERT_EQ(c.sums, 4);
  EXPECT_EQ(c.scale, 6);
  EXPECT_EQ(c.operands[4].from, workspace);
  EXPECT_EQ(c.operands[4].packed.shape, (Shape{1, 32, 1, 1}));
  call.attrs.sums = true;
  EXPECT_EQ(conv_case(call.request(), ConvPass::forward)->operands[4].from, output);
  EXPECT_FALSE(conv_case(call.request(), ConvPass::forward, true)) << "these are wanted";
  ConvCall plain = call_of(kSmall, ConvPass::forward, DType::f16, Layout::nhwc);
  EXPECT_FALSE(conv_case(plain.request(), ConvPass::forward, true));
}

TEST(CudnnRules, GiveTheSumsAfterEverythingElse) {
  using enum Operand::From;
  for (const bool bias : {false, true}) {
    ConvCall call = call_of(kSmall, ConvPass::forward, DType::f16, Layout::nhwc, bias);
    EXPECT_EQ(conv_case(call.request(), ConvPass::forward)->sums, -1);
    call.attrs.sums = true;
    const ConvCase c = *conv_case(call.request(), ConvPass::forward);
    ASSERT_EQ(c.sums, bias ? 4 : 3);
    ASSERT_EQ(c.operands.size(), static_cast<std::size_t>(c.sums) + 2);
    for (std::size_t i = 0; i < 2; ++i) {
      const Operand& o = c.operands[static_cast<std::size_t>(c.sums) + i];
      EXPECT_EQ(o.from, output);
      EXPECT_EQ(o.index, static_cast<int>(i) + 1);
      EXPECT_EQ(o.packed.dtype, DType::f32);
      EXPECT_EQ(o.packed.shape, (Shape{1, 32, 1, 1}));
    }
  }
}

using NormCall = Call<BatchNormAttrs>;

NormCall train_call(const TensorDesc& x, bool running, bool relu = false, bool residual = false) {
  const DType p = x.dtype == DType::f64 ? DType::f64 : DType::f32;
  NormCall c{&op::batch_norm_train, {x}, {.relu = relu}};
  for (int i = 0; i < (running ? 4 : 2); ++i) c.in.emplace_back(p, gpu(), Shape{x.dim(1)});
  if (residual) c.in.push_back(x);
  return c;
}
using NormGradCall = Call<BatchNormGradAttrs>;

NormGradCall grad_call(const TensorDesc& x, bool relu = false, bool residual = false) {
  NormGradCall c{&op::batch_norm_grad, {x, x}, {.relu = relu, .residual = residual}};
  for (int i = 0; i < 3; ++i) c.in.emplace_back(DType::f32, gpu(), Shape{x.dim(1)});
  if (relu) c.in.push_back(x);
  return c;
}

TEST(CudnnRules, NormaliseChannelsLast) {
  const auto shape = [](auto c, bool grad = false) {
    const auto found = norm_case(c.request(), grad);
    return found ? found->operands[0].packed.shape.str() : "none";
  };
  const auto dense = [](const Shape& s) { return TensorDesc(DType::f32, gpu(), s); };
  const TensorDesc nhwc = image(DType::bf16, {8, 5, 2, 3}, Layout::nhwc);
  const TensorDesc nchw = image(DType::bf16, {8, 5, 2, 3}, Layout::nchw);
  EXPECT_EQ(shape(train_call(nhwc, false)), "[8, 5, 2, 3]");
  EXPECT_EQ(shape(grad_call(nhwc), true), "[8, 5, 2, 3]");
  EXPECT_EQ(shape(train_call(dense({8, 5}), true)), "[8, 5, 1, 1]");
  EXPECT_EQ(shape(train_call(dense({8, 5, 1, 1}), true)), "[8, 5, 1, 1]");
  EXPECT_EQ(shape(train_call(nchw, false)), "none");
  EXPECT_EQ(shape(train_call(dense({8, 5, 7}), true)), "none");

  NormGradCall mixed = grad_call(nhwc);
  mixed.in[0] = nchw;
  EXPECT_EQ(shape(mixed, true), "none") << "gy is laid out otherwise";
  TensorDesc gaps = dense({8, 5});
  gaps.strides = {10, 1};
  EXPECT_EQ(shape(train_call(gaps, true)), "none");
  NormCall strided = train_call(dense({8, 5}), true);
  strided.in[3].strides = {2};
  EXPECT_EQ(shape(strided), "none") << "running statistics with gaps";
  EXPECT_EQ(shape(train_call(TensorDesc(DType::f64, gpu(), {8, 5}), true)), "none");
  EXPECT_EQ(shape(train_call(dense({0, 5}), true)), "none");
}

TEST(CudnnRules, WriteRunningStatisticsWhereTheyWereRead) {
  const TensorDesc x = image(DType::f16, {8, 5, 2, 3}, Layout::nhwc);
  EXPECT_EQ(norm_case(train_call(x, false).request(), false)->operands.size(), 6u);
  const auto c = norm_case(train_call(x, true).request(), false);
  ASSERT_EQ(c->operands.size(), 10u);
  for (std::size_t i : {6u, 7u}) {
    EXPECT_EQ(c->operands[i].index, c->operands[i + 2].index);
    EXPECT_EQ(c->operands[i].from, c->operands[i + 2].from);
  }
}

TEST(CudnnRules, GiveTheResidualAfterEverythingElse) {
  const TensorDesc x = image(DType::f16, {8, 5, 2, 3}, Layout::nhwc);
  EXPECT_FALSE(norm_case(train_call(x, true).request(), false)->relu);
  auto c = norm_case(train_call(x, true, true).request(), false);
  EXPECT_TRUE(c->relu);
  EXPECT_EQ(c->residual, -1);
  for (const bool running : {false, true}) {
    c = norm_case(train_call(x, running, true, true).request(), false);
    ASSERT_TRUE(c);
    EXPECT_EQ(c->running, running);
    ASSERT_EQ(c->residual, running ? 10 : 6);
    EXPECT_EQ(c->operands.back().index, running ? 5 : 3);
    EXPECT_EQ(c->operands.back().packed, x);
  }
  const auto grad = norm_case(grad_call(x, true, true).request(), true);
  ASSERT_TRUE(grad && grad->relu);
  EXPECT_EQ(grad->operands.size(), 10U);
  EXPECT_EQ(grad->residual, 9);
  EXPECT_EQ(norm_case(grad_call(x, true).request(), true)->residual, -1);
  NormCall other = train_call(x, true, true, true);
  other.in.back() = image(DType::f16, x.shape, Layout::nchw);
  EXPECT_FALSE(norm_case(other.request(), false)) << "a residual laid out otherwise";
}

#ifdef TANDEM_HAS_CUDNN

// ------------------------------------------------------------------------------- without a GPU

constexpr std::size_t kMiB = std::size_t{1} << 20;
const CudnnDevice kA100{8, 0, 108, 166912, 40 * kMiB, 80 * 1024 * kMiB};
const CudnnDevice kH200{9, 0, 132, 232448, 50 * kMiB, 140 * 1024 * kMiB};
const CudnnDevice kB200{10, 0, 148, 232448, 126 * kMiB, 180 * 1024 * kMiB};

struct Arithmetic {
  const char* name;
  DType dtype;
  Policy policy;
};
const Arithmetic kArithmetics[] = {{"f32", DType::f32, {}},
                                   {"tf32", DType::f32, {.tf32 = true}},
                                   {"f16", DType::f16, {}},
                                   {"bf16", DType::bf16, {}}};

/// The first engine that may be taken and works.
const CudnnEngine* first(const std::vector<CudnnEngine>& all) {
  for (const auto& e : all) {
    if (e.allowed && e.workspace >= 0) return &e;
  }
  return nullptr;
}

class CudnnEngines : public ::testing::TestWithParam<const CudnnDevice*> {
 protected:
  void expect_engine(ConvCall c, const std::string& what) {
    const auto all = cudnn_engines(c.request(), *GetParam());
    const CudnnEngine* e = first(all);
    ASSERT_TRUE(e) << what << ": none of " << all.size() << " engines may be taken";
    std::size_t bytes = 0;
    for (const auto& d : c.in) bytes += d.bytes();
    EXPECT_LE(static_cast<std::size_t>(e->workspace), workspace_limit(bytes + c.out[0].bytes()))
        << what << " " << e->name;
  }
  void expect_engines(const Conv& v, bool bias) {
    for (const Arithmetic& a : kArithmetics) {
      for (const Layout l : {Layout::nchw, Layout::nhwc}) {
        for (const ConvPass pass :
             {ConvPass::forward, ConvPass::grad_input, ConvPass::grad_weight}) {
          ConvCall c = call_of(v, pass, a.dtype, l, bias);
          c.policy = a.policy;
          expect_engine(c, fmt::format("{} {} {} {}", c.op->name, a.name,
                                       l == Layout::nhwc ? "nhwc" : "nchw", v.str()));
        }
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(, CudnnEngines, ::testing::Values(&kA100, &kH200, &kB200),
                         [](const auto& p) {
                           return fmt::format("sm_{}{}", p.param->major, p.param->minor);
                         });

TEST_P(CudnnEngines, ExistForE1) {
  expect_engines({64, 1, 28, 32, 5, 2, 1, 1}, true);
  expect_engines({64, 32, 14, 64, 5, 2, 1, 1}, true);
}

TEST_P(CudnnEngines, ExistForVgg) {
  expect_engines({64, 3, 32, 50, 3, 1, 1, 1}, true);
  expect_engines({64, 50, 32, 50, 3, 1, 1, 1}, true);
  expect_engines({64, 50, 16, 100, 3, 1, 1, 1}, true);
}

TEST_P(CudnnEngines, ExistForResNet50) {
  expect_engines({32, 3, 224, 64, 7, 3, 2, 1}, false);
  std::int64_t in = 64, size = 56;
  for (std::int64_t width = 64; width <= 512; width *= 2) {
    const std::int64_t stride = width == 64 ? 1 : 2;
    expect_engines({32, in, size, width, 1, 0, 1, 1}, false);
    expect_engines({32, width, size, width, 3, 1, stride, 1}, false);
    expect_engines({32, in, size, 4 * width, 1, 0, stride, 1}, false);  // the shortcut
    size /= stride;
    in = 4 * width;
    expect_engines({32, width, size, in, 1, 0, 1, 1}, false);
    expect_engines({32, in, size, width, 1, 0, 1, 1}, false);
    expect_engines({32, width, size, width, 3, 1, 1, 1}, false);
  }
}

TEST_P(CudnnEngines, ExistForGroupsAndOddShapes) {
  expect_engines({32, 128, 28, 128, 3, 1, 1, 128}, false);  // depthwise
  expect_engines({8, 64, 28, 128, 3, 1, 2, 32}, true);      // grouped
  expect_engines({1, 7, 5, 11, 5, 0, 1, 1}, true);          // a result of one pixel
  expect_engines({3, 5, 9, 7, 2, 3, 4, 1}, false);          // padding larger than the kernel
  expect_engines({4, 16, 21, 24, 3, 3, 1, 1, 3}, true);     // dilated
}

TEST_P(CudnnEngines, ExistForWhatGoesOn) {
  for (const Arithmetic& a : kArithmetics) {
    for (const Layout l : {Layout::nchw, Layout::nhwc}) {
      for (int bits = 1; bits < 4; ++bits) {
        const bool bias = bits & 1, relu = bits & 2;
        ConvCall c = call_of({16, 64, 28, 128, 3, 1, 1, 1}, ConvPass::forward, a.dtype, l, bias);
        c.policy = a.policy;
        c.attrs.relu = relu;
        expect_engine(c, fmt::format("{}{}{} {}", a.name, bias ? " + bias" : "",
                                     relu ? ", relu" : "", l == Layout::nhwc ? "nhwc" : "nchw"));
      }
    }
  }
}

TEST_P(CudnnEngines, SumUpF16) {
  for (const Conv& v : std::initializer_list<Conv>{{32, 64, 56, 64, 1, 0, 1, 1},
                                                   {32, 64, 56, 64, 3, 1, 1, 1},
                                                   {32, 128, 56, 128, 3, 1, 2, 1},
                                                   {32, 256, 56, 512, 1, 0, 2, 1}}) {
    ConvCall c = call_of(v, ConvPass::forward, DType::f16, Layout::nhwc);
    c.attrs.sums = true;
    if (GetParam()->major < 10) {
      expect_engine(c, "sums " + v.str());
      continue;
    }
    const auto all = cudnn_engines(c.request(), *GetParam());
    ASSERT_FALSE(all.empty());
    for (const CudnnEngine& e : all) {
      EXPECT_FALSE(e.allowed) << "docs/gpu-status.md says why: notes " << e.notes;
      EXPECT_TRUE(e.notes & kNondeterministic) << e.notes;
    }
  }
}

TEST_P(CudnnEngines, NormaliseF16BeforeBlackwell) {
  for (const std::int64_t kernel : {1, 3}) {
    for (const bool sums : {false, true}) {
      ConvCall c = normed_call({32, 64, 56, 64, kernel, kernel / 2, 1, 1});
      c.attrs.sums = sums;
      if (GetParam()->major < 10) {
        expect_engine(c, fmt::format("normed {}x{}, sums {}", kernel, kernel, sums));
      } else {
        EXPECT_EQ(first(cudnn_engines(c.request(), *GetParam())), nullptr)
            << "docs/gpu-status.md says that there are none";
      }
    }
  }
}

TEST_P(CudnnEngines, UnderstandNormalisation) {
  // Its engines are compiled by the driver, which is missing here.
  for (const DType t : {DType::f32, DType::f16, DType::bf16}) {
    for (const TensorDesc& x :
         {image(t, {32, 64, 56, 56}, Layout::nhwc), TensorDesc(t, gpu(), {64, 128})}) {
      for (const bool running : {false, true}) {
        for (int bits = 0; bits < 3; ++bits) {
          NormCall c = train_call(x, running, bits > 0, bits > 1);
          EXPECT_NO_THROW(cudnn_engines(c.request(), *GetParam())) << bits;
        }
      }
      for (int bits = 0; bits < 3; ++bits) {
        NormGradCall c = grad_call(x, bits > 0, bits > 1);
        EXPECT_NO_THROW(cudnn_engines(c.request(), *GetParam())) << "grad " << bits;
      }
    }
  }
}

TEST(Cudnn, NamesTheCallItDoesNotUnderstand) {
  ConvCall c = call_of(kSmall, ConvPass::forward, DType::f32, Layout::nchw);
  PlanRequest r = c.request();
  c.out[0].shape[2] += 1;
  try {
    cudnn_engines(r, kH200);
    ADD_FAILURE() << "a result of another size was taken";
  } catch (const DeviceError& e) {
    EXPECT_NE(std::string(e.what()).find("conv2d f32[8, 16, 10, 10] cuda:0, f32[32, "),
              std::string::npos)
        << e.what();
  }
}

TEST(Cudnn, HasAVersion) {
  EXPECT_EQ(cudnn_version().substr(0, 8), "cuDNN 9.");
}

// ------------------------------------------------------------------------------------ on a GPU

/// Results of plans, side by side.
class CudnnOnGpu : public GpuByDefault {
 protected:
  void SetUp() override {
    GpuByDefault::SetUp();
    if (b) manual_seed(1);
  }

  static Tensor random(const TensorDesc& d) {
    Tensor t = Tensor::empty(d);
    t.copy_(randn(d.shape).to(d.dtype));
    return t;
  }
  /// The same elements in rows, one place further than memory is aligned.
  static Tensor moved(const Tensor& t) {
    const Tensor longer = zeros({t.numel() + 1}, {.dtype = t.dtype()});
    Tensor there = longer.slice(0, 1, t.numel() + 1).reshape(t.shape());
    there.copy_(t);
    return there;
  }
  template <class A>
  static std::vector<Tensor> inputs(Call<A>& c) {
    std::vector<Tensor> v;
    for (const TensorDesc& d : c.in) v.push_back(random(d));
    return v;
  }
  std::vector<Tensor> run(const Plan& plan, const std::vector<Tensor>& in,
                          std::span<const TensorDesc> out) {
    std::vector<Tensor> results;
    std::vector<void*> i, o;
    for (const Tensor& t : in) i.push_back(t.raw_data());
    for (const TensorDesc& d : out) {
      results.push_back(Tensor::empty(d));
      o.push_back(results.back().raw_data());
    }
    const Tensor workspace =
        Tensor::empty({DType::u8, gpu(), {static_cast<std::int64_t>(plan.workspace_bytes) + 1}});
    plan.launch({i.data(), o.data(), workspace.raw_data(), s});
    return results;
  }
  static RefPtr<Plan> own(PlanRequest r) {
    r.policy.vendor = false;
    return kernel(r.op.id)(r);
  }
  /// Whether results agree to a part of the largest.
  static void expect_near(const std::vector<Tensor>& got, const std::vector<Tensor>& want,
                          double part, const std::string& what) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const Tensor a = got[i].to(DType::f64), b = want[i].to(DType::f64);
      const double difference = max(abs(a - b)).item<double>();
      EXPECT_LE(difference, part * max(abs(b)).item<double>()) << what << ", result " << i;
    }
  }
  static double part(const Arithmetic& a) {
    if (a.dtype == DType::f16) return 2e-3;
    if (a.dtype == DType::bf16) return 1.6e-2;
    return a.policy.tf32 ? 2e-3 : 1e-5;
  }
};

TEST_F(CudnnOnGpu, GivesTheResultsOfOurKernels) {
  for (const Conv& v : std::initializer_list<Conv>{{8, 16, 10, 32, 3, 1, 1, 1},
                                                   {4, 1, 28, 32, 5, 2, 1, 1},
                                                   {2, 12, 9, 24, 3, 2, 2, 4, 2}}) {
    for (const Arithmetic& a : kArithmetics) {
      for (const Layout l : {Layout::nchw, Layout::nhwc}) {
        for (const ConvPass pass :
             {ConvPass::forward, ConvPass::grad_input, ConvPass::grad_weight}) {
          ConvCall c = call_of(v, pass, a.dtype, l, true);
          c.policy = a.policy;
          const std::string what =
              fmt::format("{} {} {} {}", c.op->name, a.name, static_cast<int>(l), v.str());
          const PlanRequest r = c.request();
          const auto plan = cudnn_plan(r);
          ASSERT_TRUE(plan) << what;
          EXPECT_EQ(plan->name.substr(0, 9), "cudnn:eng") << what;
          const auto in = inputs(c);
          const auto got = run(*plan, in, c.out);
          expect_near(got, run(*own(r), in, c.out), part(a), what);
          EXPECT_EQ(cases::compare_bits(got[0], run(*plan, in, c.out)[0]), "") << what;
        }
      }
    }
  }
}

TEST_F(CudnnOnGpu, TakesLayoutsThatDiffer) {
  for (const ConvPass pass : {ConvPass::forward, ConvPass::grad_input, ConvPass::grad_weight}) {
    ConvCall c = call_of(kSmall, pass, DType::f32, Layout::nhwc);
    c.in[1] = image(DType::f32, c.in[1].shape, Layout::nchw);
    c.attrs.format = MemoryFormat::contiguous;
    const PlanRequest r = c.request();
    const auto in = inputs(c);
    expect_near(run(*cudnn_plan(r), in, c.out), run(*own(r), in, c.out), 1e-5, c.op->name);
  }
}

TEST_F(CudnnOnGpu, TakesTensorsThatBeginAnywhere) {
  ConvCall c = call_of(kSmall, ConvPass::forward, DType::f32, Layout::nchw);
  const PlanRequest r = c.request();
  const auto plan = cudnn_plan(r);
  auto in = inputs(c);
  const auto want = run(*plan, in, c.out);
  in[0] = moved(in[0]);
  expect_near(run(*plan, in, c.out), want, 1e-5, "x at an odd place");
}

TEST_F(CudnnOnGpu, IsLaunchedByManyThreads) {
  ConvCall c = call_of(kSmall, ConvPass::forward, DType::f16, Layout::nhwc, true);
  const auto plan = cudnn_plan(c.request());
  const auto in = inputs(c);
  const auto want = run(*plan, in, c.out);
  b->stream(0).synchronize();
  std::vector<std::string> found(4);
  std::vector<std::thread> threads;
  for (auto& difference : found) {
    threads.emplace_back([&] {
      const auto mine = b->make_stream(0);
      b->set_stream(0, mine.get());
      for (int i = 0; i < 50 && difference.empty(); ++i) {
        std::vector<void*> p;
        for (const Tensor& t : in) p.push_back(t.raw_data());
        const Tensor y = Tensor::empty(c.out[0]);
        const Tensor workspace = Tensor::empty(
            {DType::u8, gpu(), {static_cast<std::int64_t>(plan->workspace_bytes) + 1}});
        void* out[] = {y.raw_data()};
        plan->launch({p.data(), out, workspace.raw_data(), mine.get()});
        difference = cases::compare_bits(y, want[0]);
      }
      mine->synchronize();
      b->set_stream(0, nullptr);
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(found, std::vector<std::string>(4));
}

TEST_F(CudnnOnGpu, IsPartOfGraphs) {
  ConvCall c = call_of(kSmall, ConvPass::forward, DType::bf16, Layout::nhwc, true);
  const PlanRequest r = c.request();
  const auto plan = cudnn_plan(r);
  const auto in = inputs(c);
  const auto want = run(*plan, in, c.out);
  b->begin_capture(*s);
  // Nor may the first launch of a thread, or a plan made now, end the recording.
  const auto late = cudnn_plan(r);
  const auto got = run(*late, in, c.out);
  const auto g = b->end_capture(*s);
  for (int i = 0; i < 3; ++i) g->launch(*s);
  EXPECT_EQ(cases::compare_bits(got[0], want[0]), "");
}

TEST_F(CudnnOnGpu, TimesCandidates) {
  for (const ConvPass pass : {ConvPass::forward, ConvPass::grad_input, ConvPass::grad_weight}) {
    ConvCall c = call_of({32, 64, 28, 64, 3, 1, 1, 1}, pass, DType::f16, Layout::nchw);
    c.policy.search = 8;
    const PlanRequest r = c.request();
    const auto in = inputs(c);
    const auto plan = cudnn_plan(r);
    ASSERT_TRUE(plan);
    expect_near(run(*plan, in, c.out), run(*own(r), in, c.out), 2e-3, plan->name);
  }
}

TEST_F(CudnnOnGpu, GoesOnWithTheResult) {
  for (const Arithmetic& a : kArithmetics) {
    for (const bool bias : {false, true}) {
      ConvCall c = call_of(kSmall, ConvPass::forward, a.dtype, Layout::nhwc, bias);
      c.policy = a.policy;
      const auto in = inputs(c);
      const Tensor y = relu(run(*own(c.request()), in, c.out)[0]);
      c.attrs.relu = true;
      const auto plan = cudnn_plan(c.request());
      ASSERT_TRUE(plan) << a.name << " " << bias;
      expect_near(run(*plan, in, c.out), {y}, part(a), fmt::format("{} {}", a.name, bias));
    }
  }
}

TEST_F(CudnnOnGpu, SumsTheResultUp) {
  ConvCall c = call_of({8, 64, 14, 64, 3, 1, 1, 1}, ConvPass::forward, DType::f16, Layout::nhwc);
  c.attrs.sums = true;
  const auto plan = cudnn_plan(c.request());
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->epilogue);
  const auto in = inputs(c);
  const auto got = run(*plan, in, c.out);
  const Tensor y = got[0].to(DType::f32);
  // Whether what is summed up has been rounded is not said.
  const auto off = [](const Tensor& a, const Tensor& of) {
    return max(abs(a - sum(of, {0, 2, 3})) / sum(abs(of), {0, 2, 3})).item<float>();
  };
  EXPECT_LE(off(got[1], y), 1e-3);
  EXPECT_LE(off(got[2], square(y)), 1e-3);
}

TEST_F(CudnnOnGpu, NormalisesWhatItReads) {
  for (const bool sums : {false, true}) {
    // Padded: what is outside stays zero, whatever is added inside.
    ConvCall c = normed_call({8, 64, 14, 64, 3, 1, 1, 1});
    c.attrs.sums = sums;
    auto in = inputs(c);
    in.back() = abs(in.back()) + 0.5;
    const auto plan = cudnn_plan(c.request());
    if (!plan && device_info(0).major >= 10)
      GTEST_SKIP() << "cuDNN has no such engine for this GPU";
    ASSERT_TRUE(plan);
    const auto got = run(*plan, in, c.out), want = run(*own(c.request()), in, c.out);
    expect_near(got, want, 5e-3, plan->name);
    // What has no engine is done step by step.
    c.attrs.sums = false;
    c.attrs.relu = true;
    expect_near(run(*kernel(c.op->id)(c.request()), in, c.out), run(*own(c.request()), in, c.out),
                5e-3, "with a ReLU behind it");
  }
}

TEST_F(CudnnOnGpu, TimesItsBatchNormBesideOurs) {
  NormCall c = train_call(image(DType::f16, {8, 24, 7, 9}, Layout::nhwc), true, true, true);
  c.policy.search = 4;
  const PlanRequest r = c.request();
  const auto in = inputs(c);
  auto again = in;
  for (auto& v : again) v = v.clone();
  auto got = run(*kernel(r.op.id)(r), in, c.out), want = run(*own(r), again, c.out);
  for (const std::size_t i : {3u, 4u}) {  // the running statistics
    got.push_back(in[i]);
    want.push_back(again[i]);
  }
  expect_near(got, want, 2e-3, "searched");
}

TEST_F(CudnnOnGpu, Normalises) {
  for (const DType t : {DType::f32, DType::f16, DType::bf16}) {
    for (const TensorDesc& x :
         {image(t, {8, 24, 7, 9}, Layout::nhwc), TensorDesc(t, gpu(), {64, 24})}) {
      const double most = t == DType::f32 ? 1e-5 : t == DType::f16 ? 2e-3 : 1.6e-2;
      NormCall train = train_call(x, true);
      const PlanRequest r = train.request();
      const auto plan = cudnn_plan(r);
      ASSERT_TRUE(plan) << x.str();
      auto in = inputs(train);
      in[4] = abs(in[4]);
      auto again = in;
      for (auto& v : again) v = v.clone();
      auto got = run(*plan, in, train.out), want = run(*own(r), again, train.out);
      const Tensor mean = want[1], invstd = want[2];
      for (const std::size_t i : {3u, 4u}) {  // the running statistics
        got.push_back(in[i]);
        want.push_back(again[i]);
      }
      expect_near(got, want, most, "train " + x.str());

      for (const bool residual : {false, true}) {
        NormCall more = train_call(x, false, true, residual);
        const PlanRequest m = more.request();
        const auto fused = cudnn_plan(m);
        ASSERT_TRUE(fused) << x.str() << " with a ReLU" << (residual ? " and a residual" : "");
        const auto images = inputs(more);
        expect_near(run(*fused, images, more.out), run(*own(m), images, more.out), most,
                    "train and ReLU " + x.str());
      }

      for (int bits = 0; bits < 3; ++bits) {
        NormGradCall grad = grad_call(x, bits > 0, bits > 1);
        const PlanRequest q = grad.request();
        const auto backward = cudnn_plan(q);
        if (!backward && bits > 0) continue;  // an engine with the mask is not promised
        ASSERT_TRUE(backward) << x.str();
        std::vector<Tensor> g = {random(x), in[0], in[1], mean, invstd};
        if (bits > 0) g.push_back(random(x));
        expect_near(run(*backward, g, grad.out), run(*own(q), g, grad.out), most,
                    fmt::format("grad {} {}", bits, x.str()));
      }
    }
  }
}

#endif

}  // namespace
}  // namespace tandem::cuda::testing
