// What the synthetic data sets share: points, strokes, noise, and the loop over the images.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "data/dataset.h"
#include "data/rng.h"

namespace tandem::data {

/// A position on the canvas, in pixels.
struct Point {
  float x, y;
};

/// Points along a polyline.
using Stroke = std::vector<Point>;

/// By way of double, whose last bit (where mathematical libraries differ) rounds away.
inline float sine(float a) {
  return static_cast<float>(std::sin(static_cast<double>(a)));
}
inline float cosine(float a) {
  return static_cast<float>(std::cos(static_cast<double>(a)));
}

/// Appends an arc of the ellipse about (cx, cy), from angle a to b in degrees, clockwise with y
/// down.
inline void arc(Stroke& s, float cx, float cy, float rx, float ry, float a, float b) {
  constexpr float kDegree = 0.017453292f;
  const int n = 2 + static_cast<int>(std::fabs(b - a) / 24.0f);
  for (int i = 0; i <= n; ++i) {
    const float t = (a + (b - a) * static_cast<float>(i) / static_cast<float>(n)) * kDegree;
    s.push_back({cx + rx * cosine(t), cy + ry * sine(t)});
  }
}

/// From p to the nearest point between a and b.
inline float distance_to_segment(Point p, Point a, Point b) {
  const float dx = b.x - a.x, dy = b.y - a.y;
  const float len2 = dx * dx + dy * dy;
  float t = len2 > 0.0f ? ((p.x - a.x) * dx + (p.y - a.y) * dy) / len2 : 0.0f;
  t = std::clamp(t, 0.0f, 1.0f);
  const float ex = p.x - (a.x + t * dx), ey = p.y - (a.y + t * dy);
  return std::sqrt(ex * ex + ey * ey);
}

/// Roughly normal noise of variance 1 from one word: the sum of its four bytes, centred. Integer
/// arithmetic, hence the same everywhere.
inline float noise(Rng& rng) {
  const std::uint32_t b = rng.bits();
  const int sum = static_cast<int>((b & 255) + (b >> 8 & 255) + (b >> 16 & 255) + (b >> 24));
  return static_cast<float>(2 * sum - 1020) * (0.5f / 147.8f);
}

/// [0, 1] (cut to it) -> 0 … 255, rounded.
inline std::uint8_t to_byte(float v) {
  return static_cast<std::uint8_t>(std::clamp(v, 0.0f, 1.0f) * 255.0f + 0.5f);
}

/// A data set of `size` images, image i and its label made by `make(seed, i, pixels)`.
template <class Make>
DatasetPtr generate(const char* op, std::string name, const Shape& shape, std::int64_t size,
                    std::uint64_t seed, Make make) {
  if (size < 1) fail(op, "size is too small", std::to_string(size), "1 or more");
  const std::int64_t values = numel(shape);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(size * values));
  std::vector<std::uint8_t> labels(static_cast<std::size_t>(size));
  parallel_for(size, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      labels[static_cast<std::size_t>(i)] =
          make(seed, static_cast<std::uint64_t>(i), pixels.data() + i * values);
    }
  });
  return std::make_shared<ByteImages>(std::move(name), shape, 10, std::move(pixels),
                                      std::move(labels), true);
}

}  // namespace tandem::data
