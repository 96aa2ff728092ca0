// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// The same bits on every device. Also read by the run-time CUDA compiler.
#pragma once
#include "core/half.h"

namespace tandem {

/// Four random words.
struct Philox4 {
  unsigned v[4];
};

/// One of the ten rounds; its keys are the seed's words plus `r` times the constants below.
TANDEM_HD inline void philox_round(unsigned& c0, unsigned& c1, unsigned& c2, unsigned& c3,
                                   unsigned k0, unsigned k1) {
  const unsigned long long p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
  c0 = static_cast<unsigned>(p1 >> 32) ^ c1 ^ k0;
  c2 = static_cast<unsigned>(p0 >> 32) ^ c3 ^ k1;
  c1 = static_cast<unsigned>(p1);
  c3 = static_cast<unsigned>(p0);
}
inline constexpr unsigned kPhiloxKey0 = 0x9E3779B9u, kPhiloxKey1 = 0xBB67AE85u;

/// The block of four 32-bit words at `counter` of the sequence `seed`.
TANDEM_HD inline Philox4 philox(unsigned long long seed, unsigned long long counter) {
  unsigned c0 = static_cast<unsigned>(counter), c1 = static_cast<unsigned>(counter >> 32);
  unsigned c2 = 0, c3 = 0;
  unsigned k0 = static_cast<unsigned>(seed), k1 = static_cast<unsigned>(seed >> 32);
  for (int r = 0; r < 10; ++r) {
    philox_round(c0, c1, c2, c3, k0, k1);
    k0 += kPhiloxKey0;
    k1 += kPhiloxKey1;
  }
  return {{c0, c1, c2, c3}};
}

/// 24 random bits -> [0, 1).
TANDEM_HD inline float unit_float(unsigned u) {
  return static_cast<float>(u >> 8) * 0x1p-24f;
}

}  // namespace tandem
