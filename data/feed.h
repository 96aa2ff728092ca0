// How batches get to a device that has memory of its own: page-locked buffers, copies on a stream
// of their own beside the consumer's work, and device memory that comes back.
//
// A batch's device memory must not be written before everybody is done with it, on the host and on
// the device. Two things that look as if they knew do not. The use count of a storage, read when
// the next batch is asked for, says that nobody on the host holds it, but not on which stream the
// last use was put: another thread may have run its step on a stream of its own. And the allocator,
// which gets this right, hands out whichever block fits, so a recorded device graph would find new
// addresses at almost every step. So batches are storages around a Lease that returns the block
// when the last tensor of the batch goes, at the same moment and by the same rule as the allocator:
// if the dropping thread's current stream is the one the block was taken for, what is next put into
// that stream comes after all uses, and the block waits here for a batch asked for in that stream;
// in any other case the allocator gets it. What is kept is simply never returned.
#pragma once
#include <deque>
#include <memory>
#include <mutex>

#include "core/backend.h"

namespace tandem::data {

/// Page-locked memory for one batch, and when the copy from it is done.
class Staging {
 public:
  /// On the device's side the memory is ready for use in any of its streams.
  Staging(Device device, std::size_t bytes);
  /// No copy from it may be in progress.
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  std::byte* data() const { return data_; }
  Event& copied() const { return *copied_; }

 private:
  Allocator& memory_;
  std::size_t bytes_;
  std::unique_ptr<Event> copied_;
  std::byte* data_;
};

/// The way of one loader's batches to its device. Thread-safe; an Upload belongs to one thread.
class DeviceFeed : public std::enable_shared_from_this<DeviceFeed> {
 public:
  /// Device memory of one batch.
  struct Block {
    void* data = nullptr;
    const Stream* home = nullptr;  // allocated in its order; only compared, never followed
  };
  /// A batch on its way.
  struct Upload {
    std::unique_ptr<Staging> from;
    std::size_t bytes = 0;
    Block to = {};  // null: the copy has not been put in
  };

  /// For batches of up to `bytes`. Throws DeviceError where there is no such device.
  DeviceFeed(Device device, std::size_t bytes);
  /// Waits for copies that nobody asked for.
  ~DeviceFeed();
  DeviceFeed(const DeviceFeed&) = delete;
  DeviceFeed& operator=(const DeviceFeed&) = delete;

  /// Memory to make a batch in. Any thread.
  std::unique_ptr<Staging> staging();
  /// Makes buffers ready for use again. Waits if the device is several batches behind: what it
  /// found wrong by then is thrown (Event::synchronize), and nothing is lost.
  void reclaim();
  /// Puts the copy in, unless that was done for this thread's current stream. After an error it can
  /// be started again.
  void start(Upload& u);
  /// The current stream waits for the copy (the host does not), and `u` is empty. The batch's
  /// memory is the caller's for as long as the result lives.
  RefPtr<RefCounted> finish(Upload& u);
  /// Nobody wants the batch any more.
  void abandon(Upload& u) noexcept;

 private:
  class Lease;

  Stream& consumer() const { return backend_.stream(device_.index); }
  Block take(Stream& s);
  void drop(const Block& b) noexcept;

  const Device device_;
  Backend& backend_;
  Allocator& memory_;
  const std::size_t bytes_;
  std::mutex mutex_;
  std::deque<Block> free_;  // that which has been free for longest first
  int blocks_ = 0;          // free, on their way or handed out
  std::deque<std::unique_ptr<Staging>> idle_, copying_;
  std::unique_ptr<Event> asked_, arrived_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace tandem::data
