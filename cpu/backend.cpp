#include "core/backend.h"

#include <cstring>

#include "core/parallel.h"
#include "cpu/table.h"
#ifdef TANDEM_HAS_ONEDNN
#include "cpu/onednn.h"
#endif

namespace tandem {

namespace {

// Launches on the CPU are over when they return.
class HostStream final : public Stream {
 public:
  void synchronize() override {}
};

class CpuBackend final : public Backend {
 public:
  int device_count() override { return 1; }

  std::string description() override {
    std::string s = "plain C++";
#ifdef TANDEM_HAS_ONEDNN
    s = cpu::onednn::version();
#endif
    return s + fmt::format(", {} thread{}", num_threads(), num_threads() == 1 ? "" : "s");
  }

  Allocator& allocator(int) override {
    return cpu_allocator();
  }
  Stream& stream(int) override {
    return stream_;
  }

  void copy(void* dst, Device to, const void* src, Device from, std::size_t bytes) override {
    if (!to.is_cpu() || !from.is_cpu()) {
      fail<DeviceError>("copy", "the CPU copies within host memory only",
                        fmt::format("{} to {}", from.str(), to.str()));
    }
    if (bytes) std::memmove(dst, src, bytes);
  }

  PlanFn kernel(std::uint16_t op_id) override {
    return cpu::kernel(op_id);
  }

 private:
  HostStream stream_;
};

}  // namespace

Backend* cpu_backend() {
  static CpuBackend backend;
  return &backend;
}

}  // namespace tandem
