// A block of memory and its version. Views share a storage, so a write through any of them is
// seen by all.
#pragma once
#include <cstdint>

#include "core/allocator.h"
#include "core/device.h"
#include "core/ref.h"
#include "core/source.h"

namespace tandem {

/// A block of memory that tensors share, or, inside a capture, a name for one. Counts its changes,
/// so that autograd notices when a saved tensor was written over.
class Storage final : public RefCounted, public Pooled<Storage> {
 public:
  /// Takes `bytes` from `device`'s allocator.
  static RefPtr<Storage> allocate(std::size_t bytes, Device device);
  /// Memory somebody else owns; `owner` is kept alive as long as the storage.
  static RefPtr<Storage> borrow(void* data, std::size_t bytes, Device device,
                                RefPtr<RefCounted> owner);
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

  /// Whether a write to one is seen through the other.
  bool same_memory(const Storage& o) const {
    const Storage* a = stands_for_ ? stands_for_.get() : this;
    const Storage* b = o.stands_for_ ? o.stands_for_.get() : &o;
    return a == b;
  }

  std::uint32_t version() const { return version_; }
  /// Notes a write by `op` at `loc`.
  void bump_version(const char* op, const SrcLoc& loc) {
    ++version_;
    writer_ = op;
    writer_loc_ = loc;
  }
  /// Takes back what `bump_version` noted since the version was `before`: writes of a capture,
  /// which only a run of the program makes.
  void restore_version(std::uint32_t before) { version_ = before; }
  /// Some view (or detached alias) of it has been made: the tape cannot follow an in-place write.
  bool viewed() const { return viewed_; }
  void mark_viewed() { viewed_ = true; }
  const char* last_writer() const { return writer_; }
  const SrcLoc& last_writer_loc() const { return writer_loc_; }

 private:
  Storage(void* data, std::size_t bytes, Device device, Allocator* allocator)
      : data_(data), bytes_(bytes), allocator_(allocator), device_(device) {}

  void* data_;
  std::size_t bytes_;
  Allocator* allocator_;  // null: borrowed or symbolic
  Device device_;
  bool symbolic_ = false;
  bool viewed_ = false;
  std::uint32_t version_ = 0;
  const char* writer_ = nullptr;
  SrcLoc writer_loc_;
  RefPtr<RefCounted> owner_;
  RefPtr<Storage> stands_for_;
};

}  // namespace tandem
