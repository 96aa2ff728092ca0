// The one place that knows cuBLASLt. It makes plans; a null plan means that the library has nothing
// for the case, or nothing the policy allows.
#pragma once
#include <string>

#include "core/matrix_product.h"
#include "core/op.h"

namespace tandem::cuda {

std::string cublaslt_version();  // "cuBLASLt 13.0.2"

/// Plans for matmul and linear of floating tensors; null for all other ops and dtypes. Sums are f32
/// for f16 and bf16; f32 operands are rounded to TF32 only if the policy says so. The results are
/// the same at every run: algorithms that meet in the output are left out. Policy::search
/// algorithms are timed, unless a graph is being recorded; 0 takes the one cuBLASLt's heuristics
/// think best. Throws DeviceError.
RefPtr<Plan> cublaslt_plan(const PlanRequest& r);

// ------------------------------------------------------------------------------------ layouts

/// How a product is put to a library that takes matrices column by column. To it c, which lies row
/// by row, is cᵀ [n, m], and it is to compute cᵀ = bᵀ aᵀ.
struct GemmLayout {
  /// A matrix as it lies in memory, column by column: element (i, j) at i + j leading.
  struct Matrix {
    std::int64_t rows = 0, columns = 0, leading = 0;
    std::int64_t step = 0;    // from one matrix of a call to the next; 0: the same for all
    bool transposed = false;  // its transpose is what is multiplied
    /// Whether the operand lies like that at all; if not, it takes a copy.
    bool fits = false;
  };
  Matrix b, a, c;          // left factor, right factor, result
  std::int64_t count = 1;  // matrices of a call
  /// Further batch axes, a call for each position: where a, b and c begin.
  Axes<3> calls;
};

namespace detail {
/// An operand [rows, columns] of any strides.
inline GemmLayout::Matrix column_by_column(std::int64_t rows, std::int64_t columns,
                                           std::int64_t row_stride, std::int64_t column_stride) {
  // Along an axis of length 1 nobody steps.
  const auto lies = [](std::int64_t inner, std::int64_t outer, std::int64_t inner_stride,
                       std::int64_t outer_stride) {
    return (inner == 1 || inner_stride == 1) && (outer == 1 || outer_stride >= inner);
  };
  const auto leading = [](std::int64_t inner, std::int64_t outer, std::int64_t outer_stride) {
    return outer == 1 ? inner : outer_stride;
  };
  GemmLayout::Matrix m;
  const bool upright = lies(rows, columns, row_stride, column_stride);
  const bool transposed = lies(columns, rows, column_stride, row_stride);
  // A vector can be read either way: as one column, without gaps.
  if (transposed && (!upright || rows == 1)) {
    m = {.rows = columns,
         .columns = rows,
         .leading = leading(columns, rows, row_stride),
         .transposed = true,
         .fits = true};
  } else if (upright) {
    m = {.rows = rows,
         .columns = columns,
         .leading = leading(rows, columns, column_stride),
         .transposed = false,
         .fits = true};
  }
  return m;
}
}  // namespace detail

/// The layout of a product that is not empty. Where an operand does not fit, the rest holds for
/// nothing but the question which.
inline GemmLayout gemm_layout(const MatrixProduct& p) {
  GemmLayout g;
  g.b = detail::column_by_column(p.n, p.k, p.b_col, p.b_row);
  g.a = detail::column_by_column(p.k, p.m, p.a_col, p.a_row);
  g.c = {.rows = p.n, .columns = p.m, .leading = p.n, .fits = true};
  // The longest axis of the batch goes into the calls.
  int inside = 0;
  for (int i = 1; i < p.batch.rank(); ++i) {
    if (p.batch.size[i] > p.batch.size[inside]) inside = i;
  }
  std::int64_t c_step = p.m * p.n;
  Strides c_steps = p.batch.size;
  for (int i = p.batch.rank() - 1; i >= 0; --i) {
    c_steps[i] = c_step;
    c_step *= p.batch.size[i];
  }
  for (int i = 0; i < p.batch.rank(); ++i) {
    const std::int64_t a = p.batch.stride[0][i], b = p.batch.stride[1][i];
    if (i == inside) {
      g.count = p.batch.size[i];
      g.a.step = a;
      g.b.step = b;
      g.c.step = c_steps[i];
    } else {
      g.calls.add(p.batch.size[i], {a, b, c_steps[i]});
    }
  }
  return g;
}

}  // namespace tandem::cuda
