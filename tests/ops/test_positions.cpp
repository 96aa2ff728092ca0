// The pooling ops that are given positions: one outside the plane reads or writes nothing,
// whichever kernel it meets.
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "core/backend.h"
#include "graph/compile.h"
#include "ops/ops.h"

namespace tandem {
namespace {

struct Geometry {
  const char* name;
  PoolAttrs attrs;
  Shape pooled;
};

// Windows side by side, overlapping ones, and so many that threads share them.
const std::vector<Geometry>& geometries() {
  static const std::vector<Geometry> all = [] {
    const auto pool = [](std::int64_t k, std::int64_t s, std::int64_t size) {
      return PoolAttrs{
          .kernel = {k, k}, .stride = {s, s}, .padding = {0, 0}, .input_size = {size, size}};
    };
    return std::vector<Geometry>{{"halves", pool(2, 2, 4), {2, 3, 2, 2}},
                                 {"overlapping", pool(3, 1, 4), {2, 3, 2, 2}},
                                 {"many", pool(2, 2, 64), {8, 16, 32, 32}},
                                 {"many overlapping", pool(3, 1, 34), {8, 16, 32, 32}}};
  }();
  return all;
}

template <class F>
void expect_refused(const char* op, std::int64_t bad, const F& f) {
  try {
    f();
    // What is wrong with values a device can report only now.
    backend(default_device()).stream(default_device().index).synchronize();
    ADD_FAILURE() << op << " takes position " << bad;
  } catch (const IndexError& e) {
    const std::string m = e.what();
    EXPECT_NE(m.find(std::string("[") + op + "] index "), std::string::npos) << m;
    EXPECT_NE(m.find("got " + std::to_string(bad)), std::string::npos) << m;
  }
}

// Gradients' kernels that only compare positions leave one outside out; others refuse it.
TEST(Positions, OutsideThePlaneAreNotFollowed) {
  for (const Geometry& g : geometries()) {
    const std::int64_t plane = g.attrs.input_size[0] * g.attrs.input_size[1];
    const Shape x_shape{g.pooled[0], g.pooled[1], g.attrs.input_size[0], g.attrs.input_size[1]};
    for (const MemoryFormat format : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
      for (const DType t : {DType::f32, DType::bf16}) {
        const Tensor gy = ones(g.pooled, {.dtype = t}).to(format);
        const Tensor x = ones(x_shape, {.dtype = t}).to(format);
        for (const std::int64_t bad : {std::int64_t{-1}, plane, std::int64_t{2000000000},
                                       std::int64_t{std::numeric_limits<std::int32_t>::min()}}) {
          SCOPED_TRACE(std::string(g.name) + " " + name_of(t));
          const Pool2dOptions o{.kernel = g.attrs.kernel, .stride = g.attrs.stride};
          const Tensor at = max_pool2d_with_indices(x, o).second;
          at.select(0, g.pooled[0] - 1)
              .select(0, 2)
              .select(0, 1)
              .select(0, 1)
              .fill_(static_cast<double>(bad));
          const bool followed = format == MemoryFormat::contiguous && g.attrs.kernel[0] == 3 &&
                                default_device().is_cpu();
          if (followed) {
            expect_refused("max_pool2d_grad", bad, [&] { max_pool2d_grad(gy, at, g.attrs); });
          } else {
            const Tensor gx = max_pool2d_grad(gy, at, g.attrs);
            EXPECT_EQ(sum(gx.to(DType::f64)).item(), static_cast<double>(gy.numel() - 1));
          }
          expect_refused("max_pool2d_gather", bad, [&] { max_pool2d_gather(x, at, g.attrs); });
          // Every other element of a larger buffer.
          Tensor wide = zeros({g.pooled[0], g.pooled[1], g.pooled[2], 2 * g.pooled[3]},
                              {.dtype = DType::i32});
          const Tensor apart = wide.slice(3, 0, 2 * g.pooled[3], 2).copy_(at);
          expect_refused("max_pool2d_gather", bad, [&] { max_pool2d_gather(x, apart, g.attrs); });
        }
      }
    }
  }
}

TEST(Positions, TheLastOfThePlaneIsTaken) {
  for (const Geometry& g : geometries()) {
    const std::int64_t plane = g.attrs.input_size[0] * g.attrs.input_size[1];
    const Tensor at = full(g.pooled, plane - 1, {.dtype = DType::i32});
    EXPECT_NO_THROW(max_pool2d_grad(ones(g.pooled), at, g.attrs)) << g.name;
  }
}

TEST(Positions, AreCheckedInProgramsToo) {
  if (!default_device().is_cpu()) GTEST_SKIP() << "there no gradient follows positions";
  const Geometry& g = geometries()[1];
  auto fast =
      compile([&](const Tensor& gy, const Tensor& at) { return max_pool2d_grad(gy, at, g.attrs); });
  const Tensor gy = ones(g.pooled), good = zeros(g.pooled, {.dtype = DType::i32});
  const auto want = fast(gy, good).to_vector<float>();
  EXPECT_THROW(fast(gy, full(g.pooled, 16, {.dtype = DType::i32})), IndexError);
  EXPECT_EQ(fast(gy, good).to_vector<float>(), want);
}

}  // namespace
}  // namespace tandem
