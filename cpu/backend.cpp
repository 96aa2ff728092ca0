#include "core/backend.h"

#include <chrono>
#include <cstring>

#include "core/parallel.h"
#include "cpu/onednn.h"
#include "cpu/table.h"

namespace tandem {

namespace {

class HostStream final : public Stream {
 public:
  void synchronize() override {}
};

class HostEvent final : public Event {
 public:
  void record(Stream&) override { at_ = std::chrono::steady_clock::now(); }
  void block(Stream&) override {}
  void synchronize() override {}
  double milliseconds_since(Event& earlier) override {
    return std::chrono::duration<double, std::milli>(at_ - static_cast<HostEvent&>(earlier).at_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point at_;
};

class CpuBackend final : public Backend {
 public:
  int device_count() override { return 1; }

  std::string description() override {
    return fmt::format("{}, {} thread{}", cpu::onednn::version(), num_threads(),
                       num_threads() == 1 ? "" : "s");
  }

  Allocator& allocator(int) override { return cpu_allocator(); }
  Stream& stream(int) override { return stream_; }
  Stream* set_stream(int, Stream*) override { return &stream_; }
  std::unique_ptr<Stream> make_stream(int) override { return std::make_unique<HostStream>(); }
  std::unique_ptr<Event> make_event(int) override { return std::make_unique<HostEvent>(); }

  void copy(void* dst, Device to, const void* src, Device from, std::size_t bytes) override {
    if (!to.is_cpu() || !from.is_cpu()) {
      fail<DeviceError>("copy", "the CPU copies within host memory only",
                        fmt::format("{} to {}", from.str(), to.str()));
    }
    if (bytes) std::memmove(dst, src, bytes);
  }
  void copy_async(void* dst, Device to, const void* src, Device from, std::size_t bytes,
                  Stream&) override {
    copy(dst, to, src, from, bytes);
  }

  PlanFn kernel(std::uint16_t op_id) override { return cpu::kernel(op_id); }

 private:
  HostStream stream_;
};

}  // namespace

Backend* cpu_backend() {
  static CpuBackend backend;
  return &backend;
}

}  // namespace tandem
