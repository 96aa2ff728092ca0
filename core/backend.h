// What a device must offer. cpu/ and cuda/ implement it; nothing else knows they are there.
#pragma once
#include <memory>
#include <string>

#include "core/allocator.h"
#include "core/op.h"

namespace tandem {

class ActivityRecorder;  // core/activity.h

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
  /// Puts the event behind the work in `stream` so far; a second time moves it.
  virtual void record(Stream& stream) = 0;
  /// Makes `stream` wait for the recorded point; the host goes on.
  virtual void block(Stream& stream) = 0;
  /// Waits until the work before the event is done; at once if it was never recorded.
  virtual void synchronize() = 0;
  /// Device time from `earlier` to this event; both recorded. Waits for both.
  virtual double milliseconds_since(Event& earlier) = 0;
};

/// A sequence of launches recorded by the device itself and replayed with one call.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// What the first launch does once and for all, which takes memory of the device. Throws
  /// OutOfMemoryError, DeviceError.
  virtual void make_ready() = 0;
  /// Puts all of it into `stream`.
  virtual void launch(Stream& stream) = 0;
  /// How many launches it holds.
  virtual std::size_t nodes() const = 0;
  /// Takes over the pointers of `newer`, a recording of the same launches: cheaper than making a
  /// graph ready anew. False if the launches differ; this graph is then as before.
  virtual bool update(DeviceGraph& newer) = 0;
};

/// A device type: its kernels, memory, streams and copies. One object per type, never destroyed.
class Backend {
 public:
  virtual ~Backend() = default;
  /// How many devices of this type the machine has.
  virtual int device_count() = 0;
  /// For `tandem --version`: libraries and their versions.
  virtual std::string description() = 0;
  /// The memory of one device. Throws DeviceError if it is not there.
  virtual Allocator& allocator(int device) = 0;
  /// Host memory the device reads and writes by itself while the host goes on (page-locked).
  virtual Allocator& host_allocator() { return cpu_allocator(); }
  /// This thread's current stream. Throws DeviceError if the device is not there.
  virtual Stream& stream(int device) = 0;
  /// Makes `s` this thread's current stream; null: the default one. Returns the one before.
  virtual Stream* set_stream(int device, Stream* s) = 0;
  /// A stream beside the default one: work in both may overlap.
  virtual std::unique_ptr<Stream> make_stream(int device) = 0;
  /// An event of that device, not recorded yet.
  virtual std::unique_ptr<Event> make_event(int device) = 0;
  /// Copies between host memory and this device, or within it, after the work in the current
  /// stream. Blocks until done; throws what that work found wrong, as Stream::synchronize does.
  virtual void copy(void* dst, Device dst_device, const void* src, Device src_device,
                    std::size_t bytes) = 0;
  /// Puts the copy into `stream`. Host memory must come from host_allocator() and stay as it is
  /// until the copy is done.
  virtual void copy_async(void* dst, Device dst_device, const void* src, Device src_device,
                          std::size_t bytes, Stream& stream) = 0;
  /// What makes plans for an op (OpId of ops/op_list.h). InternalError for a number that is none.
  virtual PlanFn kernel(std::uint16_t op_id) = 0;

  /// Whether launches can be recorded into a DeviceGraph.
  virtual bool has_graphs() const { return false; }
  /// Everything put into `stream` until end_capture is recorded instead of run. One at a time per
  /// thread.
  virtual void begin_capture(Stream&) {}
  /// What was recorded. Throws, recording no more, if something in between cannot be recorded.
  virtual std::unique_ptr<DeviceGraph> end_capture(Stream&) { return nullptr; }

  /// Null where devices of this type cannot say what they ran. One for the whole process.
  virtual ActivityRecorder* activity() { return nullptr; }
};

/// What `put` puts into `stream`, recorded instead of run.
template <class F>
std::unique_ptr<DeviceGraph> record_graph(Backend& b, Stream& stream, const F& put) {
  b.begin_capture(stream);
  try {
    put();
  } catch (...) {
    try {
      b.end_capture(stream);
    } catch (...) {
      // The recording was broken; what broke it is thrown on.
    }
    throw;
  }
  return b.end_capture(stream);
}

/// Throws DeviceError when this build or this machine lacks the device.
Backend& backend(DeviceType type);
inline Backend& backend(Device d) {
  return backend(d.type);
}
/// Whether this build and this machine have one. Throws nothing.
bool has_device(DeviceType type);
/// Whether backend() has given anything but the CPU. Until then no operation of this process waits
/// for a device.
bool uses_devices();

/// Defined by cpu/ and cuda/ (or cuda/no_cuda.cpp, which returns null).
Backend* cpu_backend();
Backend* cuda_backend();
/// Why this build has no CUDA backend; null when it has one.
const char* cuda_missing();

}  // namespace tandem
