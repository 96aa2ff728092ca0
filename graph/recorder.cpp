#include "graph/recorder.h"

#include <algorithm>
#include <chrono>

#include "core/profiler.h"

namespace tandem::graph {

LaunchRecorder::LaunchRecorder(Device device, std::vector<RecordedStep> steps)
    : device_(device), steps_(std::move(steps)) {
  if (!backend(device).has_graphs()) {
    why_not_ = device.str() + " has no graphs of launches";
    return;
  }
  if (steps_.empty()) why_not_ = "there is nothing to launch";
}

// What each launch touches, from its pointers and descriptions. Where buffers lie to each other is
// the same in every run, or they could not be told apart, so one schedule serves all.
void LaunchRecorder::plan_streams(std::span<void* const> pointers) {
  std::vector<MemoryAccess> accesses;
  for (const RecordedStep& s : steps_) {
    MemoryAccess a;
    const auto range = [&](std::size_t at, std::size_t bytes) {
      const auto p = reinterpret_cast<std::uintptr_t>(pointers[at]);
      return MemoryRange{p, p + bytes};
    };
    const PreparedOp& c = *s.call;
    for (std::size_t i = 0; i < c.in.size(); ++i) {
      const bool written =
          std::find(c.mutated.begin(), c.mutated.end(), static_cast<int>(i)) != c.mutated.end();
      (written ? a.writes : a.reads).push_back(range(s.in + i, c.in[i].bytes()));
    }
    for (std::size_t i = 0; i < c.out.size(); ++i) {
      a.writes.push_back(range(s.out + i, c.out_bytes[i]));
    }
    if (c.plan->workspace_bytes > 0) {
      a.writes.push_back(range(s.out + c.out.size(), c.plan->workspace_bytes));
    }
    accesses.push_back(std::move(a));
  }
  schedule_ = schedule_streams(dependencies(accesses), kStreams);
  Backend& b = backend(device_);
  for (int k = 0; k < std::max(1, schedule_.streams); ++k) {
    streams_.push_back(b.make_stream(device_.index));
  }
  fork_ = b.make_event(device_.index);
  for (const auto& s : schedule_.steps) {
    events_.push_back(s.signals ? b.make_event(device_.index) : nullptr);
  }
}

void LaunchRecorder::launch_all(std::span<void* const> pointers) {
  Stream& first = *streams_[0];
  if (streams_.size() > 1) {
    fork_->record(first);
    for (std::size_t k = 1; k < streams_.size(); ++k) fork_->block(*streams_[k]);
  }
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const auto& plan = schedule_.steps[i];
    Stream& at = *streams_[static_cast<std::size_t>(plan.stream)];
    for (int w : plan.waits) events_[static_cast<std::size_t>(w)]->block(at);
    const RecordedStep& s = steps_[i];
    // Past the profiler: this launches nothing yet, and a stream that is recorded cannot be waited
    // for.
    s.call->plan->launch({pointers.data() + s.in, pointers.data() + s.out,
                          pointers[s.out + s.call->out.size()], &at});
    if (plan.signals) events_[i]->record(at);
  }
  for (int end : schedule_.ends) events_[static_cast<std::size_t>(end)]->block(first);
}

std::unique_ptr<DeviceGraph> LaunchRecorder::record(std::span<void* const> pointers) {
  if (schedule_.steps.empty()) plan_streams(pointers);
  return record_graph(backend(device_), *streams_[0], [&] { launch_all(pointers); });
}

bool LaunchRecorder::run(std::span<void* const> pointers, std::span<void* const> key,
                         Stream& stream) {
  ++runs_;
  const auto replay = [&](Recording& r) {
    r.last = runs_;
    ++stats_.replayed;
    profiler::launch(*r.graph, device_, stream);
  };
  for (Recording& r : recordings_) {
    if (!std::equal(key.begin(), key.end(), r.key.begin(), r.key.end())) continue;
    replay(r);
    return true;
  }
  const auto t0 = std::chrono::steady_clock::now();
  Recording* made = nullptr;
  try {
    made = &keep(record(pointers), key);
    made->graph->make_ready();
  } catch (const Error& e) {
    why_not_ = std::string("recording failed: ") + e.what();
    recordings_.clear();
    return false;
  }
  replay(*made);
  stats_.ms +=
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - t0).count();
  return true;
}

// As a new recording, or in place of the one unused for longest.
LaunchRecorder::Recording& LaunchRecorder::keep(std::unique_ptr<DeviceGraph> graph,
                                                std::span<void* const> key) {
  if (recordings_.size() < kMost) {
    ++stats_.recorded;
    return recordings_.emplace_back(Recording{{key.begin(), key.end()}, std::move(graph)});
  }
  Recording& oldest =
      *std::min_element(recordings_.begin(), recordings_.end(),
                        [](const Recording& a, const Recording& b) { return a.last < b.last; });
  oldest.key.clear();  // matches nothing should the update throw
  if (oldest.graph->update(*graph)) {
    ++stats_.updated;
  } else {
    oldest.graph = std::move(graph);
    ++stats_.recorded;
  }
  oldest.key.assign(key.begin(), key.end());
  return oldest;
}

}  // namespace tandem::graph
