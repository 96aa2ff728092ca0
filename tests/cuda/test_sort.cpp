// Sorting on the GPU: rows at the borders of tiles and merge passes, ties, NaNs and zeros.
#include <limits>

#include "tests/cuda/both_devices.h"

namespace tandem::cases {
namespace {

using SortOnGpu = OnGpu;

Tensor integers(std::int64_t lo, std::int64_t hi, const Shape& shape, Generator& g) {
  return randint(lo, hi, shape, {.dtype = DType::i64}, &g);
}

// Whole numbers of which many are equal, with what does not order as numbers do strewn in.
Tensor values(const Shape& shape, DType t, Generator& g) {
  if (t == DType::boolean) return gt(uniform(shape, -1, 1, {}, &g), 0);
  Tensor x = integers(t == DType::u8 ? 0 : -40, 40, shape, g).to(t);
  if (!is_floating(t)) return x;
  const double inf = std::numeric_limits<double>::infinity();
  const double special[] = {NAN, -0.0, 0.0, inf, -inf, 1e-3};
  int k = 20;
  for (const double v : special) {
    x = where(eq(integers(0, 50, shape, g), k++), full(shape, v, {.dtype = t}), x);
  }
  return x;
}

const std::vector<DType> kTypes = kFloats + kInts + std::vector<DType>{DType::u8, DType::boolean};

void keep(std::vector<Tensor>& r, const std::pair<Tensor, Tensor>& sorted) {
  r.push_back(sorted.first);
  r.push_back(sorted.second);
}

TEST_F(SortOnGpu, RowsOfAnyLength) {
  for (const std::int64_t n : {1, 7, 8, 9, 17, 255, 1024, 1025, 2047, 2048, 2049, 4096, 6145}) {
    SCOPED_TRACE(n);
    expect_same_bits([n](Generator& g) {
      std::vector<Tensor> r;
      const Tensor x = values({n < 20 ? 150 : 3, n}, DType::f32, g);
      for (const bool down : {false, true}) keep(r, sort(x, 1, down));
      return r;
    });
  }
}

TEST_F(SortOnGpu, EveryType) {
  for (const DType t : kTypes) {
    SCOPED_TRACE(name_of(t));
    expect_same_bits([t](Generator& g) {
      std::vector<Tensor> r;
      for (const std::int64_t n : {40, 4500}) {
        const Tensor x = values({2, n}, t, g);
        for (const bool down : {false, true}) {
          keep(r, sort(x, 1, down));
          keep(r, topk(x, 30, 1, down));
        }
      }
      return r;
    });
  }
}

TEST_F(SortOnGpu, ExtremeValues) {
  expect_same_bits([](Generator&) {
    using L = std::numeric_limits<std::int64_t>;
    const Tensor x =
        Tensor::from<std::int64_t>({3, L::max(), -1, L::min(), L::max(), 0, L::min()}, {7});
    const Tensor nans = full({2, 3000}, NAN, {.dtype = DType::f64});
    std::vector<Tensor> r;
    for (const bool down : {false, true}) {
      keep(r, sort(x, 0, down));
      keep(r, sort(x.to(DType::i32), 0, down));
      keep(r, sort(nans, 1, down));
      keep(r, sort(nans.to(DType::f32).slice(1, 0, 9), 1, down));
    }
    return r;
  });
}

TEST_F(SortOnGpu, AnyAxisAndLayout) {
  expect_same_bits([](Generator& g) {
    std::vector<Tensor> r;
    const Tensor x = values({70, 3, 30}, DType::f32, g);
    for (int axis = 0; axis < 3; ++axis) {
      keep(r, sort(x, axis));
      keep(r, sort(x.permute({2, 0, 1}), axis, true));
      keep(r, sort(x.slice(2, 1, 30, 3), axis));
      keep(r, topk(x.slice(0, 5, 60), 3, axis));
    }
    const Tensor tall = values({5000, 3}, DType::f32, g);
    keep(r, sort(tall, 0));
    keep(r, topk(tall, 2000, 0));
    keep(r, topk(tall.slice(1, 1, 3), 3, 0, false));
    keep(r, sort(full({1}, 2.0).expand({2, 2500}), 1));
    return r;
  });
}

// Of each tile the best, of those again the best; or everything.
TEST_F(SortOnGpu, BestFewOfLongRows) {
  for (const std::int64_t k : {0, 1, 2, 1000, 1023, 1024, 1025, 2048, 2049, 6999, 7000}) {
    SCOPED_TRACE(k);
    expect_same_bits([k](Generator& g) {
      std::vector<Tensor> r;
      const Tensor x = values({2, 7000}, DType::f32, g);
      for (const bool largest : {false, true}) keep(r, topk(x, k, 1, largest));
      return r;
    });
  }
}

}  // namespace
}  // namespace tandem::cases
