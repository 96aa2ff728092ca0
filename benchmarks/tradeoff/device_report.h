// What a report says where the device runs behind the host: who waits for whom.
#pragma once
#include <string>
#include <vector>

#include "benchmarks/tradeoff/report.h"

namespace tandem::tradeoff {

/// What the columns mean and where the figures come from, in lines of its own.
std::string device_columns(const LadderResult& r);
/// The forecast's first lines: busy, idle, and what the step is bound by.
std::string device_forecast(const LadderResult& r, const Forecast& f);
/// Busy, idle and host times in sentences; the arm by hand; what could not be measured.
std::vector<std::string> device_words(const LadderResult& r, const Summary& s);

}  // namespace tandem::tradeoff
