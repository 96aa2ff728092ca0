#include "ops/norm.h"

#include "core/dispatch.h"
#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/grad_util.h"
#include "ops/op_list.h"
#include "ops/reduce.h"

namespace tandem {
namespace {

TensorDesc like(const TensorDesc& x) {
  return {x.dtype, x.device, x.shape, strides_for(x.shape, x.format())};
}

TensorDesc param_desc(const TensorDesc& x, const Shape& s) {
  return {norm_param_dtype(x.dtype), x.device, s};
}

void expect_param(const InferContext& c, int i, const TensorDesc& x, const Shape& s,
                  const char* what) {
  const TensorDesc& d = c.input(i);
  if (!(d.shape == s)) c.fail(fmt::format("{} has the wrong shape", what), d.str(), s.str());
  if (d.dtype != norm_param_dtype(x.dtype)) {
    c.fail<TypeError>(fmt::format("{} has the wrong dtype for an input {}", what, x.str()), d.str(),
                      name_of(norm_param_dtype(x.dtype)));
  }
}

// ------------------------------------------------------------------------------ batch norm

constexpr const char* kBatchNormParams[] = {
    "", "weight", "bias", "running_mean", "running_var", "sum", "sum of squares"};

void check_eps(const InferContext& c, double eps) {
  if (!(eps >= 0))
    c.fail<ValueError>("eps must not be negative", fmt::format("{}", eps), "0 or more");
}

/// Inputs before the sums and the residual, if there are any.
int batch_norm_inputs(const InferContext& c) {
  const auto n = static_cast<std::size_t>(c.num_inputs());
  return static_cast<int>(c.attrs<BatchNormAttrs>().sums_at(n));
}

void check_batch_norm(const InferContext& c) {
  c.expect_floating(0);
  const auto& a = c.attrs<BatchNormAttrs>();
  check_eps(c, a.eps);
  if (!(a.momentum >= 0 && a.momentum <= 1)) {
    c.fail<ValueError>("momentum is a share", fmt::format("{}", a.momentum), "0 to 1");
  }
  const TensorDesc& x = c.input(0);
  if (x.rank() < 2) c.fail("the input has a batch and a channel axis", x.str(), "[N, C, ...]");
  const int n = batch_norm_inputs(c);
  for (int i = 1; i < n; ++i) expect_param(c, i, x, {x.dim(1)}, kBatchNormParams[i]);
  for (int i = 0; i < 2 * a.sums; ++i) {
    expect_param(c, n + i, x, {x.dim(1)}, kBatchNormParams[5 + i]);
  }
  const int last = c.num_inputs() - 1;
  if (a.has_residual(static_cast<std::size_t>(last + 1))) {
    c.expect_same_dtype(last, 0);
    c.expect_shape(last, x.shape, "the residual has the shape of the input");
  }
}

void infer_batch_norm_train(InferContext& c) {
  const bool sums = c.attrs<BatchNormAttrs>().sums;
  c.expect_inputs(3 + 2 * sums, 6 + 2 * sums);
  const int n = batch_norm_inputs(c);
  if (n % 2 == 0) c.expect_inputs(5 + 2 * sums);
  check_batch_norm(c);
  const TensorDesc& x = c.input(0);
  if (x.numel() > 0 && x.numel() == x.dim(1)) {
    c.fail("training needs more than one value per channel", x.str());
  }
  c.output(like(x));
  c.output(param_desc(x, {x.dim(1)}));
  c.output(param_desc(x, {x.dim(1)}));
  if (n == 5) {
    c.mutates(3);
    c.mutates(4);
  }
}

void infer_batch_norm_eval(InferContext& c) {
  if (c.attrs<BatchNormAttrs>().sums) c.fail<ValueError>("only training has sums", "sums", "none");
  if (batch_norm_inputs(c) != 5) c.expect_inputs(5);
  check_batch_norm(c);
  c.output(like(c.input(0)));
}

void infer_batch_norm_grad(InferContext& c) {
  const auto& a = c.attrs<BatchNormGradAttrs>();
  c.expect_inputs(a.relu ? 6 : 5);
  const TensorDesc& x = c.input(1);
  c.expect_floating(1);
  c.expect_same_dtype(0, 1);
  if (x.rank() < 2) c.fail("the input has a batch and a channel axis", x.str(), "[N, C, ...]");
  c.expect_shape(0, x.shape, "the gradient has the shape of the input");
  const Shape s{x.dim(1)};
  expect_param(c, 2, x, s, "weight");
  expect_param(c, 3, x, s, "mean");
  expect_param(c, 4, x, s, "invstd");
  if (a.relu) {
    c.expect_same_dtype(5, 1);
    c.expect_shape(5, x.shape, "the result of the ReLU has the shape of the input");
  } else if (a.residual) {
    c.fail<ValueError>("only behind a ReLU is there a residual", "residual without relu");
  }
  c.output(like(x));
  c.output(param_desc(x, s));
  c.output(param_desc(x, s));
  if (a.residual) c.output(like(x));
}

// [C] -> [1, C, 1, ...]
Tensor along_channels(const Tensor& v, int rank) {
  Shape s(rank, 1);
  s[1] = v.dim(0);
  return v.reshape(s);
}

Tensor sum_but_channels(const Tensor& t) {
  Dims axes;
  for (int i = 0; i < t.rank(); ++i) {
    if (i != 1) axes.push_back(i);
  }
  return t.sum(axes);
}

void vjp_batch_norm_train(VjpContext& c) {
  const auto& attrs = c.attrs<BatchNormAttrs>();
  expect_no_epilogue(c, attrs.relu || attrs.sums);
  const Tensor &x = c.input(0), &w = c.input(1), &mean = c.output(1), &invstd = c.output(2);
  Tensor gx;
  if (c.has_grad(0)) {
    const NormGrads g = batch_norm_grad(c.grad(0), x, w, mean, invstd);
    gx = g.x;
    if (c.needs(1)) c.set(1, g.w);
    if (c.needs(2)) c.set(2, g.b);
  }
  // Only the gradient of a gradient comes this way.
  if (c.needs(0) && (c.has_grad(1) || c.has_grad(2))) {
    const int rank = x.rank();
    const double count = static_cast<double>(x.numel() / std::max<std::int64_t>(1, x.dim(1)));
    Tensor extra;
    if (c.has_grad(1)) extra = along_channels(c.grad(1) / count, rank).expand(x.shape());
    if (c.has_grad(2)) {
      const Tensor f = c.grad(2) * invstd * invstd * invstd / -count;
      const Tensor e = (x - along_channels(mean, rank)) * along_channels(f, rank);
      extra = extra.defined() ? extra + e : e;
    }
    extra = extra.to(x.dtype());
    gx = gx.defined() ? gx + extra : extra;
  }
  if (c.needs(0) && gx.defined()) c.set(0, gx);
}

void vjp_batch_norm_eval(VjpContext& c) {
  expect_no_epilogue(c, c.attrs<BatchNormAttrs>().relu);
  const Tensor &g = c.grad(), &x = c.input(0), &w = c.input(1), &mean = c.input(3);
  const int rank = x.rank();
  const Tensor invstd = rsqrt(c.input(4) + c.attrs<BatchNormAttrs>().eps);
  if (c.needs(0)) c.set(0, (g * along_channels(w * invstd, rank)).to(x.dtype()));
  if (c.needs(2) || c.needs(3)) {
    const Tensor gb = sum_but_channels(g.to(w.dtype()));
    if (c.needs(2)) c.set(2, gb);
    if (c.needs(3)) c.set(3, -(gb * w * invstd));
  }
  if (c.needs(1) || c.needs(4)) {
    const Tensor gw = sum_but_channels(g * (x - along_channels(mean, rank))) * invstd;
    if (c.needs(1)) c.set(1, gw);
    if (c.needs(4)) c.set(4, gw * w * invstd * invstd * -0.5);
  }
}

// With n(x) = (x - mean) invstd, M values per channel and P(v) = v - mean(v) - n mean(v n), which
// is its own adjoint: gx = w invstd P(gy), gw = sum(gy n), gb = sum(gy). For cotangents a, cw, cb
// of these, L = w invstd <a, P(gy)> + cw <gy, n> + cb sum(gy) is differentiated below; what n
// contributes goes back to x through invstd P, which is batch_norm_grad with w = 1 again.
void vjp_batch_norm_grad(VjpContext& c) {
  expect_no_epilogue(c, c.attrs<BatchNormGradAttrs>().relu);
  const Tensor &gy = c.input(0), &x = c.input(1), &w = c.input(2), &mean = c.input(3),
               &invstd = c.input(4);
  const int rank = x.rank();
  const double count = static_cast<double>(x.numel() / std::max<std::int64_t>(1, x.dim(1)));
  const auto wide = [&](const Tensor& v) { return along_channels(v, rank); };
  const Tensor n = (x - wide(mean)) * wide(invstd);
  Tensor g_gy, g_x, inner;  // `inner`: dL/dn
  const auto add_to = [](Tensor& t, const Tensor& v) { t = t.defined() ? t + v : v; };

  if (c.has_grad(0)) {
    const Tensor& a = c.grad(0);
    const NormGrads pa = batch_norm_grad(a, x, w, mean, invstd);
    add_to(g_gy, pa.x);
    if (c.needs(1) || c.needs(2)) {
      const NormGrads pg = batch_norm_grad(gy, x, ones_like(w), mean, invstd);
      const Tensor g_w = sum_but_channels(a.to(w.dtype()) * pg.x);
      if (c.needs(2)) c.set(2, g_w);
      const Tensor f = w * invstd / -count;
      add_to(inner, a * wide(f * pg.w) + gy * wide(f * pa.w));
      add_to(g_x, n * wide(w * g_w * invstd / -count));  // through invstd itself
    }
  }
  if (c.has_grad(1)) {
    add_to(g_gy, n * wide(c.grad(1)));
    add_to(inner, gy * wide(c.grad(1)));
  }
  if (c.has_grad(2)) add_to(g_gy, wide(c.grad(2)).expand(x.shape()));
  if (c.needs(0) && g_gy.defined()) c.set(0, g_gy.to(gy.dtype()));
  if (c.needs(1) && inner.defined()) {
    add_to(g_x, batch_norm_grad(inner.to(x.dtype()), x, ones_like(w), mean, invstd).x);
    c.set(1, g_x.to(x.dtype()));
  }
}

// ------------------------------------------------------------------------------ layer norm

Shape tail(const Shape& s, std::int64_t axes) {
  Shape r;
  for (int i = s.size() - static_cast<int>(axes); i < s.size(); ++i) r.push_back(s[i]);
  return r;
}
Shape head(const Shape& s, std::int64_t axes) {
  Shape r = s;
  r.resize(s.size() - static_cast<int>(axes));
  return r;
}

void infer_layer_norm(InferContext& c) {
  c.expect_inputs(3);
  c.expect_floating(0);
  const TensorDesc& x = c.input(0);
  check_eps(c, c.attrs<LayerNormAttrs>().eps);
  const std::int64_t axes = c.attrs<LayerNormAttrs>().axes;
  if (axes < 1 || axes > x.rank()) {
    c.fail("the axes normalised over are the last ones of the input",
           fmt::format("{} axes of {}", axes, x.str()));
  }
  expect_param(c, 1, x, tail(x.shape, axes), "weight");
  expect_param(c, 2, x, tail(x.shape, axes), "bias");
  c.output(like(x));
  c.output(param_desc(x, head(x.shape, axes)));
  c.output(param_desc(x, head(x.shape, axes)));
}

void infer_layer_norm_grad(InferContext& c) {
  c.expect_inputs(5);
  c.expect_floating(1);
  c.expect_same_dtype(0, 1);
  const TensorDesc &x = c.input(1), &w = c.input(2);
  c.expect_shape(0, x.shape, "the gradient has the shape of the input");
  const int axes = w.rank();
  if (axes < 1 || axes > x.rank()) {
    c.fail("the weight has the last axes of the input", w.str(), x.str());
  }
  expect_param(c, 2, x, tail(x.shape, axes), "weight");
  expect_param(c, 3, x, head(x.shape, axes), "mean");
  expect_param(c, 4, x, head(x.shape, axes), "rstd");
  c.output(like(x));
  c.output(param_desc(x, w.shape));
  c.output(param_desc(x, w.shape));
}

// [rows...] -> [rows..., 1, ...]
Tensor along_rows(const Tensor& v, int axes) {
  Shape s = v.shape();
  for (int i = 0; i < axes; ++i) s.push_back(1);
  return v.reshape(s);
}
Tensor sum_axes(const Tensor& t, int begin, int end) {
  if (begin == end) return t;  // an empty list would mean all axes
  Dims axes;
  for (int i = begin; i < end; ++i) axes.push_back(i);
  return t.sum(axes);
}

void vjp_layer_norm(VjpContext& c) {
  const Tensor &x = c.input(0), &w = c.input(1), &mean = c.output(1), &rstd = c.output(2);
  Tensor gx;
  if (c.has_grad(0)) {
    const NormGrads g = layer_norm_grad(c.grad(0), x, w, mean, rstd);
    gx = g.x;
    if (c.needs(1)) c.set(1, g.w);
    if (c.needs(2)) c.set(2, g.b);
  }
  if (c.needs(0) && (c.has_grad(1) || c.has_grad(2))) {
    const int axes = w.rank();
    const double count = static_cast<double>(w.numel());
    Tensor extra;
    if (c.has_grad(1)) extra = along_rows(c.grad(1) / count, axes).expand(x.shape());
    if (c.has_grad(2)) {
      const Tensor f = c.grad(2) * rstd * rstd * rstd / -count;
      const Tensor e = (x - along_rows(mean, axes)) * along_rows(f, axes);
      extra = extra.defined() ? extra + e : e;
    }
    extra = extra.to(x.dtype());
    gx = gx.defined() ? gx + extra : extra;
  }
  if (c.needs(0) && gx.defined()) c.set(0, gx);
}

// As for batch_norm_grad, with the sums over rows and the weight inside: gx = rstd P(w gy).
void vjp_layer_norm_grad(VjpContext& c) {
  const Tensor &gy = c.input(0), &x = c.input(1), &w = c.input(2), &mean = c.input(3),
               &rstd = c.input(4);
  const int rank = x.rank(), axes = w.rank(), rows = rank - axes;
  const double count = static_cast<double>(w.numel());
  const auto wide = [&](const Tensor& v) { return along_rows(v, axes); };
  const auto row_sum = [&](const Tensor& t) { return sum_axes(t, rows, rank); };
  const Tensor n = (x - wide(mean)) * wide(rstd);
  Tensor g_gy, g_x, inner;
  const auto add_to = [](Tensor& t, const Tensor& v) { t = t.defined() ? t + v : v; };

  if (c.has_grad(0)) {
    const Tensor a = c.grad(0).to(w.dtype());
    const Tensor pa =
        (layer_norm_grad(c.grad(0), x, ones_like(w), mean, rstd).x).to(w.dtype());  // rstd P(a)
    add_to(g_gy, w * pa);
    if (c.needs(2)) c.set(2, sum_axes(gy * pa, 0, rows));
    if (c.needs(1)) {
      const Tensor v = w * gy;
      const Tensor f = rstd / -count;
      add_to(inner, a * wide(f * row_sum(v * n)) + v * wide(f * row_sum(a * n)));
      add_to(g_x, n * wide(f * row_sum(v * pa)));  // through rstd itself
    }
  }
  if (c.has_grad(1)) {
    add_to(g_gy, n * c.grad(1));
    add_to(inner, gy * c.grad(1));
  }
  if (c.has_grad(2)) add_to(g_gy, c.grad(2).expand(x.shape()));
  if (c.needs(0) && g_gy.defined()) c.set(0, g_gy.to(gy.dtype()));
  if (c.needs(1) && inner.defined()) {
    add_to(g_x, layer_norm_grad(inner.to(x.dtype()), x, ones_like(w), mean, rstd).x);
    c.set(1, g_x.to(x.dtype()));
  }
}

template <int FlopsPerElement>
double norm_flops(const PreparedOp& p) {
  return FlopsPerElement * static_cast<double>(p.in[0].numel());
}

Tensor or_full(const Tensor& t, const Tensor& x, const Shape& s, Scalar v) {
  return t.defined() ? t : full(s, v, {.dtype = norm_param_dtype(x.dtype()), .device = x.device()});
}

NormGrads grads_of(Outputs o) {
  return {std::move(o[0]), std::move(o[1]), std::move(o[2])};
}

}  // namespace

namespace op {
constinit const OpDef batch_norm_train = {
    .id = id_of(OpId::batch_norm_train_),
    .name = "batch_norm_train",
    .attrs = &attr_type_v<BatchNormAttrs>,
    .infer = infer_batch_norm_train,
    .vjp = vjp_batch_norm_train,
    .traits = {.saves_inputs = 0b11, .saves_outputs = 0b110},
    .flops = norm_flops<7>,
    .doc = "Normalises with the batch's statistics, updates the running ones."};
constinit const OpDef batch_norm_eval = {.id = id_of(OpId::batch_norm_eval_),
                                         .name = "batch_norm_eval",
                                         .attrs = &attr_type_v<BatchNormAttrs>,
                                         .infer = infer_batch_norm_eval,
                                         .vjp = vjp_batch_norm_eval,
                                         .traits = {.saves_inputs = 0b11011, .inplace = 0b100001},
                                         .flops = norm_flops<3>,
                                         .doc = "Normalises with the running statistics."};
constinit const OpDef batch_norm_grad = {.id = id_of(OpId::batch_norm_grad_),
                                         .name = "batch_norm_grad",
                                         .attrs = &attr_type_v<BatchNormGradAttrs>,
                                         .infer = infer_batch_norm_grad,
                                         .vjp = vjp_batch_norm_grad,
                                         // Result 0 is stored after everything else has been read.
                                         .traits = {.saves_inputs = 0b11111, .inplace = 0b100011},
                                         .flops = norm_flops<10>,
                                         .doc = "Gradients of batch_norm_train: x, w, b."};
constinit const OpDef layer_norm = {
    .id = id_of(OpId::layer_norm_),
    .name = "layer_norm",
    .attrs = &attr_type_v<LayerNormAttrs>,
    .infer = infer_layer_norm,
    .vjp = vjp_layer_norm,
    .traits = {.saves_inputs = 0b11, .saves_outputs = 0b110, .autocast = AutocastClass::f32},
    .flops = norm_flops<7>,
    .doc = "Normalises over the last axes."};
constinit const OpDef layer_norm_grad = {.id = id_of(OpId::layer_norm_grad_),
                                         .name = "layer_norm_grad",
                                         .infer = infer_layer_norm_grad,
                                         .vjp = vjp_layer_norm_grad,
                                         .traits = {.saves_inputs = 0b11111},
                                         .flops = norm_flops<12>,
                                         .doc = "Gradients of layer_norm: x, w, b."};
}  // namespace op

Tensor batch_norm(In x, const Tensor& w, const Tensor& b, Tensor& running_mean, Tensor& running_var,
                  bool training, double momentum, double eps) {
  const FunctionSite at("batch_norm", x.loc);
  expect_defined("batch_norm", {&x.t}, x.loc);
  const BatchNormAttrs attrs{.momentum = momentum, .eps = eps};
  if (x->rank() < 2) {
    fail<ShapeError>("batch_norm", "the input has a batch and a channel axis", x->desc().str(),
                     "[N, C, ...]");
  }
  if (running_mean.defined() != running_var.defined()) {
    fail<ValueError>("batch_norm", "running_mean and running_var come together", "one of them");
  }
  const Shape s{x->dim(1)};
  const Tensor ww = or_full(w, x, s, 1.0), bb = or_full(b, x, s, 0.0);
  const bool running = running_mean.defined();
  if (!training) {
    if (!running) {
      fail<ValueError>("batch_norm", "evaluation needs running statistics", "none");
    }
    return dispatch::call(op::batch_norm_eval, {&x.t, &ww, &bb, &running_mean, &running_var}, attrs,
                          x.loc)[0];
  }
  if (!running) return dispatch::call(op::batch_norm_train, {&x.t, &ww, &bb}, attrs, x.loc)[0];
  return dispatch::call(op::batch_norm_train, {&x.t, &ww, &bb, &running_mean, &running_var}, attrs,
                        x.loc)[0];
}

Tensor layer_norm(In x, const Shape& normalized, const Tensor& w, const Tensor& b, double eps) {
  const FunctionSite at("layer_norm", x.loc);
  expect_defined("layer_norm", {&x.t}, x.loc);
  if (normalized.empty() || normalized.size() > x->rank() ||
      !(tail(x->shape(), normalized.size()) == normalized)) {
    fail<ShapeError>("layer_norm", "the input must end in the sizes normalised over",
                     x->desc().str(), "[..., " + normalized.str().substr(1));
  }
  const LayerNormAttrs attrs{.axes = normalized.size(), .eps = eps};
  const Tensor ww = or_full(w, x, normalized, 1.0), bb = or_full(b, x, normalized, 0.0);
  return dispatch::call(op::layer_norm, {&x.t, &ww, &bb}, attrs, x.loc)[0];
}

NormGrads batch_norm_grad(In gy, const Tensor& x, const Tensor& w, const Tensor& mean,
                          const Tensor& invstd) {
  return grads_of(dispatch::call(op::batch_norm_grad, {&gy.t, &x, &w, &mean, &invstd},
                                 BatchNormGradAttrs{}, gy.loc));
}
NormGrads layer_norm_grad(In gy, const Tensor& x, const Tensor& w, const Tensor& mean,
                          const Tensor& rstd) {
  return grads_of(dispatch::call(op::layer_norm_grad, {&gy.t, &x, &w, &mean, &rstd}, {}, gy.loc));
}

}  // namespace tandem
