// Whether tensors hold the same bits: what eager and compiled are compared by.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/tensor.h"

namespace tandem {

/// Where two tensors differ.
struct Difference {
  std::int64_t count;  // of elements that differ
  std::int64_t index;  // of the first of them, in row-major order
  std::string a, b;    // its values, with all their digits
};

/// Nothing when `a` and `b` are equal bit for bit, element by element (what lies between the
/// elements of a strided tensor does not count). -0 differs from 0; NaN equals NaN, since which of
/// its patterns an operation gives is not defined. ValueError unless both have one dtype and shape.
/// Reads both, as Tensor::to_bits does.
std::optional<Difference> first_difference(const Tensor& a, const Tensor& b);

/// The same of what Tensor::to_bits gave for tensors of this dtype. ValueError for two sizes.
std::optional<Difference> first_difference(DType dtype, std::span<const std::uint64_t> a,
                                           std::span<const std::uint64_t> b);

}  // namespace tandem
