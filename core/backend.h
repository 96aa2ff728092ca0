// What a device must offer. cpu/ and cuda/ implement it; nothing else knows they are there.
#pragma once
#include <memory>
#include <string>

#include "core/allocator.h"
#include "core/op.h"

namespace tandem {

/// An ordered queue of work on a device. Launches on the CPU are over when they return.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Waits until all work put in so far is done. Throws what that work found wrong with values it
  /// was given (IndexError for a label out of range, say): a device can report it only now.
  virtual void synchronize() = 0;
};

/// A point in a stream.
class Event {
 public:
  virtual ~Event() = default;
  virtual void record(Stream& stream) = 0;
  /// Makes `stream` wait for the recorded point; the host goes on.
  virtual void block(Stream& stream) = 0;
  virtual void synchronize() = 0;
  /// Device time from `earlier` to this event; both recorded. Waits for both.
  virtual double milliseconds_since(Event& earlier) = 0;
};

/// A sequence of launches recorded by the device itself and replayed with one call.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual void launch(Stream& stream) = 0;
  virtual std::size_t nodes() const = 0;
  /// Takes over the pointers of `newer`, a recording of the same launches: cheaper than making a
  /// graph ready anew. False if the launches differ; this graph is then as before.
  virtual bool update(DeviceGraph& newer) = 0;
};

/// A device type: its kernels, memory, streams and copies. One object per type, never destroyed.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual int device_count() = 0;
  virtual std::string description() = 0;  // for `tandem --version`: libraries and their versions
  virtual Allocator& allocator(int device) = 0;
  /// Host memory the device reads and writes by itself while the host goes on (page-locked).
  virtual Allocator& host_allocator() { return cpu_allocator(); }
  virtual Stream& stream(int device) = 0;  // this thread's current stream
  /// Makes `s` this thread's current stream; null: the default one. Returns the one before.
  virtual Stream* set_stream(int device, Stream* s) = 0;
  virtual std::unique_ptr<Stream> make_stream(int device) = 0;
  virtual std::unique_ptr<Event> make_event(int device) = 0;
  /// Copies between host memory and this device, or within it, after the work in the current
  /// stream. Blocks until done; throws what that work found wrong, as Stream::synchronize does.
  virtual void copy(void* dst, Device dst_device, const void* src, Device src_device,
                    std::size_t bytes) = 0;
  /// Puts the copy into `stream`. Host memory must come from host_allocator() and stay as it is
  /// until the copy is done.
  virtual void copy_async(void* dst, Device dst_device, const void* src, Device src_device,
                          std::size_t bytes, Stream& stream) = 0;
  virtual PlanFn kernel(std::uint16_t op_id) = 0;

  /// Whether launches can be recorded into a DeviceGraph.
  virtual bool has_graphs() const { return false; }
  /// Everything put into `stream` until end_capture is recorded instead of run. One at a time per
  /// thread.
  virtual void begin_capture(Stream&) {}
  virtual std::unique_ptr<DeviceGraph> end_capture(Stream&) { return nullptr; }
};

/// Throws DeviceError when this build or this machine lacks the device.
Backend& backend(DeviceType type);
inline Backend& backend(Device d) {
  return backend(d.type);
}
bool has_device(DeviceType type);

// Defined by cpu/ and cuda/ (or cuda/no_cuda.cpp, which returns null).
Backend* cpu_backend();
Backend* cuda_backend();
/// Why this build has no CUDA backend; null when it has one.
const char* cuda_missing();

}  // namespace tandem
