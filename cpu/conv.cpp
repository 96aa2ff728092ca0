#include <optional>

#include "core/epilogue.h"
#include "cpu/gemm.h"
#include "cpu/norm.h"
#include "cpu/onednn.h"
#include "cpu/table.h"
#include "ops/conv_steps.h"

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
  /// The numerator's part that lines (or depths) contribute. The shift counts with the positions.
  std::int64_t part(bool tap, std::int64_t i) const { return tap ? i * step : i * scale + shift; }
  /// Turns the numerator into an index; false if it falls outside.
  bool inside(std::int64_t& at) const {
    if (divisor != 1) {
      if (at % divisor != 0) return false;
      at /= divisor;
    }
    return at >= 0 && at < size;
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
    const Nested &of_lines = lines_are_taps ? taps : positions,
                 &of_depth = lines_are_taps ? positions : taps;
    std::int64_t outer[R], ly[R], lx[R];
    auto at = of_lines.at(line);
    for (int r = 0; r < lines; ++r, at.next()) {
      outer[r] = base + at.i0 * of_lines.stride0;
      ly[r] = y.part(lines_are_taps, at.i1);
      lx[r] = x.part(lines_are_taps, at.i2);
    }
    const bool whole = y.divisor == 1 && x.divisor == 1;
    if (whole) {  // everything but the bounds is linear
      for (int r = 0; r < lines; ++r) outer[r] += ly[r] * y.stride + lx[r] * x.stride;
    }
    auto depth = of_depth.at(k);
    for (int i = 0; i < count; ++i, depth.next(), dst += R) {
      const std::int64_t dy = y.part(!lines_are_taps, depth.i1);
      const std::int64_t dx = x.part(!lines_are_taps, depth.i2);
      const std::int64_t start = depth.i0 * of_depth.stride0;
      if (whole) {
        const E* p = data;
        const std::int64_t from = start + dy * y.stride + dx * x.stride;
        const auto height = static_cast<std::uint64_t>(y.size),
                   width = static_cast<std::uint64_t>(x.size);
        for (int r = 0; r < lines; ++r) {
          // One comparison for both bounds: a negative index is a huge one.
          const bool in = static_cast<std::uint64_t>(ly[r] + dy) < height &&
                          static_cast<std::uint64_t>(lx[r] + dx) < width;
          dst[r] = in ? static_cast<T>(p[outer[r] + from]) : T(0);
        }
      } else {
        for (int r = 0; r < lines; ++r) {
          std::int64_t row = ly[r] + dy, column = lx[r] + dx;
          const bool in = y.inside(row) && x.inside(column);
          dst[r] = in ? static_cast<T>(data[outer[r] + start + row * y.stride + column * x.stride])
                      : T(0);
        }
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
  const auto store_at = [relu = p.relu](E* to, std::int64_t line_offset, const Nested& columns,
                                        std::int64_t j, int count, const T* row, T add) {
    auto at = columns.at(j);
    for (int q = 0; q < count; ++q, at.next()) {
      const E v = static_cast<E>(row[q] + add);
      to[line_offset + at.offset()] = relu ? epilogue::relu(v) : v;
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
                .groups = a.groups,
                .relu = a.relu,
                .policy = r.policy};
  if (r.in.size() == 3) p.bias = r.in[2];
  if (r.policy.vendor && x.numel() > 0 && w.numel() > 0 && y.numel() > 0) {
    if (RefPtr<Plan> v = onednn::plan_conv(p)) return v;
  }
  RefPtr<Plan> own = visit_floating(
      x.dtype, [&](auto tag) { return plan_plain<typename decltype(tag)::type>(p); });
  own->epilogue = Exactness::exact;
  return own;
}

}  // namespace

RefPtr<Plan> plan_conv2d(const PlanRequest& r) {
  const auto& a = r.attrs<ConvAttrs>();
  if (a.normed) return norm_then_conv(r, kernel(id_of(OpId::batch_norm_eval_)), plan_conv2d);
  if (a.sums) return conv_then_sums(r, plan_conv2d, plan_channel_sums(r.out[0]));
  return plan(r, ConvPass::forward, r.in[0], r.in[1], r.out[0]);
}

RefPtr<Plan> plan_conv2d_grad_input(const PlanRequest& r) {
  return plan(r, ConvPass::grad_input, r.out[0], r.in[1], r.in[0]);
}

RefPtr<Plan> plan_conv2d_grad_weight(const PlanRequest& r) {
  return plan(r, ConvPass::grad_weight, r.in[0], r.out[0], r.in[1]);
}

}  // namespace tandem::cpu
