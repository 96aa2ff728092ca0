#include "benchmarks/tradeoff/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "core/error.h"
#include "core/splitmix64.h"

namespace tandem::tradeoff {

namespace {

void expect_some(std::span<const double> samples, const char* what) {
  if (samples.empty()) fail(what, "there must be samples", "none", "one or more");
}

double sorted_median(const std::vector<double>& s) {
  const std::size_t n = s.size();
  return n % 2 ? s[n / 2] : (s[n / 2 - 1] + s[n / 2]) / 2;
}

}  // namespace

double median(std::span<const double> samples) {
  expect_some(samples, "median");
  std::vector<double> s(samples.begin(), samples.end());
  std::sort(s.begin(), s.end());
  return sorted_median(s);
}

Ranks median_ranks(std::size_t n) {
  if (n == 0) return {0, 0};
  // Both tails together may hold 5 %: the largest k with 2 P(Binomial(n, 1/2) <= k) <= 0.05.
  // Terms by their logarithms, so that large n does not underflow.
  const double dn = static_cast<double>(n);
  double tail = 0;
  std::size_t low = 0;
  for (std::size_t k = 0; k < (n + 1) / 2; ++k) {
    const double dk = static_cast<double>(k);
    tail += std::exp(std::lgamma(dn + 1) - std::lgamma(dk + 1) - std::lgamma(dn - dk + 1) -
                     dn * std::log(2.0));
    if (2 * tail > 0.05) break;
    low = k;
  }
  return {low, n - 1 - low};
}

Interval median_interval(std::span<const double> samples) {
  expect_some(samples, "median_interval");
  std::vector<double> s(samples.begin(), samples.end());
  std::sort(s.begin(), s.end());
  const Ranks r = median_ranks(s.size());
  return {sorted_median(s), s[r.low], s[r.high], s.size()};
}

Interval paired(std::span<const double> a, std::span<const double> b,
                const std::function<double(double, double)>& f) {
  if (a.size() != b.size()) {
    fail("paired", "both sides must have one sample per round",
         std::to_string(a.size()) + " and " + std::to_string(b.size()));
  }
  std::vector<double> v(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) v[i] = f(a[i], b[i]);
  return median_interval(v);
}

Interval paired_ratio(std::span<const double> a, std::span<const double> b) {
  return paired(a, b, [](double x, double y) { return x / y; });
}

Interval paired_difference(std::span<const double> a, std::span<const double> b) {
  return paired(a, b, [](double x, double y) { return x - y; });
}

std::vector<std::size_t> shuffled(std::size_t n, std::uint64_t seed, std::uint64_t round) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::uint64_t state = seed;
  state = splitmix64(state) + round;
  for (std::size_t i = n; i > 1; --i) {
    // The bias of a remainder is below 2^-50 for any n seen here.
    std::swap(order[i - 1], order[splitmix64(state) % i]);
  }
  return order;
}

}  // namespace tandem::tradeoff
