#include "ops/conv.h"

#include "core/dispatch.h"
#include "ops/elementwise.h"
#include "ops/grad_util.h"
#include "ops/norm.h"
#include "ops/op_list.h"
#include "ops/reduce.h"

namespace tandem {
namespace {

// Sizes and attributes below this keep the arithmetic on them from overflowing.
constexpr std::int64_t kLimit = std::int64_t{1} << 31;

Dims pair_of(const Dims& d, std::string_view op, std::string_view what, std::int64_t least) {
  if (d.size() != 1 && d.size() != 2) {
    fail<ShapeError>(op, fmt::format("{} has one number per spatial axis", what), d.str(),
                     "one or two numbers");
  }
  const Dims p = d.size() == 1 ? Dims{d[0], d[0]} : d;
  for (auto v : p) {
    if (v < least)
      fail(op, fmt::format("{} is too small", what), d.str(), fmt::format(">= {}", least));
    if (v >= kLimit) fail(op, fmt::format("{} is too large", what), d.str(), "< 2^31");
  }
  return p;
}

ConvAttrs attrs_of(const Conv2dOptions& o, std::string_view op) {
  if (o.groups < 1 || o.groups >= kLimit) {
    fail(op, "groups must be positive, and below 2^31", std::to_string(o.groups), ">= 1");
  }
  return {.stride = pair_of(o.stride, op, "stride", 1),
          .padding = pair_of(o.padding, op, "padding", 0),
          .dilation = pair_of(o.dilation, op, "dilation", 1),
          .groups = o.groups,
          .size = {}};
}

Conv2dOptions options_of(const ConvAttrs& a) {
  return {.stride = a.stride, .padding = a.padding, .dilation = a.dilation, .groups = a.groups};
}

// Attributes may also come from a file: the rules hold for them too.
void check_attrs(const InferContext& c) {
  const auto& a = c.attrs<ConvAttrs>();
  const auto good = [](const Dims& d, std::int64_t least) {
    return d.size() == 2 && d[0] >= least && d[1] >= least && d[0] < kLimit && d[1] < kLimit;
  };
  if (!good(a.stride, 1) || !good(a.padding, 0) || !good(a.dilation, 1) || a.groups < 1 ||
      a.groups >= kLimit) {
    c.fail<ValueError>(
        "stride, dilation and groups must be positive, padding not negative, all below 2^31",
        AttrRef(a).type->print(&a));
  }
}

/// Size of the output along one axis.
std::int64_t output_size(const InferContext& c, int axis, std::int64_t in, std::int64_t kernel) {
  const auto& a = c.attrs<ConvAttrs>();
  if (in >= kLimit || kernel >= kLimit) {
    c.fail("images and kernels are below 2^31 along an axis", fmt::format("{} and {}", in, kernel));
  }
  const std::int64_t window = a.dilation[axis] * (kernel - 1) + 1;
  const std::int64_t padded = in + 2 * a.padding[axis];
  if (kernel < 1 || window > padded) {
    c.fail("the (dilated) kernel must fit into the padded input",
           fmt::format("{} {} in {} {}", axis == 0 ? "height" : "width", window,
                       axis == 0 ? "height" : "width", padded));
  }
  return (padded - window) / a.stride[axis] + 1;
}

// The two inputs every op here has.
void check_operands(const InferContext& c) {
  check_attrs(c);
  c.expect_rank(0, 4);
  c.expect_rank(1, 4);
  c.expect_floating(0);
  c.expect_same_dtype(0, 1);
}

void check_groups(const InferContext& c, std::int64_t in_channels, std::int64_t weight_channels,
                  std::int64_t out_channels) {
  const std::int64_t groups = c.attrs<ConvAttrs>().groups;
  if (weight_channels * groups != in_channels) {
    c.fail("input channels must equal weight channels x groups", std::to_string(in_channels),
           fmt::format("{} x {} = {}", weight_channels, groups, weight_channels * groups));
  }
  if (out_channels % groups != 0) {
    c.fail("output channels must be divisible by groups", std::to_string(out_channels),
           fmt::format("a multiple of {}", groups));
  }
}

void infer_conv2d(InferContext& c) {
  const auto& a = c.attrs<ConvAttrs>();
  c.expect_inputs(2 + 4 * a.normed, 3 + 4 * a.normed);
  check_operands(c);
  const TensorDesc &x = c.input(0), &w = c.input(1);
  check_groups(c, x.dim(1), w.dim(1), w.dim(0));
  const DType wide = norm_param_dtype(x.dtype);
  if (a.normed && !(a.eps >= 0)) {
    c.fail<ValueError>("eps must not be negative", fmt::format("{}", a.eps), "0 or more");
  }
  const auto inputs = static_cast<std::size_t>(c.num_inputs());
  for (auto i = static_cast<int>(a.norm_at(inputs)); i < c.num_inputs(); ++i) {
    c.expect_dtype(i, wide);
    c.expect_shape(i, {x.dim(1)}, "what normalises has one element per input channel");
  }
  if (a.has_bias(inputs)) {
    c.expect_same_dtype(0, 2);
    c.expect_shape(2, {w.dim(0)}, "bias must have one element per output channel");
  }
  const Shape y{x.dim(0), w.dim(0), output_size(c, 0, x.dim(2), w.dim(2)),
                output_size(c, 1, x.dim(3), w.dim(3))};
  const MemoryFormat format =
      x.is_channels_last() ? MemoryFormat::channels_last : w.format(MemoryFormat::contiguous);
  c.output({x.dtype, x.device, y, strides_for(y, format)});
  if (!a.sums) return;
  if (a.relu) {
    c.fail<ValueError>("sums are of what no ReLU has changed", "sums and relu", "one of them");
  }
  const TensorDesc sums(wide, x.device, {w.dim(0)});
  c.output(sums);
  c.output(sums);
}

void check_grad_operands(const InferContext& c) {
  c.expect_inputs(2);
  check_operands(c);
  if (c.attrs<ConvAttrs>().goes_on()) {
    c.fail<ValueError>("only conv2d itself does more than convolve",
                       AttrRef(c.attrs<ConvAttrs>()).type->print(&c.attrs<ConvAttrs>()),
                       "neither relu nor sums nor normed");
  }
}

void infer_grad_input(InferContext& c) {
  check_grad_operands(c);
  const auto& a = c.attrs<ConvAttrs>();
  const TensorDesc &gy = c.input(0), &w = c.input(1);
  if (a.size.size() != 2) c.fail("size must be [H, W] of the input", a.size.str());
  const Shape x{gy.dim(0), w.dim(1) * a.groups, a.size[0], a.size[1]};
  check_groups(c, x[1], w.dim(1), w.dim(0));
  c.expect_shape(
      0, {x[0], w.dim(0), output_size(c, 0, x[2], w.dim(2)), output_size(c, 1, x[3], w.dim(3))},
      "gradient must have the shape of the convolution's output");
  c.output({gy.dtype, gy.device, x, strides_for(x, gy.format())});
}

void infer_grad_weight(InferContext& c) {
  check_grad_operands(c);
  const auto& a = c.attrs<ConvAttrs>();
  const TensorDesc &x = c.input(0), &gy = c.input(1);
  if (a.size.size() != 2) c.fail("size must be [kh, kw] of the weight", a.size.str());
  const Shape w{gy.dim(1), x.dim(1) / a.groups, a.size[0], a.size[1]};
  check_groups(c, x.dim(1), w[1], w[0]);
  c.expect_shape(
      1, {x.dim(0), w[0], output_size(c, 0, x.dim(2), w[2]), output_size(c, 1, x.dim(3), w[3])},
      "gradient must have the shape of the convolution's output");
  c.output({x.dtype, x.device, w, strides_for(w, a.format)});
}

Tensor grad_weight_like(const Tensor& x, const Tensor& gy, const TensorDesc& w,
                        const ConvAttrs& a) {
  return conv2d_grad_weight(x, gy, w.shape, options_of(a), w.format(MemoryFormat::contiguous));
}

void vjp_conv2d(VjpContext& c) {
  const auto& a = c.attrs<ConvAttrs>();
  expect_no_epilogue(c, a.goes_on());
  const Tensor& g = c.grad();
  if (c.needs(0)) c.set(0, conv2d_grad_input(g, c.input(1), c.input_desc(0).shape, options_of(a)));
  if (c.needs(1)) c.set(1, grad_weight_like(c.input(0), g, c.input_desc(1), a));
  if (c.num_inputs() == 3 && c.needs(2)) c.set(2, sum(g, {0, 2, 3}));
}

// Each of the three is linear in both of its arguments, and a gradient of one is another.
void vjp_grad_input(VjpContext& c) {
  const auto& a = c.attrs<ConvAttrs>();
  const Tensor& g = c.grad();
  if (c.needs(0)) c.set(0, conv2d(g, c.input(1), {}, options_of(a)));
  if (c.needs(1)) c.set(1, grad_weight_like(g, c.input(0), c.input_desc(1), a));
}

void vjp_grad_weight(VjpContext& c) {
  const auto& a = c.attrs<ConvAttrs>();
  const Tensor& g = c.grad();
  if (c.needs(0)) c.set(0, conv2d_grad_input(c.input(1), g, c.input_desc(0).shape, options_of(a)));
  if (c.needs(1)) c.set(1, conv2d(c.input(0), g, {}, options_of(a)));
}

/// A multiplication and an addition for each weight at each output position.
double conv_flops(const TensorDesc& w, const TensorDesc& y) {
  return 2.0 * static_cast<double>(w.numel()) * static_cast<double>(y.dim(0)) *
         static_cast<double>(y.dim(2) * y.dim(3));
}

}  // namespace

namespace op {

constinit const OpDef conv2d = {
    .id = id_of(OpId::conv2d_),
    .name = "conv2d",
    .attrs = &attr_type_v<ConvAttrs>,
    .infer = infer_conv2d,
    .vjp = vjp_conv2d,
    .traits = {.saves_inputs = 0b11, .autocast = AutocastClass::low},
    .flops = [](const PreparedOp& p) { return conv_flops(p.in[1], p.out[0]); },
    .doc = "Cross-correlation of x [N, C, H, W] with w [O, C/groups, kh, kw], plus b [O]."};

constinit const OpDef conv2d_grad_input = {
    .id = id_of(OpId::conv2d_grad_input_),
    .name = "conv2d_grad_input",
    .attrs = &attr_type_v<ConvAttrs>,
    .infer = infer_grad_input,
    .vjp = vjp_grad_input,
    .traits = {.saves_inputs = 0b11, .autocast = AutocastClass::low},
    .flops = [](const PreparedOp& p) { return conv_flops(p.in[1], p.in[0]); },
    .doc = "Gradient of conv2d with respect to x, from gy and w; a transposed convolution."};

constinit const OpDef conv2d_grad_weight = {
    .id = id_of(OpId::conv2d_grad_weight_),
    .name = "conv2d_grad_weight",
    .attrs = &attr_type_v<ConvAttrs>,
    .infer = infer_grad_weight,
    .vjp = vjp_grad_weight,
    .traits = {.saves_inputs = 0b11, .autocast = AutocastClass::low},
    .flops = [](const PreparedOp& p) { return conv_flops(p.out[0], p.in[1]); },
    .doc = "Gradient of conv2d with respect to w, from x and gy."};

}  // namespace op

Tensor conv2d(In x, const Tensor& w, const Tensor& b, const Conv2dOptions& o) {
  const ErrorSite at(x.loc);
  const ConvAttrs a = attrs_of(o, "conv2d");
  if (b.defined()) return dispatch::call(op::conv2d, {&x.t, &w, &b}, a, x.loc)[0];
  return dispatch::call(op::conv2d, {&x.t, &w}, a, x.loc)[0];
}

Tensor conv2d_grad_input(In gy, const Tensor& w, const Shape& x_shape, const Conv2dOptions& o) {
  const ErrorSite at(gy.loc);
  constexpr std::string_view name = "conv2d_grad_input";
  ConvAttrs a = attrs_of(o, name);
  if (x_shape.size() != 4) fail<ShapeError>(name, "x_shape must have rank 4", x_shape.str());
  a.size = {x_shape[2], x_shape[3]};
  Tensor gx = dispatch::call(op::conv2d_grad_input, {&gy.t, &w}, a, gy.loc)[0];
  if (!(gx.shape() == x_shape)) {
    fail<ShapeError>(name, "x_shape does not fit gy and w", x_shape.str(), gx.shape().str());
  }
  return gx;
}

Tensor conv2d_grad_weight(In x, const Tensor& gy, const Shape& w_shape, const Conv2dOptions& o,
                          MemoryFormat format) {
  const ErrorSite at(x.loc);
  constexpr std::string_view name = "conv2d_grad_weight";
  ConvAttrs a = attrs_of(o, name);
  if (w_shape.size() != 4) fail<ShapeError>(name, "w_shape must have rank 4", w_shape.str());
  a.size = {w_shape[2], w_shape[3]};
  a.format = format;
  Tensor gw = dispatch::call(op::conv2d_grad_weight, {&x.t, &gy}, a, x.loc)[0];
  if (!(gw.shape() == w_shape)) {
    fail<ShapeError>(name, "w_shape does not fit x and gy", w_shape.str(), gw.shape().str());
  }
  return gw;
}

Tensor conv_transpose2d(In x, const Tensor& w, const Tensor& b, const ConvTranspose2dOptions& o) {
  const FunctionSite at("conv_transpose2d", x.loc);
  constexpr const char* name = "conv_transpose2d";
  expect_defined(name, {&x.t, &w}, x.loc);
  ConvAttrs a = attrs_of(
      {.stride = o.stride, .padding = o.padding, .dilation = o.dilation, .groups = o.groups}, name);
  const Dims extra = pair_of(o.output_padding, name, "output_padding", 0);
  if (x->rank() != 4)
    fail<ShapeError>(name, "input must have rank 4", x->desc().str(), "[N, I, H, W]");
  if (w.rank() != 4) {
    fail<ShapeError>(name, "weight must have rank 4", w.desc().str(), "[I, O/groups, kh, kw]");
  }
  if (x->dim(1) != w.dim(0)) {
    fail<ShapeError>(name, "input channels must equal the weight's first size",
                     std::to_string(x->dim(1)), std::to_string(w.dim(0)));
  }
  a.size = {0, 0};
  for (int i = 0; i < 2; ++i) {
    if (x->dim(2 + i) >= kLimit || w.dim(2 + i) >= kLimit) {
      fail<ShapeError>(name, "images and kernels are below 2^31 along an axis",
                       fmt::format("{} and {}", x->desc().str(), w.desc().str()));
    }
    if (extra[i] >= a.stride[i]) {
      fail(name, "output_padding must be smaller than the stride", extra.str(),
           fmt::format("< {}", a.stride[i]));
    }
    a.size[i] = (x->dim(2 + i) - 1) * a.stride[i] - 2 * a.padding[i] +
                a.dilation[i] * (w.dim(2 + i) - 1) + extra[i] + 1;
    if (a.size[i] < 1) {
      fail<ShapeError>(name, "padding leaves nothing of the output", a.size.str(), ">= 1");
    }
  }
  const std::int64_t channels = w.dim(1) * a.groups;
  if (b.defined() && !(b.shape() == Shape{channels})) {
    fail<ShapeError>(name, "bias must have one element per output channel", b.desc().str(),
                     Shape{channels}.str());
  }
  Tensor y = dispatch::call(op::conv2d_grad_input, {&x.t, &w}, a, x.loc)[0];
  if (b.defined()) return add({y, x.loc}, b.reshape({1, channels, 1, 1}, x.loc));
  return y;
}

}  // namespace tandem
