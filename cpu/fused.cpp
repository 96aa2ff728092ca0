#include "ops/fused.h"

#include "cpu/elementwise.h"

namespace tandem::cpu {

RefPtr<Plan> plan_fused_elementwise(const PlanRequest& r) {
  FusedProgram program = FusedProgram::decode(r.attrs<FusedAttrs>().code);
  ElementwiseSpec spec;
  spec.op = r.op.name;
  spec.kernel = "cpu:fused_elementwise";
  for (std::size_t i = 0; i < r.in.size(); ++i) {
    spec.inputs.push_back({r.in[i], static_cast<int>(i), false});
  }
  spec.steps = std::move(program.steps);
  for (std::size_t i = 0; i < r.out.size(); ++i) {
    spec.outputs.push_back({{r.out[i], static_cast<int>(i), true}, ~program.outputs[i]});
  }
  return make_elementwise_plan(spec);
}

}  // namespace tandem::cpu
