// Matrix products.
#pragma once
#include "core/op.h"

namespace tandem {

/// Attributes of matmul: none.
struct MatmulAttrs {
  static constexpr auto fields() { return std::tuple<>{}; }
};

/// Attributes of linear.
struct LinearAttrs {
  /// y = relu(…). Set by the graph's passes; such a call has no gradient rule.
  bool relu = false;
  static constexpr auto fields() { return std::tuple{Field{"relu", &LinearAttrs::relu}}; }
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
