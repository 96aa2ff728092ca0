// Random changes to training images, made by the loader's workers.
#pragma once
#include <cstdint>
#include <vector>

#include "core/shape.h"
#include "data/rng.h"

namespace tandem::data {

/// What an Augmenter does to images.
struct AugmentOptions {
  enum class Flip : std::uint8_t {
    none,
    random,       // left-right, with probability 1/2
    alternating,  // each sample in every second epoch, which half first is random: in any two
                  // epochs every image is seen both ways
  };
  enum class Border : std::uint8_t { zero, reflect };

  Flip flip = Flip::none;
  /// Shifts by up to this many pixels along each axis (what padding by as much and cropping does).
  std::int64_t translate = 0;
  Border border = Border::zero;  // what is shifted in

  bool any() const { return flip != Flip::none || translate > 0; }
};

/// Changes images as the options say. What happens to a sample depends only on (seed, epoch, the
/// sample's index), so it is the same whichever worker does it. One Augmenter per worker.
class Augmenter {
 public:
  /// Throws ValueError for options that do not fit the image.
  Augmenter(const AugmentOptions& options, const Shape& image_shape, std::uint64_t seed);
  /// Changes one image [C, H, W], row-major, in place.
  void apply(float* image, std::int64_t epoch, std::int64_t index);

 private:
  AugmentOptions o_;
  std::int64_t c_, h_, w_;
  std::uint64_t seed_;
  std::vector<float> scratch_;
};

}  // namespace tandem::data
