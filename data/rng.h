// Random numbers for data: drawn on the host, one independent Philox sequence for each thing that
// needs some (an epoch's order, one sample's augmentation), so that neither the number of workers
// nor the order they finish in can change a result.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "core/philox.h"
#include "core/splitmix64.h"

namespace tandem::data {

/// The sequence named by (seed, stream, substream).
class Rng {
 public:
  explicit Rng(std::uint64_t seed, std::uint64_t stream = 0, std::uint64_t substream = 0)
      : key_(mix(mix(mix(seed) ^ stream) ^ substream)) {}

  std::uint32_t bits() {  // the next 32
    if (used_ == 4) {
      block_ = philox(key_, counter_++);
      used_ = 0;
    }
    return block_.v[used_++];
  }
  /// [0, 1)
  float uniform() { return unit_float(bits()); }
  /// [lo, hi)
  float uniform(float lo, float hi) { return lo + (hi - lo) * uniform(); }
  /// [0, n), n > 0.
  std::uint64_t below(std::uint64_t n) {
    const std::uint64_t hi = bits();
    const std::uint64_t word = hi << 32 | bits();
    // Multiply-shift: its bias is n / 2^64, far below what any use here could notice.
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * n) >> 64);
  }
  bool coin() { return (bits() & 1u) != 0; }

 private:
  static std::uint64_t mix(std::uint64_t z) { return splitmix64(z); }

  std::uint64_t key_;
  std::uint64_t counter_ = 0;
  Philox4 block_ = {};
  int used_ = 4;
};

/// Fisher-Yates.
inline void shuffle(std::vector<std::int64_t>& v, Rng& rng) {
  for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[rng.below(i)]);
}

}  // namespace tandem::data
