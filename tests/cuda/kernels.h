// What the tests of the CUDA backend put into streams, and the memory they use.
#pragma once
#include <gtest/gtest.h>

#include <vector>

#include "core/backend.h"
#include "tests/message_of.h"
#include "tests/on_gpu.h"

namespace tandem::cuda::testing {

using tandem::testing::GpuByDefault;
using tandem::testing::OnGpu;
using test::message_of;

// Each puts one kernel into the stream. `rounds` makes it slow: the work is done that often.
void fill(Stream& s, int* p, int value, int n, int rounds = 1);
void add(Stream& s, int* p, int value, int n, int rounds = 1);
void copy(Stream& s, int* dst, const int* src, int n, int rounds = 1);
/// Notes an index (or a label) out of range, from every thread of a few blocks.
void note(Stream& s, const char* op, long long value, long long limit, bool label = false);

inline Device gpu(int i = 0) {
  return {DeviceType::cuda, static_cast<std::uint8_t>(i)};
}

/// Ints on a device.
class Ints {
 public:
  explicit Ints(int n, int device = 0)
      : n_(n), device_(device), p_(static_cast<int*>(allocator().allocate(bytes()))) {}
  ~Ints() { allocator().deallocate(p_, bytes()); }
  Ints(const Ints&) = delete;
  Ints& operator=(const Ints&) = delete;

  Allocator& allocator() const { return backend(DeviceType::cuda).allocator(device_); }
  std::size_t bytes() const { return sizeof(int) * static_cast<std::size_t>(n_); }
  int* get() const { return p_; }
  int size() const { return n_; }
  /// After the work in the current stream.
  std::vector<int> read() const {
    std::vector<int> v(static_cast<std::size_t>(n_));
    backend(DeviceType::cuda).copy(v.data(), kCPU, p_, gpu(device_), bytes());
    return v;
  }
  void write(const std::vector<int>& v) {
    backend(DeviceType::cuda).copy(p_, gpu(device_), v.data(), kCPU, bytes());
  }

 private:
  int n_, device_;
  int* p_;
};

}  // namespace tandem::cuda::testing
