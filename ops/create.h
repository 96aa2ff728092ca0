// Tensors from nothing, and whole-tensor writes.
#pragma once
#include "core/op.h"

namespace tandem {

/// Attributes of full.
struct FullAttrs {
  Dims shape;
  Scalar value;
  DType dtype = DType::f32;
  Device device;
  MemoryFormat format = MemoryFormat::contiguous;
  static constexpr auto fields() {
    return std::tuple{Field{"shape", &FullAttrs::shape}, Field{"value", &FullAttrs::value},
                      Field{"dtype", &FullAttrs::dtype}, Field{"device", &FullAttrs::device},
                      Field{"format", &FullAttrs::format}};
  }
};

/// Attributes of arange.
struct ArangeAttrs {
  Scalar begin = 0, step = 1;
  std::int64_t count = 0;
  DType dtype = DType::i64;
  Device device;
  static constexpr auto fields() {
    return std::tuple{Field{"begin", &ArangeAttrs::begin}, Field{"step", &ArangeAttrs::step},
                      Field{"count", &ArangeAttrs::count}, Field{"dtype", &ArangeAttrs::dtype},
                      Field{"device", &ArangeAttrs::device}};
  }
};

/// Attributes of fill.
struct FillAttrs {
  Scalar value;
  static constexpr auto fields() { return std::tuple{Field{"value", &FillAttrs::value}}; }
};

/// Every element `value`, converted to the dtype.
Tensor full(const Shape& shape, Scalar value, TensorOptions o = {}, SrcLoc loc = SrcLoc::current());
Tensor zeros(const Shape& shape, TensorOptions o = {}, SrcLoc loc = SrcLoc::current());
Tensor ones(const Shape& shape, TensorOptions o = {}, SrcLoc loc = SrcLoc::current());
/// Like `x` in shape, dtype, device and memory format (channels-last where `x` is, else row-major).
Tensor full_like(In x, Scalar value);
/// The same with another dtype or device.
Tensor full_like(In x, Scalar value, TensorOptions o);
Tensor zeros_like(In x);
Tensor ones_like(In x);

/// begin, begin + step, … as long as it is before `end`: ceil((end - begin) / step) elements.
/// Without a dtype: i64 when all three are integers, else f32. ValueError when step is 0.
Tensor arange(Scalar begin, Scalar end, Scalar step = 1, SrcLoc loc = SrcLoc::current());
Tensor arange(Scalar begin, Scalar end, Scalar step, TensorOptions o,
              SrcLoc loc = SrcLoc::current());
/// `n` evenly spaced values from begin to end, both included. ValueError when n < 0.
Tensor linspace(double begin, double end, std::int64_t n, TensorOptions o = {},
                SrcLoc loc = SrcLoc::current());
/// [n, m] (m = n by default) with ones on the diagonal.
Tensor eye(std::int64_t n, std::int64_t m = -1, TensorOptions o = {},
           SrcLoc loc = SrcLoc::current());

/// Writes `value` to every element of `t`, in place.
void fill(Tensor& t, Scalar value, SrcLoc loc = SrcLoc::current());
/// Writes `src`, broadcast and converted, into `dst`, in place; any strides. The tape does not see
/// it: a `src` or `dst` that wants a gradient must take another way (Tensor::copy_ refuses).
void assign(Tensor& dst, const Tensor& src, SrcLoc loc = SrcLoc::current());

}  // namespace tandem
