#include "ops/softmax.h"

#include "core/dispatch.h"
#include "ops/elementwise.h"
#include "ops/op_list.h"
#include "ops/reduce.h"

namespace tandem {
namespace {

void output_like(InferContext& c, int i) {
  const TensorDesc& x = c.input(i);
  // A scalar is a slice of one element.
  c.axis(c.attrs<SoftmaxAttrs>().axis, std::max(1, x.rank()));
  c.output({x.dtype, x.device, x.shape, strides_for(x.shape, x.format())});
}

void infer_softmax(InferContext& c) {
  c.expect_inputs(1);
  c.expect_floating(0);
  output_like(c, 0);
}

void infer_softmax_grad(InferContext& c) {
  c.expect_inputs(2);
  c.expect_floating(1);
  c.expect_same_dtype(0, 1);
  c.expect_shape(0, c.input(1).shape, "the gradient has the shape of the result");
  output_like(c, 1);
}

int axis_of(const VjpContext& c) {
  return static_cast<int>(c.attrs<SoftmaxAttrs>().axis);
}

Tensor sum_along(const Tensor& t, int axis) {
  return t.rank() == 0 ? t : t.sum({axis}, true);
}

void vjp_softmax(VjpContext& c) {
  c.set(0, softmax_grad(c.grad(), c.output(0), axis_of(c)));
}

// softmax_grad is symmetric in (cotangent, g): y a - y sum(a y).
void vjp_softmax_grad(VjpContext& c) {
  const Tensor &a = c.grad(), &g = c.input(0), &y = c.input(1);
  const int axis = axis_of(c);
  if (c.needs(0)) c.set(0, softmax_grad(a, y, axis));
  if (c.needs(1)) c.set(1, a * (g - sum_along(g * y, axis)) - g * sum_along(a * y, axis));
}

void vjp_log_softmax(VjpContext& c) {
  c.set(0, log_softmax_grad(c.grad(), c.output(0), axis_of(c)));
}

void vjp_log_softmax_grad(VjpContext& c) {
  const Tensor &a = c.grad(), &g = c.input(0), &y = c.input(1);
  const int axis = axis_of(c);
  const Tensor ap = a * exp(y);
  if (c.needs(0)) c.set(0, a - sum_along(ap, axis));
  if (c.needs(1)) c.set(1, -(ap * sum_along(g, axis)));
}

template <int FlopsPerElement>
double softmax_flops(const PreparedOp& p) {
  return FlopsPerElement * static_cast<double>(p.out[0].numel());
}

}  // namespace

namespace op {
constinit const OpDef softmax = {
    .id = id_of(OpId::softmax_),
    .name = "softmax",
    .attrs = &attr_type_v<SoftmaxAttrs>,
    .infer = infer_softmax,
    .vjp = vjp_softmax,
    .traits = {.saves_outputs = 0b1, .inplace = 0b1, .autocast = AutocastClass::f32},
    .flops = softmax_flops<5>,
    .doc = "exp(x) / sum(exp(x)) along an axis."};
constinit const OpDef softmax_grad = {.id = id_of(OpId::softmax_grad_),
                                      .name = "softmax_grad",
                                      .attrs = &attr_type_v<SoftmaxAttrs>,
                                      .infer = infer_softmax_grad,
                                      .vjp = vjp_softmax_grad,
                                      .traits = {.saves_inputs = 0b11, .inplace = 0b11},
                                      .flops = softmax_flops<4>,
                                      .doc = "y (g - sum(g y)) along an axis."};
constinit const OpDef log_softmax = {
    .id = id_of(OpId::log_softmax_),
    .name = "log_softmax",
    .attrs = &attr_type_v<SoftmaxAttrs>,
    .infer = infer_softmax,
    .vjp = vjp_log_softmax,
    .traits = {.saves_outputs = 0b1, .inplace = 0b1, .autocast = AutocastClass::f32},
    .flops = softmax_flops<5>,
    .doc = "log(softmax(x)) along an axis."};
constinit const OpDef log_softmax_grad = {.id = id_of(OpId::log_softmax_grad_),
                                          .name = "log_softmax_grad",
                                          .attrs = &attr_type_v<SoftmaxAttrs>,
                                          .infer = infer_softmax_grad,
                                          .vjp = vjp_log_softmax_grad,
                                          .traits = {.saves_inputs = 0b11, .inplace = 0b11},
                                          .flops = softmax_flops<4>,
                                          .doc = "g - exp(y) sum(g) along an axis."};
}  // namespace op

Tensor softmax(In x, int axis) {
  return dispatch::call(op::softmax, {&x.t}, SoftmaxAttrs{axis}, x.loc)[0];
}
Tensor log_softmax(In x, int axis) {
  return dispatch::call(op::log_softmax, {&x.t}, SoftmaxAttrs{axis}, x.loc)[0];
}
Tensor softmax_grad(In g, const Tensor& y, int axis) {
  return dispatch::call(op::softmax_grad, {&g.t, &y}, SoftmaxAttrs{axis}, g.loc)[0];
}
Tensor log_softmax_grad(In g, const Tensor& y, int axis) {
  return dispatch::call(op::log_softmax_grad, {&g.t, &y}, SoftmaxAttrs{axis}, g.loc)[0];
}

}  // namespace tandem
