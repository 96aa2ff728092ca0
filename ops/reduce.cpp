#include "ops/reduce.h"

#include "core/dispatch.h"
#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/grad_util.h"
#include "ops/index.h"
#include "ops/op_list.h"

namespace tandem {

unsigned axis_mask(const Dims& axes, int rank, std::string_view op) {
  if (axes.empty()) return (1u << rank) - 1;
  unsigned mask = 0;
  for (auto a : axes) {
    const unsigned bit = 1u << wrap_axis(a, rank, op);
    if (mask & bit) fail<ValueError>(op, "an axis is named twice", axes.str());
    mask |= bit;
  }
  return mask;
}

namespace {

Shape reduced_shape(const Shape& s, unsigned mask, bool keepdim) {
  Shape r;
  for (int i = 0; i < s.size(); ++i) {
    if (!(mask >> i & 1u)) {
      r.push_back(s[i]);
    } else if (keepdim) {
      r.push_back(1);
    }
  }
  return r;
}

template <class A>
unsigned mask_of(const InferContext& c) {
  return axis_mask(c.attrs<A>().axes, c.input(0).rank(), c.op_name());
}

template <class A>
void infer_as(InferContext& c, DType dtype) {
  const TensorDesc& x = c.input(0);
  c.output({dtype, x.device, reduced_shape(x.shape, mask_of<A>(c), c.template attrs<A>().keepdim)});
}

void infer_sum(InferContext& c) {
  c.expect_inputs(1);
  const DType t = c.input(0).dtype;
  infer_as<ReduceAttrs>(c, is_integral(t) ? DType::i64 : t);
}

void expect_floating(const InferContext& c) {
  c.expect_inputs(1);
  if (!is_floating(c.input(0).dtype)) {
    c.fail<TypeError>("only floats have one; cast first", name_of(c.input(0).dtype),
                      "f32, f64, f16 or bf16");
  }
}

template <class A>
void infer_floating(InferContext& c) {
  expect_floating(c);
  infer_as<A>(c, c.input(0).dtype);
}

void expect_elements(const InferContext& c, unsigned mask) {
  const Shape& s = c.input(0).shape;
  for (int i = 0; i < s.size(); ++i) {
    if (mask >> i & 1u && s[i] == 0) {
      c.fail("nothing has no largest or smallest element", s.str(), "reduced axes of size >= 1");
    }
  }
}

void infer_extremum(InferContext& c) {
  c.expect_inputs(1);
  expect_elements(c, mask_of<ReduceAttrs>(c));
  infer_as<ReduceAttrs>(c, c.input(0).dtype);
}

void infer_position(InferContext& c) {
  c.expect_inputs(1);
  const Dims& axes = c.attrs<ReduceAttrs>().axes;
  if (axes.size() > 1) c.fail<ValueError>("one axis, or none for all", axes.str());
  expect_elements(c, mask_of<ReduceAttrs>(c));
  infer_as<ReduceAttrs>(c, DType::i64);
}

void infer_logic(InferContext& c) {
  c.expect_inputs(1);
  infer_as<ReduceAttrs>(c, DType::boolean);
}

void infer_cumsum(InferContext& c) {
  c.expect_inputs(1);
  const TensorDesc& x = c.input(0);
  if (x.rank() == 0) c.fail("a 0-dim tensor has no axis", x.str());
  c.axis(c.attrs<CumsumAttrs>().axis, x.rank());
  c.output({is_integral(x.dtype) ? DType::i64 : x.dtype, x.device, x.shape,
            strides_for(x.shape, x.format(MemoryFormat::contiguous))});
}

// --------------------------------------------------------------------------------- gradients

template <class A>
unsigned mask_of(const VjpContext& c) {
  return axis_mask(c.attrs<A>().axes, c.input_desc(0).rank(), c.call.op->name);
}

// With the reduced axes put back as sizes of 1.
Tensor with_axes(const Tensor& t, const Shape& in, unsigned mask) {
  return t.reshape(reduced_shape(in, mask, true));
}

std::int64_t reduced_count(const Shape& s, unsigned mask) {
  std::int64_t n = 1;
  for (int i = 0; i < s.size(); ++i) {
    if (mask >> i & 1u) n *= s[i];
  }
  return n;
}

void vjp_sum(VjpContext& c) {
  if (!c.needs(0)) return;
  const Shape& s = c.input_desc(0).shape;
  c.set(0, with_axes(c.grad(), s, mask_of<ReduceAttrs>(c)).expand(s));
}

void vjp_mean(VjpContext& c) {
  if (!c.needs(0)) return;
  const Shape& s = c.input_desc(0).shape;
  const unsigned mask = mask_of<ReduceAttrs>(c);
  const Tensor g = div(c.grad(), Scalar(static_cast<double>(reduced_count(s, mask))));
  c.set(0, with_axes(g, s, mask).expand(s));
}

void vjp_var(VjpContext& c) {
  if (!c.needs(0)) return;
  const Tensor& x = c.input(0);
  const unsigned mask = mask_of<VarAttrs>(c);
  const auto& a = c.attrs<VarAttrs>();
  const double n = static_cast<double>(reduced_count(x.shape(), mask)) - (a.unbiased ? 1 : 0);
  const Tensor g = mul(with_axes(c.grad(), x.shape(), mask), Scalar(2.0 / n));
  c.set(0, mul(g, sub(x, mean(x, a.axes, true))));
}

void vjp_extremum(VjpContext& c) {
  if (!c.needs(0)) return;
  const Tensor& x = c.input(0);
  const unsigned mask = mask_of<ReduceAttrs>(c);
  const Tensor hit = eq(x, with_axes(c.output(0), x.shape(), mask));
  const Tensor count = sum(hit, c.attrs<ReduceAttrs>().axes, true);
  // Divided in f32 at least: f16 cannot hold a count above 65504.
  const DType wide = promote(x.dtype(), DType::f32);
  const Tensor g = div(with_axes(c.grad(), x.shape(), mask).to(wide), count.to(wide));
  c.set(0, mul(g.to(x.dtype()), hit.to(x.dtype())));
}

// Product of all other elements, without dividing: x may hold zeros, and the second derivative
// must be right there too. So the product is taken as a tree of halves, and gradients flow down it.
void vjp_prod(VjpContext& c) {
  if (!c.needs(0)) return;
  const Tensor& x = c.input(0);
  const Shape& s = x.shape();
  const unsigned mask = mask_of<ReduceAttrs>(c);
  const std::int64_t n = reduced_count(s, mask);
  Tensor g = with_axes(c.grad(), s, mask);
  if (n <= 1 || x.numel() == 0) {
    c.set(0, g.expand(s));
    return;
  }
  // Reduced axes last, as one.
  Dims order, inverse(s.size(), 0);
  Shape moved;
  for (unsigned reduced = 0; reduced < 2; ++reduced) {
    for (int i = 0; i < s.size(); ++i) {
      if ((mask >> i & 1u) != reduced) continue;
      inverse[i] = order.size();
      order.push_back(i);
      moved.push_back(s[i]);
    }
  }
  std::vector<Tensor> level = {x.permute(order).reshape({-1, n})};
  while (level.back().dim(1) > 1) {
    Tensor& t = level.back();
    if (t.dim(1) % 2 != 0) {
      t = concat({t, ones({t.dim(0), 1}, {.dtype = t.dtype(), .device = t.device()})}, 1);
    }
    const std::int64_t half = t.dim(1) / 2;
    level.push_back(mul(t.slice(1, 0, half), t.slice(1, half, 2 * half)));
  }
  g = g.reshape({-1, 1});
  for (std::size_t i = level.size() - 1; i-- > 0;) {
    const Tensor& t = level[i];
    const std::int64_t half = t.dim(1) / 2;
    const Tensor h = g.slice(1, 0, half);  // without the padding of the level above
    g = concat({mul(h, t.slice(1, half, 2 * half)), mul(h, t.slice(1, 0, half))}, 1);
  }
  c.set(0, g.slice(1, 0, n).reshape(moved).permute(inverse));
}

void vjp_cumsum(VjpContext& c) {
  if (!c.needs(0)) return;
  const std::int64_t axis = c.attrs<CumsumAttrs>().axis;
  c.set(0, flip(cumsum(flip(c.grad(), {axis}), static_cast<int>(axis)), {axis}));
}

double one_flop(const PreparedOp& p) {
  return static_cast<double>(p.in[0].numel());
}
// A sum, then a difference, a square and a sum.
double var_flops(const PreparedOp& p) {
  return 4 * one_flop(p);
}

// Axes as the program's graph should see them: the same whichever way they were written.
template <class A>
Tensor reduce(const OpDef& op, In x, A a) {
  const ErrorSite at(x.loc);
  expect_defined(op.name, {&x.t}, x.loc);
  const unsigned mask = axis_mask(a.axes, x->rank(), op.name);
  Dims axes;
  for (int i = 0; i < x->rank(); ++i) {
    if (mask >> i & 1u) axes.push_back(i);
  }
  a.axes = axes;
  return dispatch::call(op, {&x.t}, a, x.loc)[0];
}

// Not through `reduce`: with no axis named the position counts through all.
Tensor position(const OpDef& op, In x, const Dims& axes, bool keepdim) {
  const ErrorSite at(x.loc);
  expect_defined(op.name, {&x.t}, x.loc);
  ReduceAttrs a{axes, keepdim};
  for (auto& i : a.axes) i = wrap_axis(i, x->rank(), op.name);
  return dispatch::call(op, {&x.t}, a, x.loc)[0];
}

}  // namespace

namespace op {
constinit const OpDef sum = {.id = id_of(OpId::sum_),
                             .name = "sum",
                             .attrs = &attr_type_v<ReduceAttrs>,
                             .infer = infer_sum,
                             .vjp = vjp_sum,
                             .traits = {.autocast = AutocastClass::f32},
                             .flops = one_flop,
                             .doc = "Sum over axes; integers and bool give i64."};
constinit const OpDef mean = {.id = id_of(OpId::mean_),
                              .name = "mean",
                              .attrs = &attr_type_v<ReduceAttrs>,
                              .infer = infer_floating<ReduceAttrs>,
                              .vjp = vjp_mean,
                              .flops = one_flop,
                              .doc = "Arithmetic mean over axes."};
constinit const OpDef prod = {.id = id_of(OpId::prod_),
                              .name = "prod",
                              .attrs = &attr_type_v<ReduceAttrs>,
                              .infer = infer_sum,
                              .vjp = vjp_prod,
                              .traits = {.saves_inputs = 0b1, .autocast = AutocastClass::f32},
                              .flops = one_flop,
                              .doc = "Product over axes; integers and bool give i64."};
constinit const OpDef max = {.id = id_of(OpId::max_),
                             .name = "max",
                             .attrs = &attr_type_v<ReduceAttrs>,
                             .infer = infer_extremum,
                             .vjp = vjp_extremum,
                             .traits = {.saves_inputs = 0b1, .saves_outputs = 0b1},
                             .flops = one_flop,
                             .doc = "Largest element over axes; a NaN wins."};
constinit const OpDef min = {.id = id_of(OpId::min_),
                             .name = "min",
                             .attrs = &attr_type_v<ReduceAttrs>,
                             .infer = infer_extremum,
                             .vjp = vjp_extremum,
                             .traits = {.saves_inputs = 0b1, .saves_outputs = 0b1},
                             .flops = one_flop,
                             .doc = "Smallest element over axes; a NaN wins."};
constinit const OpDef var = {.id = id_of(OpId::var_),
                             .name = "var",
                             .attrs = &attr_type_v<VarAttrs>,
                             .infer = infer_floating<VarAttrs>,
                             .vjp = vjp_var,
                             .traits = {.saves_inputs = 0b1, .autocast = AutocastClass::f32},
                             .flops = var_flops,
                             .doc = "Variance over axes, in two passes."};
constinit const OpDef argmax = {.id = id_of(OpId::argmax_),
                                .name = "argmax",
                                .attrs = &attr_type_v<ReduceAttrs>,
                                .infer = infer_position,
                                .flops = one_flop,
                                .doc = "Position of the first largest element, as i64."};
constinit const OpDef argmin = {.id = id_of(OpId::argmin_),
                                .name = "argmin",
                                .attrs = &attr_type_v<ReduceAttrs>,
                                .infer = infer_position,
                                .flops = one_flop,
                                .doc = "Position of the first smallest element, as i64."};
constinit const OpDef any = {.id = id_of(OpId::any_),
                             .name = "any",
                             .attrs = &attr_type_v<ReduceAttrs>,
                             .infer = infer_logic,
                             .doc = "Whether any element over axes is non-zero."};
constinit const OpDef all = {.id = id_of(OpId::all_),
                             .name = "all",
                             .attrs = &attr_type_v<ReduceAttrs>,
                             .infer = infer_logic,
                             .doc = "Whether all elements over axes are non-zero."};
constinit const OpDef cumsum = {.id = id_of(OpId::cumsum_),
                                .name = "cumsum",
                                .attrs = &attr_type_v<CumsumAttrs>,
                                .infer = infer_cumsum,
                                .vjp = vjp_cumsum,
                                .traits = {.autocast = AutocastClass::f32},
                                .flops = one_flop,
                                .doc = "Running sum along an axis."};
}  // namespace op

Tensor sum(In x, const Dims& axes, bool keepdim) {
  return reduce(op::sum, x, ReduceAttrs{axes, keepdim});
}
Tensor mean(In x, const Dims& axes, bool keepdim) {
  return reduce(op::mean, x, ReduceAttrs{axes, keepdim});
}
Tensor prod(In x, const Dims& axes, bool keepdim) {
  return reduce(op::prod, x, ReduceAttrs{axes, keepdim});
}
Tensor max(In x, const Dims& axes, bool keepdim) {
  return reduce(op::max, x, ReduceAttrs{axes, keepdim});
}
Tensor min(In x, const Dims& axes, bool keepdim) {
  return reduce(op::min, x, ReduceAttrs{axes, keepdim});
}
Tensor var(In x, const Dims& axes, bool keepdim, bool unbiased) {
  return reduce(op::var, x, VarAttrs{axes, keepdim, unbiased});
}
Tensor any(In x, const Dims& axes, bool keepdim) {
  return reduce(op::any, x, ReduceAttrs{axes, keepdim});
}
Tensor all(In x, const Dims& axes, bool keepdim) {
  return reduce(op::all, x, ReduceAttrs{axes, keepdim});
}
Tensor argmax(In x, const Dims& axes, bool keepdim) {
  return position(op::argmax, x, axes, keepdim);
}
Tensor argmin(In x, const Dims& axes, bool keepdim) {
  return position(op::argmin, x, axes, keepdim);
}
Tensor cumsum(In x, int axis) {
  const FunctionSite at("cumsum", x.loc);
  expect_defined("cumsum", {&x.t}, x.loc);
  if (x->rank() == 0) return sum(x);  // of one element, so itself; integers become i64 all the same
  const CumsumAttrs a{wrap_axis(axis, x->rank(), "cumsum")};
  return dispatch::call(op::cumsum, {&x.t}, a, x.loc)[0];
}

Tensor Tensor::sum(const Dims& axes, bool keepdim, SrcLoc loc) const {
  return tandem::sum(In(*this, loc), axes, keepdim);
}
Tensor Tensor::mean(const Dims& axes, bool keepdim, SrcLoc loc) const {
  return tandem::mean(In(*this, loc), axes, keepdim);
}

}  // namespace tandem
