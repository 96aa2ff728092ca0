#include "ops/elementwise.h"

#include <utility>

#include "core/dispatch.h"

namespace tandem {

// --------------------------------------------------------------------------------------- rules

Strides elementwise_strides(const Shape& shape, std::span<const TensorDesc* const> in) {
  for (const TensorDesc* d : in) {
    if (d->shape == shape && d->is_dense()) return d->strides;
  }
  return contiguous_strides(shape);
}

namespace {

constexpr int kMaxElementwiseInputs = 3;

Scalar scalar_of(OpId id, const InferContext& c) {
  return elementwise_rule(id).arity == 2 && c.num_inputs() == 1 ? c.attrs<BinaryAttrs>().scalar
                                                                : Scalar();
}

void check_types(InferContext& c, OpId id, const ElementwiseRule& rule, DType compute,
                 const Scalar& scalar) {
  if (!scalar.fits(compute)) {
    c.fail<ValueError>("the scalar does not fit into the tensor's type", scalar.str(),
                       name_of(compute));
  }
  if (rule.types == TypeRule::select && c.input(0).dtype != DType::boolean) {
    c.fail<TypeError>("the condition must be bool", c.input(0).str());
  }
  if (!rule.bools && compute == DType::boolean) {
    c.fail<TypeError>("not defined for bool", c.input(0).str(),
                      "a number type (use cast, or a logical op)");
  }
  if (id == OpId::pow_ && is_integral(compute) && c.num_inputs() == 1) {
    const auto& a = c.attrs<BinaryAttrs>();
    if (!a.reversed && a.scalar.to_int() < 0) {
      c.fail<ValueError>("an integer to a negative power is not an integer", a.scalar.str(),
                         "an exponent >= 0, or a floating tensor");
    }
  }
}

}  // namespace

void infer_elementwise(InferContext& c) {
  const OpId id = static_cast<OpId>(c.op().id);
  const ElementwiseRule rule = elementwise_rule(id);
  const Scalar scalar = scalar_of(id, c);
  c.expect_inputs(rule.arity - (scalar.defined() ? 1 : 0), rule.arity);

  const int n = c.num_inputs();
  DType types[kMaxElementwiseInputs];
  const TensorDesc* in[kMaxElementwiseInputs];
  Shape shape = c.input(0).shape;
  for (int i = 0; i < n; ++i) {
    in[i] = &c.input(i);
    types[i] = in[i]->dtype;
    if (i > 0) shape = broadcast_shapes(shape, in[i]->shape, c.op_name());
  }
  const std::span<const TensorDesc* const> inputs(in, static_cast<std::size_t>(n));
  DType compute = elementwise_compute_type(id, {types, static_cast<std::size_t>(n)}, scalar);
  if (id == OpId::clamp_) {
    const auto& a = c.attrs<ClampAttrs>();
    compute = promote(promote(compute, a.lo), a.hi);
  }
  check_types(c, id, rule, compute, scalar);

  DType result = compute;
  if (rule.types == TypeRule::test) result = DType::boolean;
  if (rule.types == TypeRule::cast) result = c.attrs<CastAttrs>().dtype;

  Strides strides;
  const MemoryFormat format =
      id == OpId::copy_ ? c.attrs<CopyAttrs>().format : MemoryFormat::preserve;
  if (format == MemoryFormat::preserve) {
    strides = elementwise_strides(shape, inputs);
  } else {
    if (format == MemoryFormat::channels_last) c.expect_rank(0, 4);
    strides = strides_for(shape, format);
  }
  c.output({result, in[0]->device, shape, strides});
}

// -------------------------------------------------------------------------------------- the ops

namespace {

// What the gradient rule reads: inputs and outputs as bit sets.
struct Saves {
  std::uint32_t inputs = 0, outputs = 0;
  std::uint32_t (*per_call)(const PreparedOp&) = nullptr;
};

// A description equal to an input's puts every element at the same place, so writing over any
// input is safe.
constexpr OpTraits traits(OpId id, Saves s) {
  const bool wide = id == OpId::exp_ || id == OpId::log_ || id == OpId::log1p_ ||
                    id == OpId::reciprocal_ || id == OpId::rsqrt_ || id == OpId::pow_ ||
                    id == OpId::softplus_ || id == OpId::acos_ || id == OpId::asin_;
  return {.kind = OpKind::elementwise,
          .saves_inputs = s.inputs,
          .saves_outputs = s.outputs,
          .inplace = kAll,
          .autocast = wide ? AutocastClass::f32 : AutocastClass::none};
}

template <class A = NoAttrs>
constexpr OpDef define(OpId id, const char* name, void (*vjp)(VjpContext&), Saves s,
                       const char* doc) {
  return {.id = id_of(id),
          .name = name,
          .attrs = &attr_type_v<A>,
          .infer = infer_elementwise,
          .vjp = vjp,
          .traits = traits(id, s),
          .saves = s.per_call,
          .doc = doc};
}

// x * 2, x / 2 and, between its steps, x % 2 are linear: their gradient needs no x.
std::uint32_t saves_of_product(const PreparedOp& p) {
  const auto& a = p.attrs.as<BinaryAttrs>();
  const bool linear = a.scalar.defined() && (p.op->id == id_of(OpId::mul_) || !a.reversed);
  return linear ? 0 : 0b11;
}

constexpr Saves kProduct{.inputs = 0b11, .per_call = saves_of_product};
constexpr Saves kInput{.inputs = 0b1}, kBoth{.inputs = 0b11}, kResult{.outputs = 0b1}, kNothing{};

}  // namespace

namespace op {

#define TANDEM_OP(name, saves, doc) \
  constinit const OpDef name = define(OpId::name##_, #name, detail::vjp_##name, saves, doc);
#define TANDEM_OP_ATTRS(name, attrs, saves, doc) \
  constinit const OpDef name = define<attrs>(OpId::name##_, #name, detail::vjp_##name, saves, doc);
#define TANDEM_OP_FLAT(name, attrs, doc) \
  constinit const OpDef name = define<attrs>(OpId::name##_, #name, nullptr, kNothing, doc);

// clang-format off
TANDEM_OP_ATTRS(copy, CopyAttrs, kNothing, "A dense copy in the given memory order.")
TANDEM_OP_ATTRS(cast, CastAttrs, kNothing, "Converts to another type.")

TANDEM_OP(neg, kNothing, "-x")
TANDEM_OP(abs, kInput, "|x|")
TANDEM_OP(sign, kNothing, "-1, 0 or 1; NaN of NaN.")
TANDEM_OP(floor, kNothing, "Largest integer <= x.")
TANDEM_OP(ceil, kNothing, "Smallest integer >= x.")
TANDEM_OP(round, kNothing, "Nearest integer, halves to even.")
TANDEM_OP(square, kInput, "x * x")
TANDEM_OP(reciprocal, kResult, "1 / x")
TANDEM_OP(exp, kResult, "e^x")
TANDEM_OP(log, kInput, "Natural logarithm.")
TANDEM_OP(log1p, kInput, "log(1 + x), exact near 0.")
TANDEM_OP(sqrt, kResult, "Square root.")
TANDEM_OP(rsqrt, kResult, "1 / sqrt(x)")
TANDEM_OP(sin, kInput, "Sine.")
TANDEM_OP(cos, kInput, "Cosine.")
TANDEM_OP(acos, kInput, "Inverse cosine; NaN outside [-1, 1].")
TANDEM_OP(asin, kInput, "Inverse sine; NaN outside [-1, 1].")
TANDEM_OP(atan, kInput, "Inverse tangent.")
TANDEM_OP(erf, kInput, "Error function.")
TANDEM_OP(tanh, kResult, "Hyperbolic tangent.")
TANDEM_OP(sigmoid, kResult, "1 / (1 + e^-x)")
TANDEM_OP(relu, kResult, "max(x, 0)")
TANDEM_OP_ATTRS(leaky_relu, LeakyReluAttrs, kInput, "x where x > 0, else slope * x.")
TANDEM_OP(gelu, kInput, "x Phi(x), exact form.")
TANDEM_OP(silu, kInput, "x sigmoid(x)")
TANDEM_OP(softplus, kInput, "log(1 + e^x)")
TANDEM_OP_ATTRS(clamp, ClampAttrs, kInput, "Limits x to [lo, hi].")
TANDEM_OP_FLAT(logical_not, NoAttrs, "Whether x is zero.")
TANDEM_OP_FLAT(isnan, NoAttrs, "Whether x is NaN.")

TANDEM_OP_ATTRS(add, BinaryAttrs, kNothing, "a + b; of bools: or.")
TANDEM_OP_ATTRS(sub, BinaryAttrs, kNothing, "a - b")
TANDEM_OP_ATTRS(mul, BinaryAttrs, kProduct, "a * b; of bools: and.")
TANDEM_OP_ATTRS(div, BinaryAttrs, kProduct, "a / b; of integers: f32.")
TANDEM_OP_ATTRS(pow, BinaryAttrs, kBoth, "a to the power b.")
TANDEM_OP_ATTRS(floor_divide, BinaryAttrs, kNothing, "a / b rounded down; of integers 0 where b is 0.")
TANDEM_OP_ATTRS(remainder, BinaryAttrs, kProduct, "a - b * floor_divide(a, b): of b's sign.")
TANDEM_OP_ATTRS(maximum, BinaryAttrs, kBoth, "The larger of two; NaN if either is.")
TANDEM_OP_ATTRS(minimum, BinaryAttrs, kBoth, "The smaller of two; NaN if either is.")
TANDEM_OP_FLAT(eq, BinaryAttrs, "a == b")
TANDEM_OP_FLAT(ne, BinaryAttrs, "a != b")
TANDEM_OP_FLAT(lt, BinaryAttrs, "a < b")
TANDEM_OP_FLAT(le, BinaryAttrs, "a <= b")
TANDEM_OP_FLAT(gt, BinaryAttrs, "a > b")
TANDEM_OP_FLAT(ge, BinaryAttrs, "a >= b")
TANDEM_OP_FLAT(logical_and, BinaryAttrs, "Whether both are non-zero.")
TANDEM_OP_FLAT(logical_or, BinaryAttrs, "Whether either is non-zero.")

TANDEM_OP(where, kInput, "a where the condition holds, else b.")

TANDEM_OP(tanh_grad, kBoth, "g (1 - y^2)")
TANDEM_OP(sigmoid_grad, kBoth, "g y (1 - y)")
TANDEM_OP(relu_grad, Saves{.inputs = 0b10}, "g where y > 0, else 0.")
TANDEM_OP_ATTRS(leaky_relu_grad, LeakyReluAttrs, Saves{.inputs = 0b10}, "g where x > 0, else slope * g.")
TANDEM_OP(gelu_grad, kBoth, "g (Phi(x) + x phi(x))")
TANDEM_OP(silu_grad, kBoth, "g (s + x s (1 - s)), s = sigmoid(x)")
TANDEM_OP(softplus_grad, kBoth, "g sigmoid(x)")
TANDEM_OP_ATTRS(clamp_grad, ClampAttrs, Saves{.inputs = 0b10}, "g where lo <= x <= hi, else 0.")
// clang-format on

#undef TANDEM_OP
#undef TANDEM_OP_ATTRS
#undef TANDEM_OP_FLAT

}  // namespace op

// -------------------------------------------------------------------------- public functions

namespace {

constexpr BinaryAttrs kTensorTensor{};

Tensor unary(const OpDef& op, const In& x, AttrRef attrs = {}) {
  return std::move(dispatch::call(op, {&x.t}, attrs, x.loc)[0]);
}
Tensor binary(const OpDef& op, const In& a, const Tensor& b, AttrRef attrs = {}) {
  return std::move(dispatch::call(op, {&a.t, &b}, attrs, a.loc)[0]);
}
Tensor binary_scalar(const OpDef& op, const In& x, Scalar s, bool reversed) {
  if (!s.defined()) {
    const ErrorSite at(x.loc);
    fail(op.name, "the scalar operand must have a value", "none", "a number");
  }
  // 300 is more than any u8: compared in a type that knows it.
  const bool compares = elementwise_rule(static_cast<OpId>(op.id)).types == TypeRule::test;
  if (compares && x->defined() && is_integral(x->dtype()) && !s.fits(promote(x->dtype(), s))) {
    return unary(op, In(x->to(DType::i64, x.loc), x.loc), BinaryAttrs{s, reversed});
  }
  return unary(op, x, BinaryAttrs{s, reversed});
}

}  // namespace

Tensor leaky_relu(In x, double slope) {
  return unary(op::leaky_relu, x, LeakyReluAttrs{slope});
}
Tensor leaky_relu_grad(const Tensor& g, const Tensor& x, double slope) {
  return binary(op::leaky_relu_grad, g, x, LeakyReluAttrs{slope});
}
Tensor clamp(In x, Scalar lo, Scalar hi) {
  return unary(op::clamp, x, ClampAttrs{lo, hi});
}
Tensor clamp_grad(const Tensor& g, const Tensor& x, Scalar lo, Scalar hi) {
  return binary(op::clamp_grad, g, x, ClampAttrs{lo, hi});
}
Tensor where(In cond, const Tensor& a, const Tensor& b) {
  return std::move(dispatch::call(op::where, {&cond.t, &a, &b}, {}, cond.loc)[0]);
}
Tensor cast(In x, DType t) {
  expect_defined("cast", {&x.t}, x.loc);
  if (x.t.dtype() == t) return x.t;
  return unary(op::cast, x, CastAttrs{t});
}
Tensor copy(In x, MemoryFormat f) {
  return unary(op::copy, x, CopyAttrs{f});
}

#define TANDEM_UNARY(name)     \
  Tensor name(In x) {          \
    return unary(op::name, x); \
  }
#define TANDEM_BINARY(name)                       \
  Tensor name(In a, const Tensor& b) {            \
    return binary(op::name, a, b, kTensorTensor); \
  }
#define TANDEM_BINARY_SCALAR(name)               \
  TANDEM_BINARY(name)                            \
  Tensor name(In a, Scalar b) {                  \
    return binary_scalar(op::name, a, b, false); \
  }
#define TANDEM_BINARY_BOTH(name)                \
  TANDEM_BINARY_SCALAR(name)                    \
  Tensor name(Scalar a, In b) {                 \
    return binary_scalar(op::name, b, a, true); \
  }
#define TANDEM_GRAD(name)                             \
  Tensor name(const Tensor& g, const Tensor& saved) { \
    return binary(op::name, g, saved);                \
  }

// clang-format off
TANDEM_UNARY(neg) TANDEM_UNARY(abs) TANDEM_UNARY(sign) TANDEM_UNARY(floor) TANDEM_UNARY(ceil)
TANDEM_UNARY(round) TANDEM_UNARY(square) TANDEM_UNARY(reciprocal) TANDEM_UNARY(exp)
TANDEM_UNARY(log) TANDEM_UNARY(log1p) TANDEM_UNARY(sqrt) TANDEM_UNARY(rsqrt) TANDEM_UNARY(sin)
TANDEM_UNARY(cos) TANDEM_UNARY(acos) TANDEM_UNARY(asin) TANDEM_UNARY(atan) TANDEM_UNARY(erf)
TANDEM_UNARY(tanh) TANDEM_UNARY(sigmoid) TANDEM_UNARY(relu)
TANDEM_UNARY(gelu) TANDEM_UNARY(silu) TANDEM_UNARY(softplus) TANDEM_UNARY(logical_not)
TANDEM_UNARY(isnan)
TANDEM_BINARY_SCALAR(add) TANDEM_BINARY_BOTH(sub) TANDEM_BINARY_SCALAR(mul) TANDEM_BINARY_BOTH(div)
TANDEM_BINARY_BOTH(pow) TANDEM_BINARY_BOTH(floor_divide) TANDEM_BINARY_BOTH(remainder)
TANDEM_BINARY_SCALAR(maximum) TANDEM_BINARY_SCALAR(minimum)
TANDEM_BINARY_SCALAR(eq) TANDEM_BINARY_SCALAR(ne) TANDEM_BINARY_BOTH(lt) TANDEM_BINARY_BOTH(le)
TANDEM_BINARY_BOTH(gt) TANDEM_BINARY_BOTH(ge)
TANDEM_BINARY(logical_and) TANDEM_BINARY(logical_or)
TANDEM_GRAD(relu_grad) TANDEM_GRAD(sigmoid_grad) TANDEM_GRAD(tanh_grad) TANDEM_GRAD(gelu_grad)
TANDEM_GRAD(silu_grad) TANDEM_GRAD(softplus_grad)
// clang-format on

#undef TANDEM_UNARY
#undef TANDEM_BINARY
#undef TANDEM_BINARY_SCALAR
#undef TANDEM_BINARY_BOTH
#undef TANDEM_GRAD

}  // namespace tandem
