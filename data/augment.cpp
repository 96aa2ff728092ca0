#include "data/augment.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace tandem::data {

namespace {

// Names of random sequences: an epoch's draws must not be those of another use of the seed.
constexpr std::uint64_t kDraws = 0xA06, kFirstFlip = 0xF11;

/// Where the value shifted into position `i` of an axis of `n` comes from; -1: from outside.
std::int64_t source(std::int64_t i, std::int64_t n, AugmentOptions::Border border) {
  if (i >= 0 && i < n) return i;
  if (border == AugmentOptions::Border::zero) return -1;
  return i < 0 ? -i : 2 * (n - 1) - i;
}

}  // namespace

Augmenter::Augmenter(const AugmentOptions& options, const Shape& image_shape, std::uint64_t seed)
    : o_(options), c_(image_shape[0]), h_(image_shape[1]), w_(image_shape[2]), seed_(seed) {
  if (o_.translate < 0 || o_.translate >= std::min(h_, w_)) {
    fail("Augmenter", "translate must be smaller than the image", std::to_string(o_.translate),
         fmt::format("0 to {}", std::min(h_, w_) - 1));
  }
  if (o_.translate > 0) scratch_.resize(static_cast<std::size_t>(c_ * h_ * w_));
}

void Augmenter::apply(float* image, std::int64_t epoch, std::int64_t index) {
  const auto e = static_cast<std::uint64_t>(epoch), i = static_cast<std::uint64_t>(index);
  Rng rng(seed_, kDraws + (e << 16), i);
  bool flip = false;
  if (o_.flip == AugmentOptions::Flip::random) flip = rng.coin();
  if (o_.flip == AugmentOptions::Flip::alternating) {
    flip = Rng(seed_, kFirstFlip, i).coin() != (e % 2 == 1);
  }
  if (flip) {
    for (std::int64_t r = 0; r < c_ * h_; ++r) std::reverse(image + r * w_, image + (r + 1) * w_);
  }
  if (o_.translate == 0) return;
  const auto range = static_cast<std::uint64_t>(2 * o_.translate + 1);
  const std::int64_t dy = static_cast<std::int64_t>(rng.below(range)) - o_.translate;
  const std::int64_t dx = static_cast<std::int64_t>(rng.below(range)) - o_.translate;
  float* out = scratch_.data();
  for (std::int64_t c = 0; c < c_; ++c) {
    for (std::int64_t y = 0; y < h_; ++y) {
      const std::int64_t sy = source(y + dy, h_, o_.border);
      for (std::int64_t x = 0; x < w_; ++x) {
        const std::int64_t sx = source(x + dx, w_, o_.border);
        *out++ = sy < 0 || sx < 0 ? 0.0f : image[(c * h_ + sy) * w_ + sx];
      }
    }
  }
  std::copy(scratch_.begin(), scratch_.end(), image);
}

}  // namespace tandem::data
