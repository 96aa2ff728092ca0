// The modules there are.
#pragma once
#include <optional>

#include "core/generator.h"
#include "nn/module.h"
#include "ops/pool.h"

namespace tandem::nn {

/// Height and width; one number means both.
struct Pair {
  std::int64_t h, w;
  constexpr Pair(std::int64_t both) : h(both), w(both) {}
  constexpr Pair(std::int64_t height, std::int64_t width) : h(height), w(width) {}
  Dims dims() const { return {h, w}; }
  std::string str() const;  // "5", "3x5"
  friend bool operator==(const Pair&, const Pair&) = default;
};

/// Options of Linear.
struct LinearOptions {
  bool bias = true;
  TensorOptions tensor = {};
  Generator* generator = nullptr;  // for the initial values
};

/// y = x wᵀ + b: [..., in] -> [..., out]. `weight` [out, in] and `bias` [out] start uniform in
/// +-1/sqrt(in).
class Linear final : public Module {
 public:
  Linear(std::int64_t in, std::int64_t out, const LinearOptions& o = {});
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_, bias_;
};

/// Options of Conv2d.
struct ConvOptions {
  Pair stride = 1, padding = 0, dilation = 1;
  std::int64_t groups = 1;
  bool bias = true;
  TensorOptions tensor = {};
  Generator* generator = nullptr;
};

/// [N, in, H, W] -> [N, out, H', W']. `weight` [out, in / groups, kh, kw] and `bias` [out] start
/// uniform in +-1/sqrt(in / groups * kh * kw). Throws ShapeError for sizes below 1 and for groups
/// that do not divide the channels, ValueError for a negative padding.
class Conv2d final : public Module {
 public:
  Conv2d(std::int64_t in, std::int64_t out, Pair kernel, const ConvOptions& o = {});
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  ConvOptions o_;
  Tensor weight_, bias_;
};

/// Options of ConvTranspose2d.
struct ConvTransposeOptions {
  Pair stride = 1, padding = 0, output_padding = 0, dilation = 1;
  std::int64_t groups = 1;
  bool bias = true;
  TensorOptions tensor = {};
  Generator* generator = nullptr;
};

/// [N, in, H, W] -> [N, out, H', W'], the adjoint of a Conv2d(out, in). `weight`
/// [in, out / groups, kh, kw]. Throws as Conv2d does, and ValueError for an output_padding that is
/// not smaller than the stride.
class ConvTranspose2d final : public Module {
 public:
  ConvTranspose2d(std::int64_t in, std::int64_t out, Pair kernel,
                  const ConvTransposeOptions& o = {});
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  ConvTransposeOptions o_;
  Tensor weight_, bias_;
};

/// Options of BatchNorm1d and BatchNorm2d.
struct BatchNormOptions {
  double eps = 1e-5, momentum = 0.1;
  bool affine = true;
  TensorOptions tensor = {};
};

/// Normalises every channel: over the batch in training, by running statistics in evaluation.
/// `weight`, `bias` (with affine), buffers `running_mean`, `running_var`, all [C].
class BatchNorm : public Module {
 public:
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }
  const Tensor& running_mean() const { return running_mean_; }
  const Tensor& running_var() const { return running_var_; }

 protected:
  BatchNorm(const char* name, int least_rank, int most_rank, std::int64_t channels,
            const BatchNormOptions& o);

 private:
  const char* name_;
  int least_rank_, most_rank_;
  BatchNormOptions o_;
  Tensor weight_, bias_, running_mean_, running_var_;
};

/// For [N, C, H, W].
class BatchNorm2d final : public BatchNorm {
 public:
  explicit BatchNorm2d(std::int64_t channels, const BatchNormOptions& o = {})
      : BatchNorm("BatchNorm2d", 4, 4, channels, o) {}
};

/// For [N, C] and [N, C, L].
class BatchNorm1d final : public BatchNorm {
 public:
  explicit BatchNorm1d(std::int64_t channels, const BatchNormOptions& o = {})
      : BatchNorm("BatchNorm1d", 2, 3, channels, o) {}
};

/// Options of LayerNorm.
struct LayerNormOptions {
  double eps = 1e-5;
  bool affine = true;
  TensorOptions tensor = {};
};

/// Normalises over the last axes, whose sizes are `normalized`.
class LayerNorm final : public Module {
 public:
  explicit LayerNorm(const Shape& normalized, const LayerNormOptions& o = {});
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }

 private:
  Shape normalized_;
  double eps_;
  Tensor weight_, bias_;
};

/// In training sets each value to 0 with probability p and divides the others by 1 - p.
class Dropout final : public Module {
 public:
  /// `generator`: a sequence of one's own; the default one of x's device when null.
  explicit Dropout(double p = 0.5, Generator* generator = nullptr);
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;

 private:
  double p_;
  std::optional<Generator> generator_;
};

/// A module that applies a function without parameters.
template <class F>
class Activation final : public Module {
 public:
  Tensor forward(const Tensor& x) const override { return F::apply(x); }
  std::string describe() const override { return std::string(F::name) + "()"; }
};

namespace detail {
#define TANDEM_ACTIVATION(Name)                \
  struct Name##Function {                      \
    static constexpr const char* name = #Name; \
    static Tensor apply(const Tensor& x);      \
  };
TANDEM_ACTIVATION(ReLU)
TANDEM_ACTIVATION(GELU)
TANDEM_ACTIVATION(SiLU)
TANDEM_ACTIVATION(Sigmoid)
TANDEM_ACTIVATION(Tanh)
TANDEM_ACTIVATION(Softplus)
TANDEM_ACTIVATION(Identity)
#undef TANDEM_ACTIVATION
}  // namespace detail

using ReLU = Activation<detail::ReLUFunction>;
using GELU = Activation<detail::GELUFunction>;
using SiLU = Activation<detail::SiLUFunction>;
using Sigmoid = Activation<detail::SigmoidFunction>;
using Tanh = Activation<detail::TanhFunction>;
using Softplus = Activation<detail::SoftplusFunction>;
using Identity = Activation<detail::IdentityFunction>;

/// max(x, slope x), for slopes from 0 to 1.
class LeakyReLU final : public Module {
 public:
  explicit LeakyReLU(double slope = 0.01) : slope_(slope) {}
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;

 private:
  double slope_;
};

/// Options of MaxPool2d and AvgPool2d.
struct PoolOptions {
  std::optional<Pair> stride = {};  // the kernel's size when not given
  Pair padding = 0;
  bool ceil_mode = false;
  bool count_include_pad = true;  // average pooling only
};

/// Maximum of each window of [N, C, H, W]; see max_pool2d. Throws ShapeError for sizes below 1,
/// ValueError for a padding beyond half the kernel.
class MaxPool2d final : public Module {
 public:
  explicit MaxPool2d(Pair kernel, const PoolOptions& o = {});
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;

 private:
  Pool2dOptions o_;
};

/// Mean of each window of [N, C, H, W]; see avg_pool2d. Throws as MaxPool2d does.
class AvgPool2d final : public Module {
 public:
  explicit AvgPool2d(Pair kernel, const PoolOptions& o = {});
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;

 private:
  Pool2dOptions o_;
};

/// [N, C, H, W] -> [N, C, out.h, out.w].
class AdaptiveAvgPool2d final : public Module {
 public:
  explicit AdaptiveAvgPool2d(Pair out) : out_(out) {}
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;

 private:
  Pair out_;
};

/// Joins the axes start … end into one.
class Flatten final : public Module {
 public:
  explicit Flatten(int start = 1, int end = -1) : start_(start), end_(end) {}
  Tensor forward(const Tensor& x) const override;
  std::string describe() const override;

 private:
  int start_, end_;
};

/// Options of Embedding.
struct EmbeddingOptions {
  TensorOptions tensor = {};
  Generator* generator = nullptr;
};

/// i64 ids [...] -> rows of `weight` [count, size]: [..., size]. Starts standard normal.
class Embedding final : public Module {
 public:
  Embedding(std::int64_t count, std::int64_t size, const EmbeddingOptions& o = {});
  Tensor forward(const Tensor& ids) const override;
  std::string describe() const override;
  const Tensor& weight() const { return weight_; }

 private:
  Tensor weight_;
};

/// One module after the other, named "0", "1", … or as given to add().
///
/// C++ leaves open in which order the arguments of Sequential(…) are made, and with it which of
/// them gets which random numbers as initial values; `Sequential{…}` and add() go from first to
/// last.
class Sequential final : public Module {
 public:
  template <class... M>
  requires(std::is_base_of_v<Module, M>&&...) explicit Sequential(const M&... modules) {
    (add(modules), ...);
  }
  /// Appends a module. Every handle to this Sequential sees it.
  template <class M>
  const Sequential& add(const M& module) const {
    return add(std::to_string(size()), module);
  }
  template <class M>
  const Sequential& add(const std::string& name, const M& module) const {
    register_module(name, module);
    return *this;
  }
  int size() const { return static_cast<int>(state().children.size()); }
  /// Throws IndexError.
  const Module& operator[](int i) const;

  Tensor forward(const Tensor& x) const override;
  std::string describe() const override { return "Sequential"; }
};

}  // namespace tandem::nn
