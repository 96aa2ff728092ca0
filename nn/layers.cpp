#include "nn/layers.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "nn/init.h"
#include "ops/ops.h"

namespace tandem::nn {

namespace {

constexpr std::int64_t kAnyPadding = std::numeric_limits<std::int64_t>::max();

void check_sizes(const char* module, std::initializer_list<std::int64_t> sizes) {
  for (const std::int64_t n : sizes) {
    if (n < 1) fail<ShapeError>(module, "sizes must be positive", std::to_string(n), "1 or more");
  }
}

void check_groups(const char* module, std::int64_t in, std::int64_t out, std::int64_t groups) {
  check_sizes(module, {in, out, groups});
  if (in % groups != 0 || out % groups != 0) {
    fail<ShapeError>(module, "groups must divide the numbers of channels",
                     fmt::format("{} in, {} out", in, out), fmt::format("multiples of {}", groups));
  }
}

void check_padding(const char* module, Pair padding, Pair most) {
  if (padding.h < 0 || padding.w < 0 || padding.h > most.h || padding.w > most.w) {
    const bool any = most.h == kAnyPadding;
    fail<ValueError>(module, any ? "padding is not negative" : "padding is at most half the kernel",
                     padding.str(), any ? "0 or more" : "0 to " + most.str());
  }
}

void check_window(const char* module, Pair kernel, Pair stride, Pair padding, Pair dilation) {
  check_sizes(module, {kernel.h, kernel.w, stride.h, stride.w, dilation.h, dilation.w});
  check_padding(module, padding, kAnyPadding);
}

Tensor uninitialised(const Shape& shape, const TensorOptions& o) {
  return Tensor::empty(TensorDesc(o.dtype, o.device, shape));
}

Tensor filled(const Shape& shape, const TensorOptions& o, double value) {
  Tensor t = uninitialised(shape, o);
  init::constant(t, value);
  return t;
}

/// Uniform in +-1/sqrt(fan in): what Kaiming's rule gives for a slope of sqrt(5).
Tensor default_weight(const Shape& shape, const TensorOptions& o, Generator* g) {
  Tensor t = uninitialised(shape, o);
  init::kaiming_uniform(t, {.a = std::sqrt(5.0)}, g);
  return t;
}

Tensor default_bias(const Tensor& weight, std::int64_t n, bool wanted, const TensorOptions& o,
                    Generator* g) {
  if (!wanted) return {};
  Tensor t = uninitialised({n}, o);
  const double bound = 1.0 / std::sqrt(init::fans(weight).in);
  init::uniform(t, -bound, bound, g);
  return t;
}

/// Normalisation works in f32 (or f64) even where the net around it does not.
TensorOptions wide(TensorOptions o) {
  if (is_low_precision(o.dtype)) o.dtype = DType::f32;
  return o;
}

/// ", name=value" where the value is not the usual one.
template <class T>
std::string extra(const char* name, const T& value, const T& usual) {
  if (value == usual) return {};
  if constexpr (std::is_same_v<T, Pair>) {
    return fmt::format(", {}={}", name, value.str());
  } else {
    return fmt::format(", {}={}", name, value);
  }
}

std::string size_str(const Tensor& w) {
  return Pair(w.dim(2), w.dim(3)).str();
}

Pool2dOptions pool_options(const char* module, Pair kernel, const PoolOptions& o) {
  const Pair stride = o.stride.value_or(kernel);
  check_sizes(module, {kernel.h, kernel.w, stride.h, stride.w});
  check_padding(module, o.padding, {kernel.h / 2, kernel.w / 2});
  return {.kernel = kernel.dims(),
          .stride = stride.dims(),
          .padding = o.padding.dims(),
          .ceil_mode = o.ceil_mode,
          .count_include_pad = o.count_include_pad};
}

std::string describe_pool(const char* name, const Pool2dOptions& o) {
  const Pair kernel(o.kernel[0], o.kernel[1]), stride(o.stride[0], o.stride[1]);
  return fmt::format("{}({}{}{}{})", name, kernel.str(), extra("stride", stride, kernel),
                     extra("padding", Pair(o.padding[0], o.padding[1]), Pair(0)),
                     extra("ceil_mode", o.ceil_mode, false));
}

}  // namespace

std::string Pair::str() const {
  return h == w ? std::to_string(h) : fmt::format("{}x{}", h, w);
}

// ------------------------------------------------------------------------------- linear, conv

Linear::Linear(std::int64_t in, std::int64_t out, const LinearOptions& o) {
  check_sizes("Linear", {in, out});
  weight_ = register_parameter("weight", default_weight({out, in}, o.tensor, o.generator));
  bias_ = register_parameter("bias", default_bias(weight_, out, o.bias, o.tensor, o.generator));
}

Tensor Linear::forward(const Tensor& x) const {
  return linear(x, weight_, bias_);
}

std::string Linear::describe() const {
  return fmt::format("Linear({}, {}{})", weight_.dim(1), weight_.dim(0),
                     extra("bias", bias_.defined(), true));
}

Conv2d::Conv2d(std::int64_t in, std::int64_t out, Pair kernel, const ConvOptions& o) : o_(o) {
  check_groups("Conv2d", in, out, o.groups);
  check_window("Conv2d", kernel, o.stride, o.padding, o.dilation);
  weight_ = register_parameter(
      "weight", default_weight({out, in / o.groups, kernel.h, kernel.w}, o.tensor, o.generator));
  bias_ = register_parameter("bias", default_bias(weight_, out, o.bias, o.tensor, o.generator));
}

Tensor Conv2d::forward(const Tensor& x) const {
  return conv2d(x, weight_, bias_,
                {.stride = o_.stride.dims(),
                 .padding = o_.padding.dims(),
                 .dilation = o_.dilation.dims(),
                 .groups = o_.groups});
}

std::string Conv2d::describe() const {
  return fmt::format("Conv2d({}, {}, {}{}{}{}{}{})", weight_.dim(1) * o_.groups, weight_.dim(0),
                     size_str(weight_), extra("stride", o_.stride, Pair(1)),
                     extra("padding", o_.padding, Pair(0)), extra("dilation", o_.dilation, Pair(1)),
                     extra<std::int64_t>("groups", o_.groups, 1),
                     extra("bias", bias_.defined(), true));
}

ConvTranspose2d::ConvTranspose2d(std::int64_t in, std::int64_t out, Pair kernel,
                                 const ConvTransposeOptions& o)
    : o_(o) {
  check_groups("ConvTranspose2d", in, out, o.groups);
  check_window("ConvTranspose2d", kernel, o.stride, o.padding, o.dilation);
  if (o.output_padding.h < 0 || o.output_padding.w < 0 || o.output_padding.h >= o.stride.h ||
      o.output_padding.w >= o.stride.w) {
    fail<ValueError>("ConvTranspose2d", "output_padding is smaller than the stride",
                     o.output_padding.str(), "0 or more, below " + o.stride.str());
  }
  weight_ = register_parameter(
      "weight", default_weight({in, out / o.groups, kernel.h, kernel.w}, o.tensor, o.generator));
  bias_ = register_parameter("bias", default_bias(weight_, out, o.bias, o.tensor, o.generator));
}

Tensor ConvTranspose2d::forward(const Tensor& x) const {
  return conv_transpose2d(x, weight_, bias_,
                          {.stride = o_.stride.dims(),
                           .padding = o_.padding.dims(),
                           .output_padding = o_.output_padding.dims(),
                           .groups = o_.groups,
                           .dilation = o_.dilation.dims()});
}

std::string ConvTranspose2d::describe() const {
  return fmt::format(
      "ConvTranspose2d({}, {}, {}{}{}{}{}{}{})", weight_.dim(0), weight_.dim(1) * o_.groups,
      size_str(weight_), extra("stride", o_.stride, Pair(1)), extra("padding", o_.padding, Pair(0)),
      extra("output_padding", o_.output_padding, Pair(0)), extra("dilation", o_.dilation, Pair(1)),
      extra<std::int64_t>("groups", o_.groups, 1), extra("bias", bias_.defined(), true));
}

// ------------------------------------------------------------------------------- normalisation

BatchNorm::BatchNorm(const char* name, int least_rank, int most_rank, std::int64_t channels,
                     const BatchNormOptions& o)
    : name_(name), least_rank_(least_rank), most_rank_(most_rank), o_(o) {
  check_sizes(name, {channels});
  keep_f32();
  const TensorOptions t = wide(o.tensor);
  if (o.affine) {
    weight_ = register_parameter("weight", filled({channels}, t, 1));
    bias_ = register_parameter("bias", filled({channels}, t, 0));
  }
  running_mean_ = register_buffer("running_mean", filled({channels}, t, 0));
  running_var_ = register_buffer("running_var", filled({channels}, t, 1));
}

Tensor BatchNorm::forward(const Tensor& x) const {
  if (x.rank() < least_rank_ || x.rank() > most_rank_) {
    fail<ShapeError>(name_, "the input has the wrong rank", x.shape().str(),
                     least_rank_ == most_rank_ ? "[N, C, H, W]" : "[N, C] or [N, C, L]");
  }
  Tensor mean = running_mean_, var = running_var_;
  return batch_norm(x, weight_, bias_, mean, var, training(), o_.momentum, o_.eps);
}

std::string BatchNorm::describe() const {
  return fmt::format("{}({}{}{}{})", name_, running_mean_.dim(0), extra("eps", o_.eps, 1e-5),
                     extra("momentum", o_.momentum, 0.1), extra("affine", o_.affine, true));
}

LayerNorm::LayerNorm(const Shape& normalized, const LayerNormOptions& o)
    : normalized_(normalized), eps_(o.eps) {
  keep_f32();
  if (!o.affine) return;
  weight_ = register_parameter("weight", filled(normalized, wide(o.tensor), 1));
  bias_ = register_parameter("bias", filled(normalized, wide(o.tensor), 0));
}

Tensor LayerNorm::forward(const Tensor& x) const {
  return layer_norm(x, normalized_, weight_, bias_, eps_);
}

std::string LayerNorm::describe() const {
  return fmt::format("LayerNorm({}{}{})", normalized_.str(), extra("eps", eps_, 1e-5),
                     extra("affine", weight_.defined(), true));
}

// ------------------------------------------------------------------------------- the small ones

Dropout::Dropout(double p, Generator* generator) : p_(p) {
  if (!(p >= 0 && p <= 1)) fail("Dropout", "p is out of range", fmt::format("{}", p), "0 to 1");
  if (generator) generator_ = *generator;
}

Tensor Dropout::forward(const Tensor& x) const {
  // A copy is another handle to the same state.
  std::optional<Generator> g = generator_;
  return dropout(x, p_, training(), g ? &*g : nullptr);
}

std::string Dropout::describe() const {
  return fmt::format("Dropout({})", p_);
}

namespace detail {
// clang-format off
Tensor ReLUFunction::apply(const Tensor& x) { return relu(x); }
Tensor GELUFunction::apply(const Tensor& x) { return gelu(x); }
Tensor SiLUFunction::apply(const Tensor& x) { return silu(x); }
Tensor SigmoidFunction::apply(const Tensor& x) { return sigmoid(x); }
Tensor TanhFunction::apply(const Tensor& x) { return tanh(x); }
Tensor SoftplusFunction::apply(const Tensor& x) { return softplus(x); }
Tensor IdentityFunction::apply(const Tensor& x) { return x; }
// clang-format on
}  // namespace detail

Tensor LeakyReLU::forward(const Tensor& x) const {
  return leaky_relu(x, slope_);
}
std::string LeakyReLU::describe() const {
  return fmt::format("LeakyReLU({})", slope_);
}

MaxPool2d::MaxPool2d(Pair kernel, const PoolOptions& o)
    : o_(pool_options("MaxPool2d", kernel, o)) {}
Tensor MaxPool2d::forward(const Tensor& x) const {
  return max_pool2d(x, o_);
}
std::string MaxPool2d::describe() const {
  return describe_pool("MaxPool2d", o_);
}

AvgPool2d::AvgPool2d(Pair kernel, const PoolOptions& o)
    : o_(pool_options("AvgPool2d", kernel, o)) {}
Tensor AvgPool2d::forward(const Tensor& x) const {
  return avg_pool2d(x, o_);
}
std::string AvgPool2d::describe() const {
  return describe_pool("AvgPool2d", o_);
}

Tensor AdaptiveAvgPool2d::forward(const Tensor& x) const {
  return adaptive_avg_pool2d(x, out_.dims());
}
std::string AdaptiveAvgPool2d::describe() const {
  return fmt::format("AdaptiveAvgPool2d({})", out_.str());
}

Tensor Flatten::forward(const Tensor& x) const {
  return x.flatten(start_, end_);
}
std::string Flatten::describe() const {
  return start_ == 1 && end_ == -1 ? "Flatten()" : fmt::format("Flatten({}, {})", start_, end_);
}

Embedding::Embedding(std::int64_t count, std::int64_t size, const EmbeddingOptions& o) {
  check_sizes("Embedding", {count, size});
  Tensor w = uninitialised({count, size}, o.tensor);
  init::normal(w, 0, 1, o.generator);
  weight_ = register_parameter("weight", w);
}

Tensor Embedding::forward(const Tensor& ids) const {
  return embedding(weight_, ids);
}

std::string Embedding::describe() const {
  return fmt::format("Embedding({}, {})", weight_.dim(0), weight_.dim(1));
}

const Module& Sequential::operator[](int i) const {
  if (i < 0 || i >= size()) {
    fail<IndexError>("Sequential", "no such module", std::to_string(i),
                     fmt::format("0 to {}", size() - 1));
  }
  return *state().children[static_cast<std::size_t>(i)].second;
}

Tensor Sequential::forward(const Tensor& x) const {
  Tensor t = x;
  for (const auto& [name, module] : state().children) t = (*module)(t);
  return t;
}

}  // namespace tandem::nn
