// scatter_add and index_add.
//
// // No two threads write one element: the first index of those that are equal adds for all of
// them, in their order, which is the CPU's. Among few indices it looks for the others; many are
// sorted before. A line is what lies along the axis at one place of the other axes. Either each
// line has indices of its own (scatter_add), or all have the same (index_add).
#include "cuda/elementwise.h"
#include "cuda/index.h"
#include "cuda/loops.h"
#include "cuda/merge_sort.h"

namespace tandem::cuda {
namespace {

using i64 = long long;

constexpr i64 kFewIndices = 32;

/// Jobs of threads: one for each index of each line, or of each P lines side by side, which the
/// walk then counts in units.
struct AddJobs {
  Walk<3> walk;  // y, src and index, without the axis
  Walk<2> jobs;  // position along the axis, line: in the order threads take them
  i64 n = 0;     // indices of a line
  i64 jump = 0, src_step = 0, index_step = 0;  // along the axis
};

// Signed sums wrap around; as unsigned ones that is defined.
template <class T>
using Bits = std::conditional_t<std::is_same_v<T, std::int64_t>, unsigned long long,
                                std::conditional_t<std::is_same_v<T, std::int32_t>, unsigned, T>>;

template <class F>
RefPtr<Plan> visit_number(DType t, F&& f) {
  return visit_dtype(t, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, bool>) {
      return nullptr;  // refused by the shape rule
    } else {
      return f(type_tag<Bits<T>>{});
    }
  });
}

template <class T>
__global__ void add_few(AddJobs w, Ids ids, const T* src, T* y) {
  using C = compute_t<T>;
  for (i64 e = global_index(); e < w.jobs.count; e += global_size()) {
    i64 job[2], at[3];
    w.jobs.offsets(e, job);
    w.walk.offsets(job[1], at);
    const i64 j = job[0], id = ids(at[2] + j * w.index_step);
    bool mine = ids.allows(id);
    for (i64 i = 0; mine && i < j; ++i) mine = ids.raw(at[2] + i * w.index_step) != id;
    if (!mine) continue;
    T& to = y[at[0] + id * w.jump];
    C sum = static_cast<C>(to);
    for (i64 i = j; i < w.n; ++i) {
      if (ids.raw(at[2] + i * w.index_step) == id) {
        sum += static_cast<C>(src[at[1] + i * w.src_step]);
      }
    }
    to = static_cast<T>(sum);
  }
}

/// The indices of each list, for merge_sort.h. What is not allowed comes last.
template <class Item>
struct IdItems {
  Walk<3> walk;
  i64 step;
  Ids ids;

  __device__ Item load(i64 line, i64 i) const {
    i64 at[3];
    walk.offsets(line, at);
    const i64 id = ids(at[2] + i * step);
    return Item(static_cast<std::uint64_t>(ids.allows(id) ? id : ids.limit), i);
  }
  __device__ void store(i64, i64, const Item&) const {}
};

/// The sorted lists, one after the other.
struct Sorted {
  const void* items;
  bool wide;
  bool shared;  // one list for all lines

  struct Entry {
    i64 id, position;
  };
  __device__ Entry operator[](i64 i) const {
    if (wide) return entry(static_cast<const WideItem*>(items)[i]);
    return entry(static_cast<const NarrowItem*>(items)[i]);
  }

 private:
  template <class Item>
  __device__ static Entry entry(const Item& t) {
    return {static_cast<i64>(t.key()), t.index()};
  }
};

template <class T, int P>
__global__ void add_sorted(AddJobs w, Sorted sorted, i64 limit, const T* src, T* y) {
  using C = compute_t<T>;
  using V = Pack<T, P>;
  constexpr int kAhead = 8;
  for (i64 e = global_index(); e < w.jobs.count; e += global_size()) {
    i64 job[2], at[3];
    w.jobs.offsets(e, job);
    const i64 list = sorted.shared ? 0 : job[1] * w.n;
    const i64 id = sorted[list + job[0]].id;
    if (id == limit || (job[0] > 0 && sorted[list + job[0] - 1].id == id)) continue;
    w.walk.offsets(job[1], at);
    const V* from = reinterpret_cast<const V*>(src) + at[1];
    V& to = reinterpret_cast<V*>(y)[at[0] + id * w.jump];
    V v = to;
    C sum[P];
    for (int p = 0; p < P; ++p) sum[p] = static_cast<C>(v.v[p]);
    int found = kAhead;
    for (i64 i = job[0]; found == kAhead; i += kAhead) {
      // Several on their way at a time; added in order.
      V ahead[kAhead];
      found = 0;
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (i + k >= w.n) continue;
        const Sorted::Entry next = sorted[list + i + k];
        if (next.id != id) continue;
        ahead[k] = from[next.position * w.src_step];
        found = k + 1;
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (k >= found) continue;
        for (int p = 0; p < P; ++p) sum[p] += static_cast<C>(ahead[k].v[p]);
      }
    }
    for (int p = 0; p < P; ++p) v.v[p] = static_cast<T>(sum[p]);
    to = v;
  }
}

/// What scatter_add and index_add have in common, made in `plan`.
struct AddAt {
  const char* name;
  bool same_layout;
  StridedCopy copy;
  Axes<3> axes;  // y, src, index: without the axis
  IdsPlan ids;
  i64 n, jump, src_step, index_step;
  bool shared = true;

  AddAt(const PlanRequest& r, const char* name)
      : name(name),
        same_layout(r.in[0] == r.out[0]),
        copy(r.out[0], r.in[0]),
        ids(r, r.in[1], r.out[0].dim(axis_of(r))) {
    const TensorDesc &index = r.in[1], &src = r.in[2], &y = r.out[0];
    const int axis = axis_of(r);
    for (auto d : memory_order(y)) {
      const int i = static_cast<int>(d);
      if (i == axis) continue;
      axes.add(src.dim(i), {y.strides[i], src.strides[i], index_stride(index, src, i, axis)});
    }
    n = src.dim(axis);
    jump = y.strides[axis];
    src_step = src.strides[axis];
    index_step = index_stride(index, src, axis, axis);
    for (auto s : axes.stride[2]) shared = shared && s == 0;
  }

  /// Where all lines have the same indices, neighbouring threads take neighbouring lines.
  AddJobs jobs(i64 unit, bool lines_first) const {
    AddJobs w{walk_of(to_units(axes, unit)), {}, n, jump / unit, src_step / unit, index_step};
    Axes<2> order;
    if (lines_first) order.add(n, {1, 0});
    order.add(w.walk.count, {0, 1});
    if (!lines_first) order.add(n, {1, 0});
    w.jobs = walk_of(order);
    return w;
  }

  void begin(const LaunchArgs& a) const {
    if (a.in[0] != a.out[0] || !same_layout) copy.run(a, a.out[0], a.in[0]);
  }
};

RefPtr<Plan> plan_add_few(const AddAt& add, DType t) {
  return visit_number(t, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    return make_plan(add.name, [add, w = add.jobs(1, true)](const LaunchArgs& a) {
      add.begin(a);
      if (w.jobs.count == 0) return;
      launch(a, grid_for(w.jobs.count), add_few<T>, w, add.ids.bind(a, 1),
             static_cast<const T*>(a.in[2]), static_cast<T*>(a.out[0]));
    });
  });
}

template <class Item>
RefPtr<Plan> plan_add_sorted(const AddAt& add, DType t) {
  std::size_t workspace = 0;
  const AddJobs plain = add.jobs(1, add.shared);
  const RowSort<Item> sort(add.shared ? 1 : plain.walk.count, add.n, add.n, add.index_step > 1,
                           false, workspace);
  return visit_number(t, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    constexpr int kPack = 16 / sizeof(T);
    const bool packs = add.shared && in_units(add.axes, kPack) && add.jump % kPack == 0 &&
                       add.src_step % kPack == 0;
    return make_plan(
        add.name,
        [add, sort, plain, packs,
         wide = add.jobs(packs ? kPack : 1, add.shared)](const LaunchArgs& a) {
          add.begin(a);
          const Ids ids = add.ids.bind(a, 1);
          const Item* items = sort.run(a, IdItems<Item>{plain.walk, add.index_step, ids});
          const Sorted sorted{items, std::is_same_v<Item, WideItem>, add.shared};
          const auto* src = static_cast<const T*>(a.in[2]);
          auto* y = static_cast<T*>(a.out[0]);
          const bool pack = packs && aligned(src, 16) && aligned(y, 16);
          const AddJobs& w = pack ? wide : plain;
          launch(a, grid_for(w.jobs.count), pack ? add_sorted<T, kPack> : add_sorted<T, 1>, w,
                 sorted, ids.limit, src, y);
        },
        workspace);
  });
}

RefPtr<Plan> plan_add_at(const PlanRequest& r, const char* name) {
  const AddAt add(r, name);
  const DType t = r.in[0].dtype;
  if (add.n <= kFewIndices || add.axes.count == 0) return plan_add_few(add, t);
  const i64 narrow = 0xffffffff;
  return add.n <= narrow && add.ids.limit <= narrow ? plan_add_sorted<NarrowItem>(add, t)
                                                    : plan_add_sorted<WideItem>(add, t);
}

}  // namespace

RefPtr<Plan> plan_scatter_add(const PlanRequest& r) {
  return plan_add_at(r, "cuda:scatter_add");
}
RefPtr<Plan> plan_index_add(const PlanRequest& r) {
  return plan_add_at(r, "cuda:index_add");
}

}  // namespace tandem::cuda
