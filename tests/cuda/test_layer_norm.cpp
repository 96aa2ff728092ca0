// Rows of every length at which the kernels change their way: parts of a warp, a warp, a block,
// kept in registers or read twice, in packs or not.
#include "tests/cuda/both_devices.h"

namespace tandem::cases {
namespace {

using LayerNorm = OnGpu;

// Over the last axis, of n elements.
std::vector<Tensor> forward_and_gradients(const Tensor& x, std::int64_t n, Generator& g) {
  const DType p = is_low_precision(x.dtype()) ? DType::f32 : x.dtype();
  const Tensor w = randn({n}, {.dtype = p}, &g), b = randn({n}, {.dtype = p}, &g);
  Shape rows = x.shape();
  rows.resize(rows.size() - 1);
  const Tensor mean = randn(rows, {.dtype = p}, &g), rstd = uniform(rows, 0.5, 2, {.dtype = p}, &g);
  const Tensor gy = randn(x.shape(), {.dtype = x.dtype()}, &g);
  const NormGrads grads = layer_norm_grad(gy, x, w, mean, rstd);
  return {layer_norm(x, {n}, w, b), grads.x, grads.w, grads.b};
}

TEST_F(LayerNorm, RowsOfAnyLength) {
  for (const DType t : kFloats) {
    for (const std::int64_t n : {1, 2, 7, 8, 64, 100, 127, 128, 129, 768, 1000, 1025}) {
      for (const std::int64_t rows : {1, 5}) {
        SCOPED_TRACE(std::string(name_of(t)) + " " + std::to_string(rows) + " of " +
                     std::to_string(n));
        expect_close([&](Generator& g) {
          const Tensor x = randn({rows, n}, {.dtype = t}, &g);
          std::vector<Tensor> r = forward_and_gradients(x, n, g);
          // Rows that are not aligned, then not dense.
          const Tensor flat = randn({rows * n + 1}, {.dtype = t}, &g);
          for (const Tensor& y : {flat.slice(0, 1, rows * n + 1).reshape({rows, n}),
                                  in_layout(x, Layout::reversed_axes)}) {
            for (const Tensor& v : forward_and_gradients(y, n, g)) r.push_back(v);
          }
          return r;
        });
      }
    }
  }
}

TEST_F(LayerNorm, RowsLongerThanRegisters) {
  for (const DType t : kFloats) {
    for (const std::int64_t n : {8192, 8200, 9001}) {
      SCOPED_TRACE(std::string(name_of(t)) + " " + std::to_string(n));
      expect_close([&](Generator& g) {
        return forward_and_gradients(randn({2, n}, {.dtype = t}, &g), n, g);
      });
    }
  }
}

// More rows than a chunk of the weight's gradient has, and a rest.
TEST_F(LayerNorm, ManyRows) {
  for (const DType t : kFloats) {
    for (const std::int64_t n : {3, 40}) {
      SCOPED_TRACE(std::string(name_of(t)) + " " + std::to_string(n));
      expect_close([&](Generator& g) {
        return forward_and_gradients(randn({1111, n}, {.dtype = t}, &g), n, g);
      });
    }
  }
}

// The results keep the layout.
TEST_F(LayerNorm, ChannelsLast) {
  for (const DType t : kFloats) {
    expect_close([&](Generator& g) {
      const Tensor x = randn({2, 3, 5, 16}, {.dtype = t}, &g);
      return forward_and_gradients(x.to(MemoryFormat::channels_last), 16, g);
    });
  }
}

TEST_F(LayerNorm, NothingAtAll) {
  expect_same_bits([](Generator& g) {
    std::vector<Tensor> r;
    for (const Shape& s : {Shape{0, 5}, Shape{3, 0}}) {
      for (const Tensor& t : forward_and_gradients(zeros(s), s[1], g)) r.push_back(t);
    }
    return r;
  });
}

// Values far from zero: the squares about the mean keep their digits.
TEST_F(LayerNorm, FarFromZero) {
  for (const std::int64_t n : {96, 6000}) {
    expect_close(
        [&](Generator& g) {
          // Multiples of 1/8 near 1000, whose sum is exact.
          const Tensor x = floor(uniform({4, n}, 0, 16, {}, &g)) / 8 + 1000;
          return std::vector<Tensor>{layer_norm(x, {n})};
        },
        1024);
  }
}

}  // namespace
}  // namespace tandem::cases
