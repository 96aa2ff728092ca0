// Average pooling.
#include "cpu/onednn.h"
#include "cpu/pool.h"

namespace tandem::cpu {
namespace {

using namespace pool;

// Average pooling, adaptive or not, and both gradients are one sum over intervals,
//   out[p, q] = (sum over h in I(p), w in J(q) of in[h, w] pre(h) pre(w)) / (post(p) post(q)),
// where the forward ones divide by the size of the window afterwards and the gradients before.
template <class A>
struct Axis {
  std::vector<Range> of;     // inputs of each output
  std::vector<A> pre, post;  // one of them empty
  // Outputs [regular.begin, regular.end) cover `length` inputs each and start `step` apart.
  Range regular = {0, 0};
  i64 length = 0, step = 0;
  // Where no output has more than one input: which one, -1 for none.
  std::vector<i32> only;

  void analyse() {
    const i64 n = static_cast<i64>(of.size());
    const auto len = [&](i64 i) { return of[i].end - of[i].begin; };
    const auto like_middle = [&](i64 i) {
      return len(i) == length && of[i].begin - of[n / 2].begin == (i - n / 2) * step;
    };
    if (n == 0) return;
    length = len(n / 2);
    step = n / 2 + 1 < n ? of[n / 2 + 1].begin - of[n / 2].begin : 1;
    regular = {n / 2, n / 2 + 1};
    while (regular.begin > 0 && like_middle(regular.begin - 1)) --regular.begin;
    while (regular.end < n && like_middle(regular.end)) ++regular.end;
    for (i64 i = 0; i < n; ++i) {
      if (len(i) > 1) return only.clear();
      only.push_back(len(i) == 1 ? static_cast<i32>(of[i].begin) : -1);
    }
  }
};

template <class A>
Axis<A> forward_axis(const std::vector<Range>& windows, const std::vector<i64>& divisors) {
  Axis<A> a;
  a.of = windows;
  a.post.assign(divisors.begin(), divisors.end());
  a.analyse();
  return a;
}

template <class A>
Axis<A> backward_axis(const std::vector<Range>& windows, const std::vector<i64>& divisors,
                      i64 size) {
  Axis<A> a;
  for (i64 d : divisors) a.pre.push_back(A(1) / static_cast<A>(d));
  // Windows are in order, so those that hold input i are consecutive.
  const i64 n = static_cast<i64>(windows.size());
  i64 b = 0, e = 0;
  for (i64 i = 0; i < size; ++i) {
    while (b < n && windows[b].end <= i) ++b;
    e = std::max(e, b);
    while (e < n && windows[e].begin <= i) ++e;
    a.of.push_back({b, e});
  }
  a.analyse();
  return a;
}

template <class T, bool Forward>
struct IntervalSums {
  using A = compute_t<T>;
  static constexpr i64 kRow = 512;

  i64 n, c, h, w, oh, ow;  // of this sum's input and output
  bool channels_last;
  Axis<A> rows, cols;

  void run(const T* x, T* y) const {
    if (channels_last) {
      parallel_for(n * oh, grain_for(ow * c), [&](i64 begin, i64 end) {
        for (i64 r = begin; r < end; ++r) {
          for (i64 o = 0; o < ow; ++o) {
            window_channels_last(x + r / oh * h * w * c, r % oh, o, y + (r * ow + o) * c);
          }
        }
      });
    } else {
      const i64 row = std::max(ow, h * w / std::max<i64>(oh, 1));
      parallel_for(n * c * oh, grain_for(row), [&](i64 begin, i64 end) {
        for (i64 r = begin; r < end; ++r) row_of(x + r / oh * h * w, r % oh, y + r * ow);
      });
    }
  }

  void window_channels_last(const T* image, i64 p, i64 q, T* __restrict y) const {
    const Range rh = rows.of[p], rw = cols.of[q];
    for (i64 c0 = 0; c0 < c; c0 += kBlock) {
      const i64 cn = std::min(kBlock, c - c0);
      A acc[kBlock] = {};
      for (i64 i = rh.begin; i < rh.end; ++i) {
        for (i64 j = rw.begin; j < rw.end; ++j) {
          const T* x = image + (i * w + j) * c + c0;
          if constexpr (Forward) {
            for (i64 k = 0; k < cn; ++k) acc[k] += static_cast<A>(x[k]);
          } else {
            const A f = rows.pre[i] * cols.pre[j];
            for (i64 k = 0; k < cn; ++k) acc[k] += static_cast<A>(x[k]) * f;
          }
        }
      }
      if constexpr (Forward) {
        const A d = rows.post[p] * cols.post[q];
        for (i64 k = 0; k < cn; ++k) y[c0 + k] = static_cast<T>(acc[k] / d);
      } else {
        for (i64 k = 0; k < cn; ++k) y[c0 + k] = static_cast<T>(acc[k]);
      }
    }
  }

  // Columns are summed first, over a stretch of the row, then the stretch's windows.
  void row_of(const T* plane, i64 p, T* __restrict y) const {
    const Range rh = rows.of[p];
    A sum[kRow];
    for (i64 q = 0; q < ow;) {
      const i64 from = cols.of[q].begin;
      i64 e = q;
      while (e < ow && cols.of[e].end - from <= kRow) ++e;
      if (e == q) {  // a window wider than a stretch
        A total = 0;
        for (i64 b = from; b < cols.of[q].end; b += kRow) {
          const i64 len = std::min(kRow, cols.of[q].end - b);
          sum_columns(plane, rh, b, len, sum);
          for (i64 j = 0; j < len; ++j) total += sum[j];
        }
        finish(p, q, total, y);
        ++q;
        continue;
      }
      sum_columns(plane, rh, from, std::max<i64>(0, cols.of[e - 1].end - from), sum);
      combine(p, q, e, from, sum, y);
      q = e;
    }
  }

  // Outputs [q, e) of row p from the sums of columns `from` on.
  void combine(i64 p, i64 q, i64 e, i64 from, const A* __restrict sum, T* __restrict y) const {
    if (!cols.only.empty()) {
      const i32* only = cols.only.data();
      for (i64 j = q; j < e; ++j) finish(p, j, only[j] < 0 ? A(0) : sum[only[j] - from], y);
      return;
    }
    const i64 b = std::clamp(cols.regular.begin, q, e), r = std::clamp(cols.regular.end, b, e);
    const auto one_by_one = [&](i64 first, i64 last) {
      for (i64 j = first; j < last; ++j) {
        A total = 0;
        for (i64 k = cols.of[j].begin; k < cols.of[j].end; ++k) total += sum[k - from];
        finish(p, j, total, y);
      }
    };
    one_by_one(q, b);
    const A* s = b < r ? sum + (cols.of[b].begin - from) : sum;
    if (cols.step == 2 && cols.length == 2) {
      for (i64 j = 0; j < r - b; ++j) finish(p, b + j, s[2 * j] + s[2 * j + 1], y);
    } else if (cols.step == 1 || cols.step == 2) {
      A acc[kRow];
      for (i64 j = 0; j < r - b; ++j) acc[j] = 0;
      for (i64 k = 0; k < cols.length; ++k) {
        if (cols.step == 2) {
          for (i64 j = 0; j < r - b; ++j) acc[j] += s[2 * j + k];
        } else {
          for (i64 j = 0; j < r - b; ++j) acc[j] += s[j + k];
        }
      }
      for (i64 j = 0; j < r - b; ++j) finish(p, b + j, acc[j], y);
    } else {
      one_by_one(b, r);
    }
    one_by_one(r, e);
  }

  void finish(i64 p, i64 q, A total, T* y) const {
    if constexpr (Forward) {
      y[q] = static_cast<T>(total / (rows.post[p] * cols.post[q]));
    } else {
      y[q] = static_cast<T>(total);
    }
  }

  void sum_columns(const T* plane, Range rh, i64 from, i64 len, A* __restrict sum) const {
    for (i64 j = 0; j < len; ++j) sum[j] = 0;
    for (i64 i = rh.begin; i < rh.end; ++i) {
      const T* x = plane + i * w + from;
      if constexpr (Forward) {
        for (i64 j = 0; j < len; ++j) sum[j] += static_cast<A>(x[j]);
      } else {
        const A f = rows.pre[i];
        const A* fw = cols.pre.data() + from;
        for (i64 j = 0; j < len; ++j) sum[j] += static_cast<A>(x[j]) * (f * fw[j]);
      }
    }
  }
};

struct Windows {
  std::vector<Range> of[2];
  std::vector<i64> divisor[2];
};

Windows windows_of(const PoolAttrs& a, const Dims& size, const Dims& pooled) {
  Windows r;
  for (int i = 0; i < 2; ++i) {
    const i64 k = a.kernel[i], s = a.stride[i], p = a.padding[i];
    for (i64 o = 0; o < pooled[i]; ++o) {
      const Range in = window(o, k, s, p, size[i]);
      const i64 padded = std::min(o * s - p + k, size[i] + p) - (o * s - p);
      r.of[i].push_back(in);
      r.divisor[i].push_back(a.count_include_pad ? padded : in.end - in.begin);
    }
  }
  return r;
}

Windows windows_of(const AdaptivePoolAttrs&, const Dims& size, const Dims& pooled) {
  Windows r;
  for (int i = 0; i < 2; ++i) {
    for (i64 o = 0; o < pooled[i]; ++o) {
      const i64 b = o * size[i] / pooled[i], e = ((o + 1) * size[i] + pooled[i] - 1) / pooled[i];
      r.of[i].push_back({b, e});
      r.divisor[i].push_back(e - b);
    }
  }
  return r;
}

template <bool Forward, class Attrs>
RefPtr<Plan> plan_average(const PlanRequest& r, const char* name) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  const TensorDesc &large = Forward ? x : y, &small = Forward ? y : x;
  const Dims size{large.dim(2), large.dim(3)}, pooled{small.dim(2), small.dim(3)};
  const Windows win = windows_of(r.attrs<Attrs>(), size, pooled);
  const Geometry g(large, small, y);
  std::size_t bytes = 0;
  const Operand in(x, g.strides(x.shape), bytes);
  return visit_floating(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = compute_t<T>;
    const auto axis = [&](int i) {
      if constexpr (Forward) {
        return forward_axis<A>(win.of[i], win.divisor[i]);
      } else {
        return backward_axis<A>(win.of[i], win.divisor[i], size[i]);
      }
    };
    const IntervalSums<T, Forward> sums{x.dim(0), x.dim(1),        x.dim(2), x.dim(3), y.dim(2),
                                        y.dim(3), g.channels_last, axis(0),  axis(1)};
    return make_plan(
        name,
        [in, sums](const LaunchArgs& a) {
          sums.run(in.load<T>(a.in[0], a.workspace), static_cast<T*>(a.out[0]));
        },
        bytes);
  });
}

}  // namespace

namespace {
// Of the library's pooling (2.6, f32 and bf16, both layouts) only the average is ever faster than
// the kernels here, its gradient by 1.1 to 2.8 times, but not contiguous f32 forward.
RefPtr<Plan> vendor_average(const PlanRequest& r, bool grad) {
  const auto& a = r.attrs<PoolAttrs>();
  const bool own = !grad && r.in[0].dtype == DType::f32 && !r.in[0].is_channels_last();
  if (!r.policy.vendor || own) return {};
  return onednn::plan_average_pool({.grad = grad,
                                    .large = grad ? r.out[0] : r.in[0],
                                    .small = grad ? r.in[0] : r.out[0],
                                    .kernel = a.kernel,
                                    .stride = a.stride,
                                    .padding = a.padding,
                                    .count_include_pad = a.count_include_pad});
}
}  // namespace

RefPtr<Plan> plan_avg_pool2d(const PlanRequest& r) {
  if (RefPtr<Plan> v = vendor_average(r, false)) return v;
  return plan_average<true, PoolAttrs>(r, "cpu:avg_pool2d");
}
RefPtr<Plan> plan_avg_pool2d_grad(const PlanRequest& r) {
  if (RefPtr<Plan> v = vendor_average(r, true)) return v;
  return plan_average<false, PoolAttrs>(r, "cpu:avg_pool2d_grad");
}
RefPtr<Plan> plan_adaptive_avg_pool2d(const PlanRequest& r) {
  return plan_average<true, AdaptivePoolAttrs>(r, "cpu:adaptive_avg_pool2d");
}
RefPtr<Plan> plan_adaptive_avg_pool2d_grad(const PlanRequest& r) {
  return plan_average<false, AdaptivePoolAttrs>(r, "cpu:adaptive_avg_pool2d_grad");
}

}  // namespace tandem::cpu
