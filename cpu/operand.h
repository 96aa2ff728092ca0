// What a kernel does about an operand whose strides are not those it was written for: work on a
// dense copy in the workspace. Most kernels of this folder know one or two dense layouts and leave
// every other one to this.
#pragma once
#include <optional>

#include "core/workspace.h"
#include "cpu/strided.h"

namespace tandem::cpu {

/// A tensor seen in the dense layout `want`: the tensor's own memory where it has that layout,
/// otherwise a copy in the workspace. Made in `plan`, where it reserves its part of the workspace.
class Operand {
 public:
  Operand() = default;
  Operand(const TensorDesc& d, const Strides& want, std::size_t& workspace_bytes) {
    if (same_layout(d.shape, d.strides, want)) return;
    const TensorDesc dense(d.dtype, d.device, d.shape, want);
    in_ = copy_of(dense, d);
    out_ = copy_of(d, dense);
    offset_ = static_cast<std::int64_t>(
        reserve(workspace_bytes, static_cast<std::size_t>(d.numel()) * size_of(d.dtype)));
  }

  bool packed() const { return offset_ >= 0; }
  /// For reading (and, with `store`, for updating) what is at `p`.
  template <class T>
  T* load(void* p, void* workspace) const {
    if (packed()) in_->run(at(workspace), p);
    return buffer<T>(p, workspace);
  }
  /// For writing only; `store` when done.
  template <class T>
  T* buffer(void* p, void* workspace) const {
    return static_cast<T*>(packed() ? at(workspace) : p);
  }
  void store(void* p, void* workspace) const {
    if (packed()) out_->run(p, at(workspace));
  }

 private:
  void* at(void* workspace) const { return static_cast<char*>(workspace) + offset_; }

  std::optional<BlockCopy> in_, out_;
  std::int64_t offset_ = -1;  // -1: no copy needed
};

}  // namespace tandem::cpu
