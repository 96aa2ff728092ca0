#include "ops/index.h"

#include "core/dispatch.h"
#include "ops/grad_util.h"
#include "ops/op_list.h"

namespace tandem {

namespace {

// A packed description of `shape` in the format of `like`.
TensorDesc in_format_of(const TensorDesc& like, const Shape& shape) {
  return {like.dtype, like.device, shape,
          strides_for(shape, like.format(MemoryFormat::contiguous))};
}

// The axis these ops work along. wrap_axis lets a 0-dim tensor have one, for reductions' sake.
int axis_of(const InferContext& c) {
  const TensorDesc& x = c.input(0);
  if (x.rank() == 0) c.fail("a 0-dim tensor has no axis", x.str());
  return c.axis(c.attrs<AxisAttrs>().axis, x.rank());
}

// ---------------------------------------------------------------------------- concat and moves

void infer_concat(InferContext& c) {
  if (c.num_inputs() == 0) c.fail("at least one tensor is needed", "none");
  const TensorDesc& first = c.input(0);
  const int axis = axis_of(c);
  Shape s = first.shape;
  const TensorDesc* like = &first;
  bool channels_last = first.is_channels_last();
  for (int i = 1; i < c.num_inputs(); ++i) {
    const TensorDesc& x = c.input(i);
    c.expect_same_dtype(0, i);
    Shape other = x.shape;
    if (other.size() == s.size()) other[axis] = first.shape[axis];
    if (!(other == first.shape)) {
      c.fail(fmt::format("shapes must agree but for axis {}", axis),
             fmt::format("{} as input 0 and {} as input {}", first.shape.str(), x.shape.str(), i));
    }
    if (__builtin_add_overflow(s[axis], x.shape[axis], &s[axis])) checked_numel({-1}, c.op_name());
    channels_last = channels_last && x.is_channels_last();
    if (!x.is_contiguous()) like = &x;
  }
  checked_numel(s, c.op_name());
  // Tensors that are both count as row-major unless another is not.
  c.output(channels_last ? in_format_of(*like, s) : TensorDesc(first.dtype, first.device, s));
}

void vjp_concat(VjpContext& c) {
  const int rank = c.input_desc(0).rank();
  const int axis = wrap_axis(c.attrs<AxisAttrs>().axis, rank, "concat");
  std::int64_t at = 0;
  for (int i = 0; i < c.num_inputs(); ++i) {
    const std::int64_t n = c.input_desc(i).shape[axis];
    if (c.needs(i)) c.set(i, c.grad().slice(axis, at, at + n));
    at += n;
  }
}

void infer_pad(InferContext& c) {
  c.expect_inputs(1);
  const TensorDesc& x = c.input(0);
  const auto& widths = c.attrs<PadAttrs>().before_after;
  bool ok = widths.size() == 2 * static_cast<std::size_t>(x.rank());
  Shape s = x.shape;
  for (std::size_t i = 0; ok && i < widths.size(); ++i) {
    std::int64_t& n = s[static_cast<int>(i / 2)];
    ok = widths[i] >= 0 && !__builtin_add_overflow(n, widths[i], &n);
  }
  if (!ok) {
    c.fail("two widths, none negative, for each axis", detail::print_field(widths),
           fmt::format("{} numbers", 2 * x.rank()));
  }
  const Scalar& value = c.attrs<PadAttrs>().value;
  if (!value.fits(x.dtype)) {
    c.fail<ValueError>("the value does not fit into the tensor's type", value.str(),
                       name_of(x.dtype));
  }
  checked_numel(s, c.op_name());
  c.output(in_format_of(x, s));
}

void vjp_pad(VjpContext& c) {
  if (!c.needs(0)) return;
  const Shape& s = c.input_desc(0).shape;
  const auto& widths = c.attrs<PadAttrs>().before_after;
  Tensor g = c.grad();
  for (int i = 0; i < s.size(); ++i) {
    const std::int64_t before = widths[2 * static_cast<std::size_t>(i)];
    if (g.dim(i) != s[i]) g = g.slice(i, before, before + s[i]);
  }
  c.set(0, g);
}

void infer_flip(InferContext& c) {
  c.expect_inputs(1);
  for (auto a : c.attrs<FlipAttrs>().axes) c.axis(a, c.input(0).rank());
  c.output(in_format_of(c.input(0), c.input(0).shape));
}

void vjp_flip(VjpContext& c) {
  if (c.needs(0)) c.set(0, flip(c.grad(), c.attrs<FlipAttrs>().axes));
}

void infer_roll(InferContext& c) {
  c.expect_inputs(1);
  const auto& a = c.attrs<RollAttrs>();
  if (a.shifts.size() != a.axes.size()) {
    c.fail("one shift for each axis", fmt::format("{} for {}", a.shifts.str(), a.axes.str()));
  }
  for (auto axis : a.axes) c.axis(axis, c.input(0).rank());
  c.output(in_format_of(c.input(0), c.input(0).shape));
}

void vjp_roll(VjpContext& c) {
  if (!c.needs(0)) return;
  const auto& a = c.attrs<RollAttrs>();
  Dims back = a.shifts;
  for (int i = 0; i < back.size(); ++i) {
    // The smallest integer has no negative.
    const std::int64_t n = c.input_desc(0).shape[wrap_axis(a.axes[i], c.input_desc(0).rank(), "")];
    back[i] = n == 0 ? 0 : -(back[i] % n);
  }
  c.set(0, roll(c.grad(), back, a.axes));
}

// ------------------------------------------------------------------------------------- indices

void expect_index(const InferContext& c, int i) {
  const DType t = c.input(i).dtype;
  if (t != DType::i32 && t != DType::i64) {
    c.fail<TypeError>("indices must be integers", c.input(i).str(), "i32 or i64");
  }
}

// `index` nowhere larger than `x` but along `axis`.
void expect_fitting_index(const InferContext& c, int axis) {
  expect_index(c, 1);
  const Shape &x = c.input(0).shape, &index = c.input(1).shape;
  bool ok = x.size() == index.size();
  for (int i = 0; ok && i < x.size(); ++i) ok = i == axis || index[i] <= x[i];
  if (!ok) {
    c.fail(fmt::format("the index must have x's rank, and not exceed it but along axis {}", axis),
           index.str(), fmt::format("at most {}", x.str()));
  }
}

void infer_gather(InferContext& c) {
  c.expect_inputs(2);
  const TensorDesc& x = c.input(0);
  expect_fitting_index(c, axis_of(c));
  c.output(in_format_of(x, c.input(1).shape));
}

int axis_of(const VjpContext& c) {
  return static_cast<int>(c.attrs<AxisAttrs>().axis);
}

void vjp_gather(VjpContext& c) {
  if (!c.needs(0)) return;
  c.set(0, scatter_add(zeros_of(c.input_desc(0)), axis_of(c), c.input(1), c.grad()));
}

void expect_addable(const InferContext& c) {
  c.expect_same_dtype(0, 2);
  if (c.input(0).dtype == DType::boolean) {
    c.fail<TypeError>("bool has no addition", c.input(0).str(), "a number type");
  }
}

void infer_scatter_add(InferContext& c) {
  c.expect_inputs(3);
  const TensorDesc& x = c.input(0);
  expect_fitting_index(c, axis_of(c));
  c.expect_shape(2, c.input(1).shape, "src must have the index's shape");
  expect_addable(c);
  c.output(in_format_of(x, x.shape));
}

void vjp_scatter_add(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(2)) c.set(2, gather(c.grad(), axis_of(c), c.input(1)));
}

// x's shape with the axis as long as the index.
Shape selected_shape(const InferContext& c) {
  const TensorDesc& x = c.input(0);
  const int axis = axis_of(c);
  expect_index(c, 1);
  c.expect_rank(1, 1);
  Shape s = x.shape;
  s[axis] = c.input(1).shape[0];
  checked_numel(s, c.op_name());
  return s;
}

void infer_index_select(InferContext& c) {
  c.expect_inputs(2);
  const TensorDesc& x = c.input(0);
  c.output(in_format_of(x, selected_shape(c)));
}

void vjp_index_select(VjpContext& c) {
  if (!c.needs(0)) return;
  c.set(0, index_add(zeros_of(c.input_desc(0)), axis_of(c), c.input(1), c.grad()));
}

void infer_index_add(InferContext& c) {
  c.expect_inputs(3);
  const TensorDesc& x = c.input(0);
  c.expect_shape(2, selected_shape(c), "src must have x's shape, and the index's size on the axis");
  expect_addable(c);
  c.output(in_format_of(x, x.shape));
}

void vjp_index_add(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad());
  if (c.needs(2)) c.set(2, index_select(c.grad(), axis_of(c), c.input(1)));
}

void infer_one_hot(InferContext& c) {
  c.expect_inputs(1);
  expect_index(c, 0);
  const auto& a = c.attrs<OneHotAttrs>();
  if (a.classes < 1) {
    c.fail<ValueError>("the number of classes must be at least 1", std::to_string(a.classes));
  }
  Shape s = c.input(0).shape;
  s.push_back(a.classes);
  checked_numel(s, c.op_name());
  c.output({a.dtype, c.input(0).device, s});
}

// One addition per element of src, which is also what is read and written besides x and y.
double add_flops(const PreparedOp& p) {
  return static_cast<double>(p.in[2].numel());
}
// x is copied, then as many of its elements read and written as are added.
double add_bytes(const PreparedOp& p) {
  return static_cast<double>(2 * p.in[0].bytes() + 3 * p.in[2].bytes() + p.in[1].bytes());
}
// Reads as many elements of x as it writes.
double pick_bytes(const PreparedOp& p) {
  return static_cast<double>(2 * p.out[0].bytes() + p.in[1].bytes());
}

AxisAttrs axis_attrs(std::string_view op, const Tensor& x, int axis) {
  return {wrap_axis(axis, x.rank(), op)};
}

}  // namespace

namespace op {
constinit const OpDef concat = {.id = id_of(OpId::concat_),
                                .name = "concat",
                                .attrs = &attr_type_v<AxisAttrs>,
                                .infer = infer_concat,
                                .vjp = vjp_concat,
                                .doc = "Tensors one after the other along an axis."};
constinit const OpDef pad = {.id = id_of(OpId::pad_),
                             .name = "pad",
                             .attrs = &attr_type_v<PadAttrs>,
                             .infer = infer_pad,
                             .vjp = vjp_pad,
                             .doc = "Puts a value around a tensor."};
constinit const OpDef flip = {.id = id_of(OpId::flip_),
                              .name = "flip",
                              .attrs = &attr_type_v<FlipAttrs>,
                              .infer = infer_flip,
                              .vjp = vjp_flip,
                              .doc = "Reverses the order along axes."};
constinit const OpDef roll = {.id = id_of(OpId::roll_),
                              .name = "roll",
                              .attrs = &attr_type_v<RollAttrs>,
                              .infer = infer_roll,
                              .vjp = vjp_roll,
                              .doc = "Moves elements along axes, round the end."};
constinit const OpDef gather = {.id = id_of(OpId::gather_),
                                .name = "gather",
                                .attrs = &attr_type_v<AxisAttrs>,
                                .infer = infer_gather,
                                .vjp = vjp_gather,
                                .traits = {.saves_inputs = 0b10},
                                .bytes = pick_bytes,
                                .doc = "Picks along an axis by an index for each element."};
constinit const OpDef scatter_add = {.id = id_of(OpId::scatter_add_),
                                     .name = "scatter_add",
                                     .attrs = &attr_type_v<AxisAttrs>,
                                     .infer = infer_scatter_add,
                                     .vjp = vjp_scatter_add,
                                     .traits = {.saves_inputs = 0b10, .inplace = 0b1},
                                     .flops = add_flops,
                                     .bytes = add_bytes,
                                     .doc = "Adds each element of src where its index says."};
constinit const OpDef index_select = {.id = id_of(OpId::index_select_),
                                      .name = "index_select",
                                      .attrs = &attr_type_v<AxisAttrs>,
                                      .infer = infer_index_select,
                                      .vjp = vjp_index_select,
                                      .traits = {.saves_inputs = 0b10},
                                      .bytes = pick_bytes,
                                      .doc = "Slices of x at the indices along an axis."};
constinit const OpDef index_add = {.id = id_of(OpId::index_add_),
                                   .name = "index_add",
                                   .attrs = &attr_type_v<AxisAttrs>,
                                   .infer = infer_index_add,
                                   .vjp = vjp_index_add,
                                   .traits = {.saves_inputs = 0b10, .inplace = 0b1},
                                   .flops = add_flops,
                                   .bytes = add_bytes,
                                   .doc = "Adds slices of src at the indices along an axis."};
constinit const OpDef one_hot = {.id = id_of(OpId::one_hot_),
                                 .name = "one_hot",
                                 .attrs = &attr_type_v<OneHotAttrs>,
                                 .infer = infer_one_hot,
                                 .doc = "A last axis with 1 at the id and 0 elsewhere."};
}  // namespace op

Tensor concat(std::span<const Tensor> xs, int axis, SrcLoc loc) {
  const FunctionSite at("concat", loc);
  if (xs.empty()) fail<ValueError>("concat", "at least one tensor is needed", "none");
  expect_defined("concat", xs, loc);
  DType dtype = xs[0].dtype();
  for (const Tensor& x : xs) dtype = promote(dtype, x.dtype());
  std::vector<Tensor> casts;
  casts.reserve(xs.size());  // as `in` points into it
  std::vector<const Tensor*> in;
  in.reserve(xs.size());
  for (const Tensor& x : xs) {
    in.push_back(x.dtype() == dtype ? &x : &casts.emplace_back(x.to(dtype, loc)));
  }
  return dispatch::call(op::concat, Inputs(in), axis_attrs("concat", xs[0], axis), loc)[0];
}

Tensor concat(std::initializer_list<Tensor> xs, int axis, SrcLoc loc) {
  return concat(std::span<const Tensor>(xs.begin(), xs.size()), axis, loc);
}

Tensor stack(std::span<const Tensor> xs, int axis, SrcLoc loc) {
  const FunctionSite at("stack", loc);
  if (xs.empty()) fail<ValueError>("stack", "at least one tensor is needed", "none");
  expect_defined("stack", xs, loc);
  const int a = wrap_axis(axis, xs[0].rank() + 1, "stack");
  std::vector<Tensor> rows;
  rows.reserve(xs.size());
  for (const Tensor& x : xs) {
    // Else concat would speak of shapes with an axis nobody wrote, or allow another size there.
    if (!(x.shape() == xs[0].shape())) {
      fail<ShapeError>("stack", "all tensors must have one shape",
                       xs[0].shape().str() + " and " + x.shape().str());
    }
    rows.push_back(x.unsqueeze(a, loc));
  }
  return concat(rows, a, loc);
}

Tensor stack(std::initializer_list<Tensor> xs, int axis, SrcLoc loc) {
  return stack(std::span<const Tensor>(xs.begin(), xs.size()), axis, loc);
}

Tensor pad(In x, const std::vector<std::int64_t>& before_after, Scalar value) {
  return dispatch::call(op::pad, {&x.t}, PadAttrs{before_after, value}, x.loc)[0];
}

Tensor flip(In x, const Dims& axes) {
  return dispatch::call(op::flip, {&x.t}, FlipAttrs{axes}, x.loc)[0];
}

Tensor roll(In x, const Dims& shifts, const Dims& axes) {
  return dispatch::call(op::roll, {&x.t}, RollAttrs{shifts, axes}, x.loc)[0];
}

Tensor gather(In x, int axis, const Tensor& index) {
  const ErrorSite at(x.loc);
  expect_defined("gather", {&x.t, &index}, x.loc);
  return dispatch::call(op::gather, {&x.t, &index}, axis_attrs("gather", x, axis), x.loc)[0];
}

Tensor scatter_add(In x, int axis, const Tensor& index, const Tensor& src) {
  const ErrorSite at(x.loc);
  expect_defined("scatter_add", {&x.t, &index, &src}, x.loc);
  return dispatch::call(op::scatter_add, {&x.t, &index, &src}, axis_attrs("scatter_add", x, axis),
                        x.loc)[0];
}

Tensor index_select(In x, int axis, const Tensor& index) {
  const ErrorSite at(x.loc);
  expect_defined("index_select", {&x.t, &index}, x.loc);
  return dispatch::call(op::index_select, {&x.t, &index}, axis_attrs("index_select", x, axis),
                        x.loc)[0];
}

Tensor index_add(In x, int axis, const Tensor& index, const Tensor& src) {
  const ErrorSite at(x.loc);
  expect_defined("index_add", {&x.t, &index, &src}, x.loc);
  return dispatch::call(op::index_add, {&x.t, &index, &src}, axis_attrs("index_add", x, axis),
                        x.loc)[0];
}

Tensor embedding(In weight, const Tensor& ids) {
  const FunctionSite at("embedding", weight.loc);
  expect_defined("embedding", {&weight.t, &ids}, weight.loc);
  if (weight->rank() != 2) {
    fail<ShapeError>("embedding", "the weight must be a matrix", weight->shape().str(), "[V, D]");
  }
  if (ids.dtype() != DType::i32 && ids.dtype() != DType::i64) {
    fail<TypeError>("embedding", "ids must be integers", ids.desc().str(), "i32 or i64");
  }
  Shape s = ids.shape();
  s.push_back(weight->dim(1));
  const Tensor flat = ids.reshape({ids.numel()}, weight.loc);
  return index_select(weight, 0, flat).reshape(s, weight.loc);
}

Tensor one_hot(In ids, std::int64_t classes, DType dtype) {
  return dispatch::call(op::one_hot, {&ids.t}, OneHotAttrs{classes, dtype}, ids.loc)[0];
}

}  // namespace tandem
