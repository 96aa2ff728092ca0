// Sums in a fixed order that vector units can keep up with: element i goes to lane i mod kLanes,
// and lanes are added up pairwise at the end. (A compiler may not reorder a plain loop of float
// additions, so it would run one element at a time.)
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

namespace tandem::cpu {

// More than any vector has: the inner loops below must stay loops, which compilers vectorise far
// better, tails included, than they do straight-line code.
inline constexpr int kLanes = 32;

/// K sums of type A side by side.
template <class A, int K>
class LaneSums {
 public:
  /// Adds f(0) … f(n - 1); `f` gives the K terms of an element as std::array<A, K>.
  template <class F>
  void add(std::int64_t n, const F& f) {
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const int m = static_cast<int>(std::min<std::int64_t>(kLanes, n - i));
#pragma GCC ivdep
      for (int l = 0; l < m; ++l) {
        const std::array<A, K> v = f(i + l);
        for (int k = 0; k < K; ++k) acc_[k][l] += v[k];
      }
    }
  }

  A total(int k) const {
    A t[kLanes / 2];
    for (int l = 0; l < kLanes / 2; ++l) t[l] = acc_[k][l] + acc_[k][l + kLanes / 2];
    for (int step = kLanes / 4; step > 0; step /= 2) {
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

/// The largest of f(0) … f(n - 1); a NaN may be passed over. -inf for none.
template <class A, class F>
A lane_max(std::int64_t n, const F& f) {
  A best[kLanes];
  std::fill(best, best + kLanes, -std::numeric_limits<A>::infinity());
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const int m = static_cast<int>(std::min<std::int64_t>(kLanes, n - i));
#pragma GCC ivdep
    for (int l = 0; l < m; ++l) {
      const A v = f(i + l);
      best[l] = v > best[l] ? v : best[l];
    }
  }
  for (int step = kLanes / 2; step > 0; step /= 2) {
    for (int l = 0; l < step; ++l) best[l] = best[l + step] > best[l] ? best[l + step] : best[l];
  }
  return best[0];
}

}  // namespace tandem::cpu
