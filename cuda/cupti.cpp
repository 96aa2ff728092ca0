#include "cuda/cupti.h"

#include <cupti.h>

#include <cstdlib>
#include <mutex>
#include <utility>

#include "core/error.h"

namespace tandem::cuda {
namespace {

void check(CUptiResult code, const char* call) {
  if (code == CUPTI_SUCCESS) [[likely]]
    return;
  const char* text = nullptr;
  cuptiGetResultString(code, &text);
  fail<DeviceError>("cupti", std::string(call) + " failed", text ? text : std::to_string(code));
}

// Filled by CUPTI's own thread.
struct Records {
  std::mutex mutex;
  std::vector<Activity> activities;
  std::size_t lost = 0;
};
Records& records() {
  static auto* const r = new Records;  // CUPTI may call back while the program ends
  return *r;
}

constexpr std::size_t kBufferBytes = std::size_t{4} << 20;
constexpr std::size_t kBufferAlignment = 8;

void CUPTIAPI buffer_requested(std::uint8_t** buffer, std::size_t* size, std::size_t* most) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *size = *buffer ? kBufferBytes : 0;
  *most = 0;  // records: as many as fit
}

void CUPTIAPI buffer_completed(CUcontext context, std::uint32_t stream, std::uint8_t* buffer,
                               std::size_t, std::size_t valid) {
  Records& r = records();
  const std::lock_guard lock(r.mutex);
  const auto note = [&](const auto& x) {
    // Zero: CUPTI could not tell.
    if (x.start != 0 && x.end >= x.start) {
      r.activities.push_back({x.start, x.end});
    } else {
      ++r.lost;
    }
  };
  CUpti_Activity* record = nullptr;
  while (valid > 0 && cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    switch (record->kind) {
      // Each version of CUPTI has longer records that begin like those before, which later headers
      // still declare.
      case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
        note(*reinterpret_cast<const CUpti_ActivityKernel9*>(record));
        break;
      case CUPTI_ACTIVITY_KIND_MEMCPY:
        note(*reinterpret_cast<const CUpti_ActivityMemcpy5*>(record));
        break;
      case CUPTI_ACTIVITY_KIND_MEMSET:
        note(*reinterpret_cast<const CUpti_ActivityMemset4*>(record));
        break;
      default: break;
    }
  }
  std::size_t dropped = 0;
  if (cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS) {
    r.lost += dropped;
  }
  std::free(buffer);
}

// Kernels of recorded graphs are among these: each by itself, unless graphs are traced as such.
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET};

// Never finalised: the graphs made ready while it was attached may still be launched.
class CuptiRecorder final : public ActivityRecorder {
 public:
  void start() override {
    if (!registered_) {
      check(cuptiActivityRegisterCallbacks(buffer_requested, buffer_completed),
            "cuptiActivityRegisterCallbacks");
      registered_ = true;
    }
    for (const CUpti_ActivityKind k : kKinds) {
      const CUptiResult e = cuptiActivityEnable(k);
      if (e == CUPTI_SUCCESS) continue;
      disable();
      check(e, "cuptiActivityEnable");
    }
    // What was noted of work before is no concern of this.
    check(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "cuptiActivityFlushAll");
    take();
  }

  std::vector<Activity> stop() override {
    const CUptiResult e = cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    disable();
    auto [activities, lost] = take();
    check(e, "cuptiActivityFlushAll");
    if (lost > 0) {
      fail<DeviceError>("cupti", "records of the device's work were lost", std::to_string(lost));
    }
    return std::move(activities);
  }

 private:
  static void disable() {
    for (const CUpti_ActivityKind k : kKinds) cuptiActivityDisable(k);
  }
  static std::pair<std::vector<Activity>, std::size_t> take() {
    Records& r = records();
    const std::lock_guard lock(r.mutex);
    return {std::exchange(r.activities, {}), std::exchange(r.lost, 0)};
  }

  bool registered_ = false;
};

}  // namespace

ActivityRecorder& cupti_recorder() {
  static auto* const r = new CuptiRecorder;
  return *r;
}

}  // namespace tandem::cuda
