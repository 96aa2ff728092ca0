// Tests that need a CUDA device, real or emulated, and are skipped where there is none.
#pragma once
#include <gtest/gtest.h>

#include <optional>

#include "core/backend.h"

namespace tandem::testing {

/// Makes `d` the default device for a scope.
class DefaultDevice {
 public:
  explicit DefaultDevice(Device d) : before_(default_device()) { set_default_device(d); }
  ~DefaultDevice() { set_default_device(before_); }
  DefaultDevice(const DefaultDevice&) = delete;
  DefaultDevice& operator=(const DefaultDevice&) = delete;

 private:
  Device before_;
};

/// Leaves the thread's current stream as it was.
class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_device(DeviceType::cuda)) GTEST_SKIP() << "no CUDA device";
    b = &backend(DeviceType::cuda);
    s = &b->stream(0);
  }
  void TearDown() override {
    if (!b) return;
    b->set_stream(0, nullptr);
    b->stream(0).synchronize();
  }
  Backend* b = nullptr;
  Stream* s = nullptr;
};

/// The same with that device as the default.
class GpuByDefault : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (b) scope_.emplace(Device{DeviceType::cuda, 0});
  }
  void TearDown() override {
    scope_.reset();
    OnGpu::TearDown();
  }

 private:
  std::optional<DefaultDevice> scope_;
};

}  // namespace tandem::testing
