// Kernels that move 16 bytes at a time where tensors allow it: the same bits where they do not.
#include "ops/norm.h"
#include "ops/op_list.h"
#include "ops/ops.h"
#include "tests/on_gpu.h"
#include "tests/op_cases.h"

namespace tandem::cases {
namespace {

using Packs = testing::GpuByDefault;

/// The same elements in memory of the same order that begins one element later than it is aligned.
Tensor moved(const Tensor& t) {
  const bool last = t.desc().is_channels_last() && !t.desc().is_contiguous();
  const Tensor rows = last ? t.permute({0, 2, 3, 1}) : t;
  const Tensor longer = zeros({t.numel() + 1}, {.dtype = t.dtype()});
  Tensor there = longer.slice(0, 1, t.numel() + 1).reshape(rows.shape());
  there.copy_(rows);
  return last ? there.permute({0, 3, 1, 2}) : there;
}

Tensor numbers(const Shape& s, DType t, double from) {
  const Tensor phase = arange(0, numel(s), 1, {.dtype = DType::f32}) * 0.37;
  return (sin(phase) * 2.0 + from).reshape(s).to(t);
}

TEST_F(Packs, OfABatchNorm) {
  for (const DType t : {DType::f32, DType::f16, DType::bf16, DType::f64}) {
    const DType p = is_low_precision(t) ? DType::f32 : t;
    for (const bool last : {false, true}) {
      const auto image = [&](double from) {
        const Tensor x = numbers({3, 16, 2, 8}, t, from);
        return last ? x.to(MemoryFormat::channels_last) : x;
      };
      const Tensor x = image(0.5), z = image(-1), gy = image(0.25);
      const Tensor w = numbers({16}, p, 3), b = numbers({16}, p, 0), mean = numbers({16}, p, 0),
                   var = numbers({16}, p, 3);
      const auto run = [&](const Tensor& x, const Tensor& z, const Tensor& gy) {
        std::vector<Tensor> r;
        const auto add = [&](std::vector<Tensor> more) {
          r.insert(r.end(), more.begin(), more.end());
        };
        for (const bool relu : {false, true}) {
          const BatchNormAttrs attrs{.relu = relu};
          std::vector<Tensor> train = {x, w, b}, eval = {x, w, b, mean, var};
          if (relu) train.push_back(z), eval.push_back(z);
          add(call_op(op::batch_norm_train, train, attrs));
          add(call_op(op::batch_norm_eval, eval, attrs));
          std::vector<Tensor> grad = {gy, x, w, mean, var};
          if (relu) grad.push_back(z);
          for (const bool residual : {false, true}) {
            if (residual && !relu) continue;
            add(call_op(op::batch_norm_grad, grad,
                        BatchNormGradAttrs{.relu = relu, .residual = residual}));
          }
        }
        return r;
      };
      const auto want = run(x, z, gy);
      for (int k = 0; k < 3; ++k) {  // one of them is enough
        const auto got = run(k == 0 ? moved(x) : x, k == 1 ? moved(z) : z, k == 2 ? moved(gy) : gy);
        ASSERT_EQ(got.size(), want.size());
        for (std::size_t i = 0; i < got.size(); ++i) {
          EXPECT_EQ(compare_bits(got[i].to(kCPU), want[i].to(kCPU)), "")
              << tandem::name_of(t) << (last ? " channels last" : "") << ", operand " << k
              << ", result " << i;
        }
      }
    }
  }
}

TEST_F(Packs, OfACast) {
  const std::vector<DType> types = {DType::f32, DType::f16, DType::bf16, DType::f64,
                                    DType::i32, DType::i64, DType::u8};
  for (const DType from : types) {
    for (const DType to : types) {
      for (const std::int64_t n : {1, 15, 64, 67}) {
        const Tensor x = arange(0, n, 1, {.dtype = DType::i32}).to(from);
        EXPECT_EQ(compare_bits(moved(x).to(to).to(kCPU), x.to(kCPU).to(to)), "")
            << tandem::name_of(from) << " to " << tandem::name_of(to) << ", " << n;
        EXPECT_EQ(compare_bits(x.to(to).to(kCPU), x.to(kCPU).to(to)), "")
            << tandem::name_of(from) << " to " << tandem::name_of(to) << ", " << n;
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cases
