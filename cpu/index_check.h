// Refuses indices outside [0, limit) before anything is written: a kernel that stops half-way
// leaves a mess, and nothing may be thrown out of a parallel loop.
#pragma once
#include "cpu/strided.h"

namespace tandem::cpu {

class IndexCheck {
 public:
  IndexCheck(const char* op, const TensorDesc& index, std::int64_t limit) : op_(op), limit_(limit) {
    for (int i = 0; i < index.rank(); ++i) axes_.add(index.shape[i], {index.strides[i]});
    n_ = axes_.pop(step_);
  }

  /// IndexError naming the first one outside.
  template <class I>
  void operator()(const I* index) const {
    Odometer<1> at(axes_, 0);
    for (std::int64_t row = 0; row < axes_.count; ++row, at.next()) {
      const I* p = index + at[0];
      // As unsigned a negative index is a large one. No early way out: this loop vectorises.
      bool bad = false;
      for (std::int64_t i = 0; i < n_; ++i) bad |= outside(p[i * step_[0]]);
      if (!bad) continue;
      std::int64_t i = 0;
      while (!outside(p[i * step_[0]])) ++i;
      fail<IndexError>(op_, "index out of range",
                       fmt::format("{} at element {}", p[i * step_[0]], row * n_ + i),
                       fmt::format("0 <= index < {}", limit_));
    }
  }

 private:
  template <class I>
  bool outside(I v) const {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(v)) >=
           static_cast<std::uint64_t>(limit_);
  }

  const char* op_;
  std::int64_t limit_, n_;
  Axes<1> axes_;
  std::array<std::int64_t, 1> step_;
};

}  // namespace tandem::cpu
