// Several elements at a time: an access of up to 16 bytes where the address allows it. Read by the
// run-time CUDA compiler too.
#pragma once
#include "core/half.h"

namespace tandem::cuda {

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static constexpr int size = N;
  T v[N];
};

/// Whether a Pack<T, N> may lie at `p`.
template <int N, class T>
TANDEM_HD inline bool pack_aligned(const T* p) {
  return (reinterpret_cast<unsigned long long>(p) & (sizeof(T) * N - 1)) == 0;
}

/// The N elements from `p` on, of which `left` exist; the others are not defined.
template <int N, class T>
TANDEM_HD inline Pack<T, N> load_pack(const T* p, long long left, bool aligned) {
  if (left >= N && aligned) return *reinterpret_cast<const Pack<T, N>*>(p);
  Pack<T, N> r;
  for (int k = 0; k < N; ++k) r.v[k] = k < left ? p[k] : T();
  return r;
}
template <int N, class T>
TANDEM_HD inline Pack<T, N> load_pack(const T* p, long long left) {
  return load_pack<N>(p, left, pack_aligned<N>(p));
}

template <int N, class T>
TANDEM_HD inline void store_pack(T* p, const Pack<T, N>& v, long long left, bool aligned) {
  if (left >= N && aligned) {
    *reinterpret_cast<Pack<T, N>*>(p) = v;
    return;
  }
  for (int k = 0; k < N; ++k) {
    if (k < left) p[k] = v.v[k];
  }
}
template <int N, class T>
TANDEM_HD inline void store_pack(T* p, const Pack<T, N>& v, long long left) {
  store_pack(p, v, left, pack_aligned<N>(p));
}

}  // namespace tandem::cuda
