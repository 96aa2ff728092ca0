// Convolutions where kernels change their way: sizes around tiles, images in any layout, strides
// that leave gaps in the gradient, sums that several blocks share.
#include "tests/cuda/both_devices.h"

namespace tandem::cases {
namespace {

using Convolutions = OnGpu;

struct Case {
  Shape x, w;
  Conv2dOptions o = {};
};

const std::vector<Case>& all() {
  static const std::vector<Case> c = {
      {{2, 3, 9, 7}, {33, 3, 3, 3}, {.padding = {1}}},
      {{1, 33, 5, 5}, {31, 33, 1, 1}},
      {{3, 16, 6, 6}, {65, 16, 3, 2}, {.stride = {2, 1}, .padding = {1, 0}}},
      {{1, 2, 20, 17}, {4, 2, 5, 3}, {.stride = {3, 2}, .padding = {4, 1}, .dilation = {2, 3}}},
      {{2, 12, 8, 8}, {9, 4, 3, 3}, {.stride = {2}, .padding = {1}, .groups = 3}},
      {{2, 5, 7, 6}, {10, 1, 3, 3}, {.padding = {1}, .dilation = {2}, .groups = 5}},
      {{1, 1, 3, 3}, {1, 1, 1, 1}, {.stride = {2}, .padding = {2}}},
      {{4, 2, 16, 16}, {3, 2, 2, 2}, {.stride = {2}}},
      {{2, 4, 1, 30}, {70, 4, 1, 7}, {.stride = {1, 4}, .padding = {0, 3}}},
  };
  return c;
}

// An image as it is, channels-last, and as parts of other images.
std::vector<Tensor> layouts(const Tensor& x) {
  const Shape s = x.shape();
  Tensor wide =
      zeros({s[0], s[1] + 1, s[2] + 1, s[3]}, {.dtype = x.dtype()}).to(MemoryFormat::channels_last);
  Tensor part = wide.slice(1, 1, s[1] + 1).slice(2, 0, s[2]);
  part.copy_(x);
  return {x, x.to(MemoryFormat::channels_last), in_layout(x, Layout::sliced),
          in_layout(x, Layout::reversed_axes), part};
}

void expect_all_passes(const Case& c, DType t) {
  SCOPED_TRACE(c.x.str() + " " + c.w.str() + " " + name_of(t));
  expect_close(
      [&](Generator& g) {
        const Tensor x = uniform(c.x, -1, 1, {.dtype = t}, &g);
        const Tensor w = uniform(c.w, -1, 1, {.dtype = t}, &g);
        const Tensor b = uniform({c.w[0]}, -1, 1, {.dtype = t}, &g);
        const Tensor gy = uniform(conv2d(x, w, b, c.o).shape(), -1, 1, {.dtype = t}, &g);
        std::vector<Tensor> r;
        const auto xs = layouts(x), ws = layouts(w), gs = layouts(gy);
        for (std::size_t i = 0; i < xs.size(); ++i) {
          const Tensor& turned = ws[(i + 1) % ws.size()];
          r.push_back(conv2d(xs[i], w, b, c.o));
          r.push_back(conv2d(xs[i], turned, {}, c.o));
          r.push_back(conv2d_grad_input(gs[i], w, c.x, c.o));
          r.push_back(conv2d_grad_input(gs[i], turned, c.x, c.o));
          r.push_back(conv2d_grad_weight(xs[i], gy, c.w, c.o));
          r.push_back(conv2d_grad_weight(xs[i], gs[i], c.w, c.o, MemoryFormat::channels_last));
        }
        return r;
      },
      32);
}

TEST_F(Convolutions, AllPassesInAnyLayout) {
  for (const Case& c : all()) {
    for (const DType t : {DType::f32, DType::f64, DType::f16}) {
      expect_all_passes(c, t);
      if (HasFailure()) return;
    }
  }
}

TEST_F(Convolutions, LargeTiles) {
  expect_all_passes({{2, 9, 20, 21}, {70, 9, 3, 3}, {.padding = {1}}}, DType::f32);
  expect_all_passes({{2, 70, 16, 16}, {66, 70, 1, 1}}, DType::bf16);
}

// The order of a sum depends on its length and on the layout alone: an image gives the same bits in
// any batch, whichever blocks share its sums.
TEST_F(Convolutions, ImagesDoNotDependOnTheRest) {
  const DefaultDevice scope({DeviceType::cuda, 0});
  const PolicyScope own({.vendor = false});
  const NoGrad no_grad;
  Generator g(5, default_device());
  for (const auto format : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
    const Tensor x = randn({24, 64, 12, 12}, {}, &g).to(format);
    const Tensor w = randn({64, 64, 3, 3}, {}, &g).to(format);
    const Tensor y = conv2d(x, w, {}, {.padding = {1}});
    const Tensor gx = conv2d_grad_input(x, w, x.shape(), {.padding = {1}});
    for (const std::int64_t i : {0, 23}) {
      const Tensor one = x.slice(0, i, i + 1);
      const auto expect = [&](const Tensor& part, const Tensor& whole) {
        EXPECT_EQ(compare_bits(part.to(kCPU).contiguous(),
                               whole.slice(0, i, i + 1).to(kCPU).contiguous()),
                  "");
      };
      expect(conv2d(one, w, {}, {.padding = {1}}), y);
      expect(conv2d_grad_input(one, w, one.shape(), {.padding = {1}}), gx);
    }
  }
}

TEST_F(Convolutions, EmptyBatchesAndEmptySums) {
  expect_same_bits([](Generator& g) {
    const Tensor w = randn({3, 2, 3, 3}, {}, &g), none = zeros({0, 2, 5, 5}),
                 no_y = zeros({0, 3, 3, 3});
    return std::vector{conv2d(none, w), conv2d_grad_input(no_y, w, none.shape()),
                       conv2d_grad_weight(none, no_y, w.shape())};
  });
}

TEST_F(Convolutions, RefusesWhatItsNumbersAreTooSmallFor) {
  const DefaultDevice scope({DeviceType::cuda, 0});
  const PolicyScope own({.vendor = false});
  const Conv2dOptions o{.stride = {1 << 28}, .padding = {1 << 28}};
  EXPECT_THROW(conv2d(ones({1, 1, 1, 1}), ones({1, 1, 1, 1}), {}, o), ShapeError);
}

}  // namespace
}  // namespace tandem::cases
