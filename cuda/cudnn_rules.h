// What cuDNN is given, and which of its engines may be taken: the decisions of cudnn.cpp that need
// neither the library nor a GPU.
#pragma once
#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "core/op.h"
#include "core/workspace.h"
#include "ops/conv.h"
#include "ops/norm.h"

namespace tandem::cuda::cudnn {

/// What every pointer must be aligned to, or engines read across the borders of their vectors.
inline constexpr std::uintptr_t kPointerAlignment = 16;
/// Zeros that every device keeps, for biases that are not there.
inline constexpr std::size_t kZeroBytes = 1 << 16;

/// What cuDNN notes of an engine, as far as it matters here.
enum Note : std::uint32_t {
  kTensorCores = 1,   // f32 operands are rounded to TF32
  kRoundsInputs = 2,  // to 16 bits
  kRoundsSums = 4,    // sums of 16-bit products are 16 bits wide
  kNondeterministic = 8,
  kCoarseWinograd = 16,  // tiles of 6x6 and more, which lose half of f32's digits
  kCompiled = 32,        // at run time, which takes seconds for each plan
};

inline bool engine_allowed(std::uint32_t notes, DType dtype, const Policy& policy,
                           bool may_compile) {
  std::uint32_t barred = kRoundsInputs | kRoundsSums | kCoarseWinograd;
  if (policy.deterministic) barred |= kNondeterministic;
  if (dtype == DType::f32 && !policy.tf32) barred |= kTensorCores;
  if (!may_compile) barred |= kCompiled;
  return (notes & barred) == 0;
}

/// The workspace an engine may ask for: one that transposes its operands needs as much as they are.
inline std::size_t workspace_limit(std::size_t operand_bytes) {
  return std::max(std::size_t{64} << 20, 2 * operand_bytes);
}

inline bool known(DType t) {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16;
}

/// Elements are counted in 32 bits by many engines.
inline bool countable(const TensorDesc& d) {
  const std::int64_t n = d.numel();
  return n > 0 && n <= std::numeric_limits<std::int32_t>::max();
}

inline Strides packed_strides(const Shape& s, bool channels_last) {
  return channels_last ? channels_last_strides(s) : contiguous_strides(s);
}

/// A tensor of a call and what cuDNN is told of it.
struct Operand {
  enum class From : std::uint8_t { input, output, zeros, workspace };
  From from;
  int index;          // of the input or output
  TensorDesc desc;    // of the call
  TensorDesc packed;  // rank 4, NCHW or NHWC without gaps
  bool copied;        // `desc` lies otherwise: the elements go through the workspace
};

// ---------------------------------------------------------------------------------- convolution

enum class ConvPass { forward, grad_input, grad_weight };

/// y = conv(x, w) (+ bias), relu of it, or y with its sums; with relu(x scale + shift) in place of
/// x if those are given; or one of the two gradients.
struct ConvCase {
  ConvPass pass;
  DType dtype;
  bool relu = false;
  Dims stride, padding, dilation;
  int bias = -1;                  // in `operands`; -1: none
  int sums = -1;                  // the first of two
  int scale = -1;                 // followed by the shift
  std::vector<Operand> operands;  // two inputs, the result, what else there is
};

/// Whether to compute in NHWC: the layout that makes fewer bytes go through a copy.
inline bool prefers_channels_last(std::initializer_list<const TensorDesc*> tensors) {
  std::size_t copied[2] = {};
  for (const bool last : {false, true}) {
    for (const TensorDesc* d : tensors) {
      if (!same_layout(d->shape, d->strides, packed_strides(d->shape, last))) {
        copied[last] += static_cast<std::size_t>(d->numel()) * size_of(d->dtype);
      }
    }
  }
  return copied[true] <= copied[false];
}

/// Describes conv2d or one of its gradients; nothing if it is not for cuDNN. On Hopper cuDNN 9.19
/// normalises only what it sums up, too: with `spare_sums` into the workspace, for nobody.
inline std::optional<ConvCase> conv_case(const PlanRequest& r, ConvPass pass,
                                         bool spare_sums = false) {
  const auto& a = r.attrs<ConvAttrs>();
  const bool bias = a.has_bias(r.in.size());
  if (spare_sums && (!a.normed || a.sums)) return {};
  if (!r.policy.vendor || !known(r.in[0].dtype)) return {};
  for (const auto& tensors : {r.in, r.out}) {
    if (!std::all_of(tensors.begin(), tensors.end(), countable)) return {};
  }
  // Its strides would be one more layout, for a tensor that is never anything but dense.
  if (bias && !r.in[2].is_contiguous()) return {};
  ConvCase c{.pass = pass,
             .dtype = r.in[0].dtype,
             .relu = a.relu,
             .stride = a.stride,
             .padding = a.padding,
             .dilation = a.dilation,
             .operands = {}};
  const bool last = prefers_channels_last({&r.in[0], &r.in[1], &r.out[0]});
  const auto add = [&](Operand::From from, int index, const TensorDesc& d) {
    const Strides s = packed_strides(d.shape, last);
    c.operands.push_back({from, index, d, TensorDesc(d.dtype, d.device, d.shape, s),
                          !same_layout(d.shape, d.strides, s)});
  };
  add(Operand::From::input, 0, r.in[0]);
  add(Operand::From::input, 1, r.in[1]);
  add(Operand::From::output, 0, r.out[0]);
  // Engines fuse what comes after a convolution only if there is a bias among it.
  if (bias || a.relu) {
    c.bias = static_cast<int>(c.operands.size());
    const Shape s = {1, r.out[0].dim(1), 1, 1};
    const TensorDesc d(c.dtype, r.in[0].device, s, channels_last_strides(s));
    if (!bias && d.bytes() > kZeroBytes) return {};
    c.operands.push_back(
        {bias ? Operand::From::input : Operand::From::zeros, bias ? 2 : 0, d, d, false});
  }
  // Two vectors, results 1 and 2 or in the workspace: which operand the first one is.
  const auto add_pair = [&](Operand::From from, DType t, std::int64_t n) {
    const auto first = static_cast<int>(c.operands.size());
    const Shape s = {1, n, 1, 1};
    const TensorDesc d(t, r.in[0].device, s, channels_last_strides(s));
    for (const int i : {1, 2})
      c.operands.push_back({from, i, d, d, from == Operand::From::workspace});
    return first;
  };
  if (a.sums || spare_sums) {
    c.sums = add_pair(a.sums ? Operand::From::output : Operand::From::workspace, DType::f32,
                      r.out[0].dim(1));
  }
  if (a.normed) c.scale = add_pair(Operand::From::workspace, c.dtype, r.in[0].dim(1));
  return c;
}

// -------------------------------------------------------------------------------- normalisation

/// batch_norm_train or batch_norm_grad. The operands are
///   train: x, weight, bias, y, mean, invstd, with running statistics: theirs before, and after,
///          and the residual if there is one
///   grad:  gy, x, weight, mean, invstd, gx, gw, gb, behind a ReLU its result, and the residual's
///          gradient if there is one
struct NormCase {
  bool grad, running;
  bool relu = false;
  int residual = -1;  // or its gradient, in `operands`; -1: none
  float momentum = 0, eps = 0;
  DType dtype;
  std::vector<Operand> operands;
};

/// An image, or [N, C], as the engines for batch norm take it: NHWC. Nothing if it is not, although
/// cuDNN 9.19 offers the same engines for NCHW: they go by the channels either way, and are called
/// "..._NHWC_ENGINE".
inline std::optional<TensorDesc> norm_image(const TensorDesc& d) {
  if (!countable(d)) return {};
  TensorDesc image = d;
  if (d.rank() == 2) {
    image.shape = {d.dim(0), d.dim(1), 1, 1};
    image.strides = {d.strides[0], d.strides[1], 1, 1};
  }
  if (!image.is_channels_last()) return {};
  image.strides = channels_last_strides(image.shape);
  return image;
}

/// Nothing if the call is not for cuDNN.
inline std::optional<NormCase> norm_case(const PlanRequest& r, bool grad) {
  const TensorDesc& x = r.in[grad];
  if (!r.policy.vendor || !known(x.dtype)) return {};
  if (!grad && r.attrs<BatchNormAttrs>().sums) return {};  // one pass over x, as for evaluation
  NormCase c{.grad = grad, .running = !grad && r.in.size() >= 5, .dtype = x.dtype, .operands = {}};
  bool fits = true;
  const auto add = [&](Operand::From from, std::initializer_list<int> indices) {
    for (const int i : indices) {
      const TensorDesc& d = from == Operand::From::input ? r.in[static_cast<std::size_t>(i)]
                                                         : r.out[static_cast<std::size_t>(i)];
      std::optional<TensorDesc> packed;
      if (d.rank() == 1) {
        const Shape s = {1, d.dim(0), 1, 1};
        if (d.is_contiguous()) packed = {d.dtype, d.device, s, channels_last_strides(s)};
      } else {
        packed = norm_image(d);
      }
      fits = fits && packed;
      if (fits) c.operands.push_back({from, i, d, *packed, false});
    }
  };
  using enum Operand::From;
  if (grad) {
    const auto& a = r.attrs<BatchNormGradAttrs>();
    c.relu = a.relu;
    add(input, {0, 1, 2, 3, 4});
    add(output, {0, 1, 2});
    if (a.relu) add(input, {5});
    if (a.residual) {
      c.residual = static_cast<int>(c.operands.size());
      add(output, {3});
    }
  } else {
    const auto& a = r.attrs<BatchNormAttrs>();
    c.momentum = static_cast<float>(a.momentum);
    c.eps = static_cast<float>(a.eps);
    c.relu = a.relu;
    add(input, {0, 1, 2});
    add(output, {0, 1, 2});
    if (c.running) add(input, {3, 4, 3, 4});  // written where they were read
    if (a.has_residual(r.in.size())) {
      c.residual = static_cast<int>(c.operands.size());
      add(input, {static_cast<int>(r.in.size()) - 1});
    }
  }
  if (!fits) return {};
  return c;
}

}  // namespace tandem::cuda::cudnn
