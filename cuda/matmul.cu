// Matrix products: cuBLASLt where the policy allows it and it can, otherwise the plain tiles.
#include "ops/matmul.h"

#include "cuda/cublaslt.h"
#include "cuda/tiles.h"

namespace tandem::cuda {
namespace {

Walk<1> axis(std::int64_t size, std::int64_t stride) {
  Axes<1> a;
  a.add(size, {stride});
  return walk_of(a);
}

template <class E>
RefPtr<Plan> plain(const PlanRequest& r, const MatrixProduct& p, bool relu) {
  StridedOperand<E> a, b;
  a.lines = axis(p.m, p.a_row);
  a.depth = axis(p.k, p.a_col);
  a.along_depth = step_of(a.depth) < step_of(a.lines);
  b.lines = axis(p.n, p.b_col);
  b.depth = axis(p.k, p.b_row);
  b.along_depth = step_of(b.depth) < step_of(b.lines);
  ProductResult<E> c;
  c.batch = p.m * p.n;
  c.row = p.n;
  c.columns = axis(p.n, 1);
  const bool biased = r.in.size() == 3;
  if (biased) c.bias_column = r.in[2].strides[0];
  c.relu = relu;
  return plan_tiles("cuda:matmul", r.in[0].device.index, p.m, p.n, p.k, p.batch, a, b, c,
                    {0, 1, biased ? 2 : -1});
}

RefPtr<Plan> plan(const PlanRequest& r, const MatrixProduct& p, bool relu = false) {
#ifdef TANDEM_HAS_CUBLASLT
  if (r.policy.vendor) {
    if (RefPtr<Plan> v = cublaslt_plan(r)) return v;
  }
#endif
  RefPtr<Plan> own = visit_dtype(
      p.dtype, [&](auto tag) { return plain<typename decltype(tag)::type>(r, p, relu); });
  own->epilogue = Exactness::exact;
  return own;
}

}  // namespace

RefPtr<Plan> plan_matmul(const PlanRequest& r) {
  return plan(r, matrix_product(r.in[0], r.in[1]));
}

RefPtr<Plan> plan_linear(const PlanRequest& r) {
  return plan(r, linear_product(r.in[0], r.in[1]), r.attrs<LinearAttrs>().relu);
}

}  // namespace tandem::cuda
