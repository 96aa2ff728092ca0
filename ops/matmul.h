// Matrix products.
#pragma once
#include "core/op.h"

namespace tandem {

struct MatmulAttrs {
  static constexpr auto fields() { return std::tuple<>{}; }
};

struct LinearAttrs {
  static constexpr auto fields() { return std::tuple<>{}; }
};

/// Matrix product with NumPy's rules: a [..., M, K] and b [..., K, N] give [..., M, N]; the leading
/// axes broadcast; a vector a [K] counts as one row, a vector b [K] as one column, and that axis is
/// taken out of the result. Any dtype: integers wrap, of bool it is or-of-ands; different dtypes
/// are promoted. Throws ShapeError.
Tensor matmul(In a, const Tensor& b);

/// y = x wᵀ + b. x [..., in], w [out, in], b [out] or undefined; y [..., out]. Any floating dtype,
/// the same for all. Throws ShapeError, TypeError.
Tensor linear(In x, const Tensor& w, const Tensor& b = {});

}  // namespace tandem
