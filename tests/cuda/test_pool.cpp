// Pooling where kernels change their way: channels side by side or not, in packs or not, windows
// shared by threads, tensors that no layout fits.
#include <limits>

#include "tests/cuda/both_devices.h"

namespace tandem::cases {
namespace {

using Pooling = OnGpu;

const std::vector<Pool2dOptions>& geometries() {
  static const std::vector<Pool2dOptions> all = {
      {.kernel = {2}},
      {.kernel = {3}, .stride = {2}, .padding = {1}},
      {.kernel = {3}, .stride = {1}, .padding = {1}, .count_include_pad = false},
      {.kernel = {3}, .stride = {2}, .padding = {1}, .ceil_mode = true},
      {.kernel = {2, 3}, .stride = {3, 1}, .padding = {1, 1}, .ceil_mode = true},
      {.kernel = {5, 1}, .stride = {1, 4}, .padding = {2, 0}},
      {.kernel = {7}, .stride = {3}, .padding = {3}, .count_include_pad = false},
  };
  return all;
}

// A tensor as it is, channels-last, as parts of larger ones, and with axes that repeat.
std::vector<Tensor> layouts(const Tensor& x) {
  const Shape s = x.shape();
  std::vector<Tensor> r = {x, x.to(MemoryFormat::channels_last), in_layout(x, Layout::sliced),
                           x.slice(0, 0, 1).slice(2, 0, 1).expand(s)};
  // Channels side by side, but pixels at odd distances; then at odd addresses; then every other.
  for (const auto& [first, step] : {std::pair{0, 1}, {1, 1}, {0, 2}}) {
    const Tensor wide = zeros({s[0], step * s[1] + step % 2, s[2] + 1, s[3]}, {.dtype = x.dtype()})
                            .to(MemoryFormat::channels_last);
    r.push_back(wide.slice(1, first, first + step * s[1], step).slice(2, 0, s[2]));
    r.back().copy_(x);
  }
  return r;
}

PoolAttrs attrs_of(const Pool2dOptions& o, const Tensor& x) {
  const auto both = [](const Dims& d) { return d.size() == 1 ? Dims{d[0], d[0]} : d; };
  return {.kernel = both(o.kernel),
          .stride = both(o.stride.empty() ? o.kernel : o.stride),
          .padding = both(o.padding),
          .ceil_mode = o.ceil_mode,
          .count_include_pad = o.count_include_pad,
          .input_size = {x.dim(2), x.dim(3)}};
}

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {
      {2, 16, 9, 10}, {1, 3, 7, 7}, {3, 1, 8, 5}, {2, 17, 6, 11}, {1, 8, 13, 7}};
  return all;
}

TEST_F(Pooling, MaximaAndTheirGradients) {
  for (const DType t : kFloats) {
    for (const Shape& s : shapes()) {
      for (const Pool2dOptions& o : geometries()) {
        SCOPED_TRACE(std::string(name_of(t)) + " " + s.str() + " kernel " + o.kernel.str());
        expect_same_bits([&](Generator& g) {
          std::vector<Tensor> r;
          // Few different values: many windows have several maxima.
          const Tensor values = floor(uniform(s, -3, 3, {}, &g)).to(t);
          for (const Tensor& x : layouts(values)) {
            const PoolAttrs a = attrs_of(o, x);
            const auto [y, at] = max_pool2d_with_indices(x, o);
            r.push_back(y);
            r.push_back(at);
            // What they read need not lie as the positions do.
            for (const Tensor& gy : layouts(randn(y.shape(), {.dtype = t}, &g))) {
              r.push_back(max_pool2d_grad(gy, at, a));
            }
            for (const Tensor& v : layouts(values)) r.push_back(max_pool2d_gather(v, at, a));
          }
          return r;
        });
      }
    }
  }
}

// A gradient only compares positions, so one outside of the plane is left out.
TEST_F(Pooling, PositionsOutsideThePlane) {
  const DefaultDevice scope({DeviceType::cuda, 0});
  const PolicyScope own({.vendor = false});
  const NoGrad no_grad;
  const Pool2dOptions o{.kernel = {3}, .stride = {1}};
  for (const Tensor& x : layouts(ones({2, 8, 5, 5}))) {
    const PoolAttrs a = attrs_of(o, x);
    const auto [y, at] = max_pool2d_with_indices(x, o);
    for (const int bad : {-1, 25, 2000000000}) {
      SCOPED_TRACE(x.desc().str() + " position " + std::to_string(bad));
      at.select(0, 1).select(0, 5).select(0, 0).select(0, 2).fill_(bad);
      const Tensor gx = max_pool2d_grad(ones_like(y), at, a).to(kCPU);
      EXPECT_EQ(sum(gx).item(), static_cast<double>(y.numel() - 1));
      try {
        max_pool2d_gather(x, at, a).to(kCPU);
        ADD_FAILURE() << "no error";
      } catch (const IndexError& e) {
        EXPECT_NE(std::string(e.what()).find(std::to_string(bad)), std::string::npos) << e.what();
      }
    }
  }
}

TEST_F(Pooling, MaximaOfNaNsAndInfinities) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> v(2 * 4 * 7 * 7);
  for (std::size_t i = 0; i < v.size(); ++i) {
    v[i] = i % 5 == 0 ? nan : i % 3 == 0 ? inf : i % 2 == 0 ? -inf : 1;
  }
  for (std::size_t i = 0; i < 49; ++i) v[i] = -inf;
  for (const Pool2dOptions& o : geometries()) {
    SCOPED_TRACE("kernel " + o.kernel.str());
    expect_same_bits([&](Generator&) {
      const Tensor x = Tensor::from<float>(v, {2, 4, 7, 7});
      std::vector<Tensor> r;
      for (const Tensor& l : {x, x.to(MemoryFormat::channels_last)}) {
        const auto [y, at] = max_pool2d_with_indices(l, o);
        r.push_back(y);
        r.push_back(at);
      }
      return r;
    });
  }
}

TEST_F(Pooling, MeansAndTheirGradients) {
  for (const DType t : kFloats) {
    for (const Shape& s : shapes()) {
      for (const Pool2dOptions& o : geometries()) {
        SCOPED_TRACE(std::string(name_of(t)) + " " + s.str() + " kernel " + o.kernel.str());
        expect_close([&](Generator& g) {
          std::vector<Tensor> r;
          for (const Tensor& x : layouts(randn(s, {.dtype = t}, &g))) {
            const Tensor y = avg_pool2d(x, o);
            r.push_back(y);
            for (const Tensor& gy : layouts(randn(y.shape(), {.dtype = t}, &g))) {
              r.push_back(avg_pool2d_grad(gy, attrs_of(o, x)));
            }
          }
          return r;
        });
      }
    }
  }
}

TEST_F(Pooling, AdaptiveMeansAndTheirGradients) {
  for (const DType t : kFloats) {
    for (const Shape& s : shapes()) {
      for (const Dims& size : {Dims{1, 1}, Dims{2, 3}, Dims{7, 7}, Dims{13, 4}, Dims{1, 5}}) {
        SCOPED_TRACE(std::string(name_of(t)) + " " + s.str() + " to " + size.str());
        expect_close([&](Generator& g) {
          std::vector<Tensor> r;
          for (const Tensor& x : layouts(randn(s, {.dtype = t}, &g))) {
            const Tensor y = adaptive_avg_pool2d(x, size);
            r.push_back(y);
            for (const Tensor& gy : layouts(randn(y.shape(), {.dtype = t}, &g))) {
              r.push_back(adaptive_avg_pool2d_grad(
                  gy, {.output_size = size, .input_size = {x.dim(2), x.dim(3)}}));
            }
          }
          return r;
        });
      }
    }
  }
}

// Padding may fill a window of its own.
// Threads share a window: of fewer and of more elements than a block has threads, and of rows that
// a thread's steps pass over.
TEST_F(Pooling, MeansOfLargeWindows) {
  for (const DType t : {DType::f32, DType::bf16}) {
    for (const Shape& s : {Shape{2, 5, 6, 6}, Shape{1, 40, 8, 9}, Shape{1, 2, 40, 3},
                           Shape{2, 3, 33, 70}, Shape{1, 1, 2, 1500}}) {
      SCOPED_TRACE(std::string(name_of(t)) + " " + s.str());
      expect_close([&](Generator& g) {
        std::vector<Tensor> r;
        // Multiples of 1/4: their sums are exact.
        const Tensor values = (floor(uniform(s, -16, 16, {}, &g)) / 4).to(t);
        for (const Tensor& x : layouts(values)) {
          r.push_back(adaptive_avg_pool2d(x, {1, 1}));
          r.push_back(adaptive_avg_pool2d(x, {1, 2}));
          r.push_back(avg_pool2d(x, {.kernel = {s[2], s[3]}, .stride = {1, 1}, .padding = {1, 0}}));
          r.push_back(avg_pool2d(x, {.kernel = {2, (s[3] + 1) / 2}, .stride = {1, 2}}));
        }
        return r;
      });
    }
  }
}

// Products of sizes past 2^31 and 2^32, though there is little to add.
TEST_F(Pooling, AdaptiveMeansOfLongRows) {
  expect_close([](Generator& g) {
    std::vector<Tensor> r;
    const Tensor x = randn({1, 1, 1, 70000}, {}, &g);
    const Tensor y = adaptive_avg_pool2d(x, {1, 69990});
    r.push_back(y);
    r.push_back(adaptive_avg_pool2d_grad(randn(y.shape(), {}, &g),
                                         {.output_size = {1, 69990}, .input_size = {1, 70000}}));
    return r;
  });
}

}  // namespace
}  // namespace tandem::cases
