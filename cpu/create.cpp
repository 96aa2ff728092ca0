#include "ops/create.h"

#include "core/functors.h"
#include "core/parallel.h"
#include "cpu/elementwise.h"
#include "cpu/strided_tiles.h"

namespace tandem::cpu {

namespace {

// An elementwise program without inputs.
RefPtr<Plan> plan_constant(const char* op, Scalar value, const TensorArg& to) {
  FusedStep constant;
  constant.op = OpId::full_;
  constant.dtype = to.desc.dtype;
  constant.params[0] = value;
  ElementwiseSpec spec;
  spec.op = op;
  spec.kernel = "cpu:fill";
  spec.steps.push_back(constant);
  spec.outputs.push_back({to, ~0});
  return make_elementwise_plan(spec);
}

}  // namespace

RefPtr<Plan> plan_full(const PlanRequest& r) {
  return plan_constant(r.op.name, r.attrs<FullAttrs>().value, {r.out[0], 0, true});
}

RefPtr<Plan> plan_fill(const PlanRequest& r) {
  return plan_constant(r.op.name, r.attrs<FillAttrs>().value, {r.in[0], 0, false});
}

RefPtr<Plan> plan_assign(const PlanRequest& r) {
  FusedStep cast;
  cast.op = OpId::cast_;
  cast.dtype = r.in[0].dtype;
  cast.operands = {0};
  ElementwiseSpec spec;
  spec.op = r.op.name;
  spec.kernel = "cpu:assign";
  spec.inputs.push_back({r.in[1], 1, false});
  spec.steps.push_back(cast);
  spec.outputs.push_back({{r.in[0], 0, false}, ~0});
  return make_elementwise_plan(spec);
}

RefPtr<Plan> plan_arange(const PlanRequest& r) {
  const auto& a = r.attrs<ArangeAttrs>();
  const bool real = a.begin.kind() == Scalar::Kind::real || a.step.kind() == Scalar::Kind::real;
  const std::int64_t n = a.count;
  return visit_dtype(a.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    const auto write = [n](auto begin, auto step) {
      return make_plan("cpu:arange", [=](const LaunchArgs& l) {
        T* out = static_cast<T*>(l.out[0]);
        parallel_for(n, kElementwiseGrain, [&](std::int64_t b, std::int64_t e) {
          for (std::int64_t i = b; i < e; ++i) {
            out[i] = convert<T>(math::place_in_range(begin, step, i));
          }
        });
      });
    };
    // In the widest type of its kind, so that no error accumulates.
    return real ? write(a.begin.to_double(), a.step.to_double())
                : write(a.begin.to_int(), a.step.to_int());
  });
}

}  // namespace tandem::cpu
