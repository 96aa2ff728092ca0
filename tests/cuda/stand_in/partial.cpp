// While kernels are being written: an op that has none yet runs the CPU's, on device memory, so
// that the table of op cases works for those that have.
#include "core/parallel.h"
#include "cpu/table.h"
#include "cuda/emulation/device.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

RefPtr<Plan> plan_stand_in(const PlanRequest& r) {
  const int threads = num_threads();
  set_num_threads(1);
  Policy policy = r.policy;
  policy.vendor = false;
  const PlanRequest plain{r.op, r.in, r.out, r.attr_data, policy};
  const RefPtr<Plan> plan = cpu::kernel(r.op.id)(plain);
  set_num_threads(threads);
  return make_plan(
      "cpu stand-in",
      [plan, ni = r.in.size(), no = r.out.size()](const LaunchArgs& a) {
        std::vector<void*> in(a.in, a.in + ni), out(a.out, a.out + no);
        // Not as a kernel: a fiber's stack is too small. Never freed: a graph may replay it.
        auto* work = new std::function<void()>([=, w = a.workspace] {
          const int n = num_threads();
          set_num_threads(1);
          plan->launch({in.data(), out.data(), w, nullptr});
          set_num_threads(n);
        });
        cudaLaunchHostFunc(
            stream_of(a).handle(), [](void* f) { (*static_cast<std::function<void()>*>(f))(); },
            work);
      },
      plan->workspace_bytes);
}

}  // namespace tandem::cuda
