// Device memory of one size that is used over and over, at few addresses: what a recorded device
// graph needs of batches and results.
//
// Memory must not be written before everybody is done with it, on the host and on the device. Two
// things that look as if they knew do not. The use count of a storage, read when memory is wanted
// again, says that nobody on the host holds it, but not on which stream the last use was put:
// another thread may have run its step on a stream of its own. And the allocator, which gets this
// right, hands out whichever block fits, so a device graph would find new addresses at almost every
// step. So the memory is lent to a storage, whose owner, a lease, gives it back when the last
// tensor goes, at the same moment and by the same rule as the allocator: if the dropping thread's
// current stream is the one the block was taken for, what is next put into that stream comes after
// all uses, and the block waits here for whoever wants one in that stream; in any other case the
// allocator gets it. What is kept is simply never returned.
#pragma once
#include <deque>
#include <memory>
#include <mutex>

#include "core/backend.h"

namespace tandem {

/// Thread-safe.
class BlockPool : public std::enable_shared_from_this<BlockPool> {
 public:
  struct Block {
    void* data = nullptr;
    const Stream* home = nullptr;  // allocated in its order; only compared, never followed
  };

  /// Blocks of `bytes`, at most `most_free` of which are kept while nobody uses them.
  BlockPool(Device device, std::size_t bytes, std::size_t most_free);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  /// A block of its own from the allocator, for this thread's current stream, which is `s`.
  Block allocate(Stream& s);
  /// That which has been free for longest, if one is: its data is null if none is. It may still be
  /// in use by what `s` has been given so far.
  Block reuse(const Stream& s);
  /// Keeps a block that comes back in the order of its home.
  void keep(const Block& b);
  /// Whether blocks of other streams than `s` are free; those go to the allocator.
  bool has_strangers(const Stream& s) const;
  void release_strangers(const Stream& s);
  /// What gives the block back when it goes; `b` is empty then.
  RefPtr<RefCounted> lend(Block& b);
  /// Blocks that are free, lent or handed out.
  int size() const;

 private:
  class Lease;
  void drop(const Block& b) noexcept;

  const Device device_;
  Backend& backend_;
  Allocator& memory_;
  const std::size_t bytes_, most_free_;
  mutable std::mutex mutex_;
  std::deque<Block> free_;  // that which has been free for longest first
  int size_ = 0;
};

}  // namespace tandem
