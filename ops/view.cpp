#include "ops/view.h"

#include <algorithm>

#include "core/backend.h"
#include "core/dispatch.h"
#include "core/trace_guard.h"
#include "ops/elementwise.h"
#include "ops/grad_util.h"
#include "ops/index.h"
#include "ops/op_list.h"

namespace tandem {

bool view_strides(const TensorDesc& d, const Shape& shape, Strides& strides) {
  strides = contiguous_strides(shape);
  if (d.numel() == 0 || d.is_contiguous()) return true;
  int out = shape.size() - 1;
  for (int i = d.rank() - 1; i >= 0;) {
    if (d.shape[i] == 1) {
      --i;
      continue;
    }
    // A block of input axes that walks through memory in even steps can be cut anew at will.
    const std::int64_t step = d.strides[i];
    std::int64_t block = d.shape[i--];
    for (; i >= 0 && (d.shape[i] == 1 || d.strides[i] == step * block); --i) block *= d.shape[i];
    std::int64_t filled = 1;
    for (; filled < block; --out) {
      if (shape[out] == 1) continue;
      strides[out] = step * filled;
      filled *= shape[out];
    }
    if (filled != block) return false;
  }
  return true;
}

namespace {

// Replaces the one -1 allowed in `shape`, and checks that the number of elements stays.
Shape resolve_shape(std::string_view op, const TensorDesc& d, const Shape& shape) {
  Shape s = shape;
  int free_axis = -1;
  for (int i = 0; i < s.size(); ++i) {
    if (s[i] != -1) continue;
    if (free_axis >= 0) fail<ShapeError>(op, "at most one size may be -1", shape.str());
    free_axis = i;
    s[i] = 1;
  }
  const std::int64_t known = checked_numel(s, op), have = d.numel();
  if (free_axis >= 0) {
    if (known == 0) {
      fail<ShapeError>(op, "-1 beside a size of 0 could be anything", shape.str());
    }
    s[free_axis] = have / known;
    if (have % known == 0) return s;
  } else if (known == have) {
    return s;
  }
  fail<ShapeError>(op, "the number of elements cannot change",
                   fmt::format("{} -> {}", d.shape.str(), shape.str()),
                   fmt::format("{} elements", have));
}

void infer_view(InferContext& c) {
  c.expect_inputs(1);
  const TensorDesc& d = c.input(0);
  const Shape s = resolve_shape(c.op_name(), d, c.attrs<ViewAttrs>().shape);
  Strides strides;
  if (!view_strides(d, s, strides)) {
    c.fail("this layout has no view of that shape (reshape would copy)",
           fmt::format("{} -> {}", d.str(), s.str()));
  }
  c.view({d.dtype, d.device, s, strides});
}

void vjp_view(VjpContext& c) {
  if (c.needs(0)) c.set(0, c.grad().reshape(c.input_desc(0).shape));
}

Dims resolve_axes(std::string_view op, const Dims& axes, int rank) {
  if (axes.size() != rank) {
    fail<ShapeError>(op, "every axis must be named once", axes.str(), fmt::format("{} axes", rank));
  }
  Dims r = axes;
  unsigned seen = 0;
  for (auto& a : r) {
    a = wrap_axis(a, rank, op);
    if (seen >> a & 1u) fail<ShapeError>(op, "an axis is named twice", axes.str());
    seen |= 1u << a;
  }
  return r;
}

void infer_permute(InferContext& c) {
  c.expect_inputs(1);
  const TensorDesc& d = c.input(0);
  const Dims axes = resolve_axes(c.op_name(), c.attrs<PermuteAttrs>().axes, d.rank());
  TensorDesc out = d;
  for (int i = 0; i < axes.size(); ++i) {
    out.shape[i] = d.shape[static_cast<int>(axes[i])];
    out.strides[i] = d.strides[static_cast<int>(axes[i])];
  }
  c.view(out);
}

void vjp_permute(VjpContext& c) {
  if (!c.needs(0)) return;
  const int rank = c.input_desc(0).rank();
  const Dims& axes = c.attrs<PermuteAttrs>().axes;
  Dims inverse(rank, 0);
  for (int i = 0; i < rank; ++i) inverse[wrap_axis(axes[i], rank, "permute")] = i;
  c.set(0, c.grad().permute(inverse));
}

// Replaces each -1 (keep this size), and checks that only sizes of 1 grow.
Shape resolve_expand(std::string_view op, const Shape& have, const Shape& want) {
  const int lead = want.size() - have.size();
  bool ok = lead >= 0;
  Shape s = want;
  for (int i = 0; ok && i < s.size(); ++i) {
    if (i < lead) {
      ok = s[i] >= 0;
    } else if (s[i] == -1) {
      s[i] = have[i - lead];
    } else {
      ok = s[i] >= 0 && (s[i] == have[i - lead] || have[i - lead] == 1);
    }
  }
  if (!ok) {
    fail<ShapeError>(op, "only sizes of 1 can be repeated, and axes added in front",
                     fmt::format("{} -> {}", have.str(), want.str()));
  }
  return s;
}

void infer_expand(InferContext& c) {
  c.expect_inputs(1);
  const TensorDesc& d = c.input(0);
  const Shape s = resolve_expand(c.op_name(), d.shape, c.attrs<ExpandAttrs>().shape);
  checked_numel(s, c.op_name());
  const int lead = s.size() - d.rank();
  Strides strides(s.size(), 0);
  for (int i = lead; i < s.size(); ++i) {
    if (s[i] == d.shape[i - lead]) strides[i] = d.strides[i - lead];
  }
  c.view({d.dtype, d.device, s, strides});
}

void vjp_expand(VjpContext& c) {
  if (c.needs(0)) c.set(0, reduce_to(c.grad(), c.input_desc(0)));
}

// wrap_axis lets a 0-dim tensor have one, for reductions' sake.
int axis_of(std::string_view op, const Shape& shape, std::int64_t axis) {
  if (shape.empty()) fail<ShapeError>(op, "a 0-dim tensor has no axis", shape.str());
  return wrap_axis(axis, shape.size(), op);
}

// Python's rules: negative positions count from the end, and what lies outside is cut off.
SliceAttrs resolve_slice(std::string_view op, const Shape& shape, SliceAttrs a) {
  a.axis = axis_of(op, shape, a.axis);
  if (a.step < 1) fail<ValueError>(op, "the step must be at least 1", std::to_string(a.step));
  const std::int64_t n = shape[static_cast<int>(a.axis)];
  const auto place = [n](std::int64_t i) {
    return std::clamp<std::int64_t>(i < 0 ? i + n : i, 0, n);
  };
  a.begin = place(a.begin);
  a.end = std::max(a.begin, place(a.end));
  return a;
}

void infer_slice(InferContext& c) {
  c.expect_inputs(1);
  TensorDesc d = c.input(0);
  const SliceAttrs a = resolve_slice(c.op_name(), d.shape, c.attrs<SliceAttrs>());
  const int axis = static_cast<int>(a.axis);
  const std::int64_t stride = d.strides[axis];
  // Division before rounding up: a step may be as large as an integer gets.
  const std::int64_t span = a.end - a.begin;
  d.shape[axis] = span / a.step + (span % a.step != 0);
  if (d.shape[axis] > 1) d.strides[axis] = stride * a.step;
  c.view(d, d.numel() == 0 ? 0 : a.begin * stride);
}

void vjp_slice(VjpContext& c) {
  if (!c.needs(0)) return;
  const Shape& shape = c.input_desc(0).shape;
  const SliceAttrs a = resolve_slice("slice", shape, c.attrs<SliceAttrs>());
  const int axis = static_cast<int>(a.axis);
  const std::int64_t rest = shape[axis] - a.begin;
  Tensor g = c.grad();
  Shape s = g.shape();
  if (a.step > 1 && s[axis] > 1) {
    // Zeros between the elements: each becomes a row of `step`, whose others are padding.
    std::int64_t outer = 1, inner = 1;
    for (int i = 0; i < axis; ++i) outer *= s[i];
    for (int i = axis + 1; i < s.size(); ++i) inner *= s[i];
    const std::int64_t spread = s[axis] * a.step;
    g = pad(g.reshape({outer, s[axis], 1, inner}), {0, 0, 0, 0, 0, a.step - 1, 0, 0});
    s[axis] = std::min(spread, rest);
    g = g.reshape({outer, spread, inner}).slice(1, 0, s[axis]).reshape(s);
  }
  std::vector<std::int64_t> widths(2 * static_cast<std::size_t>(s.size()), 0);
  widths[2 * static_cast<std::size_t>(axis)] = a.begin;
  widths[2 * static_cast<std::size_t>(axis) + 1] = rest - s[axis];
  c.set(0, pad(g, widths));
}

void infer_as_strided(InferContext& c) {
  c.expect_inputs(1);
  const TensorDesc& d = c.input(0);
  const auto& a = c.attrs<AsStridedAttrs>();
  // The input may be one view of a buffer and the output another: whether the memory is there is
  // known to the tracer, which makes these, and not to a description.
  bool ok = a.shape.size() == a.strides.size();
  for (auto s : a.strides) ok = ok && s >= 0;
  if (!ok) c.fail("one stride for each axis, none negative", a.strides.str(), a.shape.str());
  checked_numel(a.shape, c.op_name());
  const TensorDesc out(d.dtype, d.device, a.shape, a.strides);
  c.view(out, a.offset);
}

Tensor view_call(const Tensor& x, const Shape& s, const SrcLoc& loc) {
  return dispatch::call(op::view, {&x}, ViewAttrs{s}, loc)[0];
}

}  // namespace

namespace op {
constinit const OpDef view = {.id = id_of(OpId::view_),
                              .name = "view",
                              .attrs = &attr_type_v<ViewAttrs>,
                              .infer = infer_view,
                              .vjp = vjp_view,
                              .traits = {.kind = OpKind::view},
                              .doc = "Another shape for the same elements in the same order."};
constinit const OpDef permute = {
    .id = id_of(OpId::permute_),
    .name = "permute",
    .attrs = &attr_type_v<PermuteAttrs>,
    .infer = infer_permute,
    .vjp = vjp_permute,
    .traits = {.kind = OpKind::view},
    .doc = "Axes in another order: output axis i is input axis axes[i]."};
constinit const OpDef expand = {.id = id_of(OpId::expand_),
                                .name = "expand",
                                .attrs = &attr_type_v<ExpandAttrs>,
                                .infer = infer_expand,
                                .vjp = vjp_expand,
                                .traits = {.kind = OpKind::view},
                                .doc = "Repeats sizes of 1 (with stride 0) and adds leading axes."};
constinit const OpDef slice = {.id = id_of(OpId::slice_),
                               .name = "slice",
                               .attrs = &attr_type_v<SliceAttrs>,
                               .infer = infer_slice,
                               .vjp = vjp_slice,
                               .traits = {.kind = OpKind::view},
                               .doc = "Every step-th element of [begin, end) along an axis."};
constinit const OpDef as_strided = {
    .id = id_of(OpId::as_strided_),
    .name = "as_strided",
    .attrs = &attr_type_v<AsStridedAttrs>,
    .infer = infer_as_strided,
    .traits = {.kind = OpKind::view},
    .doc = "Any shape and strides over the input's buffer; made by the tracer only."};
}  // namespace op

// ----------------------------------------------------------------------------- shape methods

Tensor Tensor::reshape(const Shape& shape, SrcLoc loc) const {
  const FunctionSite at("reshape", loc);
  expect_defined("reshape", {this}, loc);
  const Shape s = resolve_shape("reshape", desc(), shape);
  if (s == this->shape()) return *this;
  Strides strides;
  if (is_contiguous() || view_strides(desc(), s, strides)) return view_call(*this, s, loc);
  return view_call(copy(In(*this, loc), MemoryFormat::contiguous), s, loc);
}

Tensor Tensor::view(const Shape& shape, SrcLoc loc) const {
  const ErrorSite at(loc);
  expect_defined("view", {this}, loc);
  const Shape s = resolve_shape("view", desc(), shape);
  return s == this->shape() ? *this : view_call(*this, s, loc);
}

Tensor Tensor::flatten(int start, int end, SrcLoc loc) const {
  const FunctionSite at("flatten", loc);
  expect_defined("flatten", {this}, loc);
  if (rank() == 0) return reshape({1}, loc);
  const int a = wrap_axis(start, rank(), "flatten"), b = wrap_axis(end, rank(), "flatten");
  if (a > b) {
    fail<ValueError>("flatten", "the first axis must not come after the last",
                     fmt::format("{} and {}", start, end));
  }
  Shape s;
  for (int i = 0; i <= a; ++i) s.push_back(this->shape()[i]);
  for (int i = a + 1; i <= b; ++i) s[a] *= this->shape()[i];
  for (int i = b + 1; i < rank(); ++i) s.push_back(this->shape()[i]);
  return reshape(s, loc);
}

Tensor Tensor::permute(const Dims& axes, SrcLoc loc) const {
  const ErrorSite at(loc);
  expect_defined("permute", {this}, loc);
  const Dims r = resolve_axes("permute", axes, rank());
  return dispatch::call(op::permute, {this}, PermuteAttrs{r}, loc)[0];
}

Tensor Tensor::transpose(int a, int b, SrcLoc loc) const {
  const FunctionSite at("transpose", loc);
  expect_defined("transpose", {this}, loc);
  const int i = axis_of("transpose", shape(), a), j = axis_of("transpose", shape(), b);
  Dims axes(rank(), 0);
  for (int k = 0; k < rank(); ++k) axes[k] = k;
  std::swap(axes[i], axes[j]);
  return dispatch::call(op::permute, {this}, PermuteAttrs{axes}, loc)[0];
}

Tensor Tensor::t(SrcLoc loc) const {
  const FunctionSite at("t", loc);
  expect_defined("t", {this}, loc);
  if (rank() < 2) fail<ShapeError>("t", "two axes are needed", shape().str());
  return transpose(-2, -1, loc);
}

Tensor Tensor::squeeze(int axis, SrcLoc loc) const {
  const FunctionSite at("squeeze", loc);
  expect_defined("squeeze", {this}, loc);
  const int a = wrap_axis(axis, rank(), "squeeze");
  if (rank() == 0) return *this;  // as in NumPy
  if (shape()[a] != 1) {
    fail<ShapeError>("squeeze", "only an axis of size 1 can be dropped",
                     fmt::format("axis {} of {}", axis, shape().str()));
  }
  Shape s = shape();
  s.erase(a);
  return view_call(*this, s, loc);
}

Tensor Tensor::unsqueeze(int axis, SrcLoc loc) const {
  const FunctionSite at("unsqueeze", loc);
  expect_defined("unsqueeze", {this}, loc);
  Shape s = shape();
  s.insert(wrap_axis(axis, rank() + 1, "unsqueeze"), 1);
  return view_call(*this, s, loc);
}

Tensor Tensor::expand(const Shape& shape, SrcLoc loc) const {
  const ErrorSite at(loc);
  expect_defined("expand", {this}, loc);
  const Shape s = resolve_expand("expand", this->shape(), shape);
  if (s == this->shape()) return *this;
  return dispatch::call(op::expand, {this}, ExpandAttrs{s}, loc)[0];
}

Tensor Tensor::slice(int axis, std::int64_t begin, std::int64_t end, std::int64_t step,
                     SrcLoc loc) const {
  const ErrorSite at(loc);
  expect_defined("slice", {this}, loc);
  const SliceAttrs a = resolve_slice("slice", shape(), {axis, begin, end, step});
  return dispatch::call(op::slice, {this}, a, loc)[0];
}

Tensor Tensor::select(int axis, std::int64_t index, SrcLoc loc) const {
  const FunctionSite at("select", loc);
  expect_defined("select", {this}, loc);
  const int a = axis_of("select", shape(), axis);
  const std::int64_t n = shape()[a], i = index < 0 ? index + n : index;
  if (i < 0 || i >= n) {
    fail<IndexError>("select", "index out of range", std::to_string(index),
                     fmt::format("-{0} <= index < {0}", n));
  }
  return slice(a, i, i + 1, 1, loc).squeeze(a, loc);
}

// ------------------------------------------------------------------------ conversion methods

Tensor Tensor::to(DType dtype, SrcLoc loc) const {
  const FunctionSite at("to", loc);
  expect_defined("to", {this}, loc);
  return dtype == this->dtype() ? *this : cast(In(*this, loc), dtype);
}

Tensor Tensor::to(MemoryFormat format, SrcLoc loc) const {
  const FunctionSite at("to", loc);
  expect_defined("to", {this}, loc);
  if (format == MemoryFormat::preserve) return *this;
  if (format == MemoryFormat::contiguous) return contiguous(loc);
  if (rank() != 4) {
    fail<ShapeError>("to", "channels_last is a layout of four axes", shape().str(), "[N, C, H, W]");
  }
  return is_channels_last() ? *this : copy(In(*this, loc), format);
}

Tensor Tensor::to(Device device, SrcLoc loc) const {
  const FunctionSite at("to", loc);
  expect_defined("to", {this}, loc);
  if (device == this->device()) return *this;
  const auto way = [&] { return this->device().str() + " -> " + device.str(); };
  if (trace_guards() || is_symbolic()) {
    fail<CaptureError>("to", "a copy between devices cannot be captured; move the tensor before",
                       way());
  }
  if (grad_enabled() && requires_grad()) {
    fail<AutogradError>("to", "a copy between devices has no gradient; detach first", way());
  }
  const Tensor src = desc().is_dense() ? *this : contiguous(loc);
  TensorDesc d = src.desc();
  d.device = device;
  Tensor dst = Tensor::empty(d);
  Backend& b = backend(device.is_cpu() ? this->device() : device);
  b.copy(dst.raw_data(), device, src.raw_data(), this->device(), d.bytes());
  return dst;
}

Tensor Tensor::contiguous(SrcLoc loc) const {
  const FunctionSite at("contiguous", loc);
  expect_defined("contiguous", {this}, loc);
  return is_contiguous() ? *this : copy(In(*this, loc), MemoryFormat::contiguous);
}

Tensor Tensor::clone(SrcLoc loc) const {
  const FunctionSite at("clone", loc);
  return copy(In(*this, loc), MemoryFormat::preserve);
}

// ----------------------------------------------------------------------------- split, chunk

std::vector<Tensor> split(In x, std::int64_t size, int axis) {
  const FunctionSite at("split", x.loc);
  expect_defined("split", {&x.t}, x.loc);
  const int a = axis_of("split", x->shape(), axis);
  if (size < 1) fail<ValueError>("split", "the size must be at least 1", std::to_string(size));
  const std::int64_t n = x->shape()[a];
  std::vector<Tensor> parts;
  for (std::int64_t b = 0; b == 0 || b < n; b += size) {
    parts.push_back(x->slice(a, b, n - b < size ? n : b + size, 1, x.loc));
  }
  return parts;
}

std::vector<Tensor> split(In x, const std::vector<std::int64_t>& sizes, int axis) {
  const FunctionSite at("split", x.loc);
  expect_defined("split", {&x.t}, x.loc);
  const int a = axis_of("split", x->shape(), axis);
  std::int64_t sum = 0;
  bool ok = true;
  for (auto s : sizes) {
    ok = ok && s >= 0 && !__builtin_add_overflow(sum, s, &sum);
  }
  if (!ok || sum != x->shape()[a]) {
    fail<ShapeError>("split", "the sizes must add up to that of the axis",
                     detail::print_field(sizes), std::to_string(x->shape()[a]));
  }
  std::vector<Tensor> parts;
  std::int64_t b = 0;
  for (auto s : sizes) {
    parts.push_back(x->slice(a, b, b + s, 1, x.loc));
    b += s;
  }
  return parts;
}

std::vector<Tensor> chunk(In x, std::int64_t count, int axis) {
  const FunctionSite at("chunk", x.loc);
  expect_defined("chunk", {&x.t}, x.loc);
  const int a = axis_of("chunk", x->shape(), axis);
  if (count < 1) fail<ValueError>("chunk", "the count must be at least 1", std::to_string(count));
  const std::int64_t n = x->shape()[a];
  return split(x, std::max<std::int64_t>(1, n / count + (n % count != 0)), a);
}

}  // namespace tandem
