// TensorDesc: all that a kernel may know of a tensor before it sees a pointer.
#pragma once
#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace tandem {

/// Type, device, shape and strides of a tensor.
struct TensorDesc {
  DType dtype = DType::f32;
  Device device;
  Shape shape;
  Strides strides;  // in elements; never negative

  TensorDesc() = default;
  /// Row-major.
  TensorDesc(DType t, Device d, const Shape& s)
      : dtype(t), device(d), shape(s), strides(contiguous_strides(s)) {}
  TensorDesc(DType t, Device d, const Shape& s, const Strides& st)
      : dtype(t), device(d), shape(s), strides(st) {}

  int rank() const { return shape.size(); }
  std::int64_t dim(int i) const { return shape[i]; }
  std::int64_t numel() const { return tandem::numel(shape); }
  /// Bytes from the first to the last element, 0 when empty.
  std::size_t bytes() const;

  // Sizes of 1 are skipped: their stride never moves the pointer. So a tensor can be both.
  bool is_contiguous() const;
  bool is_channels_last() const;  // rank 4 only
  /// The format in which results go on; `both` for a tensor that is both. Channels-last then keeps
  /// a network whose input has one channel in one format.
  MemoryFormat format(MemoryFormat both = MemoryFormat::channels_last) const {
    if (!is_channels_last()) return MemoryFormat::contiguous;
    return is_contiguous() ? both : MemoryFormat::channels_last;
  }
  /// No gaps, no overlap: some permutation of row-major.
  bool is_dense() const;

  std::string str() const;  // "f32[2, 3]", "f32[2, 3, 4, 4] channels_last"
  friend bool operator==(const TensorDesc&, const TensorDesc&) = default;
};

}  // namespace tandem
