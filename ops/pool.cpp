#include "ops/pool.h"

#include "core/dispatch.h"
#include "ops/op_list.h"

namespace tandem {
namespace {

TensorDesc pooled_desc(const TensorDesc& like, std::int64_t h, std::int64_t w) {
  const Shape s{like.dim(0), like.dim(1), h, w};
  return {like.dtype, like.device, s, strides_for(s, like.format())};
}

void check_input(const InferContext& c, int inputs) {
  c.expect_inputs(inputs);
  c.expect_rank(0, 4);
  c.expect_floating(0);
}

// Positions are i32, and the arithmetic on sizes must not overflow.
void check_plane(const InferContext& c, std::int64_t h, std::int64_t w) {
  if (h > INT32_MAX || w > INT32_MAX || h * w > INT32_MAX) {
    c.fail("a plane has at most 2^31 - 1 elements", fmt::format("{} x {}", h, w));
  }
}

// The number of windows along one axis, as PyTorch counts them.
std::int64_t window_count(const InferContext& c, const PoolAttrs& a, int axis, std::int64_t size) {
  const std::int64_t k = a.kernel[axis], s = a.stride[axis], p = a.padding[axis];
  if (size == 0) c.fail("a plane to be pooled has elements", "a size of 0");
  const std::int64_t room = size + 2 * p - k;
  if (room < 0) {
    c.fail("the kernel must fit into the padded input",
           fmt::format("kernel {}, padding {}, input size {}", k, p, size));
  }
  std::int64_t n = (room + (a.ceil_mode ? s - 1 : 0)) / s + 1;
  // A window must not start in the padding at the far end: it would cover nothing.
  if (a.ceil_mode && (n - 1) * s >= size + p) --n;
  return n;
}

void check_windows(const InferContext& c, const PoolAttrs& a) {
  if (a.kernel.size() != 2 || a.stride.size() != 2 || a.padding.size() != 2) {
    c.fail("kernel, stride and padding have one number for each of two axes",
           fmt::format("kernel {}, stride {}, padding {}", a.kernel.str(), a.stride.str(),
                       a.padding.str()),
           "2 each");
  }
  for (int i = 0; i < 2; ++i) {
    // Below 2^31 no arithmetic on them overflows.
    if (a.kernel[i] > INT32_MAX || a.stride[i] > INT32_MAX) {
      c.fail("kernel and stride are below 2^31",
             fmt::format("kernel {}, stride {}", a.kernel.str(), a.stride.str()));
    }
    if (a.kernel[i] < 1) c.fail("kernel sizes are positive", a.kernel.str());
    if (a.stride[i] < 1) c.fail("strides are positive", a.stride.str());
    if (a.padding[i] < 0 || a.padding[i] > a.kernel[i] / 2) {
      c.fail("padding is at most half the kernel",
             fmt::format("padding {}, kernel {}", a.padding.str(), a.kernel.str()));
    }
  }
}

Dims pooled_size(const InferContext& c, const PoolAttrs& a, std::int64_t h, std::int64_t w) {
  check_windows(c, a);
  check_plane(c, h, w);
  return {window_count(c, a, 0, h), window_count(c, a, 1, w)};
}

// The gradients' input 0 must be what the pooling of `input_size` gives.
void check_pooled(const InferContext& c, int i, const Dims& input_size, const Dims& size) {
  const TensorDesc& d = c.input(i);
  if (d.rank() != 4 || d.dim(2) != size[0] || d.dim(3) != size[1]) {
    c.fail("the pooled tensor must have the size that pooling the input gives", d.str(),
           fmt::format("[N, C, {}, {}] from an input of {}", size[0], size[1], input_size.str()));
  }
}

void check_input_size(const InferContext& c, const Dims& s) {
  if (s.size() != 2 || s[0] < 0 || s[1] < 0) c.fail("input_size is [H, W]", s.str());
}

void infer_max_pool2d(InferContext& c) {
  check_input(c, 1);
  const TensorDesc& x = c.input(0);
  check_plane(c, x.dim(2), x.dim(3));
  const Dims o = pooled_size(c, c.attrs<PoolAttrs>(), x.dim(2), x.dim(3));
  TensorDesc y = pooled_desc(x, o[0], o[1]);
  c.output(y);
  y.dtype = DType::i32;
  c.output(y);
}

void check_indices(const InferContext& c) {
  c.expect_rank(1, 4);
  c.expect_dtype(1, DType::i32);
}

void infer_max_pool2d_grad(InferContext& c) {
  check_input(c, 2);
  check_indices(c);
  const auto& a = c.attrs<PoolAttrs>();
  const TensorDesc& gy = c.input(0);
  check_input_size(c, a.input_size);
  check_plane(c, a.input_size[0], a.input_size[1]);
  c.expect_shape(1, gy.shape, "one index for each element of the pooled tensor");
  check_pooled(c, 0, a.input_size, pooled_size(c, a, a.input_size[0], a.input_size[1]));
  // The layout of the forward pass, which the indices still have; gy may have passed a reshape.
  const Shape shape{gy.dim(0), gy.dim(1), a.input_size[0], a.input_size[1]};
  c.output({gy.dtype, gy.device, shape, strides_for(shape, c.input(1).format())});
}

void infer_max_pool2d_gather(InferContext& c) {
  check_input(c, 2);
  check_indices(c);
  const auto& a = c.attrs<PoolAttrs>();
  const TensorDesc &x = c.input(0), &idx = c.input(1);
  check_input_size(c, a.input_size);
  c.expect_shape(0, {idx.dim(0), idx.dim(1), a.input_size[0], a.input_size[1]},
                 "the tensor read from has the shape of the pooling's input");
  check_pooled(c, 1, a.input_size, pooled_size(c, a, a.input_size[0], a.input_size[1]));
  c.output({x.dtype, x.device, idx.shape, strides_for(idx.shape, idx.format())});
}

void infer_avg_pool2d(InferContext& c) {
  check_input(c, 1);
  const TensorDesc& x = c.input(0);
  const Dims o = pooled_size(c, c.attrs<PoolAttrs>(), x.dim(2), x.dim(3));
  c.output(pooled_desc(x, o[0], o[1]));
}

void infer_avg_pool2d_grad(InferContext& c) {
  check_input(c, 1);
  const auto& a = c.attrs<PoolAttrs>();
  check_input_size(c, a.input_size);
  check_pooled(c, 0, a.input_size, pooled_size(c, a, a.input_size[0], a.input_size[1]));
  c.output(pooled_desc(c.input(0), a.input_size[0], a.input_size[1]));
}

void check_adaptive(const InferContext& c, const Dims& out, std::int64_t h, std::int64_t w) {
  if (out.size() != 2 || out[0] < 1 || out[1] < 1) {
    c.fail("the output size is two positive numbers", out.str());
  }
  if (h < 1 || w < 1) {
    c.fail("there must be something to take the mean of", fmt::format("{} x {}", h, w));
  }
  check_plane(c, out[0], out[1]);
  check_plane(c, h, w);
}

void infer_adaptive_avg_pool2d(InferContext& c) {
  check_input(c, 1);
  const auto& a = c.attrs<AdaptivePoolAttrs>();
  const TensorDesc& x = c.input(0);
  check_adaptive(c, a.output_size, x.dim(2), x.dim(3));
  c.output(pooled_desc(x, a.output_size[0], a.output_size[1]));
}

void infer_adaptive_avg_pool2d_grad(InferContext& c) {
  check_input(c, 1);
  const auto& a = c.attrs<AdaptivePoolAttrs>();
  check_input_size(c, a.input_size);
  check_adaptive(c, a.output_size, a.input_size[0], a.input_size[1]);
  check_pooled(c, 0, a.input_size, a.output_size);
  c.output(pooled_desc(c.input(0), a.input_size[0], a.input_size[1]));
}

PoolAttrs with_input_size(const VjpContext& c) {
  PoolAttrs a = c.attrs<PoolAttrs>();
  a.input_size = {c.input_desc(0).dim(2), c.input_desc(0).dim(3)};
  return a;
}

void vjp_max_pool2d(VjpContext& c) {
  if (c.has_grad(0)) c.set(0, max_pool2d_grad(c.grad(), c.output(1), with_input_size(c)));
}
void vjp_max_pool2d_grad(VjpContext& c) {
  if (c.needs(0)) c.set(0, max_pool2d_gather(c.grad(), c.input(1), c.attrs<PoolAttrs>()));
}
void vjp_max_pool2d_gather(VjpContext& c) {
  if (c.needs(0)) c.set(0, max_pool2d_grad(c.grad(), c.input(1), c.attrs<PoolAttrs>()));
}
void vjp_avg_pool2d(VjpContext& c) {
  c.set(0, avg_pool2d_grad(c.grad(), with_input_size(c)));
}
void vjp_avg_pool2d_grad(VjpContext& c) {
  const auto& a = c.attrs<PoolAttrs>();
  c.set(0, avg_pool2d(c.grad(), {.kernel = a.kernel,
                                 .stride = a.stride,
                                 .padding = a.padding,
                                 .ceil_mode = a.ceil_mode,
                                 .count_include_pad = a.count_include_pad}));
}
void vjp_adaptive_avg_pool2d(VjpContext& c) {
  AdaptivePoolAttrs a = c.attrs<AdaptivePoolAttrs>();
  a.input_size = {c.input_desc(0).dim(2), c.input_desc(0).dim(3)};
  c.set(0, adaptive_avg_pool2d_grad(c.grad(), a));
}
void vjp_adaptive_avg_pool2d_grad(VjpContext& c) {
  c.set(0, adaptive_avg_pool2d(c.grad(), c.attrs<AdaptivePoolAttrs>().output_size));
}

// One comparison or addition for each element of each window.
double pool_flops(const PreparedOp& p) {
  const auto& a = p.attrs.as<PoolAttrs>();
  const TensorDesc& pooled = a.input_size.empty() ? p.out[0] : p.in[0];
  return static_cast<double>(pooled.numel() * a.kernel[0] * a.kernel[1]);
}
double move_flops(const PreparedOp& p) {
  return static_cast<double>(p.in[0].numel());
}
double adaptive_flops(const PreparedOp& p) {
  return static_cast<double>(std::max(p.in[0].numel(), p.out[0].numel()));
}

Dims both_axes(const Dims& d) {
  return d.size() == 1 ? Dims{d[0], d[0]} : d;
}

PoolAttrs attrs_of(const Pool2dOptions& o) {
  return {.kernel = both_axes(o.kernel),
          .stride = both_axes(o.stride.empty() ? o.kernel : o.stride),
          .padding = both_axes(o.padding),
          .ceil_mode = o.ceil_mode,
          .count_include_pad = o.count_include_pad,
          .input_size = {}};
}

}  // namespace

namespace op {
constinit const OpDef max_pool2d = {.id = id_of(OpId::max_pool2d_),
                                    .name = "max_pool2d",
                                    .attrs = &attr_type_v<PoolAttrs>,
                                    .infer = infer_max_pool2d,
                                    .vjp = vjp_max_pool2d,
                                    .traits = {.saves_outputs = 0b10},
                                    .flops = pool_flops,
                                    .doc = "Maximum of each window, and its i32 position."};
constinit const OpDef max_pool2d_grad = {.id = id_of(OpId::max_pool2d_grad_),
                                         .name = "max_pool2d_grad",
                                         .attrs = &attr_type_v<PoolAttrs>,
                                         .infer = infer_max_pool2d_grad,
                                         .vjp = vjp_max_pool2d_grad,
                                         .traits = {.saves_inputs = 0b10},
                                         .flops = move_flops,
                                         .doc = "Adds gy into zeros at the saved positions."};
constinit const OpDef max_pool2d_gather = {.id = id_of(OpId::max_pool2d_gather_),
                                           .name = "max_pool2d_gather",
                                           .attrs = &attr_type_v<PoolAttrs>,
                                           .infer = infer_max_pool2d_gather,
                                           .vjp = vjp_max_pool2d_gather,
                                           .traits = {.saves_inputs = 0b10},
                                           .flops = move_flops,
                                           .doc = "Reads x at the saved positions."};
constinit const OpDef avg_pool2d = {.id = id_of(OpId::avg_pool2d_),
                                    .name = "avg_pool2d",
                                    .attrs = &attr_type_v<PoolAttrs>,
                                    .infer = infer_avg_pool2d,
                                    .vjp = vjp_avg_pool2d,
                                    .flops = pool_flops,
                                    .doc = "Mean of each window."};
constinit const OpDef avg_pool2d_grad = {.id = id_of(OpId::avg_pool2d_grad_),
                                         .name = "avg_pool2d_grad",
                                         .attrs = &attr_type_v<PoolAttrs>,
                                         .infer = infer_avg_pool2d_grad,
                                         .vjp = vjp_avg_pool2d_grad,
                                         .flops = pool_flops,
                                         .doc = "Gradient of avg_pool2d."};
constinit const OpDef adaptive_avg_pool2d = {.id = id_of(OpId::adaptive_avg_pool2d_),
                                             .name = "adaptive_avg_pool2d",
                                             .attrs = &attr_type_v<AdaptivePoolAttrs>,
                                             .infer = infer_adaptive_avg_pool2d,
                                             .vjp = vjp_adaptive_avg_pool2d,
                                             .flops = adaptive_flops,
                                             .doc = "Mean of windows that give the asked size."};
constinit const OpDef adaptive_avg_pool2d_grad = {.id = id_of(OpId::adaptive_avg_pool2d_grad_),
                                                  .name = "adaptive_avg_pool2d_grad",
                                                  .attrs = &attr_type_v<AdaptivePoolAttrs>,
                                                  .infer = infer_adaptive_avg_pool2d_grad,
                                                  .vjp = vjp_adaptive_avg_pool2d_grad,
                                                  .flops = adaptive_flops,
                                                  .doc = "Gradient of adaptive_avg_pool2d."};
}  // namespace op

Tensor max_pool2d(In x, const Pool2dOptions& o) {
  const ErrorSite at(x.loc);
  return dispatch::call(op::max_pool2d, {&x.t}, attrs_of(o), x.loc)[0];
}
std::pair<Tensor, Tensor> max_pool2d_with_indices(In x, const Pool2dOptions& o) {
  const FunctionSite at("max_pool2d_with_indices", x.loc);
  Outputs y = dispatch::call(op::max_pool2d, {&x.t}, attrs_of(o), x.loc);
  return {std::move(y[0]), std::move(y[1])};
}
Tensor avg_pool2d(In x, const Pool2dOptions& o) {
  const ErrorSite at(x.loc);
  return dispatch::call(op::avg_pool2d, {&x.t}, attrs_of(o), x.loc)[0];
}
Tensor adaptive_avg_pool2d(In x, const Dims& out) {
  const ErrorSite at(x.loc);
  const AdaptivePoolAttrs a{.output_size = both_axes(out), .input_size = {}};
  return dispatch::call(op::adaptive_avg_pool2d, {&x.t}, a, x.loc)[0];
}
Tensor max_pool2d_grad(In gy, const Tensor& indices, const PoolAttrs& attrs) {
  return dispatch::call(op::max_pool2d_grad, {&gy.t, &indices}, attrs, gy.loc)[0];
}
Tensor max_pool2d_gather(In x, const Tensor& indices, const PoolAttrs& attrs) {
  return dispatch::call(op::max_pool2d_gather, {&x.t, &indices}, attrs, x.loc)[0];
}
Tensor avg_pool2d_grad(In gy, const PoolAttrs& attrs) {
  return dispatch::call(op::avg_pool2d_grad, {&gy.t}, attrs, gy.loc)[0];
}
Tensor adaptive_avg_pool2d_grad(In gy, const AdaptivePoolAttrs& attrs) {
  return dispatch::call(op::adaptive_avg_pool2d_grad, {&gy.t}, attrs, gy.loc)[0];
}

}  // namespace tandem
