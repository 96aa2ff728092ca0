// Elementwise programs: one or more steps applied to broadcast, strided, mixed-type operands, tile
// by tile. A plain op is a program of one step, a fused chain one of many; `fill`, `full` and
// `assign` are programs too. Intermediate values stay in a small buffer on the stack.
#pragma once
#include <span>
#include <vector>

#include "core/op.h"
#include "cpu/tiles.h"
#include "ops/fused.h"

namespace tandem::cpu {

/// A tensor in memory: its description, and where LaunchArgs has its address.
struct TensorArg {
  TensorDesc desc;
  int index = 0;
  bool from_outputs = false;  // LaunchArgs::out, else LaunchArgs::in
};

/// What a program reads, does and writes. Every output has the same shape.
struct ElementwiseSpec {
  const char* op = "";
  const char* kernel = "cpu:elementwise";
  std::vector<TensorArg> inputs;
  std::vector<FusedStep> steps;
  struct Output {
    TensorArg to;
    int value = 0;  // as an operand of FusedStep: k >= 0: input k; k < 0: the result of step ~k
  };
  std::vector<Output> outputs;
};

/// Throws TypeError for a step that has no kernel in its type.
RefPtr<Plan> make_elementwise_plan(const ElementwiseSpec& spec);

}  // namespace tandem::cpu
