// Elementwise operations and comparisons, bound to Python.
#include "python/src/bind_op.h"

namespace tandem::python {

namespace {

using Unary = Tensor (*)(In);
void unary(const char* name, Unary f, const char* doc) {
  both(
      name,
      [f](const Tensor& x) {
        const In in = at(x);
        return without_gil(x.numel(), [&] { return f(in); });
      },
      doc);
}

// A tensor or a number on either side, but not numbers on both.
template <class TT, class TS, class ST>
void binary(const char* name, TT tensors, TS right_number, ST left_number, const char* doc) {
  const auto f = [=](py::handle a, py::handle b) {
    Scalar s;
    if (is_tensor(a.ptr()) && to_scalar(b.ptr(), s)) {
      const Tensor& x = tensor_of(a.ptr());
      return without_gil(x.numel(), [&] { return right_number(at(x), s); });
    }
    if (is_tensor(b.ptr()) && to_scalar(a.ptr(), s)) {
      const Tensor& y = tensor_of(b.ptr());
      return without_gil(y.numel(), [&] { return left_number(s, at(y)); });
    }
    const Tensor x = to_tensor(a), y = to_tensor(b);
    return without_gil(x.numel() + y.numel(), [&] { return tensors(at(x), y); });
  };
  function(name, f, "a"_a, "b"_a, doc);
  method(name, f, "other"_a, doc);
}
#define TANDEM_BINARY(python, name, mirrored, doc)              \
  binary(                                                       \
      python, [](In x, const Tensor& y) { return name(x, y); }, \
      [](In x, Scalar y) { return name(x, y); }, [](Scalar x, In y) { return mirrored; }, doc)

}  // namespace

void bind_elementwise() {
  TANDEM_BINARY("add", add, add(y, x), "a + b, elementwise, with broadcasting.");
  TANDEM_BINARY("subtract", sub, sub(x, y), "a - b, elementwise, with broadcasting.");
  TANDEM_BINARY("multiply", mul, mul(y, x), "a * b, elementwise, with broadcasting.");
  TANDEM_BINARY("divide", div, div(x, y), "a / b, elementwise; of two integer tensors float32.");
  TANDEM_BINARY("pow", pow, pow(x, y),
                "a to the power of b. Integers stay integers: a negative number as b is\n"
                "refused, a negative element of b gives the quotient cut towards 0.");
  TANDEM_BINARY("floor_divide", floor_divide, floor_divide(x, y),
                "a / b rounded down, elementwise; of integers, 0 where b is 0.");
  TANDEM_BINARY("remainder", remainder, remainder(x, y),
                "What floor_divide leaves, elementwise: of b's sign; of integers, 0 where b is 0.");
  TANDEM_BINARY("maximum", maximum, maximum(y, x),
                "The larger of two, elementwise; NaN if either is. Equal ones share the gradient.");
  TANDEM_BINARY(
      "minimum", minimum, minimum(y, x),
      "The smaller of two, elementwise; NaN if either is. Equal ones share the gradient.");
  TANDEM_BINARY("equal", eq, eq(y, x), "a == b, elementwise: bool.");
  TANDEM_BINARY("not_equal", ne, ne(y, x), "a != b, elementwise: bool.");
  TANDEM_BINARY("less", lt, lt(x, y), "a < b, elementwise: bool.");
  TANDEM_BINARY("less_equal", le, le(x, y), "a <= b, elementwise: bool.");
  TANDEM_BINARY("greater", gt, gt(x, y), "a > b, elementwise: bool.");
  TANDEM_BINARY("greater_equal", ge, ge(x, y), "a >= b, elementwise: bool.");

  unary("negative", neg, "-x, elementwise.");
  unary("abs", abs, "The magnitude of each element.");
  unary("sign", sign, "-1, 0 or 1 by the sign of each element; NaN of NaN.");
  unary("floor", floor, "The largest whole number not above each element.");
  unary("ceil", ceil, "The smallest whole number not below each element.");
  unary("round", round, "The nearest whole number, halves to even.");
  unary("square", square, "x * x, elementwise.");
  unary("reciprocal", reciprocal, "1 / x, elementwise.");
  unary("exp", exp, "e to the power of each element.");
  unary("log", log, "The natural logarithm, elementwise.");
  unary("log1p", log1p, "log(1 + x), accurate near 0.");
  unary("sqrt", sqrt, "The square root, elementwise.");
  unary("rsqrt", rsqrt, "1 / sqrt(x), elementwise.");
  unary("sin", sin, "The sine, elementwise; radians.");
  unary("cos", cos, "The cosine, elementwise; radians.");
  unary("acos", acos, "The inverse cosine, elementwise: radians, 0 to pi; NaN outside [-1, 1].");
  unary("asin", asin, "The inverse sine, elementwise: radians; NaN outside [-1, 1].");
  unary("atan", atan, "The inverse tangent, elementwise: radians, -pi/2 to pi/2.");
  unary("erf", erf, "The error function, elementwise.");
  unary("tanh", tanh, "The hyperbolic tangent, elementwise.");
  unary("sigmoid", sigmoid, "1 / (1 + exp(-x)), elementwise.");
  unary("relu", relu, "max(x, 0), elementwise; NaN stays NaN.");
  unary("gelu", gelu, "x Phi(x), elementwise; the exact form.");
  unary("silu", silu, "x sigmoid(x), elementwise.");
  unary("softplus", softplus, "log(1 + exp(x)), elementwise.");
  unary("logical_not", logical_not, "Whether each element is zero: bool.");
  unary("isnan", isnan, "Whether each element is a NaN: bool.");
  both(
      "leaky_relu",
      [](const Tensor& x, double slope) {
        const In in = at(x);
        return without_gil(x.numel(), [&] { return leaky_relu(in, slope); });
      },
      "x where x > 0, else slope * x.", "slope"_a = 0.01);
  both(
      "clamp",
      [](const Tensor& x, std::optional<Scalar> lo, std::optional<Scalar> hi) {
        const In in = at(x);
        return without_gil(x.numel(),
                           [&] { return clamp(in, lo.value_or(Scalar()), hi.value_or(Scalar())); });
      },
      "x limited to [min, max]; None leaves that side open. Gradient 1 on the bounds.",
      "min"_a = py::none(), "max"_a = py::none());
  function(
      "where",
      [](const Tensor& cond, py::handle a, py::handle b) {
        const auto value = [](py::handle h, py::handle other) {
          Scalar s;
          if (!is_tensor(h.ptr()) && to_scalar(h.ptr(), s) && is_tensor(other.ptr())) {
            const Tensor& t = tensor_of(other.ptr());
            return full({}, s, {.dtype = promote(t.dtype(), s), .device = t.device()}, here());
          }
          return to_tensor(h);
        };
        const Tensor x = value(a, b), y = value(b, a);
        return without_gil(cond.numel(), [&] { return where(at(cond), x, y); });
      },
      "condition"_a, "a"_a, "b"_a, "`a` where `condition` (bool) holds, else `b`; all broadcast.");
  const auto logic = [](const char* name, Tensor (*f)(In, const Tensor&), const char* doc) {
    both(
        name, [f](const Tensor& a, const Tensor& b) { return f(at(a), b); }, doc, "other"_a);
  };
  logic("logical_and", logical_and, "Whether both elements are non-zero: bool.");
  logic("logical_or", logical_or, "Whether either element is non-zero: bool.");
}

}  // namespace tandem::python
