// Division of many numbers by one that is known before: a multiplication and a shift (Granlund and
// Montgomery, "Division by invariant integers using multiplication", PLDI 1994). Read by the
// run-time CUDA compiler too.
#pragma once
#include "core/half.h"

namespace tandem::cuda {

struct Divisor {
  unsigned by, factor, shift;

  /// n / by, for n below 2^31.
  TANDEM_HD unsigned quotient(unsigned n) const {
#ifdef __CUDA_ARCH__
    return (__umulhi(n, factor) + n) >> shift;
#else
    return (static_cast<unsigned>((static_cast<unsigned long long>(n) * factor) >> 32) + n) >>
           shift;
#endif
  }
  /// The same for any n.
  TANDEM_HD unsigned quotient_of_any(unsigned n) const {
    return static_cast<unsigned>(((static_cast<unsigned long long>(n) * factor >> 32) + n) >>
                                 shift);
  }
};

/// 1 <= n <= 2^31.
TANDEM_HD inline Divisor divisor(unsigned n) {
  unsigned shift = 0;
  while ((1ull << shift) < n) ++shift;
  return {n, static_cast<unsigned>((((1ull << shift) - n) << 32) / n + 1), shift};
}

}  // namespace tandem::cuda
