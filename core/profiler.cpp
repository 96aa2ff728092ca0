#include "core/profiler.h"

#include <chrono>
#include <mutex>
#include <utility>

#include "core/backend.h"
#include "core/thread_state.h"

namespace tandem::profiler {
namespace {
thread_local std::vector<Event> events;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
void run(const PreparedOp& op, const LaunchArgs& args) {
  if (!detail::thread_state.recording) [[likely]] {
    op.plan->launch(args);
    return;
  }
  const auto t0 = now_ns();
  op.plan->launch(args);
  if (args.stream) args.stream->synchronize();
  events.push_back({op.op->name, op.plan->name, t0, now_ns()});
}
}  // namespace

std::uint64_t launches() {
  return detail::thread_state.launches;
}
void count_launch() {
  ++detail::thread_state.launches;
}

void start() {
  events.clear();
  detail::thread_state.recording = true;
}
std::vector<Event> stop() {
  detail::thread_state.recording = false;
  return std::exchange(events, {});
}
bool recording() {
  return detail::thread_state.recording;
}

void launch(const PreparedOp& op, const LaunchArgs& args) {
  ++detail::thread_state.launches;
  if (op.op->traits.random) [[unlikely]] {
    // A generator is shared by all threads: two draws must not use the same numbers.
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    return run(op, args);
  }
  run(op, args);
}

}  // namespace tandem::profiler
