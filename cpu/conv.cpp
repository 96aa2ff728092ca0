#include "ops/conv.h"

#include <optional>

#include "cpu/gemm.h"
#include "cpu/onednn.h"

namespace tandem::cpu {
namespace {

using onednn::ConvPass;
using onednn::ConvProblem;

// -------------------------------------------------------------------------------- plain kernel
// All three passes are matrix products in which one operand is read through the kernel's windows
// (an implicit im2col). With position (n, y, x) and tap (c, ky, kx) along its two axes, an element
// of that operand is the image at (n, c, row, column), where along each spatial axis
//   row = (position * scale + shift + tap * step) / divisor   if that is whole and inside, else 0.
// Reading the input: scale = stride, step = dilation. Reading the output's gradient from the
// input's side: step = -dilation, divisor = stride.

struct WindowAxis {
  std::int64_t scale, shift, step, divisor, size, stride;
  /// Offset of the element, or -1.
  std::int64_t offset(std::int64_t position, std::int64_t tap) const {
    std::int64_t at = position * scale + shift + tap * step;
    if (divisor != 1) {
      if (at < 0 || at % divisor != 0) return -1;
      at /= divisor;
    }
    return at < 0 || at >= size ? -1 : at * stride;
  }
};

template <class E>
struct WindowOperand {
  const E* data;
  WindowAxis y, x;
  Nested positions, taps;  // stride0: of n and of c; the rest is in y and x
  bool lines_are_taps;     // lines of the operand are taps and its depth positions, or vice versa

  template <int R, class T>
  void load(std::int64_t base, std::int64_t line, int lines, std::int64_t k, int count,
            T* dst) const {
    const E* p = data + base;
    const Nested &of_lines = lines_are_taps ? taps : positions,
                 &of_depth = lines_are_taps ? positions : taps;
    std::int64_t outer[R], l1[R], l2[R];
    auto at = of_lines.at(line);
    for (int r = 0; r < lines; ++r, at.next()) {
      outer[r] = at.i0 * of_lines.stride0, l1[r] = at.i1, l2[r] = at.i2;
    }
    auto depth = of_depth.at(k);
    for (int i = 0; i < count; ++i, depth.next(), dst += R) {
      const std::int64_t start = depth.i0 * of_depth.stride0;
      for (int r = 0; r < lines; ++r) {
        const std::int64_t dy =
            lines_are_taps ? y.offset(depth.i1, l1[r]) : y.offset(l1[r], depth.i1);
        const std::int64_t dx =
            lines_are_taps ? x.offset(depth.i2, l2[r]) : x.offset(l2[r], depth.i2);
        dst[r] = dy < 0 || dx < 0 ? T(0) : static_cast<T>(p[start + outer[r] + dy + dx]);
      }
      for (int r = lines; r < R; ++r) dst[r] = T(0);
    }
  }
};

/// Indices of an image's positions, or of a kernel's taps, with the strides of the tensor.
Nested spatial(const TensorDesc& d, std::int64_t outer_stride) {
  return {d.dim(2), d.dim(3), outer_stride, d.strides[2], d.strides[3]};
}

template <class E>
RefPtr<Plan> plan_plain(const ConvProblem& p) {
  using T = acc_t<E>;
  const std::int64_t channels = p.x.dim(1) / p.groups, filters = p.y.dim(1) / p.groups;
  const std::int64_t taps = p.w.dim(2) * p.w.dim(3);
  const auto store_at = [](E* to, std::int64_t line_offset, const Nested& columns, std::int64_t j,
                           int count, const T* row, T add) {
    auto at = columns.at(j);
    for (int q = 0; q < count; ++q, at.next()) {
      to[line_offset + at.offset()] = static_cast<E>(row[q] + add);
    }
  };
  const auto window = [&p](bool forward, int axis) -> WindowAxis {
    const std::int64_t s = p.stride[axis], pad = p.padding[axis], d = p.dilation[axis];
    const TensorDesc& t = forward ? p.x : p.y;
    if (forward) return {s, -pad, d, 1, t.dim(2 + axis), t.strides[2 + axis]};
    return {1, pad, -d, s, t.dim(2 + axis), t.strides[2 + axis]};
  };
  const std::int64_t x_group = channels * p.x.strides[1], y_group = filters * p.y.strides[1];
  const std::int64_t w_group = filters * p.w.strides[0];

  switch (p.pass) {
    case ConvPass::forward: {
      // y[o, (n, oh, ow)] = w[o, (c, kh, kw)] x[(c, kh, kw), (n, oh, ow)]
      const std::int64_t bias_step = p.bias ? p.bias->strides[0] : 0;
      return make_plan(
          "cpu:conv",
          [=, wy = window(true, 0), wx = window(true, 1), positions = spatial(p.y, p.x.strides[0]),
           result = spatial(p.y, p.y.strides[0]), w_taps = spatial(p.w, p.w.strides[1]),
           x_taps = spatial(p.w, p.x.strides[1]), w_line = p.w.strides[0], y_line = p.y.strides[1],
           groups = p.groups, columns = p.y.dim(0) * p.y.dim(2) * p.y.dim(3),
           biased = p.bias.has_value()](const LaunchArgs& args) {
            const StridedOperand<E> a{static_cast<const E*>(args.in[1]), w_line, w_taps};
            const WindowOperand<E> b{
                static_cast<const E*>(args.in[0]), wy, wx, positions, x_taps, false};
            const E* bias = biased ? static_cast<const E*>(args.in[2]) : nullptr;
            E* y = static_cast<E*>(args.out[0]);
            gemm<T>(
                groups, filters, columns, channels * taps, a, b,
                [=](std::int64_t g) { return g * w_group; },
                [=](std::int64_t g) { return g * x_group; },
                [=](std::int64_t g, std::int64_t i, std::int64_t j, int count, const T* row) {
                  const T add = bias ? static_cast<T>(bias[(g * filters + i) * bias_step]) : T(0);
                  store_at(y, g * y_group + i * y_line, result, j, count, row, add);
                });
          });
    }
    case ConvPass::grad_input: {
      // gx[c, (n, h, w)] = w[(o, kh, kw), c] gy[(o, kh, kw), (n, h, w)]
      return make_plan(
          "cpu:conv_grad_input",
          [=, wy = window(false, 0), wx = window(false, 1),
           positions = spatial(p.x, p.y.strides[0]), result = spatial(p.x, p.x.strides[0]),
           w_taps = spatial(p.w, p.w.strides[0]), y_taps = spatial(p.w, p.y.strides[1]),
           w_line = p.w.strides[1], x_line = p.x.strides[1], groups = p.groups,
           columns = p.x.dim(0) * p.x.dim(2) * p.x.dim(3)](const LaunchArgs& args) {
            const StridedOperand<E> a{static_cast<const E*>(args.in[1]), w_line, w_taps};
            const WindowOperand<E> b{
                static_cast<const E*>(args.in[0]), wy, wx, positions, y_taps, false};
            E* x = static_cast<E*>(args.out[0]);
            gemm<T>(
                groups, channels, columns, filters * taps, a, b,
                [=](std::int64_t g) { return g * w_group; },
                [=](std::int64_t g) { return g * y_group; },
                [=](std::int64_t g, std::int64_t i, std::int64_t j, int count, const T* row) {
                  store_at(x, g * x_group + i * x_line, result, j, count, row, T(0));
                });
          });
    }
    case ConvPass::grad_weight: break;
  }
  // gw[o, (c, kh, kw)] = gy[o, (n, oh, ow)] x[(n, oh, ow), (c, kh, kw)]
  return make_plan(
      "cpu:conv_grad_weight",
      [=, wy = window(true, 0), wx = window(true, 1), y_positions = spatial(p.y, p.y.strides[0]),
       x_positions = spatial(p.y, p.x.strides[0]), x_taps = spatial(p.w, p.x.strides[1]),
       result = spatial(p.w, p.w.strides[1]), w_line = p.w.strides[0], y_line = p.y.strides[1],
       groups = p.groups, depth = p.y.dim(0) * p.y.dim(2) * p.y.dim(3)](const LaunchArgs& args) {
        const StridedOperand<E> a{static_cast<const E*>(args.in[1]), y_line, y_positions};
        const WindowOperand<E> b{
            static_cast<const E*>(args.in[0]), wy, wx, x_positions, x_taps, true};
        E* w = static_cast<E*>(args.out[0]);
        gemm<T>(
            groups, filters, channels * taps, depth, a, b,
            [=](std::int64_t g) { return g * y_group; },
            [=](std::int64_t g) { return g * x_group; },
            [=](std::int64_t g, std::int64_t i, std::int64_t j, int count, const T* row) {
              store_at(w, g * w_group + i * w_line, result, j, count, row, T(0));
            });
      });
}

RefPtr<Plan> plan(const PlanRequest& r, ConvPass pass, const TensorDesc& x, const TensorDesc& w,
                  const TensorDesc& y) {
  const auto& a = r.attrs<ConvAttrs>();
  ConvProblem p{.pass = pass,
                .x = x,
                .w = w,
                .y = y,
                .stride = a.stride,
                .padding = a.padding,
                .dilation = a.dilation,
                .groups = a.groups};
  if (r.in.size() == 3) p.bias = r.in[2];
#ifdef TANDEM_HAS_ONEDNN
  if (r.policy.vendor && x.numel() > 0 && w.numel() > 0 && y.numel() > 0) {
    if (RefPtr<Plan> v = onednn::plan_conv(p)) return v;
  }
#endif
  return visit_floating(x.dtype,
                        [&](auto tag) { return plan_plain<typename decltype(tag)::type>(p); });
}

}  // namespace

RefPtr<Plan> plan_conv2d(const PlanRequest& r) {
  return plan(r, ConvPass::forward, r.in[0], r.in[1], r.out[0]);
}

RefPtr<Plan> plan_conv2d_grad_input(const PlanRequest& r) {
  return plan(r, ConvPass::grad_input, r.out[0], r.in[1], r.in[0]);
}

RefPtr<Plan> plan_conv2d_grad_weight(const PlanRequest& r) {
  return plan(r, ConvPass::grad_weight, r.in[0], r.out[0], r.in[1]);
}

}  // namespace tandem::cpu
