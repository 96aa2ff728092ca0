// Joining, padding, moving and picking elements.
#pragma once
#include <initializer_list>
#include <span>
#include <vector>

#include "core/op.h"

namespace tandem {

/// One axis: concat, gather, scatter_add, index_select, index_add.
struct AxisAttrs {
  std::int64_t axis = 0;
  static constexpr auto fields() { return std::tuple{Field{"axis", &AxisAttrs::axis}}; }
};

/// Attributes of pad.
struct PadAttrs {
  std::vector<std::int64_t> before_after;  // two for each axis, from axis 0
  Scalar value = 0;
  static constexpr auto fields() {
    return std::tuple{Field{"before_after", &PadAttrs::before_after},
                      Field{"value", &PadAttrs::value}};
  }
};

/// Attributes of flip.
struct FlipAttrs {
  Dims axes;
  static constexpr auto fields() { return std::tuple{Field{"axes", &FlipAttrs::axes}}; }
};

/// Attributes of roll: one shift for each axis.
struct RollAttrs {
  Dims shifts, axes;
  static constexpr auto fields() {
    return std::tuple{Field{"shifts", &RollAttrs::shifts}, Field{"axes", &RollAttrs::axes}};
  }
};

/// Attributes of one_hot.
struct OneHotAttrs {
  std::int64_t classes = 0;
  DType dtype = DType::i64;
  static constexpr auto fields() {
    return std::tuple{Field{"classes", &OneHotAttrs::classes}, Field{"dtype", &OneHotAttrs::dtype}};
  }
};

/// Tensors of one shape but for `axis`, one after the other along it, in the type they promote to
/// (docs/types.md). The result is channels-last when all are.
Tensor concat(std::span<const Tensor> xs, int axis = 0, SrcLoc loc = SrcLoc::current());
Tensor concat(std::initializer_list<Tensor> xs, int axis = 0, SrcLoc loc = SrcLoc::current());
/// Tensors of one shape along a new axis, in the type they promote to.
Tensor stack(std::span<const Tensor> xs, int axis = 0, SrcLoc loc = SrcLoc::current());
Tensor stack(std::initializer_list<Tensor> xs, int axis = 0, SrcLoc loc = SrcLoc::current());

/// Puts `value` around x. `before_after` holds, from axis 0 on, how many in front and how many
/// behind: 2 rank(x) numbers, none negative.
Tensor pad(In x, const std::vector<std::int64_t>& before_after, Scalar value = 0);
/// Reverses the order along each axis named.
Tensor flip(In x, const Dims& axes);
/// Moves elements `shifts[i]` places on along `axes[i]`; what leaves at one end enters at the
/// other.
Tensor roll(In x, const Dims& shifts, const Dims& axes);

// Indices are i32 or i64 and lie in [0, size of the axis): IndexError when the operation runs
// otherwise. Negative ones do not count from the end.

/// y[i, j, k] = x[i, index[i, j, k], k] (for axis 1). index has x's rank and is nowhere larger than
/// x but along `axis`; y has its shape.
Tensor gather(In x, int axis, const Tensor& index);
/// x with src[i, j, k] added to element [i, index[i, j, k], k] (for axis 1), in the order of j.
/// index and src have one shape, nowhere larger than x but along `axis`; src has x's dtype.
Tensor scatter_add(In x, int axis, const Tensor& index, const Tensor& src);
/// The slices of x at `index` (rank 1) along `axis`.
Tensor index_select(In x, int axis, const Tensor& index);
/// x with slice i of src added to slice index[i] along `axis`, in the order of i. src has x's dtype
/// and shape, but index's size along `axis`.
Tensor index_add(In x, int axis, const Tensor& index, const Tensor& src);
/// Rows of `weight` [V, D] for ids of any shape: [..., D].
Tensor embedding(In weight, const Tensor& ids);
/// [...] -> [..., classes]: 1 at the id, 0 elsewhere.
Tensor one_hot(In ids, std::int64_t classes, DType dtype = DType::i64);

}  // namespace tandem
