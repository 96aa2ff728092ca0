// What the ops that move elements about share: units of several elements, and indices.
#pragma once
#include "cuda/kernel.h"
#include "cuda/pack.h"
#include "ops/index.h"

namespace tandem::cuda {

// What only moves elements moves units: as many neighbours at once, up to 16 bytes, as keep
// together on both sides.

/// Calls `f(type_tag<U>{})` with a type of that many bytes: 1, 2, 4, 8 or 16.
template <class F>
void visit_unit(int bytes, F&& f) {
  switch (bytes) {
    case 1: return f(type_tag<unsigned char>{});
    case 2: return f(type_tag<unsigned short>{});
    case 4: return f(type_tag<unsigned>{});
    case 8: return f(type_tag<unsigned long long>{});
    default: return f(type_tag<Pack<unsigned long long, 2>>{});
  }
}

/// Whether the innermost axis of tensors 0 and 1 can be walked in units of `u` elements. Others
/// must not move along it.
template <int N>
bool in_units(const Axes<N>& axes, long long u) {
  const int last = axes.rank() - 1;
  if (last < 0 || axes.size[last] % u != 0) return false;
  for (int k = 0; k < N; ++k) {
    if (axes.stride[k][last] != (k < 2 ? 1 : 0)) return false;
    for (int d = 0; k < 2 && d < last; ++d) {
      if (axes.stride[k][d] % u != 0) return false;
    }
  }
  return true;
}

/// The same walk with units for elements in tensors 0 and 1.
template <int N>
Axes<N> to_units(Axes<N> axes, long long u) {
  if (u == 1) return axes;
  const int last = axes.rank() - 1;
  axes.size[last] /= u;
  axes.count /= u;
  for (int k = 0; k < 2; ++k) {
    for (int d = 0; d < last; ++d) axes.stride[k][d] /= u;
  }
  return axes;
}

/// The most elements of `size` bytes to a unit for which `fits(elements)`.
template <class F>
long long widest(std::size_t size, F&& fits) {
  long long u = 16 / static_cast<long long>(size);
  while (u > 1 && !fits(u)) u /= 2;
  return u;
}

inline bool aligned(const void* p, int bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % static_cast<unsigned>(bytes) == 0;
}

/// Indices along an axis. One that is not allowed is a fault: what it stands for is left out.
struct Ids {
  const void* data;
  bool wide;  // i64, else i32
  long long limit;
  const char* op;
  Fault* fault;

  __device__ long long raw(long long at) const {
    return wide ? static_cast<const std::int64_t*>(data)[at]
                : static_cast<const std::int32_t*>(data)[at];
  }
  __device__ bool allows(long long id) const { return 0 <= id && id < limit; }
  /// Notes one that is not allowed.
  __device__ void check(long long id) const {
    if (!allows(id)) note_fault(fault, FaultKind::index_out_of_range, op, id, limit);
  }
  __device__ long long operator()(long long at) const {
    const long long id = raw(at);
    check(id);
    return id;
  }
};

struct IdsPlan {
  bool wide;
  long long limit;
  const char* op;
  IdsPlan(const PlanRequest& r, const TensorDesc& index, long long limit)
      : wide(index.dtype == DType::i64), limit(limit), op(r.op.name) {}
  Ids bind(const LaunchArgs& a, int input) const {
    return {a.in[input], wide, limit, op, stream_of(a).fault()};
  }
};

inline int axis_of(const PlanRequest& r) {
  return wrap_axis(r.attrs<AxisAttrs>().axis, r.in[0].rank(), r.op.name);
}

/// The index's stride along axis i of the tensor that has an element for each index (or, for an
/// index of rank 1, a slice).
inline long long index_stride(const TensorDesc& index, const TensorDesc& other, int i, int axis) {
  if (index.rank() == other.rank()) return index.strides[i];
  return i == axis ? index.strides[0] : 0;
}

}  // namespace tandem::cuda
