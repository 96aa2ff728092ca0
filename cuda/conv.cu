// Convolution: cuDNN where the policy allows it and it can, otherwise the plain tiles. There all
// three passes are matrix products in which the right operand is an image read through the kernel's
// windows. With position (n, y, x) and tap (c, ky, kx) along its two axes, an element of it is the
// image at (n, c, row, column), where along each spatial axis
//   row = (position scale + shift + tap step) / divisor   if that is whole and inside, else 0.
#include <optional>

#include "cuda/norm.h"
#include "cuda/table.h"
#include "cuda/tiles.h"
#include "ops/conv_steps.h"
#ifdef TANDEM_HAS_CUDNN
#include "cuda/cudnn.h"
#endif

namespace tandem::cuda {
namespace {

enum class Pass : std::uint8_t { forward, grad_input, grad_weight };

struct Convolution {
  Pass pass;
  TensorDesc x, w, y;
  std::optional<TensorDesc> bias;
  Dims stride, padding, dilation;
  std::int64_t groups;
  bool relu;
};

/// Three axes, walked in the given order.
template <int N>
Walk<N> nested(const std::array<int, 3>& order, const Dims& size,
               const std::array<std::array<std::int64_t, N>, 3>& stride) {
  Axes<N> axes;
  for (const int i : order) axes.add(size[i], stride[static_cast<std::size_t>(i)]);
  return walk_of(axes);
}
constexpr std::array<int, 3> kAsNamed = {0, 1, 2};

/// The axes of `size` in tensor d, whose axis `first` and two spatial ones they are.
Walk<1> along(const std::array<int, 3>& order, const Dims& size, const TensorDesc& d, int first) {
  return nested<1>(order, size, {{{d.strides[first]}, {d.strides[2]}, {d.strides[3]}}});
}

/// Taps: the channel last where it is innermost in the image they are read from.
std::array<int, 3> tap_order(const TensorDesc& image) {
  return image.strides[1] == 1 && image.strides[3] != 1 ? std::array{1, 2, 0} : kAsNamed;
}

/// x seen from y's positions, or y (its gradient) from x's.
template <class E>
WindowOperand<E> window(const Convolution& c, bool of_x, bool lines_are_taps, const Dims& positions,
                        const Dims& taps) {
  const TensorDesc& image = of_x ? c.x : c.y;
  WindowOperand<E> w;
  w.whole = of_x || (c.stride[0] == 1 && c.stride[1] == 1);
  std::array<std::array<std::int64_t, 3>, 3> of_positions{{{image.strides[0], 0, 0}}},
      of_taps{{{image.strides[1], 0, 0}}};
  for (std::size_t i = 0; i < 2; ++i) {
    const int axis = static_cast<int>(i);
    const std::int64_t scale = of_x ? c.stride[axis] : 1;
    const std::int64_t step = of_x ? c.dilation[axis] : -c.dilation[axis];
    const std::int64_t shift = of_x ? -c.padding[axis] : c.padding[axis];
    const std::int64_t stride = image.strides[2 + axis], walked = w.whole ? stride : 0;
    of_positions[i + 1][0] = scale * walked;
    of_positions[i + 1][i + 1] = scale;
    of_taps[i + 1][0] = step * walked;
    of_taps[i + 1][i + 1] = step;
    w.origin.at += shift * walked;
    (axis == 0 ? w.origin.y : w.origin.x) = static_cast<int>(shift);
    (axis == 0 ? w.height : w.width) = static_cast<int>(image.dim(2 + axis));
    (axis == 0 ? w.y_stride : w.x_stride) = stride - walked;
    (axis == 0 ? w.by_y : w.by_x) = divisor(static_cast<unsigned>(of_x ? 1 : c.stride[axis]));
  }
  const Walk<3> p = nested<3>(kAsNamed, positions, of_positions);
  const Walk<3> t = nested<3>(tap_order(image), taps, of_taps);
  w.lines = lines_are_taps ? t : p;
  w.depth = lines_are_taps ? p : t;
  w.along_depth =
      step_of(w.depth, w.y_stride, w.x_stride) < step_of(w.lines, w.y_stride, w.x_stride);
  return w;
}

template <class E>
RefPtr<Plan> plain(const Convolution& c) {
  const std::int64_t channels = c.x.dim(1) / c.groups, filters = c.y.dim(1) / c.groups;
  const std::int64_t x_group = channels * c.x.strides[1], y_group = filters * c.y.strides[1];
  const std::int64_t w_group = filters * c.w.strides[0];
  const Dims outputs{c.y.dim(0), c.y.dim(2), c.y.dim(3)};
  const Dims inputs{c.x.dim(0), c.x.dim(2), c.x.dim(3)};
  const Dims from_channels{channels, c.w.dim(2), c.w.dim(3)};
  const Dims from_filters{filters, c.w.dim(2), c.w.dim(3)};
  const auto lines = [](std::int64_t size, std::int64_t stride) {
    Axes<1> axes;
    axes.add(size, {stride});
    return walk_of(axes);
  };
  Axes<2> groups;
  StridedOperand<E> a;
  WindowOperand<E> b;
  ProductResult<E> result;
  ProductInputs in{1, 0, -1};
  std::int64_t m = filters;
  const auto finish = [&](const char* name) {
    a.along_depth = step_of(a.depth) < step_of(a.lines);
    return plan_tiles(name, c.x.device.index, m, b.lines.count, b.depth.count, groups, a, b, result,
                      in);
  };

  switch (c.pass) {
    case Pass::forward:
      // y[o, (n, oh, ow)] = w[o, (c, kh, kw)] x[(c, kh, kw), (n, oh, ow)]
      groups.add(c.groups, {w_group, x_group});
      a.lines = lines(filters, c.w.strides[0]);
      a.depth = along(tap_order(c.x), from_channels, c.w, 1);
      b = window<E>(c, true, false, outputs, from_channels);
      result.batch = y_group;
      result.row = c.y.strides[1];
      result.columns = along(kAsNamed, outputs, c.y, 0);
      result.relu = c.relu;
      if (c.bias) {
        in.bias = 2;
        result.bias_row = c.bias->strides[0];
        result.bias_batch = filters * result.bias_row;
      }
      return finish("cuda:conv");
    case Pass::grad_input:
      // gx[c, (n, h, w)] = w[(o, kh, kw), c] gy[(o, kh, kw), (n, h, w)]
      m = channels;
      groups.add(c.groups, {w_group, y_group});
      a.lines = lines(channels, c.w.strides[1]);
      a.depth = along(tap_order(c.y), from_filters, c.w, 0);
      b = window<E>(c, false, false, inputs, from_filters);
      result.batch = x_group;
      result.row = c.x.strides[1];
      result.columns = along(kAsNamed, inputs, c.x, 0);
      return finish("cuda:conv_grad_input");
    case Pass::grad_weight: break;
  }
  // gw[o, (c, kh, kw)] = gy[o, (n, oh, ow)] x[(n, oh, ow), (c, kh, kw)]
  groups.add(c.groups, {y_group, x_group});
  a.lines = lines(filters, c.y.strides[1]);
  a.depth = along(kAsNamed, outputs, c.y, 0);
  b = window<E>(c, true, true, outputs, from_channels);
  result.batch = w_group;
  result.row = c.w.strides[0];
  result.columns = along(tap_order(c.x), from_channels, c.w, 1);
  return finish("cuda:conv_grad_weight");
}

RefPtr<Plan> plan(const PlanRequest& r, Pass pass, const TensorDesc& x, const TensorDesc& w,
                  const TensorDesc& y) {
#ifdef TANDEM_HAS_CUDNN
  if (r.policy.vendor) {
    if (RefPtr<Plan> v = cudnn_plan(r)) return v;
  }
#endif
  const auto& a = r.attrs<ConvAttrs>();
  Convolution c{.pass = pass,
                .x = x,
                .w = w,
                .y = y,
                .bias = {},
                .stride = a.stride,
                .padding = a.padding,
                .dilation = a.dilation,
                .groups = a.groups,
                .relu = a.relu};
  if (r.in.size() == 3) c.bias = r.in[2];
  for (int i = 0; i < 2; ++i) {
    const std::int64_t padded = x.dim(2 + i) + 2 * a.padding[i];
    const std::int64_t extent = a.dilation[i] * (w.dim(2 + i) - 1) + 1;
    if (std::max(padded, extent) >= kWindowLimit) {
      fail<ShapeError>(r.op.name, "padded images and dilated kernels are below 2^29 along an axis",
                       std::to_string(padded) + " and " + std::to_string(extent));
    }
  }
  RefPtr<Plan> own =
      visit_floating(x.dtype, [&](auto tag) { return plain<typename decltype(tag)::type>(c); });
  own->epilogue = Exactness::exact;
  return own;
}

}  // namespace

RefPtr<Plan> plan_conv2d(const PlanRequest& r) {
  const auto& a = r.attrs<ConvAttrs>();
  if (a.sums || a.normed) {
#ifdef TANDEM_HAS_CUDNN
    if (RefPtr<Plan> v = cudnn_plan(r)) return v;
#endif
    if (a.normed) return norm_then_conv(r, kernel(id_of(OpId::batch_norm_eval_)), plan_conv2d);
    return conv_then_sums(r, plan_conv2d, plan_channel_sums(r.out[0]));
  }
  return plan(r, Pass::forward, r.in[0], r.in[1], r.out[0]);
}

RefPtr<Plan> plan_conv2d_grad_input(const PlanRequest& r) {
  return plan(r, Pass::grad_input, r.out[0], r.in[1], r.in[0]);
}

RefPtr<Plan> plan_conv2d_grad_weight(const PlanRequest& r) {
  return plan(r, Pass::grad_weight, r.in[0], r.out[0], r.in[1]);
}

}  // namespace tandem::cuda
