#include "ops/fused.h"

#include <algorithm>
#include <limits>

#include "ops/elementwise.h"

namespace tandem {

// ------------------------------------------------------------------------------------- encoding
// [rank, shape…, #outputs, (step, strides…)…, #steps, (op, dtype, reversed, (kind, bits)×2,
//  #operands, operands…)…]

namespace {

void put_scalar(std::vector<std::int64_t>& code, const Scalar& s) {
  code.push_back(static_cast<std::int64_t>(s.kind()));
  std::int64_t bits = 0;
  if (s.kind() == Scalar::Kind::real) {
    const double d = s.to_double();
    __builtin_memcpy(&bits, &d, sizeof bits);
  } else {
    bits = s.to_int();
  }
  code.push_back(bits);
}

class Reader {
 public:
  explicit Reader(const std::vector<std::int64_t>& code) : code_(code) {}
  std::int64_t next() {
    if (at_ >= code_.size()) bad();
    return code_[at_++];
  }
  /// A value in [lo, hi].
  int next(std::int64_t lo, std::int64_t hi) {
    const std::int64_t v = next();
    if (v < lo || v > hi) bad();
    return static_cast<int>(v);
  }
  Dims dims(int n) {
    Dims d(n, 0);
    for (auto& x : d) x = next();
    return d;
  }
  Scalar scalar() {
    const auto kind = static_cast<Scalar::Kind>(next(0, 3));
    const std::int64_t bits = next();
    switch (kind) {
      case Scalar::Kind::none: return {};
      case Scalar::Kind::boolean: return bits != 0;
      case Scalar::Kind::integer: return bits;
      case Scalar::Kind::real: break;
    }
    double d;
    __builtin_memcpy(&d, &bits, sizeof d);
    return d;
  }
  void expect_end() const {
    if (at_ != code_.size()) bad();
  }

 private:
  [[noreturn]] static void bad() {
    fail<InternalError>("fused_elementwise", "the program's code is malformed");
  }
  const std::vector<std::int64_t>& code_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<std::int64_t> FusedProgram::encode() const {
  std::vector<std::int64_t> code{shape.size()};
  code.insert(code.end(), shape.begin(), shape.end());
  code.push_back(static_cast<std::int64_t>(outputs.size()));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    code.push_back(outputs[i]);
    code.insert(code.end(), strides[i].begin(), strides[i].end());
  }
  code.push_back(static_cast<std::int64_t>(steps.size()));
  for (const FusedStep& s : steps) {
    code.push_back(static_cast<std::int64_t>(s.op));
    code.push_back(static_cast<std::int64_t>(s.dtype));
    code.push_back(s.reversed);
    for (const Scalar& p : s.params) put_scalar(code, p);
    code.push_back(static_cast<std::int64_t>(s.operands.size()));
    code.insert(code.end(), s.operands.begin(), s.operands.end());
  }
  return code;
}

FusedProgram FusedProgram::decode(const std::vector<std::int64_t>& code) {
  Reader r(code);
  FusedProgram p;
  const int rank = r.next(0, kMaxRank);
  p.shape = r.dims(rank);
  const int outputs = r.next(1, kMaxFusedOutputs);
  for (int i = 0; i < outputs; ++i) {
    p.outputs.push_back(r.next(0, kMaxFusedSteps - 1));
    p.strides.push_back(r.dims(rank));
  }
  p.steps.resize(static_cast<std::size_t>(r.next(1, kMaxFusedSteps)));
  for (int i = 0; i < static_cast<int>(p.steps.size()); ++i) {
    FusedStep& s = p.steps[static_cast<std::size_t>(i)];
    s.op = static_cast<OpId>(r.next(0, kNumOps - 1));
    s.dtype = static_cast<DType>(r.next(0, kNumDTypes - 1));
    s.reversed = r.next(0, 1) != 0;
    for (Scalar& param : s.params) param = r.scalar();
    s.operands.resize(static_cast<std::size_t>(r.next(1, 3)));
    for (int& o : s.operands) o = r.next(-i, kMaxFusedInputs - 1);
  }
  for (int o : p.outputs) {
    if (o >= static_cast<int>(p.steps.size())) {
      fail<InternalError>("fused_elementwise", "an output names a step that is not there");
    }
  }
  r.expect_end();
  return p;
}

std::string FusedProgram::str() const {
  std::string s;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const FusedStep& st = steps[i];
    s += fmt::format("{}%{} = {}(", i ? "; " : "", i,
                     all_ops()[static_cast<std::size_t>(st.op)]->name);
    for (std::size_t k = 0; k < st.operands.size(); ++k) {
      const int o = st.operands[k];
      s += fmt::format("{}{}{}", k ? ", " : "", o >= 0 ? "in" : "%", o >= 0 ? o : ~o);
    }
    for (const Scalar& p : st.params) {
      if (p.defined()) s += ", " + p.str();
    }
    s += fmt::format("{}) {}", st.reversed ? ", reversed" : "", name_of(st.dtype));
  }
  s += " -> ";
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    s += fmt::format("{}%{}", i ? ", " : "", outputs[i]);
  }
  return s;
}

// ------------------------------------------------------------------------------------ from calls

FusedStep fused_step(OpId op, const void* attrs, DType result, int num_inputs) {
  FusedStep s;
  s.op = op;
  s.dtype = result;
  for (int i = 0; i < num_inputs; ++i) s.operands.push_back(i);
  const auto as = [&]<class A>(std::type_identity<A>) -> const A& {
    return *static_cast<const A*>(attrs);
  };
  switch (op) {
    case OpId::clamp_:
    case OpId::clamp_grad_: {
      const auto& a = as(std::type_identity<ClampAttrs>{});
      s.params = {a.lo, a.hi};
      break;
    }
    case OpId::leaky_relu_:
    case OpId::leaky_relu_grad_:
      s.params[0] = as(std::type_identity<LeakyReluAttrs>{}).slope;
      break;
    default:
      if (num_inputs == 1 && elementwise_rule(op).arity == 2) {
        const auto& a = as(std::type_identity<BinaryAttrs>{});
        s.params[0] = a.scalar;
        s.reversed = a.reversed;
      }
  }
  return s;
}

FusedStep fused_step(const PreparedOp& call) {
  if (call.op->traits.kind != OpKind::elementwise) {
    fail<InternalError>("fused_elementwise", "not an elementwise op", call.op->name);
  }
  return fused_step(static_cast<OpId>(call.op->id), call.attrs.ref().data, call.out[0].dtype,
                    static_cast<int>(call.in.size()));
}

// --------------------------------------------------------------------------------- for kernels

StepTypes step_types(const FusedStep& s, std::span<const DType> operands) {
  const ElementwiseRule rule = elementwise_rule(s.op);
  StepTypes t{};
  t.scalar = operands.size() == 1 && rule.arity == 2;
  t.promoted = s.dtype;
  if (rule.types == TypeRule::test) {
    t.promoted = elementwise_compute_type(s.op, operands, t.scalar ? s.params[0] : Scalar());
  }
  t.compute = is_low_precision(t.promoted) ? DType::f32 : t.promoted;
  return t;
}

std::array<Scalar, 2> step_params(const FusedStep& s, DType compute) {
  std::array<Scalar, 2> p = s.params;
  if (s.op != OpId::clamp_ && s.op != OpId::clamp_grad_) {
    if (!p[0].defined()) p[0] = 0;
    if (!p[1].defined()) p[1] = 0;
    return p;
  }
  visit_dtype(compute, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using L = std::numeric_limits<T>;
    if constexpr (std::is_floating_point_v<T>) {
      if (!p[0].defined()) p[0] = -L::infinity();
      if (!p[1].defined()) p[1] = L::infinity();
    } else if constexpr (std::is_integral_v<T>) {
      constexpr std::int64_t lo = L::lowest(), hi = L::max();
      p[0] = p[0].defined() ? std::clamp(p[0].to_int(), lo, hi) : lo;
      p[1] = p[1].defined() ? std::clamp(p[1].to_int(), lo, hi) : hi;
    }
  });
  return p;
}

// ---------------------------------------------------------------------------------------- the op

namespace {

void infer_fused(InferContext& c) {
  c.expect_inputs(1, kMaxFusedInputs);
  const FusedProgram p = FusedProgram::decode(c.attrs<FusedAttrs>().code);
  for (int i = 0; i < c.num_inputs(); ++i) {
    if (!(broadcast_shapes(c.input(i).shape, p.shape, c.op_name()) == p.shape)) {
      c.fail("every input must broadcast to the program's shape", c.input(i).str(), p.shape.str());
    }
  }
  for (const FusedStep& s : p.steps) {
    for (int o : s.operands) {
      if (o >= c.num_inputs()) c.fail<InternalError>("a step names an input that is not there");
    }
  }
  for (std::size_t i = 0; i < p.outputs.size(); ++i) {
    const DType t = p.steps[static_cast<std::size_t>(p.outputs[i])].dtype;
    c.output({t, c.input(0).device, p.shape, p.strides[i]});
  }
}

double fused_flops(const PreparedOp& call) {
  const FusedProgram p = FusedProgram::decode(call.attrs.as<FusedAttrs>().code);
  return static_cast<double>(p.steps.size()) * static_cast<double>(numel(p.shape));
}

}  // namespace

namespace op {
constinit const OpDef fused_elementwise = {
    .id = id_of(OpId::fused_elementwise_),
    .name = "fused_elementwise",
    .attrs = &attr_type_v<FusedAttrs>,
    .infer = infer_fused,
    .traits = {.inplace = kAll},
    .flops = fused_flops,
    .doc = "Several elementwise ops as one kernel. Made by the graph's fusion pass."};
}  // namespace op

}  // namespace tandem
