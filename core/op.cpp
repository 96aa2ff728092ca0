#include "core/op.h"

#include "core/dispatch.h"

namespace tandem {

const char* name_of(Exactness e) {
  switch (e) {
    case Exactness::exact: return "exact";
    case Exactness::reassociating: return "reassociating";
    case Exactness::approximate: break;
  }
  return "approximate";
}

const char* InferContext::op_name() const {
  return op_.name;
}

void InferContext::expect_inputs(int least, int most) const {
  if (num_inputs() >= least && num_inputs() <= most) return;
  fail("wrong number of tensors", std::to_string(num_inputs()),
       least == most ? std::to_string(least) : fmt::format("{} to {}", least, most));
}

void InferContext::expect_rank(int i, int rank) const {
  if (input(i).rank() != rank) {
    fail(fmt::format("input {} has the wrong rank", i), input(i).str(),
         fmt::format("rank {}", rank));
  }
}

void InferContext::expect_floating(int i) const {
  if (!is_floating(input(i).dtype)) {
    fail<TypeError>(fmt::format("input {} must be floating", i), input(i).str(),
                    "f32, f64, f16 or bf16");
  }
}

void InferContext::expect_dtype(int i, DType t) const {
  if (input(i).dtype != t) {
    fail<TypeError>(fmt::format("input {} has the wrong dtype", i), input(i).str(), name_of(t));
  }
}

void InferContext::expect_same_dtype(int i, int j) const {
  if (input(i).dtype != input(j).dtype) {
    fail<TypeError>(fmt::format("inputs {} and {} must have one dtype", i, j),
                    input(i).str() + " and " + input(j).str());
  }
}

void InferContext::expect_shape(int i, const Shape& s, std::string_view rule) const {
  if (!(input(i).shape == s)) fail(rule, input(i).str(), s.str());
}

int InferContext::axis(std::int64_t a, int rank) const {
  return wrap_axis(a, rank, op_name());
}

const Tensor& VjpContext::saved(std::span<const Tensor> s, int i, bool is_input) const {
  if (!s[i].defined()) {
    if (explain_stale) explain_stale(owner, is_input, i);
    fail<InternalError>(call.op->name,
                        fmt::format("gradient rule reads {} {}", is_input ? "input" : "output", i),
                        "a tensor OpTraits did not ask to keep");
  }
  return s[i];
}

Cost cost_of(const PreparedOp& call) {
  const OpDef& op = *call.op;
  Cost c;
  if (op.traits.kind == OpKind::view) return c;
  if (op.bytes) {
    c.bytes = op.bytes(call);
  } else {
    for (const auto& d : call.in) c.bytes += static_cast<double>(d.bytes());
    for (const auto& d : call.out) c.bytes += static_cast<double>(d.bytes());
    for (int i : call.mutated) c.bytes += static_cast<double>(call.in[i].bytes());
  }
  if (op.flops) {
    c.flops = op.flops(call);
  } else if (op.traits.kind == OpKind::elementwise) {
    for (const auto& d : call.out) c.flops += static_cast<double>(d.numel());
  }
  return c;
}

}  // namespace tandem
