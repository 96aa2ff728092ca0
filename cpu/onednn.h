// oneDNN (2.6 and later, 3.x) for the other files of this folder. It makes plans; a null plan means
// that the library has nothing better than the plain kernels for this case.
#pragma once
#include <optional>
#include <string>

#include "core/op.h"

namespace tandem::cpu::onednn {

std::string version();  // "oneDNN 2.6.3", or "plain C++" in a build without it

/// c = a b (+ bias), or the ReLU of that: operands of equal rank, [batch..., M, K] and [batch...,
/// K, N]; a batch size of 1 is repeated. c is row-major. Plan inputs: a, b and, if there is one,
/// the bias [N].
struct MatmulProblem {
  TensorDesc a, b, c;
  std::optional<TensorDesc> bias = {};
  bool relu = false;
  Policy policy = {};
};
RefPtr<Plan> plan_matmul(const MatmulProblem& p);

enum class ConvPass { forward, grad_input, grad_weight };

/// Plan inputs and output are those of conv2d (x, w, b -> y), conv2d_grad_input (gy, w -> gx) and
/// conv2d_grad_weight (x, gy -> gw).
struct ConvProblem {
  ConvPass pass;
  TensorDesc x, w, y;
  std::optional<TensorDesc> bias = {};
  Dims stride, padding, dilation;
  std::int64_t groups = 1;
  bool relu = false;  // of the result, on the way forward
  Policy policy = {};
};
/// With Policy::search, the fastest of so many ways as measured now.
RefPtr<Plan> plan_conv(const ConvProblem& p);

/// Average pooling of `large` [N, C, H, W] into `small`, or (`grad`) the gradient of `large` from
/// that of `small`. Null also where the library counts the elements of a window otherwise: see
/// cpu/pool_average.cpp for what it is good for.
struct AveragePoolProblem {
  bool grad;
  TensorDesc large, small;
  Dims kernel, stride, padding;
  bool count_include_pad;
};
RefPtr<Plan> plan_average_pool(const AveragePoolProblem& p);

/// Plan inputs and outputs are those of the ops layer_norm and layer_norm_grad.
RefPtr<Plan> plan_layer_norm(const PlanRequest& r, double eps);
RefPtr<Plan> plan_layer_norm_grad(const PlanRequest& r);

}  // namespace tandem::cpu::onednn
