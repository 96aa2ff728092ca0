#include <array>

#include "data/canvas.h"
#include "data/synthetic.h"

namespace tandem::data {

namespace {

constexpr int kSide = 28;
constexpr std::uint64_t kDigits = 0xD161;

/// The strokes of a digit in the unit square, y down. `rng` chooses among ways of writing it.
std::vector<Stroke> strokes_of(int digit, Rng& rng) {
  std::vector<Stroke> s(1);
  Stroke& a = s[0];
  switch (digit) {
    case 0: arc(a, 0.5f, 0.5f, rng.uniform(0.28f, 0.45f), 0.5f, -90, 270); break;
    case 1:
      a = {{0.5f, 0.0f}, {0.5f, 1.0f}};
      if (rng.coin()) s.push_back({{0.26f, 0.24f}, {0.5f, 0.0f}});
      if (rng.coin()) s.push_back({{0.28f, 1.0f}, {0.72f, 1.0f}});
      break;
    case 2:
      arc(a, 0.5f, 0.3f, 0.36f, 0.3f, -165, 40);
      a.push_back({0.12f, 1.0f});
      a.push_back({0.88f, 1.0f});
      break;
    case 3:
      arc(a, 0.46f, 0.26f, 0.34f, 0.26f, -150, 90);
      arc(a, 0.46f, 0.74f, 0.4f, 0.26f, -90, 150);
      break;
    case 4:
      a = {{0.66f, 1.0f}, {0.66f, 0.0f}, {0.1f, 0.68f}, {0.92f, 0.68f}};
      if (rng.coin()) {  // open at the top
        s = {{{0.24f, 0.0f}, {0.14f, 0.55f}, {0.9f, 0.55f}}, {{0.72f, 0.05f}, {0.68f, 1.0f}}};
      }
      break;
    case 5:
      a = {{0.84f, 0.0f}, {0.24f, 0.0f}, {0.2f, 0.46f}};
      arc(a, 0.46f, 0.68f, 0.38f, 0.32f, -120, 145);
      break;
    case 6:
      arc(a, 0.78f, 0.62f, 0.62f, 0.62f, -95, -190);
      arc(a, 0.5f, 0.7f, 0.34f, 0.3f, 180, -180);
      break;
    case 7:
      a = {{0.12f, 0.0f}, {0.88f, 0.0f}, {rng.uniform(0.3f, 0.5f), 1.0f}};
      if (rng.coin()) s.push_back({{0.34f, 0.5f}, {0.82f, 0.5f}});
      break;
    case 8:
      arc(a, 0.5f, 0.25f, 0.3f, 0.25f, 90, 450);
      arc(a, 0.5f, 0.75f, 0.37f, 0.25f, -90, 270);
      break;
    default:
      arc(a, 0.48f, 0.3f, 0.34f, 0.3f, 0, -360);
      if (rng.coin()) {
        a.push_back({0.72f, 1.0f});
      } else {
        arc(a, 0.38f, 0.5f, 0.44f, 0.5f, 0, 80);
      }
  }
  return s;
}

void draw(const Stroke& s, float width, float ink, float* canvas) {
  // Ink falls off over one pixel at the edge of the stroke.
  const float reach = width + 0.5f;
  for (std::size_t i = 0; i + 1 < s.size(); ++i) {
    const Point a = s[i], b = s[i + 1];
    const auto low = [&](float u, float v) {
      return std::clamp(static_cast<int>(std::floor(std::min(u, v) - reach)), 0, kSide);
    };
    const auto high = [&](float u, float v) {
      return std::clamp(static_cast<int>(std::ceil(std::max(u, v) + reach)) + 1, 0, kSide);
    };
    for (int y = low(a.y, b.y); y < high(a.y, b.y); ++y) {
      for (int x = low(a.x, b.x); x < high(a.x, b.x); ++x) {
        const float d = distance_to_segment({static_cast<float>(x), static_cast<float>(y)}, a, b);
        const float v = ink * std::clamp(reach - d, 0.0f, 1.0f);
        float& pixel = canvas[y * kSide + x];
        pixel = std::max(pixel, v);
      }
    }
  }
}

std::uint8_t make_digit(std::uint64_t seed, std::uint64_t index, std::uint8_t* out) {
  Rng rng(seed, kDigits, index);
  const auto digit = static_cast<int>(rng.below(10));
  std::vector<Stroke> strokes = strokes_of(digit, rng);

  // Unit square -> pixels: bend, scale, slant, turn, move.
  const float height = rng.uniform(13.0f, 21.0f), width = height * rng.uniform(0.55f, 0.95f);
  const float slant = rng.uniform(-0.35f, 0.35f), angle = rng.uniform(-0.26f, 0.26f);
  const float slack = 0.5f * (kSide - height);
  const float cx = 13.5f + rng.uniform(-1.0f, 1.0f) * std::min(slack, 3.5f);
  const float cy = 13.5f + rng.uniform(-1.0f, 1.0f) * std::min(slack, 3.5f);
  const float bend_x = rng.uniform(-0.09f, 0.09f), bend_y = rng.uniform(-0.07f, 0.07f);
  const float phase_x = rng.uniform(0.0f, 6.28f), phase_y = rng.uniform(0.0f, 6.28f);
  const float c = cosine(angle), s = sine(angle);
  for (Stroke& stroke : strokes) {
    for (Point& p : stroke) {
      const float u = p.x - 0.5f + bend_x * sine(4.0f * p.y + phase_x) + rng.uniform(-0.02f, 0.02f);
      const float v = p.y - 0.5f + bend_y * sine(4.0f * p.x + phase_y) + rng.uniform(-0.02f, 0.02f);
      const float x = (u - slant * v) * width, y = v * height;
      p = {cx + c * x - s * y, cy + s * x + c * y};
    }
  }

  std::array<float, kSide * kSide> canvas{};
  // Stray strokes, fainter and away from the middle.
  for (std::uint64_t i = rng.below(4); i > 0; --i) {
    const float x = rng.uniform(0.0f, 27.0f), edge = rng.uniform(0.0f, 5.0f);
    Point a{x, rng.coin() ? edge : 27.0f - edge};
    if (rng.coin()) std::swap(a.x, a.y);
    const Point b{a.x + rng.uniform(-6.0f, 6.0f), a.y + rng.uniform(-6.0f, 6.0f)};
    draw({a, b}, rng.uniform(0.4f, 0.9f), rng.uniform(0.2f, 0.6f), canvas.data());
  }
  const float pen = rng.uniform(0.6f, 1.6f), ink = rng.uniform(0.65f, 1.0f);
  for (const Stroke& stroke : strokes) draw(stroke, pen, ink, canvas.data());

  const float grain = rng.uniform(0.02f, 0.12f), ground = rng.uniform(0.0f, 0.15f);
  for (const float v : canvas) *out++ = to_byte(std::max(v, ground) + grain * noise(rng));
  return static_cast<std::uint8_t>(digit);
}

}  // namespace

DatasetPtr synthetic_digits(std::int64_t size, std::uint64_t seed) {
  return generate("synthetic_digits", "synthetic digits (generated)", {1, kSide, kSide}, size, seed,
                  make_digit);
}

}  // namespace tandem::data
