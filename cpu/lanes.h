// Sums in a fixed order that vector units can keep up with: element i goes to lane i mod kLanes,
// and lanes are added up pairwise at the end. (A compiler may not reorder a plain loop of float
// additions, so it would run one element at a time.)
#pragma once
#include <array>
#include <cstdint>

namespace tandem::cpu {

inline constexpr int kLanes = 16;

/// K sums of type A side by side.
template <class A, int K>
class LaneSums {
 public:
  /// Adds f(0) … f(n - 1); `f` gives the K terms of an element as std::array<A, K>.
  template <class F>
  void add(std::int64_t n, const F& f) {
    std::int64_t i = 0;
    A acc[K][kLanes];  // a copy the compiler can hold in registers
    for (int k = 0; k < K; ++k) {
      for (int l = 0; l < kLanes; ++l) acc[k][l] = acc_[k][l];
    }
    for (; i + kLanes <= n; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const std::array<A, K> v = f(i + l);
        for (int k = 0; k < K; ++k) acc[k][l] += v[k];
      }
    }
    for (int l = 0; i < n; ++i, ++l) {
      const std::array<A, K> v = f(i);
      for (int k = 0; k < K; ++k) acc[k][l] += v[k];
    }
    for (int k = 0; k < K; ++k) {
      for (int l = 0; l < kLanes; ++l) acc_[k][l] = acc[k][l];
    }
  }

  A total(int k) const {
    A t[kLanes];
    for (int l = 0; l < kLanes; ++l) t[l] = acc_[k][l];
    for (int step = kLanes / 2; step > 0; step /= 2) {
      for (int l = 0; l < step; ++l) t[l] += t[l + step];
    }
    return t[0];
  }

 private:
  A acc_[K][kLanes] = {};
};

/// K sums over one run.
template <class A, int K, class F>
std::array<A, K> lane_sums(std::int64_t n, const F& f) {
  LaneSums<A, K> s;
  s.add(n, f);
  std::array<A, K> r;
  for (int k = 0; k < K; ++k) r[k] = s.total(k);
  return r;
}

}  // namespace tandem::cpu
