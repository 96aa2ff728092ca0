// Elementwise ops: output element i from element i of each (broadcast) input.
//
// Binary ops take two tensors (NumPy broadcasting and promotion, docs/types.md) or one tensor and
// a scalar kept in the attributes. The result has the memory order of the first dense input of the
// result's shape, so channels_last is kept; it is row-major when there is none.
#pragma once
#include <array>
#include <span>

#include "core/op.h"
#include "ops/op_list.h"

namespace tandem {

// --------------------------------------------------------------------------------- attributes

/// Attributes of ops on two operands.
struct BinaryAttrs {
  Scalar scalar;          // the other operand, when there is one tensor input
  bool reversed = false;  // scalar op tensor
  static constexpr auto fields() {
    return std::tuple{Field{"scalar", &BinaryAttrs::scalar},
                      Field{"reversed", &BinaryAttrs::reversed}};
  }
};
/// Attributes of clamp and its gradient.
struct ClampAttrs {
  Scalar lo, hi;  // undefined: no bound
  static constexpr auto fields() {
    return std::tuple{Field{"lo", &ClampAttrs::lo}, Field{"hi", &ClampAttrs::hi}};
  }
};
/// Attributes of leaky_relu and its gradient.
struct LeakyReluAttrs {
  double slope = 0.01;
  static constexpr auto fields() { return std::tuple{Field{"slope", &LeakyReluAttrs::slope}}; }
};
/// Attributes of cast.
struct CastAttrs {
  DType dtype = DType::f32;
  static constexpr auto fields() { return std::tuple{Field{"dtype", &CastAttrs::dtype}}; }
};
/// Attributes of copy.
struct CopyAttrs {
  MemoryFormat format = MemoryFormat::preserve;
  static constexpr auto fields() { return std::tuple{Field{"format", &CopyAttrs::format}}; }
};

// --------------------------------------------------------------------------------- type rules

/// How an elementwise op's types follow from its inputs'.
enum class TypeRule : std::uint8_t {
  same,      // computes and gives the promoted type
  floating,  // the same, after integers became f32
  test,      // computes in the promoted type, gives bool
  select,    // the first input is bool; the rest as `same`
  cast,      // gives the type the attributes name
};

/// How an elementwise op treats types.
struct ElementwiseRule {
  std::int8_t arity;
  TypeRule types;
  bool bools;  // whether bool tensors make sense
};

/// The rule of one op of TANDEM_ELEMENTWISE_OPS.
constexpr ElementwiseRule elementwise_rule(OpId id) {
  switch (id) {
    case OpId::copy_: return {1, TypeRule::same, true};
    case OpId::cast_: return {1, TypeRule::cast, true};
    case OpId::neg_:
    case OpId::abs_:
    case OpId::sign_:
    case OpId::floor_:
    case OpId::ceil_:
    case OpId::round_:
    case OpId::square_:
    case OpId::relu_:
    case OpId::clamp_: return {1, TypeRule::same, false};
    case OpId::logical_not_:
    case OpId::isnan_: return {1, TypeRule::test, true};
    case OpId::add_:
    case OpId::mul_:
    case OpId::maximum_:
    case OpId::minimum_: return {2, TypeRule::same, true};
    case OpId::sub_:
    case OpId::pow_:
    case OpId::floor_divide_:
    case OpId::remainder_: return {2, TypeRule::same, false};
    case OpId::div_: return {2, TypeRule::floating, true};
    case OpId::eq_:
    case OpId::ne_:
    case OpId::lt_:
    case OpId::le_:
    case OpId::gt_:
    case OpId::ge_:
    case OpId::logical_and_:
    case OpId::logical_or_: return {2, TypeRule::test, true};
    case OpId::where_: return {3, TypeRule::select, true};
    case OpId::tanh_grad_:
    case OpId::sigmoid_grad_:
    case OpId::relu_grad_:
    case OpId::leaky_relu_grad_:
    case OpId::gelu_grad_:
    case OpId::silu_grad_:
    case OpId::softplus_grad_: return {2, TypeRule::floating, true};
    case OpId::clamp_grad_: return {2, TypeRule::same, true};
    default: return {1, TypeRule::floating, true};  // exp, sqrt, tanh, …
  }
}

/// The type the op computes in: the type both `floating` and `same` ops also give.
inline DType elementwise_compute_type(OpId id, std::span<const DType> in, const Scalar& scalar) {
  const ElementwiseRule r = elementwise_rule(id);
  std::size_t first = r.types == TypeRule::select ? 1 : 0;
  DType t = in[first];
  for (std::size_t i = first + 1; i < in.size(); ++i) t = promote(t, in[i]);
  t = promote(t, scalar);
  return r.types == TypeRule::floating && !is_floating(t) ? DType::f32 : t;
}

// --------------------------------------------------------------------------- public functions
// Errors: ShapeError when shapes do not broadcast, TypeError for a type the op lacks.

/// a + b. Integers wrap; of bools it is or.
Tensor add(In a, const Tensor& b);
Tensor add(In a, Scalar b);
/// a - b. Integers wrap; TypeError for bools.
Tensor sub(In a, const Tensor& b);
Tensor sub(In a, Scalar b);
Tensor sub(Scalar a, In b);
/// a b. Integers wrap; of bools it is and.
Tensor mul(In a, const Tensor& b);
Tensor mul(In a, Scalar b);
/// True division: of two integer tensors it gives f32.
Tensor div(In a, const Tensor& b);
Tensor div(In a, Scalar b);
Tensor div(Scalar a, In b);
/// a^b. Integers stay integers: a negative scalar exponent is a ValueError, a negative element of
/// `b` gives the truncated quotient.
Tensor pow(In a, const Tensor& b);
Tensor pow(In a, Scalar b);
Tensor pow(Scalar a, In b);
/// a / b rounded down, and a - b * floor_divide(a, b), which has b's sign. Integers stay integers:
/// both are 0 where `b` is 0. Of floats as NumPy has them, infinities and NaN included. The
/// gradient of the quotient is 0, as floor's is.
Tensor floor_divide(In a, const Tensor& b);
Tensor floor_divide(In a, Scalar b);
Tensor floor_divide(Scalar a, In b);
Tensor remainder(In a, const Tensor& b);
Tensor remainder(In a, Scalar b);
Tensor remainder(Scalar a, In b);
/// The larger (smaller) of two; NaN if either is NaN. Where both are equal, each gets half of the
/// gradient.
Tensor maximum(In a, const Tensor& b);
Tensor maximum(In a, Scalar b);
Tensor minimum(In a, const Tensor& b);
Tensor minimum(In a, Scalar b);
/// Comparisons give bool, and of a NaN false; only ne gives true. No gradient.
Tensor eq(In a, const Tensor& b);
Tensor eq(In a, Scalar b);
Tensor ne(In a, const Tensor& b);
Tensor ne(In a, Scalar b);
Tensor lt(In a, const Tensor& b);
Tensor lt(In a, Scalar b);
Tensor lt(Scalar a, In b);
Tensor le(In a, const Tensor& b);
Tensor le(In a, Scalar b);
Tensor le(Scalar a, In b);
Tensor gt(In a, const Tensor& b);
Tensor gt(In a, Scalar b);
Tensor gt(Scalar a, In b);
Tensor ge(In a, const Tensor& b);
Tensor ge(In a, Scalar b);
Tensor ge(Scalar a, In b);
/// Whether both (either) are not 0; a NaN is not. Gives bool, no gradient.
Tensor logical_and(In a, const Tensor& b);
Tensor logical_or(In a, const Tensor& b);

/// The same as operators.
inline Tensor operator+(In a, const Tensor& b) {
  return add(a, b);
}
inline Tensor operator+(In a, Scalar b) {
  return add(a, b);
}
inline Tensor operator+(Scalar a, In b) {
  return add(b, a);
}
inline Tensor operator-(In a, const Tensor& b) {
  return sub(a, b);
}
inline Tensor operator-(In a, Scalar b) {
  return sub(a, b);
}
inline Tensor operator-(Scalar a, In b) {
  return sub(a, b);
}
inline Tensor operator*(In a, const Tensor& b) {
  return mul(a, b);
}
inline Tensor operator*(In a, Scalar b) {
  return mul(a, b);
}
inline Tensor operator*(Scalar a, In b) {
  return mul(b, a);
}
inline Tensor operator/(In a, const Tensor& b) {
  return div(a, b);
}
inline Tensor operator/(In a, Scalar b) {
  return div(a, b);
}
inline Tensor operator/(Scalar a, In b) {
  return div(a, b);
}

/// -x. Unsigned integers wrap; TypeError for bool.
Tensor neg(In x);
inline Tensor operator-(In x) {
  return neg(x);
}
/// |x|; the smallest integer stays as it is. Gradient 0 at 0. TypeError for bool.
Tensor abs(In x);
/// -1, 0 or 1; NaN of NaN.
Tensor sign(In x);
/// Rounded down (up); integers as they are. Gradient 0. TypeError for bool.
Tensor floor(In x);
Tensor ceil(In x);
/// To the nearest integer, halves to even.
Tensor round(In x);
/// x². Integers wrap; TypeError for bool.
Tensor square(In x);
/// 1 / x; infinite at 0. Integers and bools give f32, as in all functions down to softplus but
/// relu. NaN gives NaN in each.
Tensor reciprocal(In x);
/// e^x, and the natural logarithms of x and of 1 + x: NaN below 0 (below -1).
Tensor exp(In x);
Tensor log(In x);
Tensor log1p(In x);
/// NaN below 0.
Tensor sqrt(In x);
/// 1 / sqrt(x).
Tensor rsqrt(In x);
/// Of radians; NaN of infinities.
Tensor sin(In x);
Tensor cos(In x);
/// Their inverses, in radians: in [0, π], [-π/2, π/2] and [-π/2, π/2]. NaN outside [-1, 1], but
/// atan, which all numbers have.
Tensor acos(In x);
Tensor asin(In x);
Tensor atan(In x);
/// The error function, 2/√π ∫ e^(-t²) dt from 0 to x.
Tensor erf(In x);
/// Hyperbolic tangent, in [-1, 1]; and 1 / (1 + e^-x), in [0, 1].
Tensor tanh(In x);
Tensor sigmoid(In x);
/// x where x > 0, else 0; NaN stays. Gradient 0 at 0. Integers stay; TypeError for bool.
Tensor relu(In x);
/// x where x > 0, else slope * x.
Tensor leaky_relu(In x, double slope = 0.01);
/// x Phi(x), the exact form (Hendrycks and Gimpel, "Gaussian error linear units", 2016).
Tensor gelu(In x);
/// x sigmoid(x).
Tensor silu(In x);
/// log(1 + e^x).
Tensor softplus(In x);
/// Limits x to [lo, hi]; `Scalar{}` leaves that side open. Gradient 1 on the bounds.
Tensor clamp(In x, Scalar lo, Scalar hi);
/// Whether x is 0, as bool.
Tensor logical_not(In x);
/// Whether x is NaN, as bool; of integers false.
Tensor isnan(In x);
/// `a` where `cond` (bool) holds, else `b`.
Tensor where(In cond, const Tensor& a, const Tensor& b);
/// x in another type; x itself when it has it already. Floating to integral truncates.
Tensor cast(In x, DType t);
/// A new tensor with x's values in the given memory order; always dense.
Tensor copy(In x, MemoryFormat f = MemoryFormat::preserve);

// Gradients of the ops above as ops of their own: g is the gradient of the result, x the input,
// y the result. Shapes broadcast and types are promoted.

/// g where y > 0, else 0; the others are d/dx of the functions above times g.
Tensor relu_grad(const Tensor& g, const Tensor& y);
Tensor sigmoid_grad(const Tensor& g, const Tensor& y);
Tensor tanh_grad(const Tensor& g, const Tensor& y);
Tensor gelu_grad(const Tensor& g, const Tensor& x);
Tensor silu_grad(const Tensor& g, const Tensor& x);
Tensor softplus_grad(const Tensor& g, const Tensor& x);
Tensor leaky_relu_grad(const Tensor& g, const Tensor& x, double slope);
Tensor clamp_grad(const Tensor& g, const Tensor& x, Scalar lo, Scalar hi);

/// self := op(self, other) of a binary op, in self's memory: what Tensor's in-place methods call.
/// Errors: ShapeError when broadcasting would change self's shape, TypeError for a floating result
/// of an integral tensor, AutogradError where the tape cannot follow.
Tensor& update(Tensor& self, const OpDef& op, const Tensor& other, SrcLoc loc);
Tensor& update(Tensor& self, const OpDef& op, Scalar other, SrcLoc loc);

// ------------------------------------------------------------------------------ for op authors

/// The memory order an elementwise result of `shape` gets (top of this file).
Strides elementwise_strides(const Shape& shape, std::span<const TensorDesc* const> in);
/// The shape rule of every elementwise op.
void infer_elementwise(InferContext& c);

namespace detail {
/// Gradient rules, ops/elementwise_grads.cpp.
#define TANDEM_VJP(name) void vjp_##name(VjpContext& c);
TANDEM_ELEMENTWISE_OPS(TANDEM_VJP)
#undef TANDEM_VJP
}  // namespace detail

}  // namespace tandem
