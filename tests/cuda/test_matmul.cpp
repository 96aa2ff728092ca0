// Products where kernels change their way: sizes around tiles and pieces of the sum, operands in
// any direction; and how they are put to cuBLASLt, whose calls need a GPU.
#include "core/matrix_product.h"
#include "cuda/cublaslt.h"
#include "tests/cuda/both_devices.h"

namespace tandem::cases {
namespace {

using MatrixProducts = OnGpu;

// ---------------------------------------------------------------------------------- kernels

// A matrix (or a batch of them) in a layout of its own.
Tensor turned(const Tensor& t) {
  return t.transpose(-2, -1).contiguous().transpose(-2, -1);
}
std::vector<Tensor> layouts(const Tensor& t) {
  return {t, turned(t), in_layout(t, Layout::sliced)};
}

TEST_F(MatrixProducts, SizesAroundTiles) {
  // Rows, columns, depth: tiles are 32 by 32 and 64 by 128 (64 by 64 in f64), 16 deep.
  for (const Shape& s : std::initializer_list<Shape>{{1, 1, 1},
                                                     {1, 33, 17},
                                                     {31, 1, 16},
                                                     {32, 32, 15},
                                                     {33, 31, 33},
                                                     {5, 70, 64},
                                                     {65, 4, 31},
                                                     {127, 127, 5},
                                                     {128, 256, 16},
                                                     {193, 131, 18},
                                                     {66, 258, 2}}) {
    for (const DType t : {DType::f32, DType::f64, DType::bf16}) {
      SCOPED_TRACE(s.str() + " " + name_of(t));
      expect_close([&](Generator& g) {
        const Tensor a = uniform({s[0], s[2]}, -1, 1, {.dtype = t}, &g);
        const Tensor b = uniform({s[2], s[1]}, -1, 1, {.dtype = t}, &g);
        const Tensor bias = uniform({s[1]}, -1, 1, {.dtype = t}, &g);
        std::vector<Tensor> r;
        for (const Tensor& x : layouts(a)) {
          r.push_back(matmul(x, b));
          r.push_back(linear(x, b.transpose(0, 1), bias));
        }
        for (const Tensor& x : layouts(b)) r.push_back(matmul(a, x));
        return r;
      });
    }
  }
}

TEST_F(MatrixProducts, LongSums) {
  // Pieces of the sum are 256 long, more where there would be more than 64 of them.
  for (const std::int64_t k : {255, 256, 257, 512, 1000, 16384, 16385, 20000}) {
    SCOPED_TRACE(k);
    expect_close(
        [&](Generator& g) {
          std::vector<Tensor> r;
          for (const DType t : {DType::f32, DType::f64}) {
            const Tensor a = uniform({3, k}, -1, 1, {.dtype = t}, &g);
            const Tensor b = uniform({k, 2}, -1, 1, {.dtype = t}, &g);
            r.push_back(matmul(a, b));
            r.push_back(matmul(turned(a), turned(b)));
          }
          return r;
        },
        32);
  }
}

// The order of a sum depends on its length alone, not on what else is computed.
TEST_F(MatrixProducts, ElementsDoNotDependOnTheRest) {
  const DefaultDevice scope({DeviceType::cuda, 0});
  const PolicyScope own({.vendor = false});
  const NoGrad no_grad;
  Generator g(5, default_device());
  for (const DType t : {DType::f32, DType::bf16, DType::f64}) {
    for (const std::int64_t k : {40, 300, 600}) {
      SCOPED_TRACE(std::string(name_of(t)) + " " + std::to_string(k));
      const Tensor a = randn({40, 64, k}, {.dtype = t}, &g), b = randn({k, 130}, {.dtype = t}, &g);
      const Tensor all = matmul(a, b);
      const auto expect = [&](const Tensor& part, const Tensor& want) {
        EXPECT_EQ(compare_bits(part.to(kCPU).contiguous(), want.to(kCPU).contiguous()), "");
      };
      for (const std::int64_t i : {0, 17, 39}) {
        const Tensor x = a.select(0, i), y = all.select(0, i);
        expect(matmul(x, b), y);
        expect(matmul(x.select(0, 63), b), y.select(0, 63));
        expect(matmul(x, b.slice(1, 129, 130)), y.slice(1, 129, 130));
        expect(matmul(turned(x).slice(0, 7, 20), turned(b)), y.slice(0, 7, 20));
        expect(linear(x, b.t(), zeros({130}, {.dtype = t})), y);
      }
    }
  }
}

TEST_F(MatrixProducts, BatchesOfAnyLayout) {
  for (const DType t : {DType::f32, DType::f16}) {
    expect_close([&](Generator& g) {
      std::vector<Tensor> r;
      const Tensor a = uniform({3, 1, 2, 5, 7}, -1, 1, {.dtype = t}, &g);
      const Tensor b = uniform({4, 1, 7, 6}, -1, 1, {.dtype = t}, &g);
      r.push_back(matmul(a, b));
      r.push_back(matmul(turned(a).permute({2, 1, 0, 3, 4}), turned(b)));
      const Tensor heads = uniform({2, 5, 3, 8}, -1, 1, {.dtype = t}, &g).permute({0, 2, 1, 3});
      r.push_back(matmul(heads, heads.transpose(-2, -1)));
      r.push_back(matmul(heads, heads.select(0, 1).select(0, 2).t()));
      r.push_back(matmul(heads.slice(0, 0, 1).expand(heads.shape()), heads.transpose(-2, -1)));
      r.push_back(linear(heads, uniform({9, 8}, -1, 1, {.dtype = t}, &g)));
      return r;
    });
  }
}

// More tiles than blocks.
TEST_F(MatrixProducts, ManySmallOnes) {
  expect_close([](Generator& g) {
    const Tensor a = randn({9000, 2, 17}, {}, &g), b = randn({9000, 17, 3}, {}, &g);
    return std::vector{matmul(a, b)};
  });
}

TEST_F(MatrixProducts, IntegersWrapAndTruthIsOrOfAnds) {
  expect_same_bits([&](Generator& g) {
    std::vector<Tensor> r;
    for (const DType t : {DType::i32, DType::i64, DType::u8, DType::boolean}) {
      const double most = t == DType::boolean ? 1.2 : 100000;
      for (const std::int64_t k : {0, 3, 300}) {
        const Tensor a = uniform({33, k}, 0, most, {.dtype = DType::f64}, &g).to(DType::i64).to(t);
        const Tensor b = uniform({k, 35}, 0, most, {.dtype = DType::f64}, &g).to(DType::i64).to(t);
        r.push_back(matmul(a, b));
        r.push_back(matmul(mul(a, a), turned(b)));
      }
    }
    return r;
  });
}

TEST_F(MatrixProducts, NothingToSumIsTheBias) {
  expect_same_bits([&](Generator& g) {
    const Tensor bias = randn({70}, {}, &g);
    return std::vector{linear(zeros({65, 0}), zeros({70, 0}), bias),
                       linear(zeros({0, 4}), zeros({70, 4}), bias),
                       matmul(zeros({2, 3, 0}), zeros({0, 4}))};
  });
}

// ---------------------------------------------------------------------------------- cuBLASLt

using cuda::GemmLayout;

// Some numbers, and where a product finds them.
struct Numbers {
  std::vector<double> v;
  explicit Numbers(const TensorDesc& d) {
    const std::size_t n = d.bytes() / size_of(d.dtype);
    for (std::size_t i = 0; i < n; ++i) v.push_back(static_cast<double>(i * 7919 % 101) - 50);
  }
};

// c as the definition of a product says.
std::vector<double> defined(const MatrixProduct& p, const Numbers& a, const Numbers& b) {
  std::vector<double> c;
  for (std::int64_t s = 0; s < p.count(); ++s) {
    std::int64_t at = 0, bt = 0, rest = s;
    for (int i = p.batch.rank() - 1; i >= 0; --i) {
      at += rest % p.batch.size[i] * p.batch.stride[0][i];
      bt += rest % p.batch.size[i] * p.batch.stride[1][i];
      rest /= p.batch.size[i];
    }
    for (std::int64_t i = 0; i < p.m; ++i) {
      for (std::int64_t j = 0; j < p.n; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < p.k; ++k) {
          sum += a.v.at(static_cast<std::size_t>(at + i * p.a_row + k * p.a_col)) *
                 b.v.at(static_cast<std::size_t>(bt + k * p.b_row + j * p.b_col));
        }
        c.push_back(sum);
      }
    }
  }
  return c;
}

// c as a library computes it that reads matrices column by column.
std::vector<double> by_columns(const MatrixProduct& p, const GemmLayout& g, const Numbers& a,
                               const Numbers& b) {
  std::vector<double> c(static_cast<std::size_t>(p.count() * p.m * p.n), 1e9);
  const auto element = [](const GemmLayout::Matrix& m, std::int64_t i, std::int64_t j) {
    if (m.transposed) std::swap(i, j);
    EXPECT_LT(i, m.rows);
    EXPECT_LT(j, m.columns);
    return i + j * m.leading;
  };
  for (std::int64_t call = 0; call < g.calls.count; ++call) {
    std::int64_t at[3] = {0, 0, 0}, rest = call;
    for (int i = g.calls.rank() - 1; i >= 0; --i) {
      for (std::size_t k = 0; k < 3; ++k) at[k] += rest % g.calls.size[i] * g.calls.stride[k][i];
      rest /= g.calls.size[i];
    }
    for (std::int64_t s = 0; s < g.count; ++s) {
      for (std::int64_t i = 0; i < g.c.rows; ++i) {
        for (std::int64_t j = 0; j < g.c.columns; ++j) {
          double sum = 0;
          for (std::int64_t k = 0; k < p.k; ++k) {
            sum += b.v.at(static_cast<std::size_t>(at[1] + s * g.b.step + element(g.b, i, k))) *
                   a.v.at(static_cast<std::size_t>(at[0] + s * g.a.step + element(g.a, k, j)));
          }
          c.at(static_cast<std::size_t>(at[2] + s * g.c.step + element(g.c, i, j))) = sum;
        }
      }
    }
  }
  return c;
}

void expect_layout(const TensorDesc& a, const TensorDesc& b, bool a_fits = true,
                   bool b_fits = true) {
  SCOPED_TRACE(a.str() + a.strides.str() + " " + b.str() + b.strides.str());
  const MatrixProduct p = matrix_product(a, b);
  const GemmLayout g = cuda::gemm_layout(p);
  EXPECT_EQ(g.a.fits, a_fits);
  EXPECT_EQ(g.b.fits, b_fits);
  if (!g.a.fits || !g.b.fits) return;
  for (const auto* m : {&g.a, &g.b, &g.c}) EXPECT_GE(m->leading, m->rows);
  EXPECT_EQ(g.count * g.calls.count, p.count());
  const Numbers na(a), nb(b);
  EXPECT_EQ(by_columns(p, g, na, nb), defined(p, na, nb));
}

TensorDesc of(const Shape& s) {
  return {DType::f32, kCPU, s};
}
TensorDesc of(const Shape& s, const Strides& strides) {
  return {DType::f32, kCPU, s, strides};
}

TEST(GemmLayout, OperandsInBothDirections) {
  for (const TensorDesc& a :
       {of({3, 4}), of({3, 4}, {1, 3}), of({3, 4}, {9, 1}), of({3, 4}, {1, 8})}) {
    for (const TensorDesc& b :
         {of({4, 5}), of({4, 5}, {1, 4}), of({4, 5}, {7, 1}), of({4, 5}, {1, 6})}) {
      expect_layout(a, b);
    }
  }
}

TEST(GemmLayout, VectorsAndSizesOfOne) {
  expect_layout(of({4}), of({4}));
  expect_layout(of({4}), of({4, 3}));
  expect_layout(of({3, 4}), of({4}));
  expect_layout(of({1, 4}), of({4, 1}));
  expect_layout(of({3, 1}), of({1, 5}));
  expect_layout(of({1, 1}), of({1, 1}));
  // Strides along axes of one element mean nothing.
  expect_layout(of({1, 4}, {0, 1}), of({4, 1}, {1, 0}));
  expect_layout(of({3, 1}, {1, 0}), of({1, 5}, {77, 1}));
  expect_layout(of({3, 1}, {5, 77}), of({1, 5}, {2, 3}));
  expect_layout(of({4}, {6}), of({4, 3}));
}

TEST(GemmLayout, BatchesAndRepeatedOperands) {
  expect_layout(of({6, 3, 4}), of({6, 4, 5}));
  expect_layout(of({6, 3, 4}), of({4, 5}));
  expect_layout(of({6, 3, 4}, {4, 24, 1}), of({4, 5}));
  expect_layout(of({3, 4}), of({6, 4, 5}));
  expect_layout(of({6, 3, 4}, {0, 4, 1}), of({6, 4, 5}, {20, 1, 4}));
  const GemmLayout g = cuda::gemm_layout(matrix_product(of({3, 4}), of({6, 4, 5})));
  EXPECT_EQ(g.count, 6);
  EXPECT_EQ(g.a.step, 0);
  EXPECT_EQ(g.b.step, 20);
  EXPECT_EQ(g.c.step, 15);
}

TEST(GemmLayout, BatchesOfSeveralAxes) {
  expect_layout(of({2, 1, 3, 4}), of({5, 4, 2}));
  expect_layout(of({5, 1, 3, 4}), of({2, 4, 2}));
  expect_layout(of({2, 3, 5, 4}, {60, 4, 12, 1}), of({2, 3, 4, 5}, {60, 4, 1, 12}));
  expect_layout(of({2, 1, 2, 1, 3, 4}), of({3, 1, 2, 4, 2}));
  const GemmLayout g = cuda::gemm_layout(
      matrix_product(of({2, 7, 5, 4}, {140, 4, 28, 1}), of({2, 7, 4, 5}, {140, 4, 1, 28})));
  EXPECT_EQ(g.count, 7);
  EXPECT_EQ(g.calls.count, 2);
}

TEST(GemmLayout, WhatItCannotReadTakesACopy) {
  expect_layout(of({3, 4}, {8, 2}), of({4, 5}), false, true);
  expect_layout(of({3, 4}), of({4, 5}, {10, 2}), true, false);
  expect_layout(of({3, 4}, {0, 1}), of({4, 5}), false, true);  // one row, repeated
  expect_layout(of({3, 4}), of({4, 5}, {0, 0}), true, false);
  expect_layout(of({3, 4}, {2, 1}), of({4, 5}), false, true);  // rows that overlap
  expect_layout(of({4}, {0}), of({4, 3}), false, true);
}

}  // namespace
}  // namespace tandem::cases
