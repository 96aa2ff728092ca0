// fused_elementwise: a chain (or DAG) of elementwise steps run as one kernel, tile by tile in
// cache. Made by the graph's fusion pass only; bit for bit what the separate ops give.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "core/op.h"
#include "ops/op_list.h"

namespace tandem {

/// What the kernels promise to hold in their tables.
inline constexpr int kMaxFusedInputs = 24;
inline constexpr int kMaxFusedSteps = 48;
inline constexpr int kMaxFusedOutputs = 4;

/// One elementwise operation: what is left of a call when its shapes are taken away.
struct FusedStep {
  OpId op = OpId::copy_;
  DType dtype = DType::f32;      // of the result
  std::array<Scalar, 2> params;  // scalar operand, or clamp's bounds, or leaky_relu's slope
  bool reversed = false;         // scalar op tensor
  std::vector<int> operands;     // k >= 0: input k; k < 0: the result of step ~k
};

/// A chain of elementwise ops as one kernel runs it.
struct FusedProgram {
  std::vector<FusedStep> steps;
  std::vector<int> outputs;      // step indices
  Shape shape;                   // of every output; the inputs broadcast to it
  std::vector<Strides> strides;  // of each output

  std::vector<std::int64_t> encode() const;  // as FusedAttrs holds it
  /// Throws InternalError on anything that encode() cannot have made.
  static FusedProgram decode(const std::vector<std::int64_t>& code);
  /// "%0 = mul(in0, in1) f32; %1 = relu(%0) f32 -> %1".
  std::string str() const;
};

/// Attributes of fused_elementwise.
struct FusedAttrs {
  std::vector<std::int64_t> code;  // FusedProgram::encode
  static constexpr auto fields() { return std::tuple{Field{"code", &FusedAttrs::code}}; }
};

/// How a step computes, the same on every device: its operands are converted to `promoted`, then to
/// `compute` (f32 for the 16-bit types), in which the op's functor works; the result is converted
/// to the step's dtype. `where` takes its condition as it is, `cast` and `copy` only convert.
struct StepTypes {
  DType promoted, compute;
  bool scalar;  // the one operand meets a number, params[0] converted to `compute`
};
StepTypes step_types(const FusedStep& s, std::span<const DType> operands);
/// What the step's functor reads as its parameters in type `compute`. An absent bound of a clamp is
/// the type's own, and so is a bound the type cannot hold; other absent parameters are 0.
std::array<Scalar, 2> step_params(const FusedStep& s, DType compute);

/// The step of one elementwise op; `attrs` is its attribute struct. Operands are inputs 0, 1, ….
FusedStep fused_step(OpId op, const void* attrs, DType result, int num_inputs);
/// The same for a resolved call. InternalError unless its kind is elementwise.
FusedStep fused_step(const PreparedOp& call);

}  // namespace tandem
