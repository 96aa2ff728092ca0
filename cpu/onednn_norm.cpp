#include <cmath>

#include "core/parallel.h"
#include "cpu/onednn_program.h"

namespace tandem::cpu::onednn {
namespace {

// The library's layer norm gives and takes the variance, ours the inverse standard deviation.
// Going back, the eps is in the latter: var' = 1 / rstd², with no eps on top.

struct LayerNorm final : Plan {
  RefPtr<Program> program;
  std::int64_t rows;
  double eps;

  void launch(const LaunchArgs& a) const override {
    program->launch(a);
    auto* statistic = static_cast<float*>(a.out[2]);
    parallel_for(rows, 1 << 14, [=, eps = eps](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        statistic[i] = static_cast<float>(1 / std::sqrt(static_cast<double>(statistic[i]) + eps));
      }
    });
  }
};

struct LayerNormGrad final : Plan {
  RefPtr<Program> program;
  std::int64_t rows;
  std::size_t at = 0, program_at = 0;  // in the workspace

  void launch(const LaunchArgs& a) const override {
    auto* variance = reinterpret_cast<float*>(static_cast<char*>(a.workspace) + at);
    const auto* rstd = static_cast<const float*>(a.in[4]);
    parallel_for(rows, 1 << 14, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double r = static_cast<double>(rstd[i]);
        variance[i] = static_cast<float>(1 / (r * r));
      }
    });
    void* in[] = {a.in[0], a.in[1], a.in[2], a.in[3], variance};
    program->launch({in, a.out, static_cast<char*>(a.workspace) + program_at, a.stream});
  }
};

/// x [rows, size], what there is one of for each row, and for each column.
struct Described {
  Memory x, of_row, of_column;
  explicit Described(const TensorDesc& d, std::int64_t size)
      : x({d.numel() / size, size}, type_of(d.dtype), Layout{size, 1}),
        of_row({d.numel() / size}, dnnl::memory::data_type::f32, Layout{1}),
        of_column({size}, dnnl::memory::data_type::f32, Layout{1}) {}
};

// bf16 only: the library adds up a row in f32, which is exact for 8 digits, but leaves of a row of
// equal f32 values something that 1 / sqrt(eps) makes large. It takes microseconds to begin, and
// rows that end inside a vector take it a hundred times as long as whole ones (2.6).
bool worth_it(const TensorDesc& x, const TensorDesc& y, std::int64_t size, bool grad) {
  return x.dtype == DType::bf16 && y.is_contiguous() && size > 0 && size % 32 == 0 &&
         x.numel() >= (grad ? 1 << 13 : 1 << 12);
}

}  // namespace

RefPtr<Plan> plan_layer_norm(const PlanRequest& r, double eps) try {
  const TensorDesc& x = r.in[0];
  const std::int64_t size = r.in[1].numel();
  if (!worth_it(x, r.out[0], size, false)) return {};
  agree_on_threads();
  const Described m(x, size);
  const auto d = describe_layer_norm(attributes(), m.x, m.of_row, static_cast<float>(eps));
  if (is_reference(d)) return {};
  auto program = make_ref<Program>();
  for (const TensorDesc& t : r.in) program->add_input(t, contiguous_strides(t.shape));
  program->run(dnnl::layer_normalization_forward(d), d,
               {{DNNL_ARG_SRC, program->input(0, m.x)},
                {DNNL_ARG_SCALE, program->input(1, m.of_column)},
                {DNNL_ARG_SHIFT, program->input(2, m.of_column)},
                {DNNL_ARG_DST, program->output(m.x, 0)},
                {DNNL_ARG_MEAN, program->output(m.of_row, 1)},
                {DNNL_ARG_VARIANCE, program->output(m.of_row, 2)}});
  program->finish();
  auto plan = make_ref<LayerNorm>();
  plan->name = name_of_plan(d);
  plan->rows = r.out[2].numel();
  plan->eps = eps;
  plan->workspace_bytes = program->workspace_bytes;
  plan->program = std::move(program);
  return plan;
} catch (const dnnl::error&) {
  return {};
}

RefPtr<Plan> plan_layer_norm_grad(const PlanRequest& r) try {
  const TensorDesc& x = r.in[1];
  const std::int64_t size = r.in[2].numel();
  if (!worth_it(x, r.out[0], size, true) || !r.in[4].is_contiguous()) return {};
  agree_on_threads();
  const Described m(x, size);
  const auto f = describe_layer_norm(attributes(), m.x, m.of_row, 0);
  const auto d = describe_layer_norm_grad(attributes(), f, m.x, m.of_row, 0);
  if (is_reference(d)) return {};
  auto program = make_ref<Program>();
  for (const TensorDesc& t : r.in) program->add_input(t, contiguous_strides(t.shape));
  program->run(dnnl::layer_normalization_backward(d), d,
               {{DNNL_ARG_DIFF_DST, program->input(0, m.x)},
                {DNNL_ARG_SRC, program->input(1, m.x)},
                {DNNL_ARG_SCALE, program->input(2, m.of_column)},
                // Asked for, although no gradient depends on it; so any will do.
                {DNNL_ARG_SHIFT, program->input(2, m.of_column)},
                {DNNL_ARG_MEAN, program->input(3, m.of_row)},
                {DNNL_ARG_VARIANCE, program->input(4, m.of_row)},
                {DNNL_ARG_DIFF_SRC, program->output(m.x, 0)},
                {DNNL_ARG_DIFF_SCALE, program->output(m.of_column, 1)},
                {DNNL_ARG_DIFF_SHIFT, program->output(m.of_column, 2)}});
  program->finish();
  auto plan = make_ref<LayerNormGrad>();
  plan->name = name_of_plan(d);
  plan->rows = r.in[4].numel();
  plan->at = reserve(plan->workspace_bytes, m.of_row.get_size());
  plan->program_at = reserve(plan->workspace_bytes, program->workspace_bytes);
  plan->program = std::move(program);
  return plan;
} catch (const dnnl::error&) {
  return {};
}

}  // namespace tandem::cpu::onednn
