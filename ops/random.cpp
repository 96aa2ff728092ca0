#include "ops/random.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "ops/elementwise.h"
#include "ops/op_list.h"

namespace tandem {

namespace {

void expect_state(InferContext& c, int inputs) {
  c.expect_inputs(inputs);
  c.expect_dtype(0, DType::i64);
  c.expect_shape(0, {2}, "a generator's state is (seed, offset)");
  if (!c.input(0).is_contiguous()) c.fail("a generator's state must be contiguous");
  c.mutates(0);
}

void expect_ok(const InferContext& c, bool ok, const char* rule, double a, double b) {
  if (!ok) c.fail<ValueError>(rule, fmt::format("{} and {}", a, b));
}

// The integers a type holds: [first, second).
std::pair<double, double> limits(DType t) {
  switch (t) {
    case DType::boolean: return {0, 2};
    case DType::u8: return {0, 256};
    case DType::i32: return {-0x1p31, 0x1p31};
    default: return {-0x1p53, 0x1p53};  // beyond, a double skips integers
  }
}

void infer_uniform(InferContext& c) {
  expect_state(c, 1);
  const auto& a = c.attrs<UniformAttrs>();
  if (is_floating(a.dtype)) {
    expect_ok(c, a.lo <= a.hi && std::isfinite(a.hi - a.lo),
              "the bounds must be finite, the lower not above the upper", a.lo, a.hi);
    // 16-bit types are computed in f32.
    const double most = max_of(a.dtype), span = std::max(most, max_of(DType::f32));
    expect_ok(c, a.lo >= -most && a.hi <= most && a.hi - a.lo <= span,
              "the bounds and their difference must fit the dtype", a.lo, a.hi);
  } else {
    const auto [least, end] = limits(a.dtype);
    expect_ok(c, a.lo < a.hi && a.hi - a.lo <= 0x1p32,
              "the lower bound must be below the upper by at most 2^32", a.lo, a.hi);
    expect_ok(c, a.lo >= least && a.hi <= end, "the bounds must fit the dtype", a.lo, a.hi);
    expect_ok(c, a.lo == std::floor(a.lo) && a.hi == std::floor(a.hi), "the bounds are integers",
              a.lo, a.hi);
  }
  checked_numel(a.shape, c.op_name());
  c.output({a.dtype, c.input(0).device, a.shape});
}

void infer_normal(InferContext& c) {
  expect_state(c, 1);
  const auto& a = c.attrs<NormalAttrs>();
  if (!is_floating(a.dtype)) {
    c.fail<TypeError>("only floats are normal", name_of(a.dtype), "f32, f64, f16 or bf16");
  }
  expect_ok(c, std::isfinite(a.mean) && std::isfinite(a.std) && a.std >= 0,
            "mean and standard deviation must be finite, the latter not negative", a.mean, a.std);
  const double most = max_of(a.dtype);
  expect_ok(c, std::abs(a.mean) <= most && a.std <= most,
            "mean and standard deviation must fit the dtype", a.mean, a.std);
  checked_numel(a.shape, c.op_name());
  c.output({a.dtype, c.input(0).device, a.shape});
}

void infer_dropout(InferContext& c) {
  expect_state(c, 2);
  c.expect_floating(1);
  const double p = c.attrs<DropoutAttrs>().p;
  if (!(p >= 0 && p <= 1)) {
    c.fail<ValueError>("p is a probability", fmt::format("{}", p), "0 <= p <= 1");
  }
  // Elements are numbered as they lie in memory, so the layout may be anything without gaps.
  TensorDesc y = c.input(1);
  if (!y.is_dense()) y.strides = contiguous_strides(y.shape);
  c.output(y);
  y.dtype = DType::boolean;
  c.output(y);
}

void vjp_dropout(VjpContext& c) {
  if (!c.needs(1)) return;
  c.set(1, mul(mul(c.grad(), c.output(1)), Scalar(c.attrs<DropoutAttrs>().scale())));
}

const Tensor& state_on(std::string_view op, Generator* g, Device device) {
  const Tensor& s = (g ? *g : default_generator(device)).state();
  if (!(s.device() == device)) {
    fail<DeviceError>(op, "the generator must be on the tensor's device", s.device().str(),
                      device.str());
  }
  return s;
}

void expect_float_type(std::string_view op, DType t) {
  if (!is_floating(t)) {
    fail<TypeError>(op, "only floats are drawn from an interval (randint draws integers)",
                    name_of(t), "f32, f64, f16 or bf16");
  }
}

double dropout_flops(const PreparedOp& p) {
  return static_cast<double>(p.in[1].numel());
}

}  // namespace

namespace op {
constinit const OpDef rand_uniform = {.id = id_of(OpId::rand_uniform_),
                                      .name = "rand_uniform",
                                      .attrs = &attr_type_v<UniformAttrs>,
                                      .infer = infer_uniform,
                                      .traits = {.random = true},
                                      .doc = "Uniform numbers, or integers, in [lo, hi)."};
constinit const OpDef rand_normal = {.id = id_of(OpId::rand_normal_),
                                     .name = "rand_normal",
                                     .attrs = &attr_type_v<NormalAttrs>,
                                     .infer = infer_normal,
                                     .traits = {.random = true},
                                     .doc = "Normal numbers."};
constinit const OpDef dropout = {.id = id_of(OpId::dropout_),
                                 .name = "dropout",
                                 .attrs = &attr_type_v<DropoutAttrs>,
                                 .infer = infer_dropout,
                                 .vjp = vjp_dropout,
                                 .traits = {.saves_outputs = 0b10, .random = true},
                                 .flops = dropout_flops,
                                 .doc = "Zeroes elements at random and scales the others up."};
}  // namespace op

Tensor rand(const Shape& shape, TensorOptions o, Generator* g, SrcLoc loc) {
  const FunctionSite at("rand", loc);
  return uniform(shape, 0, 1, o, g, loc);
}

Tensor uniform(const Shape& shape, double lo, double hi, TensorOptions o, Generator* g,
               SrcLoc loc) {
  const FunctionSite at("uniform", loc);
  expect_float_type("uniform", o.dtype);
  const UniformAttrs a{shape, lo, hi, o.dtype};
  return dispatch::call(op::rand_uniform, {&state_on("uniform", g, o.device)}, a, loc)[0];
}

Tensor randn(const Shape& shape, TensorOptions o, Generator* g, SrcLoc loc) {
  const FunctionSite at("randn", loc);
  return normal(shape, 0, 1, o, g, loc);
}

Tensor normal(const Shape& shape, double mean, double std, TensorOptions o, Generator* g,
              SrcLoc loc) {
  const FunctionSite at("normal", loc);
  const NormalAttrs a{shape, mean, std, o.dtype};
  return dispatch::call(op::rand_normal, {&state_on("normal", g, o.device)}, a, loc)[0];
}

Tensor randint(std::int64_t lo, std::int64_t hi, const Shape& shape, TensorOptions o, Generator* g,
               SrcLoc loc) {
  const FunctionSite at("randint", loc);
  if (is_floating(o.dtype)) {
    fail<TypeError>("randint", "the dtype must hold integers", name_of(o.dtype),
                    "i32, i64, u8 or bool");
  }
  const UniformAttrs a{shape, static_cast<double>(lo), static_cast<double>(hi), o.dtype};
  return dispatch::call(op::rand_uniform, {&state_on("randint", g, o.device)}, a, loc)[0];
}

Tensor bernoulli(In p, Generator* g) {
  const FunctionSite at("bernoulli", p.loc);
  expect_defined("bernoulli", {&p.t}, p.loc);
  expect_float_type("bernoulli", p->dtype());
  // A 16-bit float has too few bits to compare a probability with.
  const DType t = p->dtype() == DType::f64 ? DType::f64 : DType::f32;
  const Tensor u = rand(p->shape(), {.dtype = t, .device = p->device()}, g, p.loc);
  // p first: the result has the memory order of the first.
  return gt(p, u).to(p->dtype(), p.loc);
}

Tensor dropout(In x, double p, bool training, Generator* g) {
  const ErrorSite at(x.loc);
  expect_defined("dropout", {&x.t}, x.loc);
  if (!(p >= 0 && p <= 1)) {
    fail("dropout", "p is a probability", fmt::format("{}", p), "0 <= p <= 1");
  }
  if (!training || p == 0) return x;
  const Tensor& state = state_on("dropout", g, x->device());
  return dispatch::call(op::dropout, {&state, &x.t}, DropoutAttrs{p}, x.loc)[0];
}

}  // namespace tandem
