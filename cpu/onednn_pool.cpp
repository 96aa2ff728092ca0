#include "cpu/onednn_program.h"

namespace tandem::cpu::onednn {
RefPtr<Plan> plan_average_pool(const AveragePoolProblem& p) try {
  if (!known(p.large.dtype) || p.large.numel() == 0 || p.small.numel() == 0) return {};
  const Layout kernel = p.kernel.vec(), stride = p.stride.vec(), before = p.padding.vec();
  Layout after = before;
  for (int i = 0; i < 2; ++i) {
    // A last window that hangs over the padded edge is divided by what it covers; not so here.
    const std::int64_t reach = (p.small.dim(2 + i) - 1) * p.stride[i] + p.kernel[i];
    const std::int64_t right = reach - p.large.dim(2 + i) - p.padding[i];
    if (right > p.padding[i]) return {};
    // Negative where the windows do not reach the edge.
    after[static_cast<std::size_t>(i)] = right;
  }
  agree_on_threads();
  const auto algorithm = p.count_include_pad ? dnnl::algorithm::pooling_avg_include_padding
                                             : dnnl::algorithm::pooling_avg_exclude_padding;
  const dnnl::primitive_attr attr = attributes();
  const TensorDesc& from = p.grad ? p.small : p.large;
  const Inner layout = from.is_channels_last() ? Inner::channels_last : Inner::contiguous;
  const Memory large = image(p.large, layout), small = image(p.small, layout);
  const auto plan = make_ref<Program>();
  plan->add_input(from, layout == Inner::channels_last ? channels_last_strides(from.shape)
                                                       : contiguous_strides(from.shape));
  const auto f = describe_pooling(attr, algorithm, large, small, stride, kernel, before, after);
  if (!p.grad) {
    if (is_reference(f)) return {};
    plan->run(dnnl::pooling_forward(f), f,
              {{DNNL_ARG_SRC, plan->input(0, large)}, {DNNL_ARG_DST, plan->output(small)}});
    plan->name = name_of_plan(f);
  } else {
    const auto b =
        describe_pooling_grad(attr, f, algorithm, large, small, stride, kernel, before, after);
    if (is_reference(b)) return {};
    plan->run(
        dnnl::pooling_backward(b), b,
        {{DNNL_ARG_DIFF_DST, plan->input(0, small)}, {DNNL_ARG_DIFF_SRC, plan->output(large)}});
    plan->name = name_of_plan(b);
  }
  plan->finish();
  return plan;
} catch (const dnnl::error&) {
  return {};
}

}  // namespace tandem::cpu::onednn
