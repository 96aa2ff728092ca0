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

class DeviceFeed::Lease final : public RefCounted {
 public:
  explicit Lease(std::shared_ptr<DeviceFeed> feed) : feed_(std::move(feed)) {}
  ~Lease() override {
    if (block.data) feed_->drop(block);
  }
  Block block;

 private:
  std::shared_ptr<DeviceFeed> feed_;
};

DeviceFeed::DeviceFeed(Device device, std::size_t bytes)
    : device_(device),
      backend_(backend(device)),
      memory_(backend_.allocator(device.index)),
      bytes_(bytes),
      asked_(backend_.make_event(device.index)),
      arrived_(backend_.make_event(device.index)),
      stream_(backend_.make_stream(device.index)) {}

DeviceFeed::~DeviceFeed() {
  stream_.reset();  // waits for its copies; they read and write what goes now
  for (const Block& b : free_) memory_.deallocate(b.data, bytes_);
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

// The memory may still be in use by what `s` has been given so far: it is the allocator's for that
// stream, or the last batch in it was dropped in that stream's order.
DeviceFeed::Block DeviceFeed::take(Stream& s) {
  if (std::any_of(free_.begin(), free_.end(), [&](const Block& b) { return b.home != &s; })) {
    // The consumer has gone to another stream. A copy that nobody asked for may still be writing.
    arrived_->record(*stream_);
    arrived_->block(s);
    std::erase_if(free_, [&](const Block& b) {
      if (b.home == &s) return false;
      memory_.deallocate(b.data, bytes_);
      --blocks_;
      return true;
    });
  }
  const auto fresh = [&] {
    const Block b{memory_.allocate(bytes_), &s};
    ++blocks_;
    return b;
  };
  // Two at least: one is filled while a step reads the other. If these are not enough, four: the
  // addresses then recur after a number of steps that is a multiple of what results need, and not
  // after three, which together would make six sets of them.
  if (blocks_ < 2 || free_.empty()) {
    const Block b = fresh();
    if (blocks_ == 3) {
      try {
        free_.push_back(fresh());
      } catch (const OutOfMemoryError&) {
        // It was only to spare.
      } catch (...) {
        free_.push_back(b);
        throw;
      }
    }
    return b;
  }
  const Block b = free_.front();
  free_.pop_front();
  return b;
}

void DeviceFeed::drop(const Block& b) noexcept {
  const std::lock_guard lock(mutex_);
  if (b.home == &consumer() && free_.size() < kFree) {
    free_.push_back(b);
  } else {
    memory_.deallocate(b.data, bytes_);
    --blocks_;
  }
}

void DeviceFeed::start(Upload& u) {
  Stream& s = consumer();
  const std::lock_guard lock(mutex_);
  if (u.to.home == &s) return;
  // Memory taken for another stream: the batch would be dropped in an order that is not its own.
  if (u.to.data) free_.push_back(std::exchange(u.to, {}));
  const Block b = take(s);
  try {
    asked_->record(s);
    asked_->block(*stream_);
    backend_.copy_async(b.data, device_, u.from->data(), kCPU, u.bytes, *stream_);
    u.from->copied().record(*stream_);
  } catch (...) {
    free_.push_back(b);  // a copy that was put in all the same comes before the block's next
    throw;
  }
  u.to = b;
}

RefPtr<RefCounted> DeviceFeed::finish(Upload& u) {
  u.from->copied().block(consumer());
  auto lease = make_ref<Lease>(shared_from_this());  // of nothing yet: what follows may throw
  const std::lock_guard lock(mutex_);
  copying_.push_back(std::move(u.from));
  lease->block = std::exchange(u.to, {});
  return lease;
}

void DeviceFeed::abandon(Upload& u) noexcept {
  const std::lock_guard lock(mutex_);
  if (u.to.data) free_.push_back(u.to);
  if (u.from) copying_.push_back(std::move(u.from));
  u = {};
}

}  // namespace tandem::data
