#include <cmath>

#include "tests/op_cases.h"

namespace tandem::cases {
namespace {

const std::vector<DType> kNumbers = kFloats + kInts;
const std::vector<DType> kNumbersU8 = kNumbers + std::vector{DType::u8};
const std::vector<DType> kAll = kNumbersU8 + std::vector{DType::boolean};

double sigmoid_of(double x) {
  return 1 / (1 + std::exp(-x));
}

using One = std::function<double(double)>;
using Two = std::function<double(double, double)>;

OpCase unary(const char* name, Tensor (*f)(In), One ref, double lo, double hi,
             std::vector<DType> dtypes, Type type) {
  OpCase c;
  c.name = name;
  c.args = {{{2, 3, 2, 3}, lo, hi}};
  c.run = [f](const std::vector<Tensor>& in) { return std::vector{f(in[0])}; };
  c.reference = [ref](const std::vector<Array>& in) { return std::vector{map(in[0], ref)}; };
  c.dtypes = std::move(dtypes);
  c.types = {type};
  c.more = {{{}}, {{1}}, {{0}}, {{2, 0, 3}}, {{37}}, {{1, 1, 1, 1}}};
  c.big = {{3, 70001}};
  return c;
}

template <class F>
OpCase unary_fn(const char* name, F f, One ref, double lo, double hi, std::vector<DType> dtypes,
                Type type) {
  OpCase c = unary(name, neg, ref, lo, hi, std::move(dtypes), type);
  c.run = [f](const std::vector<Tensor>& in) { return std::vector<Tensor>{f(in[0])}; };
  return c;
}

using Binary = Tensor (*)(In, const Tensor&);

OpCase binary(const char* name, Binary f, Two ref, Arg a, Arg b, std::vector<DType> dtypes,
              Type type) {
  OpCase c;
  c.name = name;
  c.args = {std::move(a), std::move(b)};
  c.run = [f](const std::vector<Tensor>& in) { return std::vector{f(in[0], in[1])}; };
  c.reference = [ref](const std::vector<Array>& in) { return std::vector{map(in[0], in[1], ref)}; };
  c.dtypes = std::move(dtypes);
  c.types = {type};
  c.more = {{{2, 3, 2, 3}, {2, 3, 2, 3}},
            {{}, {}},
            {{4}, {}},
            {{0, 3}, {3}},
            {{2, 1, 3}, {0, 1}},
            {{1}, {2, 3, 1, 2}},
            {{2, 3, 2, 2}, {3, 1, 1}},
            {{5, 1, 2}, {1, 4, 1}}};
  c.big = {{3, 70001}, {3, 1}};
  return c;
}

OpCase scalar_case(const char* name, std::function<Tensor(const Tensor&)> f, One ref, double lo,
                   double hi, std::vector<DType> dtypes, Type type) {
  return unary_fn(name, std::move(f), std::move(ref), lo, hi, std::move(dtypes), type);
}

}  // namespace

void elementwise_cases(CaseTable& out) {
  const auto add_case = [&](OpCase c) -> OpCase& {
    out.push_back(std::move(c));
    return out.back();
  };
  const Type S = Type::same, F = Type::floating, B = Type::boolean;

  // --- one argument
  add_case(unary(
      "neg", neg, [](double x) { return -x; }, -2, 2, kNumbers, S));
  add_case(unary(
      "abs", tandem::abs, [](double x) { return std::fabs(x); }, -3, 3, kNumbersU8, S));
  add_case(unary(
      "sign", sign, [](double x) { return x > 0   ? 1.0
                                          : x < 0 ? -1.0
                                                  : 0.0; }, -3, 3, kNumbersU8,
      S));
  add_case(unary(
      "floor", tandem::floor, [](double x) { return std::floor(x); }, -3, 3, kNumbersU8, S));
  add_case(unary(
      "ceil", tandem::ceil, [](double x) { return std::ceil(x); }, -3, 3, kNumbersU8, S));
  add_case(unary(
      "round", tandem::round, [](double x) { return std::nearbyint(x); }, -3, 3, kNumbersU8, S));
  add_case(unary(
      "square", square, [](double x) { return x * x; }, -3, 3, kNumbersU8, S));
  add_case(unary(
      "reciprocal", reciprocal, [](double x) { return 1 / x; }, 0.5, 3, kAll, F));
  add_case(unary(
      "exp", tandem::exp, [](double x) { return std::exp(x); }, -3, 2, kAll, F));
  add_case(unary(
      "log", tandem::log, [](double x) { return std::log(x); }, 0.1, 4, kAll, F));
  add_case(unary(
      "log1p", tandem::log1p, [](double x) { return std::log1p(x); }, -0.6, 3, kAll, F));
  add_case(unary(
      "sqrt", tandem::sqrt, [](double x) { return std::sqrt(x); }, 0.2, 4, kAll, F));
  add_case(unary(
      "rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }, 0.2, 4, kAll, F));
  add_case(unary(
      "sin", tandem::sin, [](double x) { return std::sin(x); }, -4, 4, kAll, F));
  add_case(unary(
      "cos", tandem::cos, [](double x) { return std::cos(x); }, -4, 4, kAll, F));
  add_case(unary(
      "acos", tandem::acos, [](double x) { return std::acos(x); }, -0.8, 0.8, kAll, F));
  add_case(unary(
      "asin", tandem::asin, [](double x) { return std::asin(x); }, -0.8, 0.8, kAll, F));
  add_case(unary(
      "atan", tandem::atan, [](double x) { return std::atan(x); }, -4, 4, kAll, F));
  add_case(unary(
      "erf", tandem::erf, [](double x) { return std::erf(x); }, -3, 3, kAll, F));
  add_case(unary(
      "tanh", tandem::tanh, [](double x) { return std::tanh(x); }, -3, 3, kAll, F));
  add_case(unary("sigmoid", sigmoid, sigmoid_of, -4, 4, kAll, F));
  add_case(unary(
      "relu", relu, [](double x) { return x > 0 ? x : 0.0; }, -2, 2, kNumbersU8, S));
  add_case(unary(
      "gelu", gelu, [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }, -3, 3,
      kAll, F));
  add_case(unary(
      "silu", silu, [](double x) { return x * sigmoid_of(x); }, -4, 4, kAll, F));
  add_case(unary(
      "softplus", softplus, [](double x) { return std::log1p(std::exp(x)); }, -4, 4, kAll, F));
  add_case(unary_fn(
      "leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.2); },
      [](double x) { return x > 0 ? x : 0.2 * x; }, -2, 2, kAll, F));
  add_case(unary_fn(
      "clamp", [](const Tensor& x) { return clamp(x, -1, 1); },
      [](double x) { return std::min(std::max(x, -1.0), 1.0); }, -2.2, 2.2, kNumbers, S));
  add_case(unary_fn(
      "clamp_low", [](const Tensor& x) { return clamp(x, 1, Scalar{}); },
      [](double x) { return std::max(x, 1.0); }, -2.2, 2.2, kNumbersU8, S));
  add_case(unary_fn(
      "clamp_high", [](const Tensor& x) { return clamp(x, Scalar{}, 1); },
      [](double x) { return std::min(x, 1.0); }, -2.2, 2.2, kNumbersU8, S));
  OpCase& lnot = add_case(unary(
      "logical_not", logical_not, [](double x) { return x == 0; }, -1, 1, kAll, B));
  lnot.args[0].integers = true;
  lnot.differentiable = false;
  add_case(unary(
               "isnan", tandem::isnan, [](double x) { return x != x; }, -1, 1, kAll, B))
      .differentiable = false;

  // --- conversions and copies
  add_case(unary_fn(
               "cast_f32", [](const Tensor& x) { return cast(x, DType::f32); },
               [](double x) { return x; }, -3, 3, kAll, Type::f32))
      .differences = false;
  add_case(unary_fn(
      "cast_f64", [](const Tensor& x) { return cast(x, DType::f64) * 2; },
      [](double x) { return 2 * x; }, -3, 3, kAll, Type::any));
  OpCase& half = add_case(unary_fn(
      "cast_f16", [](const Tensor& x) { return cast(x, DType::f16).to(DType::f64); },
      [](double x) { return x; }, -3, 3, kAll, Type::any));
  half.differentiable = false;
  half.ulps = 0x1p42;
  half.why = "the value passed through f16: one rounding of 2^-11 whatever the dtype of the case";
  add_case(unary_fn(
               "cast_i32", [](const Tensor& x) { return cast(x, DType::i32); },
               [](double x) { return std::trunc(x); }, -3, 3, kAll, Type::i32))
      .differentiable = false;
  add_case(unary_fn(
               "cast_u8", [](const Tensor& x) { return cast(x, DType::u8); },
               [](double x) { return std::trunc(x); }, 0, 200, kNumbersU8, Type::any))
      .differentiable = false;
  OpCase& to_bool = add_case(unary_fn(
      "cast_bool", [](const Tensor& x) { return cast(x, DType::boolean); },
      [](double x) { return x != 0; }, -1, 1, kAll, B));
  to_bool.args[0].integers = true;
  to_bool.differentiable = false;
  add_case(unary_fn(
      "copy", [](const Tensor& x) { return copy(x); }, [](double x) { return x; }, -3, 3, kAll, S));
  OpCase& nhwc = add_case(unary_fn(
      "copy_channels_last", [](const Tensor& x) { return x.to(MemoryFormat::channels_last); },
      [](double x) { return x; }, -3, 3, kAll, S));
  nhwc.more = {{{1, 1, 1, 1}}, {{0, 2, 3, 4}}, {{2, 5, 1, 3}}};
  nhwc.big = {{4, 40, 30, 30}};
  add_case(unary_fn(
      "copy_contiguous", [](const Tensor& x) { return copy(x, MemoryFormat::contiguous); },
      [](double x) { return x; }, -3, 3, kAll, S));

  // --- two tensors
  const Arg x{{2, 3, 4}, -2, 2}, y{{3, 1}, -2, 2};
  add_case(binary(
      "add", add, [](double a, double b) { return a + b; }, x, y, kAll, S));
  add_case(binary(
      "sub", sub, [](double a, double b) { return a - b; }, x, y, kNumbers, S));
  add_case(binary(
      "mul", mul, [](double a, double b) { return a * b; }, x, y, kAll, S));
  add_case(binary(
      "div", div, [](double a, double b) { return a / b; }, x, {{3, 1}, 0.5, 3}, kAll, F));
  OpCase& power = add_case(binary(
      "pow", tandem::pow, [](double a, double b) { return std::pow(a, b); }, {{2, 3, 4}, 0.4, 2},
      {{3, 1}, -2, 2}, kFloats, S));
  power.ulps = 64;
  power.why = "f32 pow: the error of the logarithm is multiplied by the exponent";
  add_case(binary(
               "pow_integers", tandem::pow, [](double a, double b) { return std::pow(a, b); },
               {{2, 3, 4}, -3, 3}, {{3, 1}, 0, 3}, kInts, S))
      .differentiable = false;
  // Divisors of either sign, and 0 for integers.
  const auto down = [](double a, double b) { return b == 0 ? 0 : std::floor(a / b); };
  const auto rest = [](double a, double b) { return b == 0 ? 0 : a - b * std::floor(a / b); };
  add_case(binary("floor_divide", floor_divide, down, {{2, 3, 4}, -9, 9}, {{3, 1}, 0.6, 3},
                  kNumbersU8, S));
  add_case(
      binary("remainder", remainder, rest, {{2, 3, 4}, -9, 9}, {{3, 1}, 0.6, 3}, kNumbersU8, S));
  add_case(binary("floor_divide_below", floor_divide, down, {{2, 3, 4}, -9, 9}, {{3, 1}, -3, -0.6},
                  kNumbers, S));
  add_case(binary("remainder_below", remainder, rest, {{2, 3, 4}, -9, 9}, {{3, 1}, -3, -0.6},
                  kNumbers, S));
  for (const auto& [name, f, ref] :
       {std::tuple<const char*, Binary, Two>{"floor_divide_integers", floor_divide, down},
        {"remainder_integers", remainder, rest}}) {
    add_case(binary(name, f, ref, {{2, 3, 4}, -9, 9}, {{3, 1}, -2, 2}, kInts, S)).differentiable =
        false;
  }
  add_case(binary(
      "maximum", maximum, [](double a, double b) { return std::max(a, b); }, x, y, kAll, S));
  add_case(binary(
      "minimum", minimum, [](double a, double b) { return std::min(a, b); }, x, y, kAll, S));
  struct Test {
    const char* name;
    Binary f;
    Two ref;
  };
  for (const Test& t : std::initializer_list<Test>{
           {"eq", eq, [](double a, double b) { return a == b; }},
           {"ne", ne, [](double a, double b) { return a != b; }},
           {"lt", lt, [](double a, double b) { return a < b; }},
           {"le", le, [](double a, double b) { return a <= b; }},
           {"gt", gt, [](double a, double b) { return a > b; }},
           {"ge", ge, [](double a, double b) { return a >= b; }},
           {"logical_and", logical_and, [](double a, double b) { return a != 0 && b != 0; }},
           {"logical_or", logical_or, [](double a, double b) { return a != 0 || b != 0; }}}) {
    OpCase& c = add_case(binary(t.name, t.f, t.ref, x, y, kAll, B));
    c.args[0].integers = c.args[1].integers = true;
    c.differentiable = false;
  }

  // --- a tensor and a scalar
  add_case(scalar_case(
      "add_scalar", [](const Tensor& t) { return t + 3; }, [](double a) { return a + 3; }, -2, 2,
      kNumbersU8, S));
  add_case(scalar_case(
      "sub_scalar", [](const Tensor& t) { return t - 1; }, [](double a) { return a - 1; }, 1, 3,
      kNumbersU8, S));
  add_case(scalar_case(
      "scalar_sub", [](const Tensor& t) { return 5 - t; }, [](double a) { return 5 - a; }, -2, 2,
      kNumbersU8, S));
  add_case(scalar_case(
      "mul_scalar", [](const Tensor& t) { return t * 3; }, [](double a) { return a * 3; }, -2, 2,
      kNumbersU8, S));
  OpCase& by_real = add_case(scalar_case(
      "mul_real", [](const Tensor& t) { return t * 0.5; }, [](double a) { return a * 0.5; }, -2, 2,
      kAll, F));
  by_real.why = "integers times a real number give f32";
  add_case(scalar_case(
      "div_scalar", [](const Tensor& t) { return t / 4; }, [](double a) { return a / 4; }, -2, 2,
      kNumbersU8, F));
  add_case(scalar_case(
      "scalar_div", [](const Tensor& t) { return 2 / t; }, [](double a) { return 2 / a; }, 0.5, 3,
      kNumbersU8, F));
  add_case(scalar_case(
      "pow_scalar", [](const Tensor& t) { return pow(t, 3); }, [](double a) { return a * a * a; },
      -2, 2, kNumbersU8, S));
  OpCase& root = add_case(scalar_case(
      "pow_real", [](const Tensor& t) { return pow(t, -1.5); },
      [](double a) { return std::pow(a, -1.5); }, 0.5, 3, kFloats, S));
  root.ulps = 64;
  root.why = power.why;
  OpCase& base = add_case(scalar_case(
      "scalar_pow", [](const Tensor& t) { return pow(2.5, t); },
      [](double a) { return std::pow(2.5, a); }, -2, 2, kFloats, S));
  base.ulps = 64;
  base.why = power.why;
  add_case(scalar_case(
      "floor_divide_scalar", [](const Tensor& t) { return floor_divide(t, 3); },
      [down](double a) { return down(a, 3); }, -8, 8, kNumbersU8, S));
  add_case(scalar_case(
      "scalar_floor_divide", [](const Tensor& t) { return floor_divide(7, t); },
      [down](double a) { return down(7, a); }, 0.6, 4, kNumbersU8, S));
  add_case(scalar_case(
      "remainder_scalar", [](const Tensor& t) { return remainder(t, 3); },
      [rest](double a) { return rest(a, 3); }, -8, 8, kNumbersU8, S));
  add_case(scalar_case(
      "scalar_remainder", [](const Tensor& t) { return remainder(7, t); },
      [rest](double a) { return rest(7, a); }, 0.6, 4, kNumbersU8, S));
  add_case(scalar_case(
      "maximum_scalar", [](const Tensor& t) { return maximum(t, 1); },
      [](double a) { return std::max(a, 1.0); }, -2.2, 2.2, kNumbersU8, S));
  add_case(scalar_case(
      "minimum_scalar", [](const Tensor& t) { return minimum(t, 1); },
      [](double a) { return std::min(a, 1.0); }, -2.2, 2.2, kNumbersU8, S));
  for (const auto& [name, f, ref] :
       std::initializer_list<std::tuple<const char*, std::function<Tensor(const Tensor&)>, One>>{
           {"lt_scalar", [](const Tensor& t) { return lt(t, 1); }, [](double a) { return a < 1; }},
           {"scalar_lt", [](const Tensor& t) { return lt(1, t); }, [](double a) { return 1 < a; }},
           {"ge_scalar", [](const Tensor& t) { return ge(t, 1); }, [](double a) { return a >= 1; }},
           {"scalar_ge", [](const Tensor& t) { return ge(1, t); }, [](double a) { return 1 >= a; }},
           {"scalar_gt", [](const Tensor& t) { return gt(1, t); }, [](double a) { return 1 > a; }},
           {"scalar_le", [](const Tensor& t) { return le(1, t); }, [](double a) { return 1 <= a; }},
           {"eq_scalar", [](const Tensor& t) { return eq(t, 1); }, [](double a) { return a == 1; }},
           {"ne_scalar", [](const Tensor& t) { return ne(t, 1); },
            [](double a) { return a != 1; }}}) {
    OpCase& c = add_case(scalar_case(name, f, ref, -2, 2, kNumbersU8, B));
    c.args[0].integers = true;
    c.differentiable = false;
  }

  // --- three
  OpCase sel;
  sel.name = "where";
  sel.args = {{.shape = {2, 3, 4}, .lo = 0, .hi = 1, .dtype = DType::boolean}, x, y};
  sel.run = [](const std::vector<Tensor>& in) { return std::vector{where(in[0], in[1], in[2])}; };
  sel.reference = [](const std::vector<Array>& in) {
    const Array both = map(in[1], in[2], [](double a, double) { return a; });
    const Shape s = map(in[0], both, [](double, double) { return 0; }).shape;
    const Array c = broadcast(in[0], s), a = broadcast(in[1], s), b = broadcast(in[2], s);
    Array r(s);
    for (std::size_t k = 0; k < r.v.size(); ++k) r.v[k] = c.v[k] != 0 ? a.v[k] : b.v[k];
    return std::vector{r};
  };
  sel.dtypes = kAll;
  sel.types = {S};
  sel.more = {{{}, {}, {}}, {{3}, {2, 3}, {1}}, {{0}, {}, {}}, {{2, 3, 2, 2}, {2, 3, 2, 2}, {}}};
  sel.big = {{3, 70001}, {3, 70001}, {70001}};
  add_case(sel);

  // --- several in a row, as programs have them: what fusion is for
  OpCase chain;
  chain.name = "chain";
  chain.args = {{{2, 3, 2, 3}}, {{3, 1, 1}}, {{2, 3, 2, 3}, 0.5, 2}};
  chain.run = [](const std::vector<Tensor>& in) {
    const Tensor a = in[0] * in[1] + 1, b = tanh(a) / in[2];
    return std::vector{where(gt(b, a), b - a, (a - b) * 0.5), relu(b) + sigmoid(a)};
  };
  chain.reference = [](const std::vector<Array>& in) {
    const Array a = map(in[0], in[1], [](double p, double q) { return p * q + 1; });
    const Array b = map(a, in[2], [](double p, double q) { return std::tanh(p) / q; });
    return std::vector{
        map(b, a, [](double p, double q) { return p > q ? p - q : (q - p) * 0.5; }),
        map(b, a, [](double p, double q) { return (p > 0 ? p : 0) + sigmoid_of(q); })};
  };
  chain.dtypes = kFloats;
  chain.roundings = 8;
  chain.why = "several operations, each rounded";
  chain.types = {S};
  chain.more = {{{1}, {1}, {1}}, {{0, 3}, {3}, {0, 3}}};
  chain.big = {{3, 70001}, {3, 1}, {3, 70001}};
  add_case(chain);
}

}  // namespace tandem::cases
