// Random tensors and dropout. Numbers come from a generator's Philox sequence: element i of a
// result, in the order of memory, uses word i mod 4 of block offset + i / 4, and the offset then
// moves on by ceil(n / 4) blocks. So results depend on the seed and the order of calls alone.
#pragma once
#include "core/generator.h"
#include "core/op.h"

namespace tandem {

/// Attributes of uniform.
struct UniformAttrs {
  Dims shape;
  double lo = 0, hi = 1;
  DType dtype = DType::f32;
  static constexpr auto fields() {
    return std::tuple{Field{"shape", &UniformAttrs::shape}, Field{"lo", &UniformAttrs::lo},
                      Field{"hi", &UniformAttrs::hi}, Field{"dtype", &UniformAttrs::dtype}};
  }
};

/// Attributes of normal.
struct NormalAttrs {
  Dims shape;
  double mean = 0, std = 1;
  DType dtype = DType::f32;
  static constexpr auto fields() {
    return std::tuple{Field{"shape", &NormalAttrs::shape}, Field{"mean", &NormalAttrs::mean},
                      Field{"std", &NormalAttrs::std}, Field{"dtype", &NormalAttrs::dtype}};
  }
};

/// Attributes of dropout.
struct DropoutAttrs {
  double p = 0.5;
  static constexpr auto fields() { return std::tuple{Field{"p", &DropoutAttrs::p}}; }

  /// An element is dropped when the upper 24 bits of its word are below this.
  std::uint32_t threshold() const { return static_cast<std::uint32_t>(p * 0x1p24 + 0.5); }
  /// What the others are multiplied by. With p = 1 there are none, and infinity would turn the
  /// gradient's zeros into NaN.
  double scale() const { return p < 1 ? 1 / (1 - p) : 0; }
};

// `g` must be on the device asked for (DeviceError); null takes that device's default generator.

/// Uniform in [0, 1). 24 random bits an element (32 in f64).
Tensor rand(const Shape& shape, TensorOptions o = {}, Generator* g = nullptr,
            SrcLoc loc = SrcLoc::current());
/// Uniform in [lo, hi), floating. ValueError unless lo <= hi.
Tensor uniform(const Shape& shape, double lo, double hi, TensorOptions o = {},
               Generator* g = nullptr, SrcLoc loc = SrcLoc::current());
/// Normal with that mean and standard deviation, floating; 24 significant random bits also in f64.
Tensor randn(const Shape& shape, TensorOptions o = {}, Generator* g = nullptr,
             SrcLoc loc = SrcLoc::current());
Tensor normal(const Shape& shape, double mean, double std, TensorOptions o = {},
              Generator* g = nullptr, SrcLoc loc = SrcLoc::current());
/// Integers in [lo, hi). ValueError unless lo < hi, at most 2^32 apart, and the dtype holds them.
Tensor randint(std::int64_t lo, std::int64_t hi, const Shape& shape,
               TensorOptions o = {.dtype = DType::i64}, Generator* g = nullptr,
               SrcLoc loc = SrcLoc::current());
/// 1 with probability p (floating, element by element), else 0; in p's shape, dtype and memory
/// order. Elements are numbered in row-major order, so p's memory order does not change which
/// are 1.
Tensor bernoulli(In p, Generator* g = nullptr);
/// Each element is 0 with probability p, else x / (1 - p) (Srivastava et al., "Dropout", 2014).
/// x itself when not training, or when p is 0. ValueError unless 0 <= p <= 1.
Tensor dropout(In x, double p, bool training = true, Generator* g = nullptr);

}  // namespace tandem
