#include "benchmarks/tradeoff/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace tandem::tradeoff {

double mb(std::size_t bytes) {
  return static_cast<double>(bytes) / 1e6;
}

std::string digits(double x) {
  const double a = std::abs(x);
  const int after = a >= 1000 ? 0 : a >= 100 ? 1 : a >= 10 ? 2 : a >= 0.1 ? 3 : 4;
  return fmt::format("{:.{}f}", x, after);
}

std::string with_interval(const Interval& i) {
  return fmt::format("{} [{}, {}]", digits(i.median), digits(i.low), digits(i.high));
}

std::string signed_interval(const Interval& i) {
  return fmt::format("{}{} [{}, {}]", i.median >= 0 ? "+" : "", digits(i.median), digits(i.low),
                     digits(i.high));
}

std::string ratio_text(const Interval& i) {
  return fmt::format("{:.3f} [{:.3f}, {:.3f}]", i.median, i.low, i.high);
}

std::string wrapped(const std::string& head, const std::string& line) {
  constexpr std::size_t kWidth = 100;
  std::string out, row = head;
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    if (row.size() > head.size() && row.size() + end - at > kWidth) {
      out += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
      row.assign(head.size(), ' ');
    }
    row += line.substr(at, end - at) + " ";
    at = end + 1;
  }
  return out + row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
}

}  // namespace tandem::tradeoff
