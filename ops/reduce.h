// Reductions over any axes, and the running sum.
#pragma once
#include "core/op.h"

namespace tandem {

/// Attributes of reductions but var.
struct ReduceAttrs {
  Dims axes;  // none: all
  bool keepdim = false;
  static constexpr auto fields() {
    return std::tuple{Field{"axes", &ReduceAttrs::axes}, Field{"keepdim", &ReduceAttrs::keepdim}};
  }
};

/// Attributes of var.
struct VarAttrs {
  Dims axes;  // none: all
  bool keepdim = false;
  bool unbiased = true;
  static constexpr auto fields() {
    return std::tuple{Field{"axes", &VarAttrs::axes}, Field{"keepdim", &VarAttrs::keepdim},
                      Field{"unbiased", &VarAttrs::unbiased}};
  }
};

/// Attributes of cumsum.
struct CumsumAttrs {
  std::int64_t axis = 0;
  static constexpr auto fields() { return std::tuple{Field{"axis", &CumsumAttrs::axis}}; }
};

/// Which axes of `rank` a list names (none: all), as a bit mask. Throws IndexError, and ValueError
/// when an axis is named twice.
unsigned axis_mask(const Dims& axes, int rank, std::string_view op);

// Each reduces the named axes, all when `axes` is empty; `keepdim` leaves them as sizes of 1.
// Partial results are combined in an order fixed by the shape and layout, so that no result
// depends on the number of threads; 16-bit floats are accumulated in wider ones.

/// Sum; integers and bool give i64. Of nothing: 0.
Tensor sum(In x, const Dims& axes = {}, bool keepdim = false);
/// Arithmetic mean of floats (TypeError for others). Of nothing: NaN.
Tensor mean(In x, const Dims& axes = {}, bool keepdim = false);
/// Product; integers and bool give i64. Of nothing: 1.
Tensor prod(In x, const Dims& axes = {}, bool keepdim = false);
/// Largest element; a NaN wins. Of nothing: ShapeError. The gradient is shared equally by ties.
Tensor max(In x, const Dims& axes = {}, bool keepdim = false);
/// Smallest element; a NaN wins. Of nothing: ShapeError. The gradient is shared equally by ties.
Tensor min(In x, const Dims& axes = {}, bool keepdim = false);
/// Variance of floats, in two passes; divided by n - 1 when `unbiased`, else by n.
Tensor var(In x, const Dims& axes = {}, bool keepdim = false, bool unbiased = true);
/// Where the largest element is, as i64: its position along the one axis named, or in row-major
/// order when none is. The first of several; a NaN counts as largest. ShapeError if empty.
Tensor argmax(In x, const Dims& axes = {}, bool keepdim = false);
/// Where the smallest element is; see argmax. A NaN counts as smallest.
Tensor argmin(In x, const Dims& axes = {}, bool keepdim = false);
/// Whether any element is non-zero (a NaN is). Of nothing: false.
Tensor any(In x, const Dims& axes = {}, bool keepdim = false);
/// Whether all elements are non-zero. Of nothing: true.
Tensor all(In x, const Dims& axes = {}, bool keepdim = false);
/// Sum of the elements up to and with this one along `axis`; integers and bool give i64.
Tensor cumsum(In x, int axis);

}  // namespace tandem
