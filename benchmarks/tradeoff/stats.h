// Statistics of times. No distribution is assumed: times have a hard floor and a long tail, so a
// mean and a standard deviation would say little about them.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tandem::tradeoff {

/// A median with its interval of (at least) 95 % confidence.
struct Interval {
  double median = 0, low = 0, high = 0;
  std::size_t samples = 0;
  /// Half the width, relative to the median.
  double relative() const { return median != 0 ? (high - low) / 2 / median : 0; }
  /// Whether the whole interval lies on one side of x.
  bool excludes(double x) const { return low > x || high < x; }
};

/// Median; the mean of the middle two for an even number. ValueError when empty.
double median(std::span<const double> samples);

/// Fewer samples have no interval of 95 % confidence: it is their whole range then, and too narrow.
inline constexpr std::size_t kFewestSamples = 6;

/// Which order statistics (from 0) bound the median of n samples with at least 95 % confidence:
/// the narrowest pair (k, n - 1 - k) with P(k < Binomial(n, 1/2) <= n - 1 - k) >= 0.95. Below six
/// samples no pair reaches that, and the result is (0, n - 1).
struct Ranks {
  std::size_t low, high;
};
Ranks median_ranks(std::size_t n);

/// Distribution-free: bounded by order statistics. ValueError when empty.
Interval median_interval(std::span<const double> samples);

/// The interval of `f(a[i], b[i])` over rounds i: what drifts from round to round (clock speed,
/// neighbours) meets both sides of a round and drops out. ValueError unless both have one length.
Interval paired(std::span<const double> a, std::span<const double> b,
                const std::function<double(double, double)>& f);
Interval paired_ratio(std::span<const double> a, std::span<const double> b);
Interval paired_difference(std::span<const double> a, std::span<const double> b);

/// A permutation of 0 … n - 1 that is the same for the same (seed, round) everywhere.
std::vector<std::size_t> shuffled(std::size_t n, std::uint64_t seed, std::uint64_t round);

}  // namespace tandem::tradeoff
