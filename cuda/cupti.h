// What CUPTI notes of the device's work.
#pragma once
#include "core/activity.h"

namespace tandem::cuda {

/// The process's one. CUPTI is not touched before its start().
ActivityRecorder& cupti_recorder();

}  // namespace tandem::cuda
