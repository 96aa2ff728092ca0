#include "cpu/onednn_program.h"

namespace tandem::cpu::onednn {
namespace {

// A matrix as the library takes it: one stride is 1, the other no less than a line. Strides of axes
// of size 1 mean nothing and are made to fit. False: the matrix must be packed.
bool fit(std::int64_t rows, std::int64_t columns, std::int64_t& row, std::int64_t& column) {
  if (rows == 1 && columns == 1) row = column = 1;
  if (columns == 1) column = 1;
  if (rows == 1) row = column == 1 ? columns : 1;
  if (column == 1 && row >= columns) return true;
  return row == 1 && column >= rows;
}

/// The layout in which `d`, [batch..., rows, columns], is read: its own if that fits.
TensorDesc readable(const TensorDesc& d) {
  const int r = d.rank();
  TensorDesc e = d;
  if (!fit(d.dim(r - 2), d.dim(r - 1), e.strides[r - 2], e.strides[r - 1])) {
    e.strides = contiguous_strides(d.shape);
  }
  return e;
}

// Of large untransposed f32 products this entry point makes a fifth more than the primitive.
RefPtr<Plan> plan_sgemm(const MatmulProblem& p, const TensorDesc& a, const TensorDesc& b) {
  const std::int64_t m = p.c.dim(0), n = p.c.dim(1), k = a.dim(1);
  return make_plan("onednn:sgemm",
                   [=, lda = a.strides[0], ldb = b.strides[0]](const LaunchArgs& r) {
                     agree_on_threads();
                     check(dnnl_sgemm('N', 'N', m, n, k, 1.0f, static_cast<const float*>(r.in[0]),
                                      lda, static_cast<const float*>(r.in[1]), ldb, 0.0f,
                                      static_cast<float*>(r.out[0]), n));
                   });
}

}  // namespace

RefPtr<Plan> plan_matmul(const MatmulProblem& p) try {
  if (!known(p.c.dtype)) return {};
  agree_on_threads();
  const dnnl::primitive_attr attr = attributes(p.policy, p.relu);
  const TensorDesc read_a = readable(p.a), read_b = readable(p.b);
  const auto direct = [](const TensorDesc& d, const TensorDesc& read) {
    return d.rank() == 2 && read.strides[1] == 1 && same_layout(d.shape, d.strides, read.strides);
  };
  if (p.c.dtype == DType::f32 && !p.policy.fast_math && !p.bias && !p.relu && direct(p.a, read_a) &&
      direct(p.b, read_b) && p.c.numel() * p.a.dim(1) >= (1 << 22)) {
    return plan_sgemm(p, read_a, read_b);
  }
  const Memory a = memory_of(read_a), b = memory_of(read_b), c = memory_of(p.c);
  Layout bias_shape(static_cast<std::size_t>(p.c.rank()), 1), bias_strides = bias_shape;
  bias_shape.back() = p.c.shape.back();
  for (std::size_t i = 0; i + 1 < bias_strides.size(); ++i) bias_strides[i] = bias_shape.back();
  const Memory bias(bias_shape, type_of(p.c.dtype), bias_strides);
  const auto d =
      p.bias ? describe<dnnl::matmul>(attr, a, b, bias, c) : describe<dnnl::matmul>(attr, a, b, c);
  if (is_reference(d)) return {};
  auto plan = make_ref<Program>();
  plan->name = name_of_plan(d);
  plan->epilogue = kEpilogue;
  plan->add_input(p.a, read_a.strides);
  plan->add_input(p.b, read_b.strides);
  Program::Args args = {{DNNL_ARG_SRC, plan->input(0, a)},
                        {DNNL_ARG_WEIGHTS, plan->input(1, b)},
                        {DNNL_ARG_DST, plan->output(c)}};
  if (p.bias) {
    plan->add_input(*p.bias, {1});
    args.emplace_back(DNNL_ARG_BIAS, plan->input(2, bias));
  }
  plan->run(dnnl::matmul(d), d, std::move(args));
  plan->finish();
  return plan;
} catch (const dnnl::error&) {
  return {};  // strides or a type this version or this processor lacks
}

}  // namespace tandem::cpu::onednn
