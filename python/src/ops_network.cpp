// Operations of neural networks, bound to Python.
#include "python/src/bind_op.h"

namespace tandem::python {

namespace {

std::string lower(Reduction r) {
  return name_of(r);
}
Reduction reduction_of(const std::string& s) {
  for (const Reduction r : {Reduction::none, Reduction::mean, Reduction::sum}) {
    if (lower(r) == s) return r;
  }
  fail<ValueError>("loss", "no such reduction", s, "'mean', 'sum' or 'none'");
}

}  // namespace

void bind_networks() {
  both(
      "matmul",
      [](const Tensor& a, const Tensor& b) {
        const In in = at(a);
        return without_gil((a.numel() + b.numel()) * 8, [&] { return matmul(in, b); });
      },
      "Matrix product with NumPy's rules: [..., M, K] and [..., K, N] give [..., M, N].",
      "other"_a);
  const auto none = py::none();
  function(
      "linear",
      [](const Tensor& x, const Tensor& w, const Optional& b) {
        const In in = at(x);
        return without_gil(w.numel() * 8, [&] { return linear(in, w, of(b)); });
      },
      "x"_a, "weight"_a, "bias"_a = none,
      "x wᵀ + b: x [..., in], weight [out, in], bias [out] or None give [..., out].");
  function(
      "conv2d",
      [](const Tensor& x, const Tensor& w, const Optional& b, const Dims& stride,
         const Dims& padding, const Dims& dilation, std::int64_t groups) {
        const In in = at(x);
        const Conv2dOptions o{stride, padding, dilation, groups};
        return without_gil(x.numel() * 8, [&] { return conv2d(in, w, of(b), o); });
      },
      "x"_a, "weight"_a, "bias"_a = none, "stride"_a = 1, "padding"_a = 0, "dilation"_a = 1,
      "groups"_a = 1,
      "Cross-correlation of x [N, C, H, W] with weight [O, C / groups, kh, kw], plus bias [O],\n"
      "giving [N, O, OH, OW], OH = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1.\n"
      "Channels-last in, channels-last out.");
  function(
      "conv_transpose2d",
      [](const Tensor& x, const Tensor& w, const Optional& b, const Dims& stride,
         const Dims& padding, const Dims& output_padding, std::int64_t groups,
         const Dims& dilation) {
        const In in = at(x);
        const ConvTranspose2dOptions o{stride, padding, output_padding, groups, dilation};
        return without_gil(x.numel() * 8, [&] { return conv_transpose2d(in, w, of(b), o); });
      },
      "x"_a, "weight"_a, "bias"_a = none, "stride"_a = 1, "padding"_a = 0, "output_padding"_a = 0,
      "groups"_a = 1, "dilation"_a = 1,
      "The gradient of conv2d with respect to its input as a layer of its own: x [N, I, H, W],\n"
      "weight [I, O / groups, kh, kw] give [N, O, OH, OW],\n"
      "OH = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.");
  const auto pool = [](const Dims& kernel, std::optional<Dims> stride, const Dims& padding,
                       bool ceil_mode, bool include) {
    return Pool2dOptions{kernel, stride.value_or(Dims()), padding, ceil_mode, include};
  };
  function(
      "max_pool2d",
      [=](const Tensor& x, const Dims& kernel, std::optional<Dims> stride, const Dims& padding,
          bool ceil_mode) {
        const In in = at(x);
        const auto o = pool(kernel, stride, padding, ceil_mode, true);
        return without_gil(x.numel(), [&] { return max_pool2d(in, o); });
      },
      "x"_a, "kernel_size"_a, "stride"_a = none, "padding"_a = 0, "ceil_mode"_a = false,
      "Largest element of each window of x [N, C, H, W]; stride is the kernel by default.");
  function(
      "max_pool2d_with_indices",
      [=](const Tensor& x, const Dims& kernel, std::optional<Dims> stride, const Dims& padding,
          bool ceil_mode) {
        const In in = at(x);
        const auto o = pool(kernel, stride, padding, ceil_mode, true);
        return without_gil(x.numel(), [&] { return max_pool2d_with_indices(in, o); });
      },
      "x"_a, "kernel_size"_a, "stride"_a = none, "padding"_a = 0, "ceil_mode"_a = false,
      "(y, positions): what max_pool2d gives, and where in its plane of H W elements each maximum\n"
      "was (int32).");
  function(
      "avg_pool2d",
      [=](const Tensor& x, const Dims& kernel, std::optional<Dims> stride, const Dims& padding,
          bool ceil_mode, bool include) {
        const In in = at(x);
        const auto o = pool(kernel, stride, padding, ceil_mode, include);
        return without_gil(x.numel(), [&] { return avg_pool2d(in, o); });
      },
      "x"_a, "kernel_size"_a, "stride"_a = none, "padding"_a = 0, "ceil_mode"_a = false,
      "count_include_pad"_a = true, "Mean of each window of x [N, C, H, W].");
  function(
      "adaptive_avg_pool2d",
      [](const Tensor& x, const Dims& out) { return adaptive_avg_pool2d(at(x), out); }, "x"_a,
      "output_size"_a, "Mean over windows such that the result is [N, C, *output_size].");
  function(
      "batch_norm",
      [](const Tensor& x, const Optional& w, const Optional& b, const Optional& running_mean,
         const Optional& running_var, bool training, double momentum, double eps) {
        const In in = at(x);
        Tensor mean = of(running_mean), var = of(running_var);
        return without_gil(x.numel(), [&] {
          return batch_norm(in, of(w), of(b), mean, var, training, momentum, eps);
        });
      },
      "x"_a, "weight"_a = none, "bias"_a = none, "running_mean"_a = none, "running_var"_a = none,
      "training"_a = true, "momentum"_a = 0.1, "eps"_a = 1e-5,
      "(x - mean) / sqrt(var + eps) weight + bias for each channel of x [N, C, ...]; in training\n"
      "by the batch's statistics, which move the running ones.");
  function(
      "layer_norm",
      [](const Tensor& x, const Dims& shape, const Optional& w, const Optional& b, double eps) {
        const In in = at(x);
        return without_gil(x.numel(), [&] { return layer_norm(in, shape, of(w), of(b), eps); });
      },
      "x"_a, "normalized_shape"_a, "weight"_a = none, "bias"_a = none, "eps"_a = 1e-5,
      "(x - mean) / sqrt(var + eps) weight + bias over the last axes, whose sizes are\n"
      "`normalized_shape`.");
  both(
      "softmax", [](const Tensor& x, int axis) { return softmax(at(x), axis); },
      "exp(x) / sum(exp(x)) along an axis.", "axis"_a = -1);
  both(
      "log_softmax", [](const Tensor& x, int axis) { return log_softmax(at(x), axis); },
      "log(softmax(x)) along an axis.", "axis"_a = -1);
  function(
      "cross_entropy",
      [](const Tensor& x, const Tensor& y, double smoothing, const std::string& r,
         std::int64_t ignore) {
        return cross_entropy(at(x), y, {smoothing, reduction_of(r), ignore});
      },
      "logits"_a, "target"_a, "label_smoothing"_a = 0.0, "reduction"_a = "mean",
      "ignore_index"_a = -100,
      "-log(softmax(logits))[target]: logits [N, C, ...], target class indices [N, ...] or\n"
      "probabilities like logits. Mean is over the samples not ignored.");
  function(
      "nll_loss",
      [](const Tensor& x, const Tensor& y, const std::string& r, std::int64_t ignore) {
        return nll_loss(at(x), y, reduction_of(r), ignore);
      },
      "log_probabilities"_a, "target"_a, "reduction"_a = "mean", "ignore_index"_a = -100,
      "-log_probabilities[target] of each sample.");
  function(
      "mse_loss",
      [](const Tensor& a, const Tensor& b, const std::string& r) {
        return mse_loss(at(a), b, reduction_of(r));
      },
      "a"_a, "b"_a, "reduction"_a = "mean", "(a - b)², reduced; the shapes must be equal.");
}

}  // namespace tandem::python
