// Two normal variates from two random words (Box and Muller, "A note on the generation of random
// normal deviates", 1958). Only operations IEEE 754 defines to the last bit are used, so every
// device draws the same numbers, and the loop around it vectorises. Also read by the run-time CUDA
// compiler.
#pragma once
#include "core/half.h"
#ifndef __CUDACC_RTC__
#include <math.h>
#endif

namespace tandem {

/// Natural logarithm of a normal, positive float; relative error below 2e-7.
TANDEM_HD inline float log_positive(float x) {
  // x = 2^e m with m in [sqrt(1/2), sqrt(2)), and log m = 2 atanh((m - 1) / (m + 1)).
  const unsigned shifted = detail::float_bits(x) - 0x3f3504f3u;
  const int e = static_cast<int>(shifted) >> 23;
  const float m = detail::bits_float((shifted & 0x7fffffu) + 0x3f3504f3u);
  const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
  const float series = 1.0f + z * (1.0f / 3 + z * (1.0f / 5 + z * (1.0f / 7 + z * (1.0f / 9))));
  return static_cast<float>(e) * 0.693147181f + 2.0f * s * series;
}

/// Standard normal variates z0 and z1 from the random words a and b.
TANDEM_HD inline void box_muller(unsigned a, unsigned b, float& z0, float& z1) {
  // In [2^-32, 1], so that the logarithm is finite.
  const float u = static_cast<float>(static_cast<int>(a >> 1)) * 0x1p-31f + 0x1p-32f;
  const float r = sqrtf(-2.0f * log_positive(u));
  // An angle of b / 2^32 turns: the nearest quarter, and what is left in [-pi/4, pi/4).
  const unsigned quarter = (b + 0x20000000u) >> 30;
  const float x = static_cast<float>(static_cast<int>(b - (quarter << 30))) * 1.46291808e-9f;
  const float q = x * x;
  const float sine =
      x * (1.0f + q * (-1.0f / 6 + q * (1.0f / 120 + q * (-1.0f / 5040 + q * (1.0f / 362880)))));
  const float cosine =
      1.0f + q * (-0.5f +
                  q * (1.0f / 24 + q * (-1.0f / 720 + q * (1.0f / 40320 + q * (-1.0f / 3628800)))));
  const float c = quarter & 1u ? sine : cosine, s = quarter & 1u ? cosine : sine;
  z0 = r * ((quarter + 1u) & 2u ? -c : c);
  z1 = r * (quarter & 2u ? -s : s);
}

}  // namespace tandem
