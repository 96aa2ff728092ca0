// Gradient rules of the elementwise ops, in the order of ops/op_list.h. All are calls of public
// functions, so they are captured like any other code and can be differentiated again.
#include <cmath>

#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/grad_util.h"

namespace tandem::detail {

namespace {

constexpr double kTwoOverSqrtPi = 1.1283791670955125739;
constexpr double kInvSqrtTwoPi = 0.39894228040143267794;

/// Sets the gradient of input i, undoing its broadcast.
void give(VjpContext& c, int i, const Tensor& g) {
  c.set(i, reduce_to(g, c.input_desc(i)));
}

// The second operand of a binary op as the gradient rules see it: a tensor or a scalar.
bool has_scalar(const VjpContext& c) {
  return c.num_inputs() == 1;
}
const BinaryAttrs& binary(const VjpContext& c) {
  return c.attrs<BinaryAttrs>();
}

// 0-dim, for where(): broadcast rather than written out.
Tensor scalar_zero(const Tensor& t) {
  return zeros({}, {t.dtype(), t.device()});
}

/// The derivative is zero wherever it exists.
void flat(VjpContext& c) {
  c.set(0, zeros_of(c.input_desc(0)));
}

/// A gradient op is linear in g: its derivative is itself, applied to the new gradient.
template <class F>
void linear_in_g(VjpContext& c, F&& again) {
  if (c.needs(0)) give(c, 0, again(c.grad()));
}

/// Maximum and minimum: the winner takes the gradient, equal operands half of it each.
template <class Wins, class Loses>
void winner(VjpContext& c, Wins&& wins, Loses&& loses) {
  const Tensor& g = c.grad();
  const Tensor& a = c.input(0);
  const auto share = [&](const Tensor& won, const Tensor& tie) {
    return where(won, g, where(tie, mul(g, 0.5), scalar_zero(g)));
  };
  if (has_scalar(c)) {
    const Scalar s = binary(c).scalar;
    give(c, 0, share(wins(a, s), eq(a, s)));
    return;
  }
  const Tensor& b = c.input(1);
  const Tensor tie = eq(a, b);
  if (c.needs(0)) give(c, 0, share(wins(a, b), tie));
  if (c.needs(1)) give(c, 1, share(loses(a, b), tie));
}

}  // namespace

void vjp_copy(VjpContext& c) {
  c.set(0, c.grad());
}
void vjp_cast(VjpContext& c) {
  give(c, 0, c.grad());
}

void vjp_neg(VjpContext& c) {
  give(c, 0, neg(c.grad()));
}
void vjp_abs(VjpContext& c) {
  give(c, 0, mul(c.grad(), sign(c.input(0))));
}
void vjp_sign(VjpContext& c) {
  flat(c);
}
void vjp_floor(VjpContext& c) {
  flat(c);
}
void vjp_ceil(VjpContext& c) {
  flat(c);
}
void vjp_round(VjpContext& c) {
  flat(c);
}
void vjp_square(VjpContext& c) {
  give(c, 0, mul(mul(c.grad(), c.input(0)), 2));
}
void vjp_reciprocal(VjpContext& c) {
  give(c, 0, neg(mul(c.grad(), square(c.output(0)))));
}
void vjp_exp(VjpContext& c) {
  give(c, 0, mul(c.grad(), c.output(0)));
}
void vjp_log(VjpContext& c) {
  give(c, 0, div(c.grad(), c.input(0)));
}
void vjp_log1p(VjpContext& c) {
  give(c, 0, div(c.grad(), add(c.input(0), 1)));
}
void vjp_sqrt(VjpContext& c) {
  give(c, 0, div(mul(c.grad(), 0.5), c.output(0)));
}
void vjp_rsqrt(VjpContext& c) {
  const Tensor& y = c.output(0);
  give(c, 0, mul(mul(c.grad(), mul(square(y), y)), -0.5));
}
void vjp_sin(VjpContext& c) {
  give(c, 0, mul(c.grad(), cos(c.input(0))));
}
void vjp_cos(VjpContext& c) {
  give(c, 0, neg(mul(c.grad(), sin(c.input(0)))));
}
// 1 - x^2 as a product keeps its digits near the ends, where it is small.
Tensor over_root_to_one(const Tensor& g, const Tensor& x) {
  return mul(g, rsqrt(mul(sub(1, x), add(x, 1))));
}
void vjp_acos(VjpContext& c) {
  give(c, 0, neg(over_root_to_one(c.grad(), c.input(0))));
}
void vjp_asin(VjpContext& c) {
  give(c, 0, over_root_to_one(c.grad(), c.input(0)));
}
void vjp_atan(VjpContext& c) {
  give(c, 0, div(c.grad(), add(square(c.input(0)), 1)));
}
void vjp_erf(VjpContext& c) {
  give(c, 0, mul(mul(c.grad(), exp(neg(square(c.input(0))))), kTwoOverSqrtPi));
}
void vjp_tanh(VjpContext& c) {
  give(c, 0, tanh_grad(c.grad(), c.output(0)));
}
void vjp_sigmoid(VjpContext& c) {
  give(c, 0, sigmoid_grad(c.grad(), c.output(0)));
}
void vjp_relu(VjpContext& c) {
  give(c, 0, relu_grad(c.grad(), c.output(0)));
}
void vjp_leaky_relu(VjpContext& c) {
  give(c, 0, leaky_relu_grad(c.grad(), c.input(0), c.attrs<LeakyReluAttrs>().slope));
}
void vjp_gelu(VjpContext& c) {
  give(c, 0, gelu_grad(c.grad(), c.input(0)));
}
void vjp_silu(VjpContext& c) {
  give(c, 0, silu_grad(c.grad(), c.input(0)));
}
void vjp_softplus(VjpContext& c) {
  give(c, 0, softplus_grad(c.grad(), c.input(0)));
}
void vjp_clamp(VjpContext& c) {
  const auto& a = c.attrs<ClampAttrs>();
  give(c, 0, clamp_grad(c.grad(), c.input(0), a.lo, a.hi));
}

void vjp_add(VjpContext& c) {
  if (c.needs(0)) give(c, 0, c.grad());
  if (!has_scalar(c) && c.needs(1)) give(c, 1, c.grad());
}
void vjp_sub(VjpContext& c) {
  const Tensor& g = c.grad();
  if (has_scalar(c)) {
    give(c, 0, binary(c).reversed ? neg(g) : g);
    return;
  }
  if (c.needs(0)) give(c, 0, g);
  if (c.needs(1)) give(c, 1, neg(reduce_to(g, c.input_desc(1))));
}
void vjp_mul(VjpContext& c) {
  const Tensor& g = c.grad();
  if (has_scalar(c)) {
    give(c, 0, mul(g, binary(c).scalar));
    return;
  }
  if (c.needs(0)) give(c, 0, mul(g, c.input(1)));
  if (c.needs(1)) give(c, 1, mul(g, c.input(0)));
}
void vjp_div(VjpContext& c) {
  const Tensor& g = c.grad();
  if (has_scalar(c) && !binary(c).reversed) {
    give(c, 0, div(g, binary(c).scalar));
    return;
  }
  if (has_scalar(c)) {
    const Tensor& a = c.input(0);
    give(c, 0, neg(mul(div(g, a), div(binary(c).scalar, a))));
    return;
  }
  const Tensor& b = c.input(1);
  const Tensor q = div(g, b);
  if (c.needs(0)) give(c, 0, q);
  // Only here: a /= b may have been written over.
  if (c.needs(1)) give(c, 1, neg(mul(q, div(c.input(0), b))));
}
void vjp_pow(VjpContext& c) {
  const Tensor& g = c.grad();
  const Tensor& a = c.input(0);
  if (has_scalar(c)) {
    const Scalar s = binary(c).scalar;
    if (binary(c).reversed) {  // s^x; the logarithm of 0 is held off by s^x = 0
      const double base = s.to_double();
      give(c, 0, base == 0 ? mul(g, 0) : mul(mul(g, pow(s, a)), std::log(base)));
    } else if (s.to_double() == 0) {
      flat(c);
    } else {
      give(c, 0, mul(mul(g, pow(a, s.to_double() - 1)), s));
    }
    return;
  }
  // b a^(b - 1) and a^b log(a), each 0 where its factor is, though the other is infinite there.
  const Tensor& b = c.input(1);
  const Tensor zero = scalar_zero(g);
  if (c.needs(0)) {
    give(c, 0, where(eq(b, 0), zero, mul(g, mul(b, pow(a, sub(b, 1))))));
  }
  if (c.needs(1)) {
    give(c, 1, where(logical_and(eq(a, 0), ge(b, 0)), zero, mul(g, mul(pow(a, b), log(a)))));
  }
}
void vjp_floor_divide(VjpContext& c) {
  for (int i = 0; i < c.num_inputs(); ++i) {
    if (c.needs(i)) c.set(i, zeros_of(c.input_desc(i)));
  }
}
void vjp_remainder(VjpContext& c) {
  const Tensor& g = c.grad();
  if (has_scalar(c)) {
    const auto& [s, reversed] = binary(c);
    give(c, 0, reversed ? neg(mul(g, floor_divide(s, c.input(0)))) : g);
    return;
  }
  if (c.needs(0)) give(c, 0, g);
  if (c.needs(1)) give(c, 1, neg(mul(g, floor_divide(c.input(0), c.input(1)))));
}
void vjp_maximum(VjpContext& c) {
  winner(
      c, [](const Tensor& a, const auto& b) { return gt(a, b); },
      [](const Tensor& a, const auto& b) { return lt(a, b); });
}
void vjp_minimum(VjpContext& c) {
  winner(
      c, [](const Tensor& a, const auto& b) { return lt(a, b); },
      [](const Tensor& a, const auto& b) { return gt(a, b); });
}

void vjp_where(VjpContext& c) {
  const Tensor& g = c.grad();
  const Tensor zero = scalar_zero(g);
  if (c.needs(1)) give(c, 1, where(c.input(0), g, zero));
  if (c.needs(2)) give(c, 2, where(c.input(0), zero, g));
}

// Second derivatives. In each: input 0 is the gradient g, input 1 the saved x or y.

void vjp_tanh_grad(VjpContext& c) {
  const Tensor& y = c.input(1);
  linear_in_g(c, [&](const Tensor& h) { return tanh_grad(h, y); });
  if (c.needs(1)) give(c, 1, mul(mul(mul(c.grad(), c.input(0)), y), -2));
}
void vjp_sigmoid_grad(VjpContext& c) {
  const Tensor& y = c.input(1);
  linear_in_g(c, [&](const Tensor& h) { return sigmoid_grad(h, y); });
  if (c.needs(1)) give(c, 1, mul(mul(c.grad(), c.input(0)), sub(1, mul(y, 2))));
}
void vjp_relu_grad(VjpContext& c) {
  linear_in_g(c, [&](const Tensor& h) { return relu_grad(h, c.input(1)); });
  if (c.needs(1)) c.set(1, zeros_of(c.input_desc(1)));
}
void vjp_leaky_relu_grad(VjpContext& c) {
  const double slope = c.attrs<LeakyReluAttrs>().slope;
  linear_in_g(c, [&](const Tensor& h) { return leaky_relu_grad(h, c.input(1), slope); });
  if (c.needs(1)) c.set(1, zeros_of(c.input_desc(1)));
}
void vjp_gelu_grad(VjpContext& c) {
  const Tensor& x = c.input(1);
  linear_in_g(c, [&](const Tensor& h) { return gelu_grad(h, x); });
  if (c.needs(1)) {  // phi(x) (2 - x^2)
    const Tensor x2 = square(x);
    const Tensor phi = mul(exp(mul(x2, -0.5)), kInvSqrtTwoPi);
    give(c, 1, mul(mul(c.grad(), c.input(0)), mul(phi, sub(2, x2))));
  }
}
void vjp_silu_grad(VjpContext& c) {
  const Tensor& x = c.input(1);
  linear_in_g(c, [&](const Tensor& h) { return silu_grad(h, x); });
  if (c.needs(1)) {  // s (1 - s) (2 + x (1 - 2 s))
    const Tensor s = sigmoid(x);
    const Tensor rest = add(mul(x, sub(1, mul(s, 2))), 2);
    give(c, 1, mul(sigmoid_grad(mul(c.grad(), c.input(0)), s), rest));
  }
}
void vjp_softplus_grad(VjpContext& c) {
  const Tensor& x = c.input(1);
  linear_in_g(c, [&](const Tensor& h) { return softplus_grad(h, x); });
  if (c.needs(1)) give(c, 1, sigmoid_grad(mul(c.grad(), c.input(0)), sigmoid(x)));
}
void vjp_clamp_grad(VjpContext& c) {
  const auto& a = c.attrs<ClampAttrs>();
  linear_in_g(c, [&](const Tensor& h) { return clamp_grad(h, c.input(1), a.lo, a.hi); });
  if (c.needs(1)) c.set(1, zeros_of(c.input_desc(1)));
}

}  // namespace tandem::detail
