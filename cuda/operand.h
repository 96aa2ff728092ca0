// What a kernel does about an operand whose strides are not those it was written for: work on a
// dense copy in the workspace, as on the CPU (cpu/operand.h).
#pragma once
#include "core/workspace.h"
#include "cuda/elementwise.h"

namespace tandem::cuda {

/// A tensor seen in the dense layout `want`: the tensor's own memory where it has that layout,
/// otherwise a copy in the workspace. Made in `plan`, where it reserves its part of the workspace.
class Operand {
 public:
  Operand() = default;
  Operand(const TensorDesc& d, const Strides& want, std::size_t& workspace_bytes) {
    if (same_layout(d.shape, d.strides, want)) return;
    const TensorDesc dense(d.dtype, d.device, d.shape, want);
    in_ = StridedCopy(dense, d);
    out_ = StridedCopy(d, dense);
    offset_ = static_cast<std::int64_t>(
        reserve(workspace_bytes, static_cast<std::size_t>(d.numel()) * size_of(d.dtype)));
  }

  bool packed() const { return offset_ >= 0; }
  /// For reading (and, with `store`, for updating) what is at `p`: the copy is put into the
  /// launch's stream.
  template <class T>
  T* load(const LaunchArgs& a, void* p) const {
    if (packed()) in_.run(a, at(a), p);
    return buffer<T>(a, p);
  }
  /// For writing only; `store` when done.
  template <class T>
  T* buffer(const LaunchArgs& a, void* p) const {
    return static_cast<T*>(packed() ? at(a) : p);
  }
  void store(const LaunchArgs& a, void* p) const {
    if (packed()) out_.run(a, p, at(a));
  }

 private:
  void* at(const LaunchArgs& a) const { return static_cast<char*>(a.workspace) + offset_; }

  StridedCopy in_, out_;
  std::int64_t offset_ = -1;  // -1: no copy needed
};

}  // namespace tandem::cuda
