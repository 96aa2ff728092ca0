#include "core/profiler.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "core/backend.h"
#include "core/thread_state.h"

namespace tandem::profiler {
namespace {
thread_local std::vector<Event> events;

// Launches timed by the device: two points of the stream for each.
struct Bracket {
  const char* op;
  std::string kernel;
  std::unique_ptr<tandem::Event> begin, end;
};
thread_local std::vector<Bracket> brackets;
thread_local std::optional<Device> timing_device;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

template <class F>
void timed(const char* op, std::string_view kernel, Device device, Stream* stream, const F& go) {
  if (!timing_device) {
    const auto t0 = now_ns();
    go();
    if (stream) stream->synchronize();
    events.push_back({op, std::string(kernel), t0, now_ns()});
    return;
  }
  if (device != *timing_device) return go();
  Backend& b = backend(device);
  Bracket& x = brackets.emplace_back(
      Bracket{op, std::string(kernel), b.make_event(device.index), b.make_event(device.index)});
  x.begin->record(*stream);
  go();
  x.end->record(*stream);
}

void run(const PreparedOp& op, const LaunchArgs& args) {
  if (!detail::thread_state.recording) [[likely]] {
    op.plan->launch(args);
    return;
  }
  const Device device = op.out.empty() ? op.in.at(0).device : op.out[0].device;
  timed(op.op->name, op.plan->name, device, args.stream, [&] { op.plan->launch(args); });
}
}  // namespace

std::uint64_t launches() {
  return detail::thread_state.launches;
}

void start() {
  events.clear();
  brackets.clear();
  timing_device.reset();
  detail::thread_state.recording = true;
}
void start_on_device(Device device) {
  start();
  timing_device = device;
}
std::vector<Event> stop() {
  detail::thread_state.recording = false;
  for (const Bracket& x : brackets) {
    const auto ns = [](double ms) { return static_cast<std::int64_t>(ms * 1e6); };
    const std::int64_t begin = ns(x.begin->milliseconds_since(*brackets[0].begin));
    events.push_back({x.op, x.kernel, begin, begin + ns(x.end->milliseconds_since(*x.begin))});
  }
  brackets.clear();
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

void launch(DeviceGraph& graph, Device device, Stream& stream) {
  ++detail::thread_state.launches;
  if (!detail::thread_state.recording) [[likely]] {
    graph.launch(stream);
    return;
  }
  timed("graph", "graph of launches", device, &stream, [&] { graph.launch(stream); });
}

}  // namespace tandem::profiler
