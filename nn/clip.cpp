#include "nn/clip.h"

#include "core/dispatch.h"
#include "core/source.h"
#include "nn/option_check.h"
#include "ops/ops.h"

namespace tandem::optim {

namespace {

std::vector<Tensor> gradients_of(std::span<const Tensor> parameters) {
  std::vector<Tensor> all;
  for (const Tensor& p : parameters) {
    if (Tensor g = p.grad(); g.defined()) all.push_back(std::move(g));
  }
  return all;
}

// 16-bit sums would be infinite soon.
Tensor wide(const Tensor& t) {
  return is_low_precision(t.dtype()) ? t.to(DType::f32) : t;
}

}  // namespace

Tensor clip_grad_norm(std::span<const Tensor> parameters, double max_norm, double norm_type,
                      SrcLoc loc) {
  const FunctionSite at("clip_grad_norm", loc);
  check_option(max_norm >= 0, "clip_grad_norm", "max_norm", max_norm, "0 or more");
  check_option(norm_type > 0, "clip_grad_norm", "norm_type", norm_type, "above 0");
  const NoGrad no_grad;
  std::vector<Tensor> gradients = gradients_of(parameters);
  const bool largest = std::isinf(norm_type), euclidean = norm_type == 2;
  Tensor total;
  for (const Tensor& g : gradients) {
    if (g.numel() == 0) continue;
    const Tensor x = wide(g);
    Tensor part = largest     ? max(abs(x))
                  : euclidean ? square(x).sum()
                              : pow(abs(x), norm_type).sum();
    if (!total.defined()) {
      total = std::move(part);
      continue;
    }
    part = part.to(total.device());
    total = largest ? maximum(total, part) : total + part;
  }
  if (!total.defined()) return zeros({});
  const Tensor norm = largest ? total : euclidean ? sqrt(total) : pow(total, 1 / norm_type);
  const Tensor factor = minimum(max_norm / (norm + 1e-6), 1.0);
  for (Tensor& g : gradients) g.mul_(factor.to(g.device()).to(g.dtype()));
  return norm;
}

void clip_grad_value(std::span<const Tensor> parameters, double limit, SrcLoc loc) {
  const FunctionSite at("clip_grad_value", loc);
  check_not_negative("clip_grad_value", "limit", limit);
  const NoGrad no_grad;
  for (Tensor& g : gradients_of(parameters)) g.copy_(clamp(g, -limit, limit));
}

}  // namespace tandem::optim
