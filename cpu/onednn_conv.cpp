#include "cpu/onednn_program.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "core/parallel.h"

namespace tandem::cpu::onednn {
namespace {

/// The user's tensor as oneDNN sees it. A tensor of one channel or one pixel is in both layouts at
/// once: it is then called by the name that saves the reorder.
Memory image_as(const TensorDesc& d, bool channels_last, const Memory& wanted) {
  for (const Inner l : {Inner::contiguous, Inner::channels_last}) {
    const bool fits = l == Inner::contiguous ? d.is_contiguous() : d.is_channels_last();
    if (fits && image(d, l) == wanted) return wanted;
  }
  return image(d, channels_last ? Inner::channels_last : Inner::contiguous);
}

/// [O, C, kh, kw] with these strides, or [groups, O/groups, C, kh, kw].
Memory weights(const TensorDesc& w, std::int64_t groups, const Strides& s) {
  if (groups == 1) return {w.shape.vec(), type_of(w.dtype), s.vec()};
  const std::int64_t o = w.dim(0) / groups;
  return {Layout{groups, o, w.dim(1), w.dim(2), w.dim(3)}, type_of(w.dtype),
          Layout{s[0] * o, s[0], s[1], s[2], s[3]}};
}
Memory weights_any(const TensorDesc& w, std::int64_t groups) {
  const auto any = dnnl::memory::format_tag::any;
  if (groups == 1) return {w.shape.vec(), type_of(w.dtype), any};
  return {Layout{groups, w.dim(0) / groups, w.dim(1), w.dim(2), w.dim(3)}, type_of(w.dtype), any};
}

/// Layouts to try, best first, from measurements (docs/performance.md): the user's own layout saves
/// reorders, but contiguous means im2col, the f32 kernels for input gradients want blocks, and
/// no kernel but im2col likes an input gradient of few channels.
std::array<Inner, 3> preferred(const ConvProblem& p, bool channels_last) {
  constexpr Inner plain = Inner::contiguous, last = Inner::channels_last, blocked = Inner::blocked;
  const std::int64_t c = p.x.dim(1) / p.groups, o = p.y.dim(1) / p.groups;
  const bool f32 = p.x.dtype == DType::f32, grad_input = p.pass == ConvPass::grad_input;
  const bool pointwise = p.w.dim(2) == 1 && p.w.dim(3) == 1;
  const bool full_blocks = c % 16 == 0 && o % 16 == 0;
  if (f32 && grad_input && c < 16 && p.groups == 1) return {plain, last, blocked};
  if (pointwise && !channels_last) return {plain, blocked, last};
  if (f32 && !pointwise) {
    if (grad_input && full_blocks) return {blocked, last, plain};
    if (!channels_last && (c <= 4 || full_blocks)) return {blocked, last, plain};
  }
  return {last, blocked, plain};
}

bool wants_channels_last(const ConvProblem& p) {
  if (p.pass == ConvPass::grad_weight) return p.x.is_channels_last() || p.y.is_channels_last();
  return p.pass == ConvPass::forward ? p.y.is_channels_last() : p.x.is_channels_last();
}

/// A plan that computes in `inner`, or null if only the library's reference code does.
RefPtr<Plan> plan_conv_in(const ConvProblem& p, Inner inner) {
  const auto direct = dnnl::algorithm::convolution_direct;
  const dnnl::primitive_attr attr = attributes(p.policy, p.relu);
  const Layout stride = p.stride.vec(), pad = p.padding.vec();
  Layout dilation = p.dilation.vec();
  for (auto& d : dilation) --d;  // here 0 means dense
  const Memory x = image(p.x, inner), y = image(p.y, inner), w = weights_any(p.w, p.groups);
  const Memory b({p.y.dim(1)}, type_of(p.y.dtype), dnnl::memory::format_tag::x);
  const auto forward_kind = dnnl::prop_kind::forward_training;
  using Forward = dnnl::convolution_forward;
  const auto f =
      p.bias ? describe<Forward>(attr, forward_kind, direct, x, w, b, y, stride, dilation, pad, pad)
             : describe<Forward>(attr, forward_kind, direct, x, w, y, stride, dilation, pad, pad);

  const bool last = wants_channels_last(p);
  auto plan = make_ref<Program>();
  // An input that is neither contiguous nor channels-last is packed into the latter or the former.
  const auto image_input = [&](int i, const TensorDesc& d, const Memory& wanted) {
    const bool cl = d.is_channels_last() ? last || !d.is_contiguous() : last && !d.is_contiguous();
    const TensorDesc dense(d.dtype, d.device, d.shape,
                           cl ? channels_last_strides(d.shape) : contiguous_strides(d.shape));
    plan->add_input(d, dense.strides);
    return plan->converted(plan->input(i, image_as(dense, cl, wanted)), wanted);
  };
  const auto weight_input = [&](const Memory& wanted) {
    const Strides s =
        p.w.is_channels_last() ? channels_last_strides(p.w.shape) : contiguous_strides(p.w.shape);
    plan->add_input(p.w, s);
    return plan->converted(plan->input(1, weights(p.w, p.groups, s)), wanted);
  };
  const auto run_into = [&](const auto& primitive, const auto& d, Program::Args args, int argument,
                            const Memory& user, const Memory& have) {
    const int out = plan->output(user), made = plan->writable(out, have);
    args.emplace_back(argument, made);
    plan->run(primitive, d, std::move(args));
    if (made != out) plan->reorder(made, out);
    plan->name = name_of_plan(d);
  };

  switch (p.pass) {
    case ConvPass::forward: {
      if (is_reference(f)) return {};
      Program::Args args = {{DNNL_ARG_SRC, image_input(0, p.x, f.src_desc())},
                            {DNNL_ARG_WEIGHTS, weight_input(f.weights_desc())}};
      if (p.bias) {
        plan->add_input(*p.bias, {1});
        args.emplace_back(DNNL_ARG_BIAS, plan->input(2, b));
      }
      plan->epilogue = kEpilogue;
      run_into(Forward(f), f, std::move(args), DNNL_ARG_DST, image_as(p.y, last, f.dst_desc()),
               f.dst_desc());
      break;
    }
    case ConvPass::grad_input: {
      using Backward = dnnl::convolution_backward_data;
      const auto d =
          describe_backward<Backward>(attr, f, direct, x, w, y, stride, dilation, pad, pad);
      if (is_reference(d)) return {};
      Program::Args args = {{DNNL_ARG_DIFF_DST, image_input(0, p.y, d.diff_dst_desc())},
                            {DNNL_ARG_WEIGHTS, weight_input(d.weights_desc())}};
      run_into(Backward(d), d, std::move(args), DNNL_ARG_DIFF_SRC,
               image_as(p.x, last, d.diff_src_desc()), d.diff_src_desc());
      break;
    }
    case ConvPass::grad_weight: {
      using Backward = dnnl::convolution_backward_weights;
      const auto d =
          describe_backward<Backward>(attr, f, direct, x, w, y, stride, dilation, pad, pad);
      if (is_reference(d)) return {};
      Program::Args args = {{DNNL_ARG_SRC, image_input(0, p.x, d.src_desc())},
                            {DNNL_ARG_DIFF_DST, image_input(1, p.y, d.diff_dst_desc())}};
      run_into(Backward(d), d, std::move(args), DNNL_ARG_DIFF_WEIGHTS,
               weights(p.w, p.groups, p.w.strides), d.diff_weights_desc());
      break;
    }
  }
  plan->finish();
  return plan;
}

/// The plan that took least time in a few runs, in turn, on memory of its own.
RefPtr<Plan> fastest(const std::vector<RefPtr<Plan>>& plans, const ConvProblem& p) {
  std::size_t workspace = 1;
  for (const auto& plan : plans) workspace = std::max(workspace, plan->workspace_bytes);
  const auto memory = [](std::size_t bytes) {
    return std::unique_ptr<float[], void (*)(float*)>(
        new (std::align_val_t(kAlignment)) float[bytes / sizeof(float) + 1](),
        [](float* m) { ::operator delete[](m, std::align_val_t(kAlignment)); });
  };
  const bool forward = p.pass == ConvPass::forward, weight = p.pass == ConvPass::grad_weight;
  const auto x = memory(p.x.bytes()), w = memory(p.w.bytes()), y = memory(p.y.bytes());
  const auto bias = memory(p.bias ? p.bias->bytes() : 0), scratch = memory(workspace);
  void* in[] = {forward || weight ? x.get() : y.get(), weight ? y.get() : w.get(), bias.get()};
  void* out[] = {forward ? y.get() : weight ? w.get() : x.get()};
  std::vector<double> best(plans.size(), HUGE_VAL);
  for (int round = 0; round < 4; ++round) {
    for (std::size_t i = 0; i < plans.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      plans[i]->launch({in, out, scratch.get(), nullptr});
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (round > 0) best[i] = std::min(best[i], took.count());
    }
  }
  const auto first = std::min_element(best.begin(), best.end());
  return plans[static_cast<std::size_t>(first - best.begin())];
}

/// The input's gradient of a convolution without strides is the convolution of gy with the turned
/// kernel: w'[c, o, i, j] = w[o, c, kh - 1 - i, kw - 1 - j].
struct TurnedKernel final : Plan {
  RefPtr<Plan> forward;
  std::size_t at = 0, forward_at = 0;  // in the workspace
  std::int64_t filters, channels, height, width;
  Strides from;  // of w

  void launch(const LaunchArgs& a) const override {
    auto* turned = reinterpret_cast<float*>(static_cast<char*>(a.workspace) + at);
    turn(static_cast<const float*>(a.in[1]), turned);
    void* in[] = {a.in[0], turned};
    forward->launch({in, a.out, static_cast<char*>(a.workspace) + forward_at, a.stream});
  }

  void turn(const float* w, float* turned) const {
    parallel_for(channels, 1024 / (filters * height * width) + 1,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t c = begin; c < end; ++c) {
                     float* to = turned + c * filters * height * width;
                     for (std::int64_t o = 0; o < filters; ++o) {
                       const float* p = w + o * from[0] + c * from[1];
                       for (std::int64_t i = height; i-- > 0;) {
                         for (std::int64_t j = width; j-- > 0;)
                           *to++ = p[i * from[2] + j * from[3]];
                       }
                     }
                   }
                 });
  }
};

// The library's kernels for input gradients are slower than those for the way forward where the
// latter fit (no strides), up to the size of a kernel whose turning costs what is gained.
RefPtr<Plan> plan_turned(const ConvProblem& p) {
  const Dims one = {1, 1};
  const std::int64_t kh = p.w.dim(2), kw = p.w.dim(3);
  const Dims padding = {p.dilation[0] * (kh - 1) - p.padding[0],
                        p.dilation[1] * (kw - 1) - p.padding[1]};
  if (p.groups != 1 || !(p.stride == one) || kh * kw == 1 || p.w.dim(1) < 16 ||
      p.w.numel() > (1 << 18) || padding[0] < 0 || padding[1] < 0 || p.x.dtype != DType::f32) {
    return {};
  }
  const Shape turned = {p.w.dim(1), p.w.dim(0), kh, kw};
  const TensorDesc w(p.w.dtype, p.w.device, turned, contiguous_strides(turned));
  const RefPtr<Plan> forward = plan_conv({.pass = ConvPass::forward,
                                          .x = p.y,
                                          .w = w,
                                          .y = p.x,
                                          .stride = p.stride,
                                          .padding = padding,
                                          .dilation = p.dilation,
                                          .policy = p.policy});
  if (!forward) return {};
  auto plan = make_ref<TurnedKernel>();
  plan->forward = forward;
  plan->name = forward->name + " (turned kernel)";
  plan->filters = p.w.dim(0), plan->channels = p.w.dim(1), plan->height = kh, plan->width = kw;
  plan->from = p.w.strides;
  plan->at = reserve(plan->workspace_bytes, w.bytes());
  plan->forward_at = reserve(plan->workspace_bytes, forward->workspace_bytes);
  return plan;
}

}  // namespace

RefPtr<Plan> plan_conv(const ConvProblem& p) {
  if (!known(p.x.dtype)) return {};
  agree_on_threads();
  const std::size_t most = std::max<std::size_t>(p.policy.search, 1);
  std::vector<RefPtr<Plan>> found;
  const auto consider = [&](RefPtr<Plan> plan) {
    if (plan) found.push_back(std::move(plan));
  };
  if (p.pass == ConvPass::grad_input) consider(plan_turned(p));
  for (const Inner inner : preferred(p, wants_channels_last(p))) {
    if (found.size() >= most) break;
    try {
      consider(plan_conv_in(p, inner));
    } catch (const dnnl::error&) {
      // No kernel of this layout, type and shape on this processor: try the next.
    }
  }
  return found.size() < 2 ? found.empty() ? RefPtr<Plan>() : found[0] : fastest(found, p);
}

}  // namespace tandem::cpu::onednn
