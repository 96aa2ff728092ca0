#include "cpu/strided.h"

#include <cstring>

namespace tandem::cpu {

BlockCopy::BlockCopy(std::size_t element, const Shape& sizes, const Strides& dst,
                     std::int64_t dst_offset, const Strides& src, std::int64_t src_offset)
    : element_(element), dst_offset_(dst_offset), src_offset_(src_offset) {
  // In the order of the destination's memory, so that writes are sequential.
  Dims order;
  for (int i = 0; i < sizes.size(); ++i) {
    int at = order.size();
    while (at > 0 && dst[static_cast<int>(order[at - 1])] < dst[i]) --at;
    order.insert(at, i);
  }
  for (auto a : order) {
    const int i = static_cast<int>(a);
    outer_.add(sizes[i], {dst[i], src[i]});
  }
  inner_ = outer_.count == 0 ? 0 : outer_.pop(step_);
}

template <class T>
void BlockCopy::run_as(T* dst, const T* src) const {
  const std::int64_t n = inner_, ds = step_[0], ss = step_[1];
  parallel_for(outer_.count * n, 32768, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t col = begin % n;
    for (Odometer<2> at(outer_, begin / n); begin < end; at.next(), col = 0) {
      const std::int64_t len = std::min(n - col, end - begin);
      T* d = dst + at[0] + col * ds;
      const T* s = src + at[1] + col * ss;
      if (ds == 1 && ss == 1) {
        std::memcpy(d, s, static_cast<std::size_t>(len) * sizeof(T));
      } else {
        for (std::int64_t i = 0; i < len; ++i) d[i * ds] = s[i * ss];
      }
      begin += len;
    }
  });
}

void BlockCopy::run(void* dst, const void* src) const {
  if (inner_ == 0) return;
  visit_size(element_, [&](auto tag) {
    using T = typename decltype(tag)::type;
    run_as(static_cast<T*>(dst) + dst_offset_, static_cast<const T*>(src) + src_offset_);
  });
}

}  // namespace tandem::cpu
