// Checks of the options of optimisers, schedules and the loss scaler.
#pragma once
#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "core/error.h"

namespace tandem::optim {

/// ValueError "[op] `what` is out of range; got …; expected …" unless `ok`, which should be false
/// for NaN.
template <class T>
void check_option(bool ok, std::string_view op, std::string_view what, T got,
                  std::string_view expected) {
  if (!ok) {
    fail<ValueError>(op, fmt::format("{} is out of range", what), fmt::format("{}", got), expected);
  }
}

/// Rates, factors and weights: ValueError for what is negative, infinite or NaN.
inline void check_not_negative(std::string_view op, std::string_view what, double got) {
  check_option(got >= 0 && std::isfinite(got), op, what, got, "0 or more, and finite");
}

}  // namespace tandem::optim
