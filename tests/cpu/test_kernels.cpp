// Kernels looked at directly: which one is chosen, and the fused kernel against its steps.
#include <gtest/gtest.h>

#include <atomic>
#include <random>

#include "autograd/autograd.h"
#include "core/backend.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/policy.h"
#include "ops/fused.h"
#include "tests/op_cases.h"

namespace tandem {
namespace {

const PreparedOp& prepared(const OpDef& op, std::initializer_list<const Tensor*> in, AttrRef a) {
  std::vector<const TensorDesc*> d;
  for (const Tensor* t : in) d.push_back(&t->desc());
  return dispatch::prepare(op, d, a);
}

bool has_onednn() {
#ifdef TANDEM_HAS_ONEDNN
  return true;
#else
  return false;
#endif
}

TEST(Kernels, ThePolicyChooses) {
  const Tensor x = ones({8, 16, 16, 16}), w = ones({16, 16, 3, 3});
  const ConvAttrs a{{1, 1}, {1, 1}, {1, 1}, 1, {}, MemoryFormat::contiguous};
  const auto name = [&](bool vendor, const Tensor& p, const Tensor& q) {
    const PolicyScope scope({.vendor = vendor});
    return prepared(op::conv2d, {&p, &q}, a).plan->name;
  };
  if (has_onednn()) {
    EXPECT_EQ(name(true, x, w).substr(0, 6), "onednn") << name(true, x, w);
  }
  EXPECT_EQ(name(false, x, w).substr(0, 4), "cpu:");
  EXPECT_EQ(name(true, x.to(DType::f64), w.to(DType::f64)).substr(0, 4), "cpu:");
}

TEST(Kernels, PlainAndVendorAgree) {
  manual_seed(1);
  const Tensor x = randn({4, 8, 17, 15}), w = randn({12, 8, 3, 3}), b = randn({12});
  const auto run = [&](bool vendor) {
    const PolicyScope scope({.vendor = vendor});
    return conv2d(x, w, b, {.stride = {2, 1}, .padding = {1, 1}}).to_vector<float>();
  };
  const auto p = run(true), q = run(false);
  for (std::size_t k = 0; k < p.size(); ++k) ASSERT_NEAR(p[k], q[k], 2e-4);
}

TEST(Kernels, LayerNormIsTheLibrarysWhereThatIsFast) {
  const auto name = [](const Shape& s, DType t, bool grad) {
    const DType p = t == DType::f64 ? t : DType::f32;
    const Tensor x = zeros(s, {.dtype = t}), w = ones({s[1]}, {.dtype = p}),
                 row = ones({s[0]}, {.dtype = p});
    return grad ? prepared(op::layer_norm_grad, {&x, &x, &w, &row, &row}, {}).plan->name
                : prepared(op::layer_norm, {&x, &w, &w}, LayerNormAttrs{.axes = 1}).plan->name;
  };
#if defined(__x86_64__)
  // What the library wants for bf16; elsewhere it says itself what it can.
  const bool known = !has_onednn() || __builtin_cpu_supports("avx512bw");
#else
  const bool known = !has_onednn();
#endif
  const std::string library = has_onednn() ? "onednn" : "cpu:la";
  for (const bool grad : {false, true}) {
    EXPECT_EQ(name({64, 512}, DType::f32, grad).substr(0, 4), "cpu:");
    if (known) {
      EXPECT_EQ(name({64, 512}, DType::bf16, grad).substr(0, 6), library);
    }
    EXPECT_EQ(name({64, 500}, DType::bf16, grad).substr(0, 4), "cpu:");
    EXPECT_EQ(name({4, 32}, DType::f32, grad).substr(0, 4), "cpu:");
    EXPECT_EQ(name({64, 512}, DType::f64, grad).substr(0, 4), "cpu:");
    EXPECT_EQ(name({0, 512}, DType::f32, grad).substr(0, 4), "cpu:");
  }
  manual_seed(4);
  for (const DType t : {DType::f32, DType::bf16}) {
    // The last has a variance below eps.
    for (const auto& [scale, shift] :
         {std::pair{2.0, 0.0}, {2.0, 30.0}, {2.0, 1000.0}, {1e-3, 0.0}}) {
      for (const bool strided : {false, true}) {
        const Shape s = strided ? Shape{512, 64} : Shape{64, 512};
        Tensor x = (randn(s) * scale + shift).to(t), gy = randn(s).to(t);
        if (strided) x = x.t(), gy = gy.t();
        const Tensor w = randn({512}), b = randn({512});
        const auto run = [&](DType d) {
          const DType p = d == DType::f64 ? d : DType::f32;
          Tensor v = x.to(d), k = w.to(p), l = b.to(p);
          for (Tensor* leaf : {&v, &k, &l}) leaf->set_requires_grad(true);
          const Tensor y = layer_norm(v, {512}, k, l);
          const auto g = autograd::grad(sum(y * gy.to(d)), {v, k, l});
          return std::vector<Tensor>{y, g[0], g[1], g[2]};
        };
        const auto got = run(t), want = run(DType::f64);
        for (std::size_t i = 0; i < got.size(); ++i) {
          // The mean of values far from zero is known to half a unit of f32, here of 30 or 1000.
          const double most = max(abs(want[i])).item<double>();
          const double mean = 6e-8 * shift / scale;
          const double bound =
              ((t == DType::bf16 && i < 2 ? 6e-3 : 5e-6) + 4 * mean) * std::max(1.0, most);
          EXPECT_LT(max(abs(got[i].to(DType::f64) - want[i])).item<double>(), bound)
              << name_of(t) << " scale " << scale << " shift " << shift << " strided " << strided
              << " result " << i;
        }
      }
    }
  }
}

TEST(Kernels, LayerNormOfEqualValuesIsZero) {
  for (const DType t : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
    for (const double v : {1.1, 100.1, -12345.6}) {
      const Tensor y = layer_norm(full({16, 512}, v, {.dtype = t}), {512});
      EXPECT_EQ(max(abs(y)).item<double>(), 0) << name_of(t) << " " << v;
    }
  }
}

#ifdef TANDEM_OPENMP
TEST(Kernels, OfTheLibraryRefuseAParallelRegion) {
  if (!has_onednn()) GTEST_SKIP() << "own kernels run there with one thread";
  const Tensor a = ones({64, 64}), want = matmul(a, a);
  const int threads = num_threads();
  for (const int n : {2, 1}) {
    set_num_threads(n);
    std::atomic<int> refused = 0, wrong = 0;
#pragma omp parallel num_threads(2)
    {
      try {
        if (!cases::compare_bits(matmul(a, a), want).empty()) ++wrong;
      } catch (const ValueError& e) {
        if (std::string(e.what()).find("parallel region") != std::string::npos) ++refused;
      }
    }
    EXPECT_EQ(refused, n == 2 ? 2 : 0);
    EXPECT_EQ(wrong, 0);
  }
  set_num_threads(threads);
}
#endif

TEST(Kernels, LayerNormGradTakesStridedStatistics) {
  manual_seed(5);
  const Tensor x = randn({64, 512}).to(DType::bf16), gy = randn({64, 512}).to(DType::bf16),
               w = randn({512}), mean = randn({64});
  const Tensor several = rand({64, 3}) + 1;
  for (const Tensor& rstd : {full({1}, 2).expand({64}), several.select(1, 1)}) {
    ASSERT_FALSE(rstd.is_contiguous());
    const NormGrads got = layer_norm_grad(gy, x, w, mean, rstd),
                    want = layer_norm_grad(gy, x, w, mean, rstd.clone());
    EXPECT_LT(max(abs(got.x - want.x)).item<double>(), 0.1);  // of some 10, in bf16
    EXPECT_LT(max(abs(got.w - want.w)).item<double>(), 1e-3);
    EXPECT_LT(max(abs(got.b - want.b)).item<double>(), 1e-4);
  }
}

TEST(Kernels, SearchMeasuresAndComputesTheSame) {
  manual_seed(2);
  const Tensor x = randn({2, 32, 9, 7}), w = randn({48, 32, 3, 3}), gy = randn({2, 48, 9, 7});
  const Conv2dOptions o{.padding = {1, 1}};
  for (const MemoryFormat f : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
    const auto run = [&](std::uint8_t search) {
      const PolicyScope scope({.search = search});
      std::vector<Tensor> r;
      r.push_back(conv2d(x.to(f), w, {}, o));
      r.push_back(conv2d_grad_input(gy.to(f), w, x.shape(), o));
      r.push_back(conv2d_grad_weight(x.to(f), gy.to(f), w.shape(), o));
      return r;
    };
    const auto chosen = run(0), searched = run(5);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const auto a = chosen[i].to_vector<float>(), b = searched[i].to_vector<float>();
      for (std::size_t k = 0; k < a.size(); ++k) ASSERT_NEAR(a[k], b[k], 5e-4) << i << ' ' << k;
    }
  }
}

TEST(Kernels, FastMathRoundsOperandsOnlyWhenAllowed) {
  manual_seed(3);
  const Tensor a = randn({64, 128}), b = randn({128, 64});
  const auto error = [&](bool fast) {
    const PolicyScope scope({.fast_math = fast});
    const auto got = matmul(a, b).to_vector<float>();
    const auto want = matmul(a.to(DType::f64), b.to(DType::f64)).to_vector<double>();
    double most = 0;
    for (std::size_t k = 0; k < got.size(); ++k) most = std::max(most, std::abs(got[k] - want[k]));
    return most;
  };
  EXPECT_LT(error(false), 1e-4);
  EXPECT_LT(error(true), 0.5);  // 128 products of operands of 8 bits
  // oneDNN 3 does so on processors with AMX; 2.6 has no such kernel.
  const PolicyScope scope({.fast_math = true});
  const std::string name = prepared(op::matmul, {&a, &b}, MatmulAttrs{}).plan->name;
  EXPECT_EQ(error(true) > 1e-3, name.find("amx") != std::string::npos) << name;
}

// Every way the plain product reads its operands and writes its result: packed, turned over, in
// place, past the caches, with edges that fill no tile.
TEST(Gemm, EveryPathGivesTheProduct) {
  manual_seed(2);
  const std::array<std::int64_t, 3> sizes[] = {
      {1, 1, 1},     {7, 5, 3},   {8, 32, 16},    {13, 48, 300},   {64, 96, 257},
      {130, 64, 40}, {3, 512, 9}, {128, 272, 70}, {520, 2064, 24}, {1021, 40, 300}};
  for (const auto& [m, n, k] : sizes) {
    for (int layout = 0; layout < 8; ++layout) {
      const Tensor a = layout & 1 ? randn({k, m}).t() : randn({m, k});
      const Tensor b = layout & 2 ? randn({n, k}).t() : randn({k, n});
      const Tensor bias = randn({n});
      const auto product = [&](const Tensor& x, const Tensor& y, const Tensor& z) {
        return layout & 4 ? linear(x, y.t(), z) : matmul(x, y);
      };
      const PolicyScope scope({.vendor = false});
      const Tensor c = product(a, b, bias);
      const Tensor exact =
          product(a.to(DType::f64), b.to(DType::f64), bias.to(DType::f64)).to(DType::f32);
      const auto p = c.to_vector<float>(), q = exact.to_vector<float>();
      const double bound = 2e-6 * std::sqrt(static_cast<double>(k)) * 8;
      for (std::size_t i = 0; i < p.size(); ++i) {
        ASSERT_NEAR(p[i], q[i], bound) << m << " " << n << " " << k << " layout " << layout;
      }
      const int threads = num_threads();
      set_num_threads(threads == 1 ? 3 : 1);
      const Tensor other = product(a, b, bias);
      set_num_threads(threads);
      ASSERT_EQ(cases::compare_bits(other, c), "") << m << " " << n << " " << k;
    }
  }
}

TEST(Gemm, TakesWhatIsBoundByMemory) {
  if (!has_onednn()) GTEST_SKIP() << "there is nothing to choose from";
  const auto name = [](const Tensor& a, const Tensor& b) {
    return prepared(op::matmul, {&a, &b}, MatmulAttrs{}).plan->name;
  };
  const Tensor x = ones({64, 3136}), w = ones({1024, 3136}), gy = ones({64, 1024});
  EXPECT_EQ(name(gy.t(), x), "cpu:gemm");
  EXPECT_EQ(name(x, w.t()), "cpu:gemm");
  EXPECT_EQ(name(gy, w).substr(0, 6), "onednn");
  EXPECT_EQ(name(w, w.t()).substr(0, 6), "onednn");
}

TEST(Backend, DescribesItself) {
  EXPECT_TRUE(has_device(DeviceType::cpu));
  EXPECT_FALSE(backend(kCPU).description().empty());
  EXPECT_EQ(backend(kCPU).device_count(), 1);
  if (has_device(DeviceType::cuda)) return;
  // A build without CUDA says how it lacks it, a machine without a GPU that it has none.
  try {
    backend(DeviceType::cuda);
    FAIL() << "nothing was thrown";
  } catch (const DeviceError& e) {
    const std::string m = e.what();
    const char* why = cuda_missing();
    EXPECT_NE(m.find(why ? why : "no usable GPU"), std::string::npos) << m;
  }
}

// Every elementwise op in a fused program of its own, and after a cast: the same bits as alone.
TEST(Fused, EveryOpAloneEqualsItself) {
  manual_seed(2);
  const Tensor base = randn({3, 5, 70}), other = randn({5, 1});
  int tried = 0;
  for (const OpDef* op : all_ops()) {
    if (op->traits.kind != OpKind::elementwise) continue;
    const ElementwiseRule rule = elementwise_rule(static_cast<OpId>(op->id));
    for (const DType t : {DType::f32, DType::bf16, DType::f64, DType::i32}) {
      std::vector<Tensor> in = {base.to(t), other.to(t), base.to(t) * 0};
      if (rule.arity == 3) in[0] = gt(in[0], 0);
      in.erase(in.begin() + rule.arity, in.end());
      std::vector<const TensorDesc*> descs;
      std::vector<const Tensor*> ptrs;
      for (const Tensor& x : in) {
        descs.push_back(&x.desc());
        ptrs.push_back(&x);
      }
      const auto attrs = op->attrs->make_default();
      if (op == &op::clamp || op == &op::clamp_grad)
        *static_cast<ClampAttrs*>(attrs.get()) = {-1, 1};
      const RefPtr<const PreparedOp> alone(
          &dispatch::prepare(*op, descs, {op->attrs, attrs.get()}));
      const Tensor want = dispatch::execute(*alone, ptrs, SrcLoc::current())[0];

      FusedProgram f;
      f.steps = {fused_step(*alone)};
      f.outputs = {0};
      f.shape = want.shape();
      f.strides = {want.strides()};
      const FusedAttrs code{f.encode()};
      const RefPtr<const PreparedOp> fused(&dispatch::prepare(op::fused_elementwise, descs, code));
      const Tensor got = dispatch::execute(*fused, ptrs, SrcLoc::current())[0];
      EXPECT_EQ(cases::compare_bits(got, want), "") << op->name << " " << name_of(t) << "\n"
                                                    << f.str();
      ++tried;
    }
  }
  EXPECT_GT(tried, 150);
}

TEST(Fused, CodesSurvive) {
  FusedProgram f;
  f.steps = {{OpId::mul_, DType::f32, {Scalar(2.5), Scalar()}, true, {0}},
             {OpId::clamp_, DType::f32, {Scalar(-1), Scalar(true)}, false, {~0}},
             {OpId::where_, DType::f64, {}, false, {1, ~0, ~1}}};
  f.outputs = {2, 0};
  f.shape = {2, 3};
  f.strides = {{3, 1}, {1, 2}};
  const FusedProgram g = FusedProgram::decode(f.encode());
  EXPECT_EQ(g.encode(), f.encode());
  EXPECT_EQ(g.str(), f.str());
  EXPECT_NE(f.str().find("clamp"), std::string::npos) << f.str();
  // Anything else is refused, not run.
  const auto code = f.encode();
  for (std::size_t n = 0; n < code.size(); ++n) {
    EXPECT_THROW(
        FusedProgram::decode({code.begin(), code.begin() + static_cast<std::ptrdiff_t>(n)}),
        InternalError)
        << n;
  }
  auto longer = code;
  longer.push_back(0);
  EXPECT_THROW(FusedProgram::decode(longer), InternalError);
  std::mt19937_64 rng(3);
  for (int k = 0; k < 2000; ++k) {
    auto damaged = code;
    damaged[rng() % damaged.size()] = static_cast<std::int64_t>(rng());
    try {
      FusedProgram::decode(damaged);  // may be another program, must not be anything worse
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace tandem
