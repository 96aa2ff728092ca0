#include <array>
#include <functional>

#include "data/canvas.h"
#include "data/synthetic.h"

namespace tandem::data {

namespace {

constexpr int kSide = 32, kPlane = kSide * kSide;
constexpr std::uint64_t kShapes = 0xC1FA;

float length(float x, float y) {
  return std::sqrt(x * x + y * y);
}
float box(float x, float y, float w, float h) {
  return std::max(std::fabs(x) - w, std::fabs(y) - h);
}

/// Largest (or k-th largest) of the signed distances to `n` lines at distance `d` from the centre,
/// evenly turned. Inside all of them: a polygon; outside of at most one of five: a star.
float lines(float x, float y, int n, float d, int k) {
  std::array<float, 5> v{};
  for (int i = 0; i < n; ++i) {
    // Directions of the regular triangle and pentagon, from straight up.
    static const std::array<Point, 3> three = {{{0, -1}, {0.8660254f, 0.5f}, {-0.8660254f, 0.5f}}};
    static const std::array<Point, 5> five = {{{0, 1},
                                               {0.9510565f, 0.3090170f},
                                               {0.5877853f, -0.8090170f},
                                               {-0.5877853f, -0.8090170f},
                                               {-0.9510565f, 0.3090170f}}};
    const Point p = n == 3 ? three[static_cast<std::size_t>(i)] : five[static_cast<std::size_t>(i)];
    v[static_cast<std::size_t>(i)] = p.x * x + p.y * y - d;
  }
  std::sort(v.begin(), v.begin() + n, std::greater<>());
  return v[static_cast<std::size_t>(k)];
}

/// Signed distance (negative inside) to shape `kind` of size about 1.
float signed_distance(int kind, float x, float y) {
  switch (kind) {
    case 0: return length(x, y) - 0.9f;
    case 1: return box(x, y, 0.8f, 0.8f);
    case 2: return lines(x, -y, 3, 0.55f, 0);
    case 3: return std::fabs(length(x, y) - 0.75f) - 0.24f;
    case 4: return std::min(box(x, y, 1.0f, 0.3f), box(x, y, 0.3f, 1.0f));
    case 5: return lines(x, y, 5, 0.36f, 1);
    case 6: return std::max(length(x, y) - 1.0f, 0.85f - length(x - 0.5f, y));
    case 7: return std::fabs(box(x, y, 0.7f, 0.7f)) - 0.2f;
    case 8: return std::min(length(x - 0.62f, y), length(x + 0.62f, y)) - 0.42f;
    default: return box(x, y, 1.1f, 0.3f);
  }
}

/// A plain colour with stripes of another over it.
struct Texture {
  std::array<float, 3> colour, stripe;
  float fx, fy, phase;

  explicit Texture(Rng& rng) {
    for (auto& c : colour) c = rng.uniform();
    const float depth = rng.uniform(0.0f, 0.5f);
    for (auto& c : stripe) c = depth * (rng.uniform() - 0.5f);
    fx = rng.uniform(-0.35f, 0.35f);
    fy = rng.uniform(-0.35f, 0.35f);
    phase = rng.uniform();
  }
  float wave(int x, int y) const {  // a triangle wave in [-1, 1]
    const float t = fx * static_cast<float>(x) + fy * static_cast<float>(y) + phase;
    return 4.0f * std::fabs(t - std::floor(t) - 0.5f) - 1.0f;
  }
};

std::uint8_t make_image(std::uint64_t seed, std::uint64_t index, std::uint8_t* out) {
  Rng rng(seed, kShapes, index);
  const auto kind = static_cast<int>(rng.below(10));
  const float size = rng.uniform(7.0f, 12.5f), angle = rng.uniform(-0.5f, 0.5f);
  const float cx = 15.5f + rng.uniform(-1.0f, 1.0f) * (15.0f - size);
  const float cy = 15.5f + rng.uniform(-1.0f, 1.0f) * (15.0f - size);
  const float squeeze = rng.uniform(0.85f, 1.15f);
  const float c = cosine(angle) / size, s = sine(angle) / size;

  const Texture ground(rng);
  Texture figure(rng);
  // A figure of nearly the ground's colour could not be told by anyone.
  float difference = 0;
  for (std::size_t k = 0; k < 3; ++k) difference += std::fabs(figure.colour[k] - ground.colour[k]);
  if (difference < 0.7f) {
    for (std::size_t k = 0; k < 3; ++k) {
      figure.colour[k] = ground.colour[k] + (ground.colour[k] < 0.5f ? 0.4f : -0.4f);
    }
  }
  const float grain = rng.uniform(0.02f, 0.1f);
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const float dx = static_cast<float>(x) - cx, dy = static_cast<float>(y) - cy;
      const float d = signed_distance(kind, (c * dx + s * dy) * squeeze, c * dy - s * dx);
      const float cover = std::clamp(0.5f - d * size, 0.0f, 1.0f);
      const float wf = figure.wave(x, y), wg = ground.wave(x, y);
      for (std::size_t k = 0; k < 3; ++k) {
        const float f = figure.colour[k] + wf * figure.stripe[k];
        const float g = ground.colour[k] + wg * ground.stripe[k];
        out[static_cast<int>(k) * kPlane + y * kSide + x] =
            to_byte(g + cover * (f - g) + grain * noise(rng));
      }
    }
  }
  return static_cast<std::uint8_t>(kind);
}

}  // namespace

DatasetPtr synthetic_cifar(std::int64_t size, std::uint64_t seed) {
  return generate("synthetic_cifar", "synthetic shapes (generated)", {3, kSide, kSide}, size, seed,
                  make_image);
}

}  // namespace tandem::data
