#include "ops/sort.h"

#include "core/dispatch.h"
#include "ops/grad_util.h"
#include "ops/index.h"
#include "ops/op_list.h"

namespace tandem {

namespace {

int expect_axis(const InferContext& c, std::int64_t axis) {
  const TensorDesc& x = c.input(0);
  if (x.rank() == 0) c.fail("a 0-dim tensor has no axis", x.str());
  return c.axis(axis, x.rank());
}

// Values and positions, laid out alike.
void output_in_order(InferContext& c, const Shape& s) {
  const TensorDesc& x = c.input(0);
  const Strides strides = strides_for(s, x.format(MemoryFormat::contiguous));
  c.output({x.dtype, x.device, s, strides});
  c.output({DType::i64, x.device, s, strides});
}

void infer_sort(InferContext& c) {
  c.expect_inputs(1);
  const TensorDesc& x = c.input(0);
  expect_axis(c, c.attrs<SortAttrs>().axis);
  output_in_order(c, x.shape);
}

void infer_topk(InferContext& c) {
  c.expect_inputs(1);
  const TensorDesc& x = c.input(0);
  const auto& a = c.attrs<TopkAttrs>();
  Shape s = x.shape;
  std::int64_t& n = s[expect_axis(c, a.axis)];
  if (a.k < 0 || a.k > n) {
    c.fail<ValueError>("k must not exceed the size of the axis", std::to_string(a.k),
                       fmt::format("0 <= k <= {}", n));
  }
  n = a.k;
  output_in_order(c, s);
}

template <class A>
void vjp_order(VjpContext& c) {
  if (!c.needs(0) || !c.has_grad(0)) return;
  const int axis = static_cast<int>(c.template attrs<A>().axis);
  c.set(0, scatter_add(zeros_of(c.input_desc(0)), axis, c.output(1), c.grad()));
}

}  // namespace

namespace op {
constinit const OpDef sort = {.id = id_of(OpId::sort_),
                              .name = "sort",
                              .attrs = &attr_type_v<SortAttrs>,
                              .infer = infer_sort,
                              .vjp = vjp_order<SortAttrs>,
                              .traits = {.saves_outputs = 0b10},
                              .doc = "Elements along an axis in order, and where they were."};
constinit const OpDef topk = {.id = id_of(OpId::topk_),
                              .name = "topk",
                              .attrs = &attr_type_v<TopkAttrs>,
                              .infer = infer_topk,
                              .vjp = vjp_order<TopkAttrs>,
                              .traits = {.saves_outputs = 0b10},
                              .doc = "The k best along an axis, and where they were."};
}  // namespace op

std::pair<Tensor, Tensor> sort(In x, int axis, bool descending) {
  const FunctionSite at("sort", x.loc);
  expect_defined("sort", {&x.t}, x.loc);
  if (x->rank() == 0) {
    auto [values, indices] = sort(In(x->reshape({1}, x.loc), x.loc), axis, descending);
    return {values.reshape({}, x.loc), indices.reshape({}, x.loc)};
  }
  const SortAttrs a{wrap_axis(axis, x->rank(), "sort"), descending};
  Outputs out = dispatch::call(op::sort, {&x.t}, a, x.loc);
  return {std::move(out[0]), std::move(out[1])};
}

std::pair<Tensor, Tensor> topk(In x, std::int64_t k, int axis, bool largest) {
  const ErrorSite at(x.loc);
  expect_defined("topk", {&x.t}, x.loc);
  const TopkAttrs a{k, wrap_axis(axis, x->rank(), "topk"), largest};
  Outputs out = dispatch::call(op::topk, {&x.t}, a, x.loc);
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace tandem
