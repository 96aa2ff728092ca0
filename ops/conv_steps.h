// A conv2d that does more than convolve, in steps: for kernels that only convolve. Nothing is
// gained by it, so these plans have no `epilogue`.
#pragma once
#include <algorithm>
#include <array>

#include "core/workspace.h"
#include "ops/conv.h"
#include "ops/norm.h"
#include "ops/op_list.h"

namespace tandem {

/// With `sums`: the same without, then the plan `sums`, whose input is the result.
inline RefPtr<Plan> conv_then_sums(const PlanRequest& r, PlanFn conv2d, RefPtr<Plan> sums) {
  ConvAttrs attrs = r.attrs<ConvAttrs>();
  attrs.sums = false;
  RefPtr<Plan> conv = conv2d({r.op, r.in, r.out.first(1), &attrs, r.policy});
  const std::size_t bytes = std::max(conv->workspace_bytes, sums->workspace_bytes);
  std::string name = conv->name + "+sums";
  return make_plan(
      std::move(name),
      [conv = std::move(conv), sums = std::move(sums)](const LaunchArgs& a) {
        conv->launch(a);
        sums->launch({a.out, a.out + 1, a.workspace, a.stream});
      },
      bytes);
}

/// With `normed`: x normalised, into the workspace, then the same without.
inline RefPtr<Plan> norm_then_conv(const PlanRequest& r, PlanFn batch_norm_eval, PlanFn conv2d) {
  ConvAttrs attrs = r.attrs<ConvAttrs>();
  const std::size_t given = attrs.norm_at(r.in.size());
  const BatchNormAttrs norm_attrs{.eps = attrs.eps, .relu = true};
  attrs.normed = false;
  const TensorDesc& x = r.in[0];
  std::vector<TensorDesc> norm_in{x}, in(r.in.begin(), r.in.begin() + given);
  norm_in.insert(norm_in.end(), r.in.begin() + given, r.in.end());
  in[0] = {x.dtype, x.device, x.shape, strides_for(x.shape, x.format())};
  RefPtr<Plan> norm = batch_norm_eval(
      {op::batch_norm_eval, norm_in, std::span(in).first(1), &norm_attrs, r.policy});
  RefPtr<Plan> conv = conv2d({r.op, in, r.out, &attrs, r.policy});
  std::size_t image = 0;
  reserve(image, in[0].bytes());
  const std::size_t bytes = image + std::max(conv->workspace_bytes, norm->workspace_bytes);
  std::string name = norm->name + "+" + conv->name;
  return make_plan(
      std::move(name),
      [norm = std::move(norm), conv = std::move(conv), image, given](const LaunchArgs& a) {
        void* const normalised = a.workspace;
        void* const rest = static_cast<char*>(a.workspace) + image;
        std::array<void*, 5> norm_in{a.in[0]};
        std::copy_n(a.in + given, 4, norm_in.begin() + 1);
        norm->launch({norm_in.data(), &normalised, rest, a.stream});
        std::array<void*, 3> in{normalised};
        std::copy_n(a.in + 1, given - 1, in.begin() + 1);
        conv->launch({in.data(), a.out, rest, a.stream});
      },
      bytes);
}

}  // namespace tandem
