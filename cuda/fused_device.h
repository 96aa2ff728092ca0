// What the source of a fused kernel (cuda/fused.cpp) is written with. Read by the run-time CUDA
// compiler, and by the host's where the device is emulated: no keywords of CUDA but through
// TANDEM_HD.
#pragma once
#include "core/functors.h"
#include "cuda/divisor.h"
#include "cuda/pack.h"

namespace tandem::cuda {

inline constexpr unsigned kFusedThreads = 256;  // of a block

/// The one argument of a fused kernel, which cuda/fused.cpp writes word for word. A unit is what a
/// thread takes at a time: a pack of neighbours, or one element.
template <int Tensors, int Rank, int Numbers>
struct FusedArgs {
  void* at[Tensors];
  unsigned long long numbers[Numbers];  // each in the first bytes, in the type it is read as
  unsigned units, count, aligned;
  Divisor axis[Rank];              // sizes, in units
  unsigned stride[Tensors][Rank];  // from unit to unit, in elements

  template <class T>
  TANDEM_HD T* tensor(int k) const {
    return static_cast<T*>(at[k]);
  }
  template <class T>
  TANDEM_HD T number(int k) const {
    return *reinterpret_cast<const T*>(&numbers[k]);
  }
  /// Where unit i lies in each tensor. No offset reaches 2^31.
  TANDEM_HD void offsets(unsigned i, unsigned (&out)[Tensors]) const {
    for (int k = 0; k < Tensors; ++k) out[k] = 0;
    for (int d = Rank - 1; d > 0; --d) {
      const unsigned q = axis[d].quotient(i), r = i - q * axis[d].by;
      for (int k = 0; k < Tensors; ++k) out[k] += r * stride[k][d];
      i = q;
    }
    for (int k = 0; k < Tensors; ++k) out[k] += i * stride[k][0];
  }
  /// How many of the elements of pack i exist. Only a single axis may end within a pack.
  TANDEM_HD unsigned left(unsigned i, unsigned pack) const {
    return Rank == 1 ? count - i * pack : pack;
  }
};

}  // namespace tandem::cuda
