// Every op there is. An op is added here first; a missing definition (namespace op) or a missing
// kernel (`plan_<name>` of a kernel folder) is then a link error.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/op.h"

// clang-format off

// No kernel: another description of the same memory.
#define TANDEM_VIEW_OPS(X) \
  X(view) X(permute) X(expand) X(slice) X(as_strided)

// One output element from one element of each input; kernels come from core/functors.h.
#define TANDEM_ELEMENTWISE_OPS(X) \
  X(copy) X(cast) \
  X(neg) X(abs) X(sign) X(floor) X(ceil) X(round) X(square) X(reciprocal) \
  X(exp) X(log) X(log1p) X(sqrt) X(rsqrt) X(sin) X(cos) X(acos) X(asin) \
  X(atan) X(erf) X(tanh) X(sigmoid) X(relu) X(leaky_relu) X(gelu) X(silu) X(softplus) X(clamp) \
  X(logical_not) X(isnan) \
  X(add) X(sub) X(mul) X(div) X(pow) X(floor_divide) X(remainder) X(maximum) X(minimum) \
  X(eq) X(ne) X(lt) X(le) X(gt) X(ge) X(logical_and) X(logical_or) \
  X(where) \
  X(tanh_grad) X(sigmoid_grad) X(relu_grad) X(leaky_relu_grad) X(gelu_grad) X(silu_grad) \
  X(softplus_grad) X(clamp_grad)

#define TANDEM_COMPUTE_OPS(X) \
  /* create   */ X(full) X(arange) X(fill) X(assign) \
  /* reduce   */ X(sum) X(mean) X(prod) X(max) X(min) X(var) X(argmax) X(argmin) X(any) X(all) X(cumsum) \
  /* matmul   */ X(matmul) X(linear) \
  /* conv     */ X(conv2d) X(conv2d_grad_input) X(conv2d_grad_weight) \
  /* pool     */ X(max_pool2d) X(max_pool2d_grad) X(max_pool2d_gather) X(avg_pool2d) X(avg_pool2d_grad) \
                 X(adaptive_avg_pool2d) X(adaptive_avg_pool2d_grad) \
  /* norm     */ X(batch_norm_train) X(batch_norm_eval) X(batch_norm_grad) X(layer_norm) X(layer_norm_grad) \
  /* softmax  */ X(softmax) X(softmax_grad) X(log_softmax) X(log_softmax_grad) X(nll) X(nll_grad) \
                 X(cross_entropy) X(cross_entropy_grad) \
  /* index    */ X(concat) X(pad) X(flip) X(roll) X(gather) X(scatter_add) X(index_select) X(index_add) \
                 X(one_hot) X(topk) X(sort) \
  /* random   */ X(rand_uniform) X(rand_normal) X(dropout) \
  /* optimise */ X(sgd_step) X(adam_step) \
  /* fused    */ X(fused_elementwise)

#define TANDEM_OPS(X) TANDEM_VIEW_OPS(X) TANDEM_ELEMENTWISE_OPS(X) TANDEM_COMPUTE_OPS(X)
// clang-format on

namespace tandem {

/// Every op has a number: OpId::add_.
enum class OpId : std::uint16_t {
#define TANDEM_ENUM(name) name##_,
  TANDEM_OPS(TANDEM_ENUM)
#undef TANDEM_ENUM
      count_
};
inline constexpr int kNumOps = static_cast<int>(OpId::count_);

/// The number an OpDef holds.
constexpr std::uint16_t id_of(OpId id) {
  return static_cast<std::uint16_t>(id);
}

namespace op {
#define TANDEM_DECLARE(name) extern const OpDef name;
TANDEM_OPS(TANDEM_DECLARE)
#undef TANDEM_DECLARE
}  // namespace op

/// Every op, in the order of the list.
std::span<const OpDef* const> all_ops();
/// By name; null if there is none.
const OpDef* find_op(std::string_view name);

}  // namespace tandem
