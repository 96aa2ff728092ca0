// Reverse-mode differentiation over the tape.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "core/dispatch.h"
#include "core/grad_meta.h"

namespace tandem {

/// Options of grad.
struct GradOptions {
  bool retain_graph = false;  // keep the tape for another pass
  bool create_graph = false;  // put the gradient itself on the tape (implies retain_graph)
  bool allow_unused = false;  // an input the outputs do not depend on gives an undefined gradient
};

namespace autograd {

/// sum_k <seeds[k], d outputs[k] / d inputs[i]> for every i, without touching any `.grad`. A seed
/// may be undefined for a one-element output (it is 1 then).
/// Throws AutogradError: no tape, released tape, or an input that does not matter.
std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                         std::span<const Tensor> seeds = {}, GradOptions options = {},
                         SrcLoc loc = SrcLoc::current());
std::vector<Tensor> grad(const Tensor& output, const std::vector<Tensor>& inputs,
                         GradOptions options = {}, SrcLoc loc = SrcLoc::current());

/// Accumulates into the `.grad` of every leaf the outputs depend on. With create_graph the
/// histories of the gradients hold the leaves, which hold their gradients: memory is freed only
/// when these are dropped (zero_grad, set_grad({})). grad() makes no such circle.
void backward(std::span<const Tensor> outputs, std::span<const Tensor> seeds = {},
              GradOptions options = {}, SrcLoc loc = SrcLoc::current());

/// One registered hook. Copies stand for the same one; to let go of a handle keeps the hook.
class HookHandle {
 public:
  HookHandle() = default;
  /// The hook is not called any more. Nothing happens the second time, or if the tensor is gone.
  void remove() const;

 private:
  friend HookHandle register_hook(const Tensor&, GradHook, SrcLoc);
  std::weak_ptr<GradHooks> hooks_;
  std::weak_ptr<const GradHook> hook_;
};

/// Called with the gradient of `t` when all of it is known; what it returns (if defined) replaces
/// it. A hook that is registered or removed by a running one counts from the next pass on. Throws
/// AutogradError unless `t` requires a gradient.
HookHandle register_hook(const Tensor& t, GradHook hook, SrcLoc loc = SrcLoc::current());

/// Tensors to tensors, made of operations.
using DifferentiableFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

/// A function with a gradient of the user's own.
struct CustomFunction {
  /// Computes outputs; runs without a tape. What the gradient needs goes into `saved`.
  std::function<std::vector<Tensor>(std::span<const Tensor> in, std::vector<Tensor>& saved)>
      forward;
  /// Gradients of the outputs -> gradients of the inputs (undefined: none). Made of public ops, so
  /// it can itself be differentiated.
  std::function<std::vector<Tensor>(std::span<const Tensor> grads, std::span<const Tensor> saved)>
      backward;
  const char* name = "custom";

  std::vector<Tensor> operator()(const std::vector<Tensor>& in,
                                 SrcLoc loc = SrcLoc::current()) const;
};

/// Runs `f` without keeping its intermediate values; the backward pass computes them again (Chen
/// et al., "Training deep nets with sublinear memory cost", 2016). What `f` writes in place (a
/// generator it draws from, running statistics) is copied before the first write: the second run
/// finds it as the first did, draws the same numbers, and leaves it as it was. What `f` only reads
/// must not be written before the backward pass: AutogradError. Works with backward(), not with
/// grad(), and not with create_graph: AutogradError.
std::vector<Tensor> checkpoint(DifferentiableFunction f, const std::vector<Tensor>& in,
                               SrcLoc loc = SrcLoc::current());

}  // namespace autograd
}  // namespace tandem
