// How a report writes its numbers and lines.
#pragma once
#include <string>

#include "benchmarks/tradeoff/stats.h"

namespace tandem::tradeoff {

/// Megabytes.
double mb(std::size_t bytes);
/// Four significant digits: 12.34, 0.1234, 123.4.
std::string digits(double x);
/// "1.234 [1.2, 1.3]", the second with its sign, the third with three digits.
std::string with_interval(const Interval& i);
std::string signed_interval(const Interval& i);
std::string ratio_text(const Interval& i);
/// `line` after `head`, broken at spaces, its further lines indented as much.
std::string wrapped(const std::string& head, const std::string& line);

}  // namespace tandem::tradeoff
