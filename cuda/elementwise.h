// Elementwise kernels and dense copies: what the other families of this folder use as well.
#pragma once
#include "core/op.h"

namespace tandem::cuda {

/// Unsigned integers of an element's size stand for it where it is only moved.
template <class F>
decltype(auto) visit_size(std::size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f(type_tag<std::uint8_t>{});
    case 2: return f(type_tag<unsigned short>{});
    case 4: return f(type_tag<unsigned>{});
    default: return f(type_tag<unsigned long long>{});
  }
}

/// Puts a copy of the elements of `from` into `to` (equal shapes; `from` may repeat elements),
/// converted to its type. Plain function, for plans that make operands dense.
class StridedCopy {
 public:
  StridedCopy() = default;
  StridedCopy(const TensorDesc& to, const TensorDesc& from);
  void run(const LaunchArgs& args, void* to, const void* from) const;

 private:
  RefPtr<Plan> plan_;
};

}  // namespace tandem::cuda
