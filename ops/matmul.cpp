#include "ops/matmul.h"

#include "core/dispatch.h"
#include "ops/elementwise.h"
#include "ops/grad_util.h"
#include "ops/op_list.h"
#include "ops/reduce.h"

namespace tandem {
namespace {

void infer_matmul(InferContext& c) {
  c.expect_inputs(2);
  c.expect_same_dtype(0, 1);
  const TensorDesc &a = c.input(0), &b = c.input(1);
  if (a.rank() == 0 || b.rank() == 0) {
    c.fail("operands need at least one axis", a.str() + " and " + b.str());
  }
  const std::int64_t ka = a.shape.back(), kb = b.dim(b.rank() == 1 ? 0 : b.rank() - 2);
  if (ka != kb) {
    c.fail("last axis of the left operand must equal the last but one of the right",
           fmt::format("{} and {}", a.shape.str(), b.shape.str()), fmt::format("{} = {}", ka, kb));
  }
  const auto leading = [](const TensorDesc& d) {
    Shape s;
    for (int i = 0; i + 2 < d.rank(); ++i) s.push_back(d.dim(i));
    return s;
  };
  Shape out = broadcast_shapes(leading(a), leading(b), c.op_name());
  if (a.rank() > 1) out.push_back(a.dim(a.rank() - 2));
  if (b.rank() > 1) out.push_back(b.shape.back());
  checked_numel(out, c.op_name());
  c.output({a.dtype, a.device, out});
}

void infer_linear(InferContext& c) {
  c.expect_inputs(2, 3);
  const TensorDesc &x = c.input(0), &w = c.input(1);
  if (x.rank() == 0) c.fail("input needs at least one axis", x.str(), "[..., in]");
  c.expect_rank(1, 2);
  c.expect_floating(0);
  c.expect_same_dtype(0, 1);
  if (x.shape.back() != w.dim(1)) {
    c.fail("last axis of the input must equal the weight's second", x.shape.str(),
           std::to_string(w.dim(1)));
  }
  if (c.num_inputs() == 3) {
    c.expect_same_dtype(0, 2);
    c.expect_shape(2, {w.dim(0)}, "bias must have one element per output feature");
  }
  Shape y = x.shape;
  y[y.size() - 1] = w.dim(0);
  checked_numel(y, c.op_name());
  c.output({x.dtype, x.device, y});
}

/// [..., N] as a matrix [rows, N].
Tensor rows_of(const Tensor& t) {
  if (t.rank() == 2) return t;
  const std::int64_t n = t.dim(-1);
  std::int64_t rows = 1;
  for (int i = 0; i + 1 < t.rank(); ++i) rows *= t.dim(i);
  return t.reshape({rows, n});
}

Tensor swap_last(const Tensor& t) {
  return t.transpose(-2, -1);
}

void vjp_matmul(VjpContext& c) {
  const TensorDesc &da = c.input_desc(0), &db = c.input_desc(1);
  // Vectors become matrices, with a gradient to match.
  Tensor g = c.grad();
  if (da.rank() == 1 && db.rank() == 1) {
    if (c.needs(0)) c.set(0, mul(c.input(1), g));
    if (c.needs(1)) c.set(1, mul(c.input(0), g));
    return;
  }
  if (da.rank() == 1) g = g.unsqueeze(-2);
  if (db.rank() == 1) g = g.unsqueeze(-1);
  if (c.needs(0)) {
    const Tensor& b = c.input(1);
    Tensor ga = matmul(g, db.rank() == 1 ? b.unsqueeze(0) : swap_last(b));
    if (da.rank() == 1) ga = ga.squeeze(-2);
    c.set(0, reduce_to(ga, da));
  }
  if (c.needs(1)) {
    const Tensor a = da.rank() == 1 ? c.input(0).unsqueeze(0) : c.input(0);
    Tensor gb;
    if (db.rank() <= 2 && a.rank() > 2) {
      // One product over all rows, rather than a batch of them to be summed.
      gb = matmul(rows_of(a).t(), rows_of(g));
    } else {
      gb = matmul(swap_last(a), g);
    }
    if (db.rank() == 1) gb = gb.squeeze(-1);
    c.set(1, reduce_to(gb, db));
  }
}

void vjp_linear(VjpContext& c) {
  expect_no_epilogue(c, c.attrs<LinearAttrs>().relu);
  const Tensor& g = c.grad();
  if (c.needs(0)) c.set(0, matmul(g, c.input(1)));
  const bool vector = g.rank() == 1;
  if (c.needs(1)) {
    const Tensor g2 = vector ? g.unsqueeze(0) : rows_of(g);
    const Tensor x2 = vector ? c.input(0).unsqueeze(0) : rows_of(c.input(0));
    c.set(1, matmul(g2.t(), x2));
  }
  if (c.num_inputs() == 3 && c.needs(2)) c.set(2, vector ? g : sum(rows_of(g), {0}));
}

double matmul_flops(const PreparedOp& p) {
  return 2.0 * static_cast<double>(p.out[0].numel()) * static_cast<double>(p.in[0].shape.back());
}

}  // namespace

namespace op {

constinit const OpDef matmul = {
    .id = id_of(OpId::matmul_),
    .name = "matmul",
    .attrs = &attr_type_v<MatmulAttrs>,
    .infer = infer_matmul,
    .vjp = vjp_matmul,
    .traits = {.saves_inputs = 0b11, .autocast = AutocastClass::low},
    .flops = matmul_flops,
    .doc = "Matrix product a [..., M, K] b [..., K, N]; leading axes broadcast."};

constinit const OpDef linear = {.id = id_of(OpId::linear_),
                                .name = "linear",
                                .attrs = &attr_type_v<LinearAttrs>,
                                .infer = infer_linear,
                                .vjp = vjp_linear,
                                .traits = {.saves_inputs = 0b11, .autocast = AutocastClass::low},
                                .flops = matmul_flops,
                                .doc = "y = x wT + b for x [..., in], w [out, in], b [out]."};

}  // namespace op

Tensor matmul(In a, const Tensor& b) {
  const FunctionSite at("matmul", a.loc);
  expect_defined("matmul", {&a.t, &b}, a.loc);
  if (a->dtype() != b.dtype()) {
    const DType t = promote(a->dtype(), b.dtype());
    const Tensor a2 = a->to(t, a.loc), b2 = b.to(t, a.loc);
    return dispatch::call(op::matmul, {&a2, &b2}, MatmulAttrs{}, a.loc)[0];
  }
  return dispatch::call(op::matmul, {&a.t, &b}, MatmulAttrs{}, a.loc)[0];
}

Tensor linear(In x, const Tensor& w, const Tensor& b) {
  if (b.defined()) return dispatch::call(op::linear, {&x.t, &w, &b}, LinearAttrs{}, x.loc)[0];
  return dispatch::call(op::linear, {&x.t, &w}, LinearAttrs{}, x.loc)[0];
}

}  // namespace tandem
