#include "cuda/table.h"

#include "ops/op_list.h"

namespace tandem::cuda {

#define TANDEM_DECLARE_PLAN(name) RefPtr<Plan> plan_##name(const PlanRequest& r);
TANDEM_COMPUTE_OPS(TANDEM_DECLARE_PLAN)
#undef TANDEM_DECLARE_PLAN
RefPtr<Plan> plan_elementwise(const PlanRequest& r);

namespace {

constexpr PlanFn kKernels[kNumOps] = {
#define TANDEM_NO_PLAN(name) nullptr,
#define TANDEM_ELEMENTWISE_PLAN(name) plan_elementwise,
#define TANDEM_PLAN(name) plan_##name,
    TANDEM_VIEW_OPS(TANDEM_NO_PLAN)                  //
    TANDEM_ELEMENTWISE_OPS(TANDEM_ELEMENTWISE_PLAN)  //
    TANDEM_COMPUTE_OPS(TANDEM_PLAN)
#undef TANDEM_NO_PLAN
#undef TANDEM_ELEMENTWISE_PLAN
#undef TANDEM_PLAN
};

}  // namespace

PlanFn kernel(std::uint16_t op_id) {
  return kKernels[op_id];
}

}  // namespace tandem::cuda
