#include "ops/loss.h"

#include "core/dispatch.h"
#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/op_list.h"
#include "ops/reduce.h"
#include "ops/softmax.h"

namespace tandem {

const char* name_of(Reduction r) {
  switch (r) {
    case Reduction::none: return "none";
    case Reduction::mean: return "mean";
    case Reduction::sum: break;
  }
  return "sum";
}

namespace {

int class_axis(int rank) {
  return rank == 1 ? 0 : 1;
}

Shape sample_shape(const Shape& scores) {
  Shape s = scores;
  s.erase(class_axis(s.size()));
  return s;
}

void check_reduction(const InferContext& c, std::int64_t r) {
  if (r < 0 || r > 2) {
    c.fail<ValueError>("reduction is 0 (none), 1 (mean) or 2 (sum)", std::to_string(r));
  }
}

// Class indices `target` for scores of shape `s`.
void check_target(const InferContext& c, int target, const Shape& s) {
  const TensorDesc& t = c.input(target);
  if (s.empty()) c.fail("the scores have a class axis", s.str(), "[N, C, ...] or [C]");
  if (t.dtype != DType::i64 && t.dtype != DType::i32) {
    c.fail<TypeError>("class labels are integers", t.str(), "i64, i32 or u8");
  }
  c.expect_shape(target, sample_shape(s), "one label for each sample");
}

TensorDesc loss_desc(const TensorDesc& scores, Reduction r) {
  return {scores.dtype, scores.device, r == Reduction::none ? sample_shape(scores.shape) : Shape{}};
}

void check_loss_grad(const InferContext& c, const Shape& scores, Reduction r) {
  c.expect_floating(0);
  c.expect_shape(0, r == Reduction::none ? sample_shape(scores) : Shape{},
                 "the gradient has the shape of the loss");
}

// ------------------------------------------------------------------------------------ nll

void infer_nll(InferContext& c) {
  c.expect_inputs(2);
  c.expect_floating(0);
  const auto& a = c.attrs<NllAttrs>();
  check_reduction(c, a.reduction);
  check_target(c, 1, c.input(0).shape);
  c.output(loss_desc(c.input(0), a.kind()));
}

void infer_nll_grad(InferContext& c) {
  c.expect_inputs(2);
  const auto& a = c.attrs<NllAttrs>();
  check_reduction(c, a.reduction);
  check_target(c, 1, a.input_shape);
  check_loss_grad(c, a.input_shape, a.kind());
  c.output({c.input(0).dtype, c.input(0).device, a.input_shape});
}

void vjp_nll(VjpContext& c) {
  NllAttrs a = c.attrs<NllAttrs>();
  a.input_shape = c.input_desc(0).shape;
  if (c.needs(0)) c.set(0, nll_grad(c.grad(), c.input(1), a));
}

void vjp_nll_grad(VjpContext& c) {
  const auto& a = c.attrs<NllAttrs>();
  if (c.needs(0)) c.set(0, nll_loss(c.grad(), c.input(1), a.kind(), a.ignore_index));
}

// ------------------------------------------------------------------------------ cross-entropy

void check_smoothing(const InferContext& c, double s) {
  if (!(s >= 0 && s <= 1)) {
    c.fail<ValueError>("label smoothing is a share", fmt::format("{}", s), "0 to 1");
  }
}

void infer_cross_entropy(InferContext& c) {
  c.expect_inputs(2);
  c.expect_floating(0);
  const auto& a = c.attrs<CrossEntropyAttrs>();
  const TensorDesc& x = c.input(0);
  check_reduction(c, a.reduction);
  check_smoothing(c, a.label_smoothing);
  check_target(c, 1, x.shape);
  c.output(loss_desc(x, a.kind()));
  // 16-bit log-probabilities would cost the gradient a digit.
  c.output({is_low_precision(x.dtype) ? DType::f32 : x.dtype, x.device, x.shape,
            strides_for(x.shape, x.format())});
}

void infer_cross_entropy_grad(InferContext& c) {
  c.expect_inputs(3);
  const auto& a = c.attrs<CrossEntropyAttrs>();
  const TensorDesc &g = c.input(0), &logp = c.input(1);
  check_reduction(c, a.reduction);
  check_smoothing(c, a.label_smoothing);
  check_target(c, 2, logp.shape);
  check_loss_grad(c, logp.shape, a.kind());
  const DType expected = is_low_precision(g.dtype) ? DType::f32 : g.dtype;
  if (logp.dtype != expected) {
    c.fail<TypeError>(fmt::format("wrong log-probabilities for a loss {}", g.str()), logp.str(),
                      name_of(expected));
  }
  c.output({g.dtype, g.device, logp.shape, strides_for(logp.shape, logp.format())});
}

void vjp_cross_entropy(VjpContext& c) {
  if (!c.needs(0)) return;
  const Tensor& logp = c.output(1);
  Tensor gx;
  if (c.has_grad(0)) {
    gx = cross_entropy_grad(c.grad(0), logp, c.input(1), c.attrs<CrossEntropyAttrs>());
  }
  if (c.has_grad(1)) {  // only the gradient of a gradient comes this way
    const Tensor g =
        log_softmax_grad(c.grad(1), logp, class_axis(logp.rank())).to(c.input_desc(0).dtype);
    gx = gx.defined() ? gx + g : g;
  }
  if (gx.defined()) c.set(0, gx);
}

// gx = gloss k (exp(logp) - t), with k 0 for ignored samples, else 1 (none, sum) or 1 / count
// (mean), and t the smoothed target.
void vjp_cross_entropy_grad(VjpContext& c) {
  const auto& attrs = c.attrs<CrossEntropyAttrs>();
  const Tensor &gloss = c.input(0), &logp = c.input(1), &target = c.input(2);
  const int axis = class_axis(logp.rank());
  const Tensor a = c.grad().to(logp.dtype());
  const bool none = attrs.kind() == Reduction::none;
  if (c.needs(0)) {
    const Tensor one = full_like(gloss, 1.0);
    const Tensor u = a * cross_entropy_grad(one, logp, target, attrs);
    c.set(0, (none ? u.sum({axis}) : u.sum()).to(gloss.dtype()));
  }
  if (c.needs(1)) {
    const Tensor valid = ne(target, attrs.ignore_index).to(logp.dtype());
    Tensor k = valid * gloss.to(logp.dtype());
    if (attrs.kind() == Reduction::mean) k = k / valid.sum();
    c.set(1, a * exp(logp) * k.unsqueeze(axis));
  }
}

double cross_entropy_flops(const PreparedOp& p) {
  return 5 * static_cast<double>(p.out[1].numel());
}
double cross_entropy_grad_flops(const PreparedOp& p) {
  return 3 * static_cast<double>(p.out[0].numel());
}
double nll_flops(const PreparedOp& p) {
  return static_cast<double>(p.in[1].numel());
}

// Kernels take labels of four or eight bytes; files of images have them in one.
Tensor labels(const Tensor& target) {
  return target.dtype() == DType::u8 ? target.to(DType::i64) : target;
}

Tensor reduced(const Tensor& t, Reduction r) {
  return r == Reduction::none ? t : r == Reduction::sum ? t.sum() : t.mean();
}

// -sum(target logp) over the classes, the target being probabilities.
Tensor soft_cross_entropy(In logits, const Tensor& target, const CrossEntropyOptions& o) {
  if (!(target.shape() == logits->shape()) || logits->rank() == 0) {
    fail<ShapeError>("cross_entropy", "target probabilities have the shape of the logits",
                     target.desc().str(), logits->desc().str());
  }
  if (!(o.label_smoothing >= 0 && o.label_smoothing <= 1)) {
    fail<ValueError>("cross_entropy", "label smoothing is a share",
                     fmt::format("{}", o.label_smoothing), "0 to 1");
  }
  const int axis = class_axis(logits->rank());
  const double classes = static_cast<double>(logits->dim(axis));
  const Tensor p = target.to(logits->dtype());
  const Tensor t =
      o.label_smoothing == 0 ? p : p * (1 - o.label_smoothing) + o.label_smoothing / classes;
  const Tensor loss = -(t * log_softmax(logits, axis)).sum({axis});
  return reduced(loss, o.reduction);
}

}  // namespace

namespace op {
constinit const OpDef nll = {.id = id_of(OpId::nll_),
                             .name = "nll",
                             .attrs = &attr_type_v<NllAttrs>,
                             .infer = infer_nll,
                             .vjp = vjp_nll,
                             .traits = {.saves_inputs = 0b10, .autocast = AutocastClass::f32},
                             .flops = nll_flops,
                             .doc = "-logp[target], reduced."};
constinit const OpDef nll_grad = {.id = id_of(OpId::nll_grad_),
                                  .name = "nll_grad",
                                  .attrs = &attr_type_v<NllAttrs>,
                                  .infer = infer_nll_grad,
                                  .vjp = vjp_nll_grad,
                                  .traits = {.saves_inputs = 0b10},
                                  .flops = nll_flops,
                                  .doc = "Gradient of nll."};
constinit const OpDef cross_entropy = {
    .id = id_of(OpId::cross_entropy_),
    .name = "cross_entropy",
    .attrs = &attr_type_v<CrossEntropyAttrs>,
    .infer = infer_cross_entropy,
    .vjp = vjp_cross_entropy,
    .traits = {.saves_inputs = 0b10, .saves_outputs = 0b10, .autocast = AutocastClass::f32},
    .flops = cross_entropy_flops,
    .doc = "-log(softmax(logits))[target], reduced, and the log-probabilities."};
constinit const OpDef cross_entropy_grad = {.id = id_of(OpId::cross_entropy_grad_),
                                            .name = "cross_entropy_grad",
                                            .attrs = &attr_type_v<CrossEntropyAttrs>,
                                            .infer = infer_cross_entropy_grad,
                                            .vjp = vjp_cross_entropy_grad,
                                            .traits = {.saves_inputs = 0b111},
                                            .flops = cross_entropy_grad_flops,
                                            .doc = "Gradient of cross_entropy."};
}  // namespace op

Tensor nll_loss(In logp, const Tensor& target, Reduction reduction, std::int64_t ignore_index) {
  const FunctionSite at("nll_loss", logp.loc);
  expect_defined("nll_loss", {&logp.t, &target}, logp.loc);
  const NllAttrs a{.reduction = static_cast<std::int64_t>(reduction),
                   .ignore_index = ignore_index,
                   .input_shape = {}};
  const Tensor whole = labels(target);
  return dispatch::call(op::nll, {&logp.t, &whole}, a, logp.loc)[0];
}

Tensor cross_entropy(In logits, const Tensor& target, const CrossEntropyOptions& o) {
  const FunctionSite at("cross_entropy", logits.loc);
  expect_defined("cross_entropy", {&logits.t, &target}, logits.loc);
  if (is_floating(target.dtype())) return soft_cross_entropy(logits, target, o);
  const CrossEntropyAttrs a{.reduction = static_cast<std::int64_t>(o.reduction),
                            .ignore_index = o.ignore_index,
                            .label_smoothing = o.label_smoothing};
  const Tensor whole = labels(target);
  return dispatch::call(op::cross_entropy, {&logits.t, &whole}, a, logits.loc)[0];
}

Tensor mse_loss(In a, const Tensor& b, Reduction reduction) {
  const FunctionSite at("mse_loss", a.loc);
  expect_defined("mse_loss", {&a.t, &b}, a.loc);
  if (!(a->shape() == b.shape())) {
    fail<ShapeError>("mse_loss", "both tensors have one shape",
                     a->desc().str() + " and " + b.desc().str());
  }
  return reduced(square(sub(a, b)), reduction);
}

Tensor nll_grad(In gloss, const Tensor& target, const NllAttrs& attrs) {
  return dispatch::call(op::nll_grad, {&gloss.t, &target}, attrs, gloss.loc)[0];
}
Tensor cross_entropy_grad(In gloss, const Tensor& logp, const Tensor& target,
                          const CrossEntropyAttrs& attrs) {
  return dispatch::call(op::cross_entropy_grad, {&gloss.t, &logp, &target}, attrs, gloss.loc)[0];
}

}  // namespace tandem
