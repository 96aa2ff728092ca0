#include "ops/matmul.h"

#include <optional>

#include "core/epilogue.h"
#include "core/matrix_product.h"
#include "cpu/gemm.h"
#include "cpu/onednn.h"

namespace tandem::cpu {
namespace {

/// With a bias to be added to every row, and the ReLU of that.
struct Product : MatrixProduct {
  std::optional<TensorDesc> bias = {};
  bool relu = false;
};

// -------------------------------------------------------------------------------- plain kernel

// Results from here on are written past the caches.
constexpr std::int64_t kStreamBytes = std::int64_t{4} << 20;

template <class E>
RefPtr<Plan> plan_plain(const Product& p) {
  using T = acc_t<E>;
  // Batch axes for the offset of product s; the innermost is the last.
  const auto offset = [](const Dims& sizes, const Dims& strides, std::int64_t s) {
    std::int64_t at = 0;
    for (int i = sizes.size() - 1; i >= 0; --i) {
      at += s % sizes[i] * strides[i];
      s /= sizes[i];
    }
    return at;
  };
  // The left operand is read where it is if its lines lie along memory; the right one is always
  // packed. So a large right operand that lies along memory, the weight of a linear layer, is made
  // the left one: cᵀ = bᵀ aᵀ.
  const bool turned = p.b_row == 1 && p.n > p.m;
  // Rows must begin where a vector may be stored.
  const auto size = static_cast<std::int64_t>(sizeof(E));
  const bool in_place = !turned && !p.bias && !p.relu && p.n * size % kVectorBytes == 0;
  const bool stream = p.count() * p.m * p.n * size >= kStreamBytes;
  return make_plan("cpu:gemm", [p, offset, turned, in_place, stream](const LaunchArgs& args) {
    const StridedOperand<E> a{static_cast<const E*>(args.in[0]), p.a_row, Nested::axis(p.a_col)};
    const StridedOperand<E> b{static_cast<const E*>(args.in[1]), p.b_col, Nested::axis(p.b_row)};
    const auto a_base = [&](std::int64_t s) { return offset(p.batch.size, p.batch.stride[0], s); };
    const auto b_base = [&](std::int64_t s) { return offset(p.batch.size, p.batch.stride[1], s); };
    const E* bias = p.bias ? static_cast<const E*>(args.in[2]) : nullptr;
    const std::int64_t bias_step = p.bias ? p.bias->strides[0] : 0;
    E* c = static_cast<E*>(args.out[0]);
    const auto result = [&](T sum, std::int64_t column) {
      const E v = static_cast<E>(bias ? sum + static_cast<T>(bias[column * bias_step]) : sum);
      return p.relu ? epilogue::relu(v) : v;
    };
    if (turned) {
      gemm<T>(p.count(), p.n, p.m, p.k, b, a, b_base, a_base,
              [&](std::int64_t s, std::int64_t j, std::int64_t i, int count, const T* column) {
                E* to = c + (s * p.m + i) * p.n + j;
                for (int q = 0; q < count; ++q) to[q * p.n] = result(column[q], j);
              });
      return;
    }
    gemm<T>(
        p.count(), p.m, p.n, p.k, a, b, a_base, b_base,
        [&](std::int64_t s, std::int64_t i, std::int64_t j, int count, const T* row) {
          E* to = c + (s * p.m + i) * p.n + j;
          for (int q = 0; q < count; ++q) to[q] = result(row[q], j + q);
        },
        [&](std::int64_t s, std::int64_t i, std::int64_t j) -> Destination<T> {
          if constexpr (std::is_same_v<E, T>) {
            if (in_place) return {c + (s * p.m + i) * p.n + j, p.n, stream};
          }
          return {};
        });
  });
}

// -------------------------------------------------------------------------------- oneDNN

TensorDesc matrices(const Product& p, int operand, std::int64_t rows, std::int64_t columns,
                    std::int64_t row, std::int64_t column) {
  TensorDesc d(p.dtype, kCPU, {});
  for (int i = 0; i < p.batch.rank(); ++i) {
    const std::int64_t step = p.batch.stride[static_cast<std::size_t>(operand)][i];
    d.shape.push_back(step == 0 ? 1 : p.batch.size[i]);
    d.strides.push_back(step == 0 ? rows * columns : step);
  }
  d.shape.push_back(rows);
  d.shape.push_back(columns);
  d.strides.push_back(row);
  d.strides.push_back(column);
  return d;
}

RefPtr<Plan> plan_vendor(const Product& p, const Policy& policy) {
  if (p.empty() || p.k == 0) return {};
  const onednn::MatmulProblem problem{.a = matrices(p, 0, p.m, p.k, p.a_row, p.a_col),
                                      .b = matrices(p, 1, p.k, p.n, p.b_row, p.b_col),
                                      .c =
                                          [&] {
                                            Shape s = p.batch.size;
                                            s.push_back(p.m);
                                            s.push_back(p.n);
                                            return TensorDesc(p.dtype, kCPU, s);
                                          }(),
                                      .bias = p.bias,
                                      .relu = p.relu,
                                      .policy = policy};
  return onednn::plan_matmul(problem);
}

// Below this many multiplications a library call costs more than it saves.
constexpr std::int64_t kTiny = 1 << 12;

/// Products that move more memory than they compute: a long result of a short sum (the gradient of
/// a weight), and few rows times a large weight. The library writes through the caches and turns
/// the weight over; measured in a training step with cold caches (E1, two cores), the own kernel
/// needs 1.87 instead of 2.79 ms and 2.04 instead of 2.19 ms. Elsewhere the library is up to 1.6
/// times as fast.
bool bound_by_memory(const Product& p) {
  if (p.dtype != DType::f32 || p.count() != 1) return false;
  constexpr auto size = static_cast<std::int64_t>(sizeof(float));
  const bool short_sum = p.k <= Tile<float>::depth && p.m * p.n * size >= kStreamBytes &&
                         p.n * size % kVectorBytes == 0 && !p.bias;
  const bool few_rows =
      p.m <= Tile<float>::m / 2 && p.b_row == 1 && p.n * p.k * size >= kStreamBytes;
  return short_sum || few_rows;
}

RefPtr<Plan> plan(const PlanRequest& r, const Product& p) {
  if (r.policy.vendor && !bound_by_memory(p) && p.count() * p.m * p.n * p.k > kTiny) {
    if (RefPtr<Plan> v = plan_vendor(p, r.policy)) return v;
  }
  RefPtr<Plan> own =
      visit_dtype(p.dtype, [&](auto tag) { return plan_plain<typename decltype(tag)::type>(p); });
  own->epilogue = Exactness::exact;
  return own;
}

}  // namespace

RefPtr<Plan> plan_matmul(const PlanRequest& r) {
  return plan(r, {matrix_product(r.in[0], r.in[1])});
}

RefPtr<Plan> plan_linear(const PlanRequest& r) {
  Product p{linear_product(r.in[0], r.in[1])};
  if (r.in.size() == 3) p.bias = r.in[2];
  p.relu = r.attrs<LinearAttrs>().relu;
  return plan(r, p);
}

}  // namespace tandem::cpu
