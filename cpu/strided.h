// Walking and copying strided memory: what kernels that move elements about share.
#pragma once
#include <array>
#include <vector>

#include "core/axes.h"
#include "core/op.h"
#include "core/parallel.h"

namespace tandem::cpu {

/// A position in `Axes`, kept as one offset per operand.
template <int N>
class Odometer {
 public:
  Odometer(const Axes<N>& axes, std::int64_t start) : axes_(axes) {
    for (int i = axes.rank() - 1; i >= 0 && start != 0; --i) {
      at_[i] = start % axes.size[i];
      start /= axes.size[i];
      for (int k = 0; k < N; ++k) off_[k] += at_[i] * axes.stride[k][i];
    }
  }
  std::int64_t operator[](int k) const { return off_[k]; }
  void next() {
    for (int i = axes_.rank() - 1; i >= 0; --i) {
      for (int k = 0; k < N; ++k) off_[k] += axes_.stride[k][i];
      if (++at_[i] < axes_.size[i]) return;
      at_[i] = 0;
      for (int k = 0; k < N; ++k) off_[k] -= axes_.size[i] * axes_.stride[k][i];
    }
  }

 private:
  const Axes<N>& axes_;
  std::int64_t at_[kMaxRank] = {};
  std::int64_t off_[N] = {};
};

/// Copies a box of elements; source strides may be negative (flip) or 0 (broadcast).
class BlockCopy {
 public:
  BlockCopy(std::size_t element, const Shape& sizes, const Strides& dst, std::int64_t dst_offset,
            const Strides& src, std::int64_t src_offset);
  void run(void* dst, const void* src) const;

 private:
  template <class T>
  void run_as(T* dst, const T* src) const;

  std::size_t element_;
  std::int64_t dst_offset_, src_offset_, inner_;
  Axes<2> outer_;  // dst, src
  std::array<std::int64_t, 2> step_ = {};
};

/// A copy of all of `src` into a tensor of the same shape and dtype laid out as `dst`.
inline BlockCopy copy_of(const TensorDesc& dst, const TensorDesc& src) {
  return {size_of(src.dtype), src.shape, dst.strides, 0, src.strides, 0};
}

/// Calls `f(type_tag<U>{})` with the unsigned integer of that size, for what moves elements only.
template <class F>
decltype(auto) visit_size(std::size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f(type_tag<std::uint8_t>{});
    case 2: return f(type_tag<std::uint16_t>{});
    case 4: return f(type_tag<std::uint32_t>{});
    default: return f(type_tag<std::uint64_t>{});
  }
}

/// How many items of `cost` element visits each are worth a thread's while.
inline std::int64_t grain_for(std::int64_t cost) {
  return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, cost));
}

}  // namespace tandem::cpu
