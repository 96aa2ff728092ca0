// Device memory: a cache whose blocks follow the order of streams.
//
// A block belongs to the stream that was current when it was allocated. Freed while that stream is
// current it may be handed out again at once: what uses it next comes later in the same stream.
// Freed while another stream is current, it waits until that stream has got there. Whoever uses a
// block on a stream that is neither must order that use before the free (Event::block).
#pragma once
#include <memory>

#include "core/allocator.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

/// The allocator of a device that exists.
Allocator& device_allocator(int device);
/// Page-locked memory.
Allocator& pinned_allocator();

/// What a stream kept goes to the next stream that needs memory. Nothing may run on it any more.
void release_pool(CudaStream& s) noexcept;

/// While a stream is captured its memory comes from a pool of its own, which the graph then owns:
/// the graph writes it at every replay, so nobody else may get it.
class CapturePool {
 public:
  explicit CapturePool(CudaStream& s);
  ~CapturePool();  // nothing may replay the graph any more
  CapturePool(const CapturePool&) = delete;
  CapturePool& operator=(const CapturePool&) = delete;
  /// The capture is over: the stream gets its own pool back.
  void end(CudaStream& s) noexcept;
  /// Whether the capture took any memory.
  bool empty() const;

 private:
  int device_;
  Pool* before_;
  Pool* pool_;
};

}  // namespace tandem::cuda
