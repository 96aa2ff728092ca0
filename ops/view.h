// Views: other descriptions of the same memory. As Tensor methods they stand in core/tensor.h;
// here are their attributes and what does not fit a method.
#pragma once
#include <vector>

#include "core/op.h"

namespace tandem {

/// Attributes of view: the sizes, all known.
struct ViewAttrs {
  Dims shape;
  static constexpr auto fields() { return std::tuple{Field{"shape", &ViewAttrs::shape}}; }
};

/// Attributes of permute.
struct PermuteAttrs {
  Dims axes;  // output axis i is input axis axes[i]
  static constexpr auto fields() { return std::tuple{Field{"axes", &PermuteAttrs::axes}}; }
};

/// Attributes of expand.
struct ExpandAttrs {
  Dims shape;
  static constexpr auto fields() { return std::tuple{Field{"shape", &ExpandAttrs::shape}}; }
};

/// Attributes of slice.
struct SliceAttrs {
  std::int64_t axis = 0, begin = 0, end = 0, step = 1;
  static constexpr auto fields() {
    return std::tuple{Field{"axis", &SliceAttrs::axis}, Field{"begin", &SliceAttrs::begin},
                      Field{"end", &SliceAttrs::end}, Field{"step", &SliceAttrs::step}};
  }
};

/// Any description of the input's memory; the graph's own, no user ever writes one.
struct AsStridedAttrs {
  Dims shape, strides;
  std::int64_t offset = 0;  // elements, from the input's first
  static constexpr auto fields() {
    return std::tuple{Field{"shape", &AsStridedAttrs::shape},
                      Field{"strides", &AsStridedAttrs::strides},
                      Field{"offset", &AsStridedAttrs::offset}};
  }
};

/// Finds the strides under which `shape` (with as many elements as `d`) shows the memory of `d` in
/// the same order. False if there are none, so that only a copy can have that shape.
bool view_strides(const TensorDesc& d, const Shape& shape, Strides& strides);

/// Views of `size` elements along `axis`; the last may be smaller. ValueError unless size >= 1.
std::vector<Tensor> split(In x, std::int64_t size, int axis = 0);
/// Views of the given sizes, which must add up to the size of `axis`.
std::vector<Tensor> split(In x, const std::vector<std::int64_t>& sizes, int axis = 0);
/// At most `count` views of equal size along `axis`; the last may be smaller.
std::vector<Tensor> chunk(In x, std::int64_t count, int axis = 0);

}  // namespace tandem
