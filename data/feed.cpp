#include "data/feed.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace tandem::data {

namespace {

// Copies that may be unfinished besides the one ahead. Each of them waits for a step to let go of
// its device memory, so this is how far, in steps, the host may be ahead of the device.
constexpr std::size_t kUnfinished = 4;

// A compiled step keeps a recorded device graph for each of four sets of addresses.
constexpr std::size_t kFree = 4;

}  // namespace

// The event is made first: this makes the device current in a thread that has none, and
// page-locking memory would otherwise wake up the machine's first device.
Staging::Staging(Device device, std::size_t bytes)
    : memory_(backend(device).host_allocator()),
      bytes_(bytes),
      copied_(backend(device).make_event(device.index)),
      data_(static_cast<std::byte*>(memory_.allocate(bytes))) {}

Staging::~Staging() {
  memory_.deallocate(data_, bytes_);
}

DeviceFeed::DeviceFeed(Device device, std::size_t bytes)
    : device_(device),
      backend_(backend(device)),
      bytes_(bytes),
      blocks_(std::make_shared<BlockPool>(device, bytes, kFree)),
      asked_(backend_.make_event(device.index)),
      arrived_(backend_.make_event(device.index)),
      stream_(backend_.make_stream(device.index)) {}

DeviceFeed::~DeviceFeed() {
  stream_.reset();  // waits for its copies; they read and write what goes now
}

std::unique_ptr<Staging> DeviceFeed::staging() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto s = std::move(idle_.front());
      idle_.pop_front();
      return s;
    }
  }
  return std::make_unique<Staging>(device_, bytes_);
}

void DeviceFeed::reclaim() {
  std::unique_lock lock(mutex_);
  while (copying_.size() > kUnfinished) {
    auto s = std::move(copying_.front());
    copying_.pop_front();
    lock.unlock();
    try {
      s->copied().synchronize();
    } catch (...) {
      lock.lock();
      copying_.push_front(std::move(s));
      throw;
    }
    lock.lock();
    idle_.push_back(std::move(s));
  }
}

BlockPool::Block DeviceFeed::take(Stream& s) {
  if (blocks_->has_strangers(s)) {
    // The consumer has gone to another stream. A copy that nobody asked for may still be writing.
    arrived_->record(*stream_);
    arrived_->block(s);
    blocks_->release_strangers(s);
  }
  // Two at least: one is filled while a step reads the other. If these are not enough, four: the
  // addresses then recur after a number of steps that is a multiple of what results need, and not
  // after three, which together would make six sets of them.
  if (blocks_->size() >= 2) {
    if (const BlockPool::Block b = blocks_->reuse(s); b.data) return b;
  }
  const BlockPool::Block b = blocks_->allocate(s);
  if (blocks_->size() == 3) {
    try {
      blocks_->keep(blocks_->allocate(s));
    } catch (const OutOfMemoryError&) {
      // It was only to spare.
    } catch (...) {
      blocks_->keep(b);
      throw;
    }
  }
  return b;
}

void DeviceFeed::start(Upload& u) {
  Stream& s = consumer();
  const std::lock_guard lock(mutex_);
  if (u.to.home == &s) return;
  // Memory taken for another stream: the batch would be dropped in an order that is not its own.
  if (u.to.data) blocks_->keep(std::exchange(u.to, {}));
  const BlockPool::Block b = take(s);
  try {
    asked_->record(s);
    asked_->block(*stream_);
    backend_.copy_async(b.data, device_, u.from->data(), kCPU, u.bytes, *stream_);
    u.from->copied().record(*stream_);
  } catch (...) {
    blocks_->keep(b);  // a copy that was put in all the same comes before the block's next
    throw;
  }
  u.to = b;
}

RefPtr<RefCounted> DeviceFeed::finish(Upload& u) {
  u.from->copied().block(consumer());
  const std::lock_guard lock(mutex_);
  copying_.push_back(std::move(u.from));
  return blocks_->lend(u.to);
}

void DeviceFeed::abandon(Upload& u) noexcept {
  const std::lock_guard lock(mutex_);
  if (u.to.data) blocks_->keep(u.to);
  if (u.from) copying_.push_back(std::move(u.from));
  u = {};
}

}  // namespace tandem::data
