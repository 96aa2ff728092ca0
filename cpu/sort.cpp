#include "ops/sort.h"

#include <algorithm>

#include "cpu/strided.h"
#include "ops/op_list.h"

namespace tandem::cpu {

namespace {

template <class C>
struct Item {
  C value;
  std::int64_t index;
};

// A total order (a NaN is the largest of all), with the position last: so any sort is stable, and
// one that needs no memory will do.
template <class C, bool kDescending>
struct Before {
  static bool less(C a, C b) {
    if constexpr (std::is_floating_point_v<C>) {
      if (a != a || b != b) return a == a;
    }
    return a < b;
  }
  bool operator()(const Item<C>& a, const Item<C>& b) const {
    const C &l = kDescending ? b.value : a.value, &r = kDescending ? a.value : b.value;
    const bool nans = a.value != a.value && b.value != b.value;
    if (!nans && less(l, r)) return true;
    if (!nans && less(r, l)) return false;
    return a.index < b.index;
  }
};

// Writes the first `k` of each line along `axis`.
template <class T, bool kDescending>
RefPtr<Plan> plan_lines(const PlanRequest& r, int axis) {
  using C = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, compute_t<T>>;
  const TensorDesc &x = r.in[0], &y = r.out[0];
  Axes<2> lines;  // input; output and indices, which are laid out alike
  for (int i = 0; i < x.rank(); ++i) {
    if (i != axis) lines.add(x.shape[i], {x.strides[i], y.strides[i]});
  }
  const std::int64_t n = x.shape[axis], k = y.shape[axis];
  const std::int64_t in_step = x.strides[axis], out_step = y.strides[axis];
  // Each part has a buffer of its own, so there must not be one for every line.
  const std::int64_t parts =
      n < 32 ? std::min<std::int64_t>(lines.count, 16) : std::min<std::int64_t>(lines.count, 64);
  const std::size_t buffer = align_up(static_cast<std::size_t>(n) * sizeof(Item<C>));
  return make_plan(
      "cpu:sort",
      [=](const LaunchArgs& a) {
        const auto* in = static_cast<const T*>(a.in[0]);
        auto* values = static_cast<T*>(a.out[0]);
        auto* indices = static_cast<std::int64_t*>(a.out[1]);
        if (k == 0) return;
        const std::int64_t per_part = (lines.count + parts - 1) / std::max<std::int64_t>(1, parts);
        parallel_for(parts, grain_for(per_part * n * 4), [&](std::int64_t b, std::int64_t e) {
          for (; b < e; ++b) {
            auto* item = reinterpret_cast<Item<C>*>(static_cast<char*>(a.workspace) +
                                                    static_cast<std::size_t>(b) * buffer);
            std::int64_t line = b * per_part;
            const std::int64_t stop = std::min(lines.count, line + per_part);
            for (Odometer<2> at(lines, line); line < stop; ++line, at.next()) {
              const T* p = in + at[0];
              for (std::int64_t i = 0; i < n; ++i) item[i] = {static_cast<C>(p[i * in_step]), i};
              const Before<C, kDescending> before;
              if (k < n && k <= 32) {
                std::partial_sort(item, item + k, item + n, before);
              } else {
                if (k < n) std::nth_element(item, item + k, item + n, before);
                std::sort(item, item + k, before);
              }
              for (std::int64_t i = 0; i < k; ++i) {
                values[at[1] + i * out_step] = static_cast<T>(item[i].value);
                indices[at[1] + i * out_step] = item[i].index;
              }
            }
          }
        });
      },
      static_cast<std::size_t>(parts) * buffer);
}

RefPtr<Plan> plan_order(const PlanRequest& r, std::int64_t axis_attr, bool descending) {
  const int axis = wrap_axis(axis_attr, r.in[0].rank(), r.op.name);
  return visit_dtype(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return descending ? plan_lines<T, true>(r, axis) : plan_lines<T, false>(r, axis);
  });
}

}  // namespace

RefPtr<Plan> plan_sort(const PlanRequest& r) {
  const auto& a = r.attrs<SortAttrs>();
  return plan_order(r, a.axis, a.descending);
}

RefPtr<Plan> plan_topk(const PlanRequest& r) {
  const auto& a = r.attrs<TopkAttrs>();
  return plan_order(r, a.axis, a.largest);
}

}  // namespace tandem::cpu
