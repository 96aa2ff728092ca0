#include "core/block_pool.h"

#include <algorithm>
#include <utility>

namespace tandem {

class BlockPool::Lease final : public RefCounted {
 public:
  explicit Lease(std::shared_ptr<BlockPool> pool) : pool_(std::move(pool)) {}
  ~Lease() override {
    if (block.data) pool_->drop(block);
  }
  Block block;

 private:
  std::shared_ptr<BlockPool> pool_;
};

BlockPool::BlockPool(Device device, std::size_t bytes, std::size_t most_free)
    : device_(device),
      backend_(backend(device)),
      memory_(backend_.allocator(device.index)),
      bytes_(bytes),
      most_free_(most_free) {}

BlockPool::~BlockPool() {
  for (const Block& b : free_) memory_.deallocate(b.data, bytes_);
}

BlockPool::Block BlockPool::allocate(Stream& s) {
  const Block b{memory_.allocate(bytes_), &s};
  const std::lock_guard lock(mutex_);
  ++size_;
  return b;
}

BlockPool::Block BlockPool::reuse(const Stream& s) {
  const std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(free_.begin(), free_.end(), [&](const Block& b) { return b.home == &s; });
  if (found == free_.end()) return {};
  const Block b = *found;
  free_.erase(found);
  return b;
}

void BlockPool::keep(const Block& b) {
  const std::lock_guard lock(mutex_);
  free_.push_back(b);
}

bool BlockPool::has_strangers(const Stream& s) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(free_.begin(), free_.end(), [&](const Block& b) { return b.home != &s; });
}

void BlockPool::release_strangers(const Stream& s) {
  const std::lock_guard lock(mutex_);
  std::erase_if(free_, [&](const Block& b) {
    if (b.home == &s) return false;
    memory_.deallocate(b.data, bytes_);
    --size_;
    return true;
  });
}

RefPtr<RefCounted> BlockPool::lend(Block& b) {
  auto lease = make_ref<Lease>(shared_from_this());  // of nothing yet: this may throw
  lease->block = std::exchange(b, {});
  return lease;
}

int BlockPool::size() const {
  const std::lock_guard lock(mutex_);
  return size_;
}

void BlockPool::drop(const Block& b) noexcept {
  const std::lock_guard lock(mutex_);
  if (b.home == &backend_.stream(device_.index) && free_.size() < most_free_) {
    free_.push_back(b);
  } else {
    memory_.deallocate(b.data, bytes_);
    --size_;
  }
}

}  // namespace tandem
