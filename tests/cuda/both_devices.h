// Programs that give tensors, on the CPU and on the GPU.
#pragma once
#include <cmath>

#include "core/generator.h"
#include "core/policy.h"
#include "ops/ops.h"
#include "tests/on_gpu.h"
#include "tests/ops/cases_fixture.h"

namespace tandem::cases {

using testing::DefaultDevice;
using testing::OnGpu;

/// "" or what differs. A copy to the host is compact, whatever the layout was.
inline std::string difference(const Tensor& got, const Tensor& want) {
  if (got.device().str() != "cuda:0") return "on " + got.device().str();
  if (!(got.desc().strides == want.desc().strides)) {
    return got.desc().str() + " and " + want.desc().str();
  }
  return compare_bits(got.to(kCPU).contiguous(), want.contiguous());
}

/// Runs `program(generator)` on both devices, which give the same random numbers, without vendors'
/// libraries.
template <class F>
std::pair<std::vector<Tensor>, std::vector<Tensor>> on_gpu_and_cpu(const F& program) {
  const auto run = [&](Device d) {
    const DefaultDevice scope(d);
    const PolicyScope own({.vendor = false});
    const NoGrad no_grad;
    Generator g(7, d);
    return program(g);
  };
  std::pair<std::vector<Tensor>, std::vector<Tensor>> r = {run({DeviceType::cuda, 0}), run(kCPU)};
  EXPECT_EQ(r.first.size(), r.second.size());
  return r;
}

template <class F>
void expect_same_bits(const F& program) {
  const auto [got, want] = on_gpu_and_cpu(program);
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(difference(got[i], want[i]), "") << "result " << i;
  }
}

/// For sums in another order: `tolerance` of the largest value, in units of the result's dtype.
template <class F>
void expect_close(const F& program, double tolerance = 8) {
  const auto [got, want] = on_gpu_and_cpu(program);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].desc().strides, want[i].desc().strides) << "result " << i;
    const auto g = to_array(got[i].to(kCPU)), w = to_array(want[i]);
    const DType t = want[i].dtype();
    const double unit = t == DType::f64   ? 0x1p-52
                        : t == DType::f32 ? 0x1p-23
                        : t == DType::f16 ? 0x1p-10
                                          : 0x1p-7;
    double most = 0;
    for (double v : w.v) most = std::isfinite(v) ? std::max(most, std::abs(v)) : most;
    for (std::size_t k = 0; k < w.v.size(); ++k) {
      if (std::isnan(w.v[k]) && std::isnan(g.v[k])) continue;
      ASSERT_NEAR(g.v[k], w.v[k], tolerance * unit * most)
          << "element " << k << " of result " << i << " " << want[i].desc().str();
    }
  }
}

}  // namespace tandem::cases
