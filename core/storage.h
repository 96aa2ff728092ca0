// A block of memory and its version. Views share a storage, so a write through any of them is
// seen by all.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>

#include "core/allocator.h"
#include "core/device.h"
#include "core/ref.h"
#include "core/source.h"

namespace tandem {

/// What is known of the writes to some memory.
struct WriteLog {
  std::uint32_t version = 0;
  bool viewed = false;
  const char* writer = nullptr;
  SrcLoc writer_loc;
};

/// What keeps memory alive that a Storage did not allocate: an array of another library, say, which
/// people may hold on to when no tensor of it is left.
class MemoryOwner : public RefCounted {
 public:
  /// Whether nobody but storages wants the memory any more.
  virtual bool is_forgotten() const = 0;
};

/// A block of memory that tensors share, or, inside a capture, a name for one. Counts its changes,
/// so that autograd notices when a saved tensor was written over.
class Storage final : public RefCounted, public Pooled<Storage> {
 public:
  /// Takes `bytes` from `device`'s allocator.
  static RefPtr<Storage> allocate(std::size_t bytes, Device device);
  /// Memory somebody else owns; `owner` is kept alive as long as the storage.
  static RefPtr<Storage> borrow(void* data, std::size_t bytes, Device device,
                                RefPtr<RefCounted> owner);
  /// The same for memory that may also be reached through other storages: they share their version.
  static RefPtr<Storage> import(void* data, std::size_t bytes, Device device,
                                RefPtr<RefCounted> owner);
  /// Before the memory is shown to others, who may hand it in again: makes `import` know it.
  void share();
  /// No memory at all: the stand-in for a value of the program being captured by `trace`.
  /// If it stands for the memory of a tensor from outside, `stands_for` is that tensor's storage.
  static RefPtr<Storage> symbolic(std::size_t bytes, Device device, RefPtr<RefCounted> trace,
                                  RefPtr<Storage> stands_for = nullptr);

  ~Storage() override;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  bool is_symbolic() const { return symbolic_; }
  /// The capture a symbolic storage belongs to.
  const RefPtr<RefCounted>& trace() const { return owner_; }

  /// Whether both are the same bytes from outside, imported twice. Only while both live.
  bool same_import(const Storage& o) const {
    return !allocator_ && !o.allocator_ && data_ && data_ == o.data_ && bytes_ == o.bytes_;
  }
  /// Whether compiled programs are all that still want it. What a captured function imported is
  /// wanted as long as its owner is.
  bool is_dropped() const;

  /// Whether a write to one may be seen through the other.
  bool same_memory(const Storage& o) const {
    const Storage* a = stands_for_ ? stands_for_.get() : this;
    const Storage* b = o.stands_for_ ? o.stands_for_.get() : &o;
    return &a->log() == &b->log();
  }

  std::uint32_t version() const { return log().version; }
  /// Notes a write by `op` at `loc`.
  void bump_version(const char* op, const SrcLoc& loc) {
    WriteLog& l = log();
    ++l.version;
    l.writer = op;
    l.writer_loc = loc;
  }
  /// Takes back what `bump_version` noted since the version was `before`: writes of a capture,
  /// which only a run of the program makes.
  void restore_version(std::uint32_t before) { log().version = before; }
  /// Some view (or detached alias) of it has been made: the tape cannot follow an in-place write.
  bool viewed() const { return log().viewed; }
  void mark_viewed() { log().viewed = true; }
  const char* last_writer() const { return log().writer; }
  const SrcLoc& last_writer_loc() const { return log().writer_loc; }

 private:
  struct Region;
  friend struct Region;

  Storage(void* data, std::size_t bytes, Device device, Allocator* allocator)
      : data_(data), bytes_(bytes), allocator_(allocator), device_(device) {}
  WriteLog& log() const { return *log_.load(std::memory_order_relaxed); }

  void* data_;
  std::size_t bytes_;
  Allocator* allocator_;  // null: borrowed or symbolic
  Device device_;
  bool symbolic_ = false;
  bool imported_by_capture_ = false;  // for an array that the captured function itself names
  mutable WriteLog own_log_;
  std::atomic<WriteLog*> log_ = &own_log_;
  std::shared_ptr<Region> region_;  // of shared memory
  RefPtr<RefCounted> owner_;
  RefPtr<Storage> stands_for_;
};

}  // namespace tandem
