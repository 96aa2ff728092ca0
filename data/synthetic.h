// Generated data sets for when no real data is at hand. They are no stand-in for the real ones in
// any result: their name and Dataset::synthetic() say what they are.
#pragma once
#include <cstdint>

#include "data/dataset.h"

namespace tandem::data {

/// 28x28 grey images of the ten digits, drawn as strokes with random shape, slant, size, position,
/// thickness and brightness, over stray strokes and noise. The same images on every machine for the
/// same (size, seed); a small convolutional net learns them, a linear model does not.
DatasetPtr synthetic_digits(std::int64_t size, std::uint64_t seed);

/// 3x32x32 colour images of ten kinds of shapes (disc, square, triangle, ring, cross, star,
/// crescent, frame, two discs, bar) with random colours, textures, places, sizes and angles.
DatasetPtr synthetic_cifar(std::int64_t size, std::uint64_t seed);

}  // namespace tandem::data
