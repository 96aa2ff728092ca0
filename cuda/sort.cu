// Sorting along an axis, and the best few.
#include "ops/sort.h"

#include <limits>

#include "cuda/merge_sort.h"

namespace tandem::cuda {
namespace {

using i64 = long long;

/// The lines of x and where their elements go, for merge_sort.h. How elements are stored is read at
/// run time, the same for all threads.
template <class Item>
struct Lines {
  Walk<2> walk;  // x; values and positions, which are laid out alike
  i64 in_step, out_step;
  DType dtype;
  int bytes;  // of an element
  bool descending;
  const void* x = nullptr;
  void* values = nullptr;
  i64* positions = nullptr;

  __device__ Item load(i64 line, i64 i) const {
    i64 at[2];
    walk.offsets(line, at);
    const i64 k = at[0] + i * in_step;
    switch (dtype) {
      case DType::f32: return item<float>(k, i);
      case DType::f64: return wide<double>(k, i);
      case DType::f16: return item<Half>(k, i);
      case DType::bf16: return item<BFloat16>(k, i);
      case DType::i32: return item<int>(k, i);
      case DType::i64: return wide<i64>(k, i);
      case DType::u8:
      case DType::boolean: break;
    }
    return item<unsigned char>(k, i);
  }
  // Keys could not give a NaN's bits back, or a zero's sign.
  __device__ void store(i64 line, i64 i, const Item& item) const {
    i64 at[2];
    walk.offsets(line, at);
    const i64 from = at[0] + item.index() * in_step, to = at[1] + i * out_step;
    positions[to] = item.index();
    switch (bytes) {
      case 1: move<unsigned char>(from, to); return;
      case 2: move<unsigned short>(from, to); return;
      case 4: move<unsigned>(from, to); return;
      default: move<unsigned long long>(from, to);
    }
  }

 private:
  template <class T>
  __device__ Item item(i64 at, i64 i) const {
    return Item(order_key(static_cast<const T*>(x)[at], descending), i);
  }
  template <class T>
  __device__ Item wide(i64 at, i64 i) const {
    if constexpr (std::is_same_v<Item, WideItem>) return item<T>(at, i);
    return Item::last();  // such keys are never narrow
  }
  template <class U>
  __device__ void move(i64 from, i64 to) const {
    static_cast<U*>(values)[to] = static_cast<const U*>(x)[from];
  }
};

template <class Item>
RefPtr<Plan> plan_lines(const PlanRequest& r, const char* name, int axis, bool descending) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  Axes<2> lines;
  bool across = false;
  for (int i = 0; i < x.rank(); ++i) {
    if (i == axis) continue;
    lines.add(x.shape[i], {x.strides[i], y.strides[i]});
    across = across || (x.dim(i) > 1 && x.strides[i] != 0 && x.strides[i] < x.strides[axis]);
  }
  const Lines<Item> l{
      walk_of(lines), x.strides[axis], y.strides[axis], x.dtype, static_cast<int>(size_of(x.dtype)),
      descending};
  std::size_t workspace = 0;
  const RowSort<Item> sort(l.walk.count, x.shape[axis], y.shape[axis], across, true, workspace);
  return make_plan(
      name,
      [l, sort](const LaunchArgs& a) {
        Lines<Item> bound = l;
        bound.x = a.in[0];
        bound.values = a.out[0];
        bound.positions = static_cast<i64*>(a.out[1]);
        sort.run(a, bound);
      },
      workspace);
}

RefPtr<Plan> plan_order(const PlanRequest& r, const char* name, std::int64_t axis_attr,
                        bool descending) {
  if (r.out[0].numel() == 0) return empty_plan(name);
  const TensorDesc& x = r.in[0];
  const int axis = wrap_axis(axis_attr, x.rank(), r.op.name);
  const bool wide = x.dtype == DType::f64 || x.dtype == DType::i64 ||
                    x.shape[axis] > std::numeric_limits<std::uint32_t>::max();
  return wide ? plan_lines<WideItem>(r, name, axis, descending)
              : plan_lines<NarrowItem>(r, name, axis, descending);
}

}  // namespace

RefPtr<Plan> plan_sort(const PlanRequest& r) {
  const auto& a = r.attrs<SortAttrs>();
  return plan_order(r, "cuda:sort", a.axis, a.descending);
}

RefPtr<Plan> plan_topk(const PlanRequest& r) {
  const auto& a = r.attrs<TopkAttrs>();
  return plan_order(r, "cuda:topk", a.axis, a.largest);
}

}  // namespace tandem::cuda
