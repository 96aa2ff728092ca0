// How batches get to a device that has memory of its own: page-locked buffers, copies on a stream
// of their own beside the consumer's work, and device memory that comes back (core/block_pool.h).
#pragma once
#include <deque>
#include <memory>
#include <mutex>

#include "core/block_pool.h"

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
class DeviceFeed {
 public:
  /// A batch on its way.
  struct Upload {
    std::unique_ptr<Staging> from;
    std::size_t bytes = 0;
    BlockPool::Block to = {};  // null: the copy has not been put in
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
  Stream& consumer() const { return backend_.stream(device_.index); }
  BlockPool::Block take(Stream& s);

  const Device device_;
  Backend& backend_;
  const std::size_t bytes_;
  const std::shared_ptr<BlockPool> blocks_;
  std::mutex mutex_;
  std::deque<std::unique_ptr<Staging>> idle_, copying_;
  std::unique_ptr<Event> asked_, arrived_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace tandem::data
