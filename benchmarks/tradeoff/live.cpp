#include "benchmarks/tradeoff/live.h"

#include "benchmarks/tradeoff/device_clock.h"
#include "core/clock.h"

namespace tandem::tradeoff {

void synchronise(Device d) {
  backend(d).stream(d.index).synchronize();
}

Live::Live(const Workload& w, std::uint64_t seed, const Rung& rung, Device device)
    : device_(device), draws_(device), batches_(w.batches) {
  allocator_ = &backend(device).allocator(device.index);
  before_ = allocator_->stats().in_use;
  manual_seed(seed);
  subject_ = w.make();
  // The draws of the steps start where making the net stopped, in every arm.
  draws_.pause();
  if (rung.setting.compiled) {
    compiled_ = std::make_unique<graph::CompiledFunction>(rung.setting.options());
  } else if (rung.kind == Rung::Kind::by_hand) {
    by_hand_ = std::make_unique<HandGraph>(subject_.step, device);
  }
}

std::vector<Tensor> Live::step() {
  const std::vector<Tensor>& batch = batches_[static_cast<std::size_t>(next_++) % batches_.size()];
  if (by_hand_) return by_hand_->run(batch);
  if (!compiled_) return subject_.step(batch);
  args_.clear();
  for (const Tensor& t : batch) args_.push_back(&t);
  graph::CompiledFunction::Result r;
  compiled_->call(
      args_, {},
      [this](std::span<const Tensor> in, graph::CompiledFunction::Host&) {
        return subject_.step(in);
      },
      r);
  return {r.tensors.begin(), r.tensors.end()};
}

void Live::steps(int n, Each each) {
  draws_.resume();
  for (int i = 0; i < n; ++i) {
    const int k = next_;
    const std::vector<Tensor> r = step();
    each(k, r);
  }
  synchronise(device_);
  draws_.pause();
}

void Live::steps(int n) {
  steps(n, [](int, const auto&) {});
}

Live::Sample Live::timed(int n) {
  draws_.resume();
  step();
  synchronise(device_);
  Sample s;
  if (!device_.is_cpu()) {
    const auto t0 = Clock::now();
    step();
    s.put_in_ms = ms_since(t0);
    synchronise(device_);
  }
  const auto t0 = Clock::now();
  for (int i = 0; i < n; ++i) step();
  synchronise(device_);
  s.step_ms = ms_since(t0) / n;
  draws_.pause();
  return s;
}

Live::Instrumented Live::instrumented_step() {
  draws_.resume();
  Instrumented s;
  profiler::start();
  const auto t0 = Clock::now();
  s.results = step();
  synchronise(device_);
  s.wall_ms = ms_since(t0);
  s.events = profiler::stop();
  draws_.pause();
  for (const auto& e : s.events) s.kernel_ms += static_cast<double>(e.end_ns - e.start_ns) / 1e6;
  return s;
}

Live::Instrumented Live::instrumented_step(const HeadStart& head_start, double lead_ms) {
  draws_.resume();
  Instrumented s;
  head_start.put(lead_ms);
  profiler::start_on_device(device_);
  s.results = step();
  s.events = profiler::stop();
  draws_.pause();
  const auto own = static_cast<std::int64_t>(head_start.event_ns());
  for (auto& e : s.events) {
    e.end_ns = std::max(e.start_ns, e.end_ns - own);
    s.kernel_ms += static_cast<double>(e.end_ns - e.start_ns) / 1e6;
  }
  return s;
}

bool Live::ask_device(int n, ActivityProbe& probe, Arm& arm) {
  draws_.resume();
  const auto busy = probe.during([&] {
    for (int i = 0; i < n; ++i) step();
    synchronise(device_);
  });
  draws_.pause();
  if (!busy) return false;
  arm.busy_ms = busy->busy_ms / n;
  arm.kernel_ms = busy->kernel_ms / n;
  arm.kernels_run = static_cast<double>(busy->kernels) / n;
  return true;
}

void Live::counted_step(Arm& arm, Each each) {
  allocator_->reset_peak();
  const AllocatorStats s0 = allocator_->stats();
  const std::uint64_t l0 = profiler::launches();
  steps(1, each);
  const AllocatorStats s1 = allocator_->stats();
  arm.launches = static_cast<double>(profiler::launches() - l0);
  arm.allocations = static_cast<double>(s1.allocations - s0.allocations);
  arm.system_allocations = static_cast<double>(s1.system_allocations - s0.system_allocations);
  arm.held_bytes = s0.in_use - before_;
  arm.peak_bytes = s1.peak - before_;
  if (by_hand_) arm.held_bytes = arm.peak_bytes = by_hand_->peak_bytes() - before_;
}

const graph::CompiledProgram* Live::program() const {
  return compiled_ ? &compiled_->program() : nullptr;
}

double Live::record_ms() const {
  if (by_hand_) return by_hand_->record_ms();
  return compiled_ ? program()->executor->recorder().stats().ms : 0;
}

}  // namespace tandem::tradeoff
