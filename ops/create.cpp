#include "ops/create.h"

#include <cmath>
#include <utility>

#include "core/dispatch.h"
#include "ops/elementwise.h"
#include "ops/op_list.h"

namespace tandem {

namespace {

void check_value(const InferContext& c, const Scalar& value, DType t) {
  if (!value.defined()) c.fail<ValueError>("the value is missing", "none", "a number");
  if (!value.fits(t)) {
    c.fail<ValueError>("the value does not fit into the type", value.str(), name_of(t));
  }
}

void infer_full(InferContext& c) {
  c.expect_inputs(0);
  const auto& a = c.attrs<FullAttrs>();
  checked_numel(a.shape, c.op_name());
  check_value(c, a.value, a.dtype);
  c.output({a.dtype, a.device, a.shape, strides_for(a.shape, a.format)});
}

void infer_arange(InferContext& c) {
  c.expect_inputs(0);
  const auto& a = c.attrs<ArangeAttrs>();
  if (a.dtype == DType::boolean) c.fail<TypeError>("not defined for bool");
  const Shape shape{a.count};
  checked_numel(shape, c.op_name());
  c.output({a.dtype, a.device, shape});
}

void infer_fill(InferContext& c) {
  c.expect_inputs(1);
  check_value(c, c.attrs<FillAttrs>().value, c.input(0).dtype);
  c.mutates(0);
}

// Elements of one tensor that share memory could each want another value.
void expect_writable(const InferContext& c, const TensorDesc& d) {
  for (int i = 0; i < d.rank() && d.numel() > 0; ++i) {
    if (d.strides[i] == 0 && d.dim(i) > 1) {
      c.fail("the destination must not be an expanded view", d.str(), "a tensor of its own memory");
    }
  }
}

void infer_assign(InferContext& c) {
  c.expect_inputs(2);
  const TensorDesc& dst = c.input(0);
  expect_writable(c, dst);
  if (!(broadcast_shapes(dst.shape, c.input(1).shape, c.op_name()) == dst.shape)) {
    c.fail("the source must broadcast to the destination's shape", c.input(1).str(), dst.str());
  }
  c.mutates(0);
}

bool integral(const Scalar& s) {
  return s.kind() != Scalar::Kind::real;
}

}  // namespace

namespace op {
constinit const OpDef full = {.id = id_of(OpId::full_),
                              .name = "full",
                              .attrs = &attr_type_v<FullAttrs>,
                              .infer = infer_full,
                              .doc = "Every element the same value."};
constinit const OpDef arange = {.id = id_of(OpId::arange_),
                                .name = "arange",
                                .attrs = &attr_type_v<ArangeAttrs>,
                                .infer = infer_arange,
                                .doc = "begin + i * step."};
constinit const OpDef fill = {.id = id_of(OpId::fill_),
                              .name = "fill",
                              .attrs = &attr_type_v<FillAttrs>,
                              .infer = infer_fill,
                              .doc = "Writes a value to every element of input 0."};
constinit const OpDef assign = {.id = id_of(OpId::assign_),
                                .name = "assign",
                                .infer = infer_assign,
                                .doc = "Writes input 1, broadcast and converted, into input 0."};
}  // namespace op

Tensor full(const Shape& shape, Scalar value, TensorOptions o, SrcLoc loc) {
  return std::move(
      dispatch::call(op::full, Inputs{}, FullAttrs{shape, value, o.dtype, o.device}, loc)[0]);
}
Tensor zeros(const Shape& shape, TensorOptions o, SrcLoc loc) {
  const FunctionSite at("zeros", loc);
  return full(shape, 0, o, loc);
}
Tensor ones(const Shape& shape, TensorOptions o, SrcLoc loc) {
  const FunctionSite at("ones", loc);
  return full(shape, 1, o, loc);
}
Tensor full_like(In x, Scalar value, TensorOptions o) {
  const FunctionSite at("full_like", x.loc);
  expect_defined("full_like", {&x.t}, x.loc);
  const MemoryFormat format = x.t.desc().format(MemoryFormat::contiguous);
  const FullAttrs a{x.t.shape(), value, o.dtype, o.device, format};
  return std::move(dispatch::call(op::full, Inputs{}, a, x.loc)[0]);
}
Tensor full_like(In x, Scalar value) {
  const FunctionSite at("full_like", x.loc);
  expect_defined("full_like", {&x.t}, x.loc);
  return full_like(x, value, {x.t.dtype(), x.t.device()});
}
Tensor zeros_like(In x) {
  const FunctionSite at("zeros_like", x.loc);
  return full_like(x, 0);
}
Tensor ones_like(In x) {
  const FunctionSite at("ones_like", x.loc);
  return full_like(x, 1);
}

Tensor arange(Scalar begin, Scalar end, Scalar step, TensorOptions o, SrcLoc loc) {
  const ErrorSite at(loc);
  if (!begin.defined() || !end.defined() || !step.defined()) {
    fail("arange", "begin, end and step must have values", "one without", "three numbers");
  }
  if (step.to_double() == 0) {
    fail("arange", "the step must not be 0", step.str(), "a number above or below 0");
  }
  std::int64_t count;
  if (integral(begin) && integral(end) && integral(step)) {
    using Wide = __int128;  // a span of i64 needs 65 bits
    const Wide s = step.to_int(), span = Wide(end.to_int()) - begin.to_int();
    const Wide n = (span > 0) == (s > 0) && span != 0 ? (span + s - (s > 0 ? 1 : -1)) / s : 0;
    count = n < INT64_MAX ? static_cast<std::int64_t>(n) : INT64_MAX;  // refused as too many
  } else {
    const double n = std::ceil((end.to_double() - begin.to_double()) / step.to_double());
    if (!(n < 0x1p62)) {
      fail("arange", "the range must be finite",
           fmt::format("{} to {} by {}", begin.str(), end.str(), step.str()));
    }
    count = n > 0 ? static_cast<std::int64_t>(n) : 0;
  }
  return std::move(dispatch::call(op::arange, Inputs{},
                                  ArangeAttrs{begin, step, count, o.dtype, o.device}, loc)[0]);
}
Tensor arange(Scalar begin, Scalar end, Scalar step, SrcLoc loc) {
  const bool ints = integral(begin) && integral(end) && integral(step);
  return arange(begin, end, step, {ints ? DType::i64 : DType::f32, default_device()}, loc);
}

Tensor linspace(double begin, double end, std::int64_t n, TensorOptions o, SrcLoc loc) {
  const FunctionSite at("linspace", loc);
  if (n < 0) {
    fail("linspace", "the number of values must not be negative", std::to_string(n), "0 or more");
  }
  const double step = n > 1 ? (end - begin) / static_cast<double>(n - 1) : 0;
  Tensor t =
      dispatch::call(op::arange, Inputs{}, ArangeAttrs{begin, step, n, o.dtype, o.device}, loc)[0];
  // begin + (n - 1) step need not round to the end.
  if (n > 1) t.slice(0, n - 1, n, 1, loc).fill_(end, loc);
  return t;
}

Tensor eye(std::int64_t n, std::int64_t m, TensorOptions o, SrcLoc loc) {
  const FunctionSite at("eye", loc);
  if (n < 0 || m < -1) {
    fail<ShapeError>("eye", "sizes must not be negative", fmt::format("{} x {}", n, m));
  }
  // A matrix is as large as what it is made of: refuse before anything is allocated.
  checked_numel({n, m < 0 ? n : m}, "eye");
  const TensorOptions index{DType::i64, o.device};
  const Tensor row = arange(0, n, 1, index, loc).unsqueeze(1, loc);
  const Tensor column = arange(0, m < 0 ? n : m, 1, index, loc);
  return cast({eq({row, loc}, column), loc}, o.dtype);
}

void fill(Tensor& t, Scalar value, SrcLoc loc) {
  dispatch::call(op::fill, {&t}, FillAttrs{value}, loc);
}

void assign(Tensor& dst, const Tensor& src, SrcLoc loc) {
  const FunctionSite at("assign", loc);
  expect_defined("assign", {&dst, &src}, loc);
  if (src.same_as(dst)) return;
  // Two views of one memory may overlap: what is read must not have been written before.
  const bool overlap = src.impl()->storage->same_memory(*dst.impl()->storage);
  const Tensor from = overlap ? copy({src, loc}) : src;
  dispatch::call(op::assign, {&dst, &from}, {}, loc);
}

}  // namespace tandem
