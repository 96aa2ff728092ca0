#include "cuda/table.h"

#include "ops/op_list.h"

namespace tandem::cuda {

#ifdef TANDEM_CUDA_PARTIAL  // while kernels are being written
#define TANDEM_WEAK [[gnu::weak]]
RefPtr<Plan> plan_stand_in(const PlanRequest& r);
#else
#define TANDEM_WEAK
#endif
#define TANDEM_DECLARE_PLAN(name) TANDEM_WEAK RefPtr<Plan> plan_##name(const PlanRequest& r);
TANDEM_COMPUTE_OPS(TANDEM_DECLARE_PLAN)
#undef TANDEM_DECLARE_PLAN
TANDEM_WEAK RefPtr<Plan> plan_elementwise(const PlanRequest& r);

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
#if defined(TANDEM_CUDA_PARTIAL) && defined(TANDEM_CUDA_EMULATED)
  if (!kKernels[op_id]) return plan_stand_in;
#endif
  return kKernels[op_id];
}

}  // namespace tandem::cuda
