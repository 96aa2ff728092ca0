// What the GPU must give to the last bit: elementwise ops, copies, random numbers and optimiser
// steps run the same scalar code as on the CPU (core/functors.h, core/update_rules.h, …).
#include "core/generator.h"
#include "tests/cuda/both_devices.h"

namespace tandem::cases {
namespace {

using SameBitsAsOnTheCpu = OnGpu;

std::vector<Tensor> run_on(Device d, const OpCase& c, DType t, const Shapes& shapes, Layout l) {
  const DefaultDevice scope(d);
  const NoGrad no_grad;
  std::vector<Tensor> args = make_args(c, t, shapes);
  for (Tensor& a : args) a = in_layout(a, l);
  return run(c, args);
}

// Their last bits are the platform's.
bool platform_dependent(const OpCase& c, DType t) {
#ifdef TANDEM_CUDA_EMULATED
  (void)c, (void)t;
  return false;
#else
  if (t == DType::f64) return true;
  for (const char* name : {"sin", "cos", "atan", "pow"}) {
    if (c.name.find(name) != c.name.npos) return true;
  }
  return false;
#endif
}

void compare_devices(const CaseTable& all) {
  for (const OpCase& c : all) {
    std::vector<Shapes> shapes = {shapes_of(c)};
    shapes.insert(shapes.end(), c.more.begin(), c.more.end());
    for (const DType t : c.dtypes) {
      if (platform_dependent(c, t)) continue;
      for (const Shapes& s : shapes) {
        for (int l = 0; l < static_cast<int>(Layout::count); ++l) {
          SCOPED_TRACE(c.name + " " + name_of(t) + " " + str(s) + " " +
                       name_of(static_cast<Layout>(l)));
          const auto want = run_on(kCPU, c, t, s, static_cast<Layout>(l));
          const auto got = run_on({DeviceType::cuda, 0}, c, t, s, static_cast<Layout>(l));
          ASSERT_EQ(got.size(), want.size());
          for (std::size_t i = 0; i < got.size(); ++i) {
            ASSERT_EQ(difference(got[i], want[i]), "");
          }
        }
      }
    }
  }
}

TEST_F(SameBitsAsOnTheCpu, ElementwiseOps) {
  CaseTable c;
  elementwise_cases(c);
  compare_devices(c);
}

TEST_F(SameBitsAsOnTheCpu, ViewsCopiesAndConstants) {
  CaseTable c;
  view_cases(c);
  compare_devices(c);
}

TEST_F(SameBitsAsOnTheCpu, RandomNumbersAndOptimiserSteps) {
  CaseTable c;
  random_cases(c);
  compare_devices(c);
}

// More elements than one block, thread or batch takes; sizes that leave a rest.
TEST_F(SameBitsAsOnTheCpu, ManyElements) {
  const auto program = [](Device d) {
    const DefaultDevice scope(d);
    const NoGrad no_grad;
    Generator g(7, d);
    std::vector<Tensor> r;
    for (const DType t : {DType::f32, DType::f16, DType::bf16}) {
      for (const std::int64_t n : {1, 3, 4, 5, 1023, 4097, 70001}) {
        const TensorOptions o{.dtype = t};
        Tensor x = randn({n + 1}, o, &g).slice(0, 1, n + 1);  // not aligned
        Tensor y = uniform({n}, -2, 3, o, &g);
        r.push_back(x);
        r.push_back(dropout(x, 0.3, true, &g));
        r.push_back(dropout(y, 0.3, true, &g));
        r.push_back(add(x, y));
        r.push_back(mul(y, y));
        r.push_back(gelu(y));
        r.push_back(gt(y, x));
        r.push_back(where(gt(y, x), x, y));
        x.add_(y);
        r.push_back(x);
      }
    }
    return r;
  };
  const auto want = program(kCPU), got = program({DeviceType::cuda, 0});
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(difference(got[i], want[i]), "") << "result " << i;
  }
}

TEST_F(SameBitsAsOnTheCpu, StepsOfManyParameters) {
  constexpr int kParameters = 520;  // more than a launch counts the steps of
  const auto program = [](Device d, bool adam) {
    const DefaultDevice scope(d);
    const NoGrad no_grad;
    Generator g(11, d);
    std::vector<Tensor> p, grad, m, v;
    for (int i = 0; i < kParameters; ++i) {
      const DType t = i % 7 == 3 ? DType::bf16 : i % 7 == 5 ? DType::f16 : DType::f32;
      const DType wide = DType::f32;
      const std::int64_t n = i == 20 ? 40000 : i == 21 ? 0 : 1 + i * 37 % 91;
      const auto make = [&](DType type) {
        Tensor x = randn({n, 3}, {.dtype = type}, &g);
        return i % 5 == 4
                   ? randn({3, n + 1}, {.dtype = type}, &g).slice(1, 1, n + 1).permute({1, 0})
                   : x;
      };
      p.push_back(make(t));
      grad.push_back(randn({n, 3}, {.dtype = t}, &g));
      m.push_back(zeros({n, 3}, {.dtype = wide}));
      v.push_back(zeros({n, 3}, {.dtype = wide}));
    }
    const Tensor lr = full({}, 0.01), step = zeros({kParameters}, {.dtype = DType::i64});
    for (int k = 0; k < 4; ++k) {
      const Tensor scaling = Tensor::from<float>({0.5f, k == 1 ? 1.0f : 0.0f}, {2});
      // At first some of the parameters have no gradient: their steps are counted later.
      std::vector<std::int64_t> positions;
      for (int i = 0; k == 0 && i < kParameters; ++i) {
        if (i % 3 != 1) positions.push_back(i);
      }
      const auto those = [&](const std::vector<Tensor>& all) {
        if (k > 0) return all;
        std::vector<Tensor> some;
        for (const std::int64_t i : positions) some.push_back(all[static_cast<std::size_t>(i)]);
        return some;
      };
      if (adam) {
        adam_step(those(p), those(grad), those(m), those(v), lr, step,
                  {.weight_decay = 0.1, .positions = positions}, scaling);
      } else {
        sgd_step(those(p), those(grad), those(m), lr,
                 {.momentum = 0.9, .dampening = 0.5, .weight_decay = 0.1, .positions = positions},
                 step, scaling);
      }
    }
    std::vector<Tensor> r = p;
    r.insert(r.end(), m.begin(), m.end());
    r.insert(r.end(), v.begin(), v.end());
    r.push_back(step);
    return r;
  };
  for (const bool adam : {false, true}) {
    const auto want = program(kCPU, adam), got = program({DeviceType::cuda, 0}, adam);
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(difference(got[i], want[i]), "") << "result " << i << " adam " << adam;
    }
  }
}

}  // namespace
}  // namespace tandem::cases
