#include "ops/pool.h"

#include <limits>
#include <vector>

#include "cpu/operand.h"

namespace tandem::cpu {
namespace {

using i64 = std::int64_t;
using i32 = std::int32_t;

// The pooling of [N, C, H, W] planes, in one of the two dense layouts.
struct Geometry {
  i64 n, c, h, w, oh, ow;
  i64 kh = 1, kw = 1, sh = 1, sw = 1, ph = 0, pw = 0;
  bool channels_last;

  // `large` has the size before pooling, `small` that after.
  Geometry(const TensorDesc& large, const TensorDesc& small, const TensorDesc& layout_of)
      : n(large.dim(0)),
        c(large.dim(1)),
        h(large.dim(2)),
        w(large.dim(3)),
        oh(small.dim(2)),
        ow(small.dim(3)),
        channels_last(layout_of.is_channels_last()) {}
  Geometry(const TensorDesc& large, const TensorDesc& small, const TensorDesc& layout_of,
           const PoolAttrs& a)
      : Geometry(large, small, layout_of) {
    kh = a.kernel[0], kw = a.kernel[1], sh = a.stride[0], sw = a.stride[1];
    ph = a.padding[0], pw = a.padding[1];
  }

  i64 planes() const { return n * c; }
  bool halves() const {  // whole 2x2 windows side by side
    return kh == 2 && kw == 2 && sh == 2 && sw == 2 && ph == 0 && pw == 0 && 2 * oh <= h &&
           2 * ow <= w;
  }
  Strides strides(const Shape& s) const {
    return strides_for(s, channels_last ? MemoryFormat::channels_last : MemoryFormat::contiguous);
  }
};

struct Range {
  i64 begin, end;
};
// Inputs of window `o`, and windows that hold input `i`, along one axis.
inline Range window(i64 o, i64 k, i64 s, i64 p, i64 size) {
  const i64 b = o * s - p;
  return {std::max<i64>(b, 0), std::min(b + k, size)};
}
inline Range windows_of(i64 i, i64 k, i64 s, i64 p, i64 count) {
  const i64 first = i + p - k;  // the last window that ends before i
  return {first < 0 ? 0 : first / s + 1, std::min((i + p) / s + 1, count)};
}

// ------------------------------------------------------------------------------------ maximum

// A NaN is taken whatever was there, and nothing but another NaN replaces it.
template <class T>
inline bool takes(T v, T best) {
  const auto a = static_cast<compute_t<T>>(v), b = static_cast<compute_t<T>>(best);
  return (a > b) | (a != a);
}
template <class T>
inline void take(T v, i32 at, T& best, i32& best_at) {
  const bool t = takes(v, best);
  best = t ? v : best;
  best_at = t ? at : best_at;
}

template <class T>
void max_window_channels_last(const Geometry& g, const T* plane, i64 o_h, i64 o_w, T* __restrict y,
                              i32* __restrict at) {
  const i64 c = g.c;
  if (g.halves()) {
    const i32 p = static_cast<i32>(2 * o_h * g.w + 2 * o_w), q = p + static_cast<i32>(g.w);
    const T *r0 = plane + p * c, *r1 = plane + q * c;
    for (i64 i = 0; i < c; ++i) {
      T best = r0[i];
      i32 best_at = p;
      take(r0[c + i], p + 1, best, best_at);
      take(r1[i], q, best, best_at);
      take(r1[c + i], q + 1, best, best_at);
      y[i] = best;
      at[i] = best_at;
    }
    return;
  }
  const Range rh = window(o_h, g.kh, g.sh, g.ph, g.h), rw = window(o_w, g.kw, g.sw, g.pw, g.w);
  bool first = true;
  for (i64 ih = rh.begin; ih < rh.end; ++ih) {
    for (i64 iw = rw.begin; iw < rw.end; ++iw) {
      const i32 p = static_cast<i32>(ih * g.w + iw);
      const T* x = plane + p * c;
      if (first) {
        for (i64 i = 0; i < c; ++i) y[i] = x[i], at[i] = p;
        first = false;
      } else {
        for (i64 i = 0; i < c; ++i) take(x[i], p, y[i], at[i]);
      }
    }
  }
}

// One tap of the kernel against a row of outputs; `Step` is the stride, 0 if only known at run
// time, so that the compiler can vectorise the loads.
template <int Step, class T>
void max_tap(const T* x, i64 step, i32 at0, i64 count, T* __restrict y, i32* __restrict at) {
  if constexpr (Step != 0) step = Step;
  const i32 s = static_cast<i32>(step);
  for (i32 o = 0; o < static_cast<i32>(count); ++o) take(x[o * s], at0 + o * s, y[o], at[o]);
}

template <class T>
void max_row(const Geometry& g, const T* plane, i64 o_h, T* __restrict y, i32* __restrict at) {
  if (g.halves()) {
    const i32 p = static_cast<i32>(2 * o_h * g.w), q = p + static_cast<i32>(g.w);
    const T *r0 = plane + p, *r1 = plane + q;
    for (i32 o = 0; o < static_cast<i32>(g.ow); ++o) {
      T best = r0[2 * o];
      i32 best_at = p + 2 * o;
      take(r0[2 * o + 1], p + 2 * o + 1, best, best_at);
      take(r1[2 * o], q + 2 * o, best, best_at);
      take(r1[2 * o + 1], q + 2 * o + 1, best, best_at);
      y[o] = best;
      at[o] = best_at;
    }
    return;
  }
  const Range rh = window(o_h, g.kh, g.sh, g.ph, g.h);
  for (i64 o = 0; o < g.ow; ++o) {
    const i64 p = rh.begin * g.w + std::max<i64>(o * g.sw - g.pw, 0);
    y[o] = plane[p];
    at[o] = static_cast<i32>(p);
  }
  for (i64 ih = rh.begin; ih < rh.end; ++ih) {
    for (i64 k = 0; k < g.kw; ++k) {
      // Outputs whose tap k lies inside the row: 0 <= o sw - pw + k < w.
      const i64 b = k >= g.pw ? 0 : (g.pw - k + g.sw - 1) / g.sw;
      const i64 room = g.w - 1 + g.pw - k;
      const i64 e = room < 0 ? 0 : std::min(g.ow, room / g.sw + 1);
      if (e <= b) continue;
      const i64 p = ih * g.w + b * g.sw - g.pw + k;
      const auto run = [&](auto step) {
        max_tap<decltype(step)::value>(plane + p, g.sw, static_cast<i32>(p), e - b, y + b, at + b);
      };
      switch (g.sw) {
        case 1: run(std::integral_constant<int, 1>{}); break;
        case 2: run(std::integral_constant<int, 2>{}); break;
        default: run(std::integral_constant<int, 0>{});
      }
    }
  }
}

template <class T>
void max_pool(const Geometry& g, const T* x, T* y, i32* at) {
  if (g.channels_last) {
    parallel_for(g.n * g.oh, grain_for(g.ow * g.c * g.kh * g.kw), [&](i64 begin, i64 end) {
      for (i64 r = begin; r < end; ++r) {
        const T* image = x + r / g.oh * g.h * g.w * g.c;
        for (i64 o = 0; o < g.ow; ++o) {
          const i64 to = (r * g.ow + o) * g.c;
          max_window_channels_last(g, image, r % g.oh, o, y + to, at + to);
        }
      }
    });
  } else {
    parallel_for(g.planes() * g.oh, grain_for(g.ow * g.kh * g.kw), [&](i64 begin, i64 end) {
      for (i64 r = begin; r < end; ++r) {
        max_row(g, x + r / g.oh * g.h * g.w, r % g.oh, y + r * g.ow, at + r * g.ow);
      }
    });
  }
}

// Gradient: each input looks for itself among the positions of the windows that hold it, in a
// fixed order. So there is nothing to clear first, and nothing two threads could both write.
constexpr i64 kBlock = 64;

template <class T>
void max_pool_grad_channels_last(const Geometry& g, const T* gy, const i32* at, T* gx) {
  parallel_for(g.n * g.h, grain_for(g.w * g.c), [&](i64 begin, i64 end) {
    for (i64 r = begin; r < end; ++r) {
      const i64 ih = r % g.h, image = r / g.h * g.oh * g.ow * g.c;
      const Range rh = windows_of(ih, g.kh, g.sh, g.ph, g.oh);
      for (i64 iw = 0; iw < g.w; ++iw) {
        const Range rw = windows_of(iw, g.kw, g.sw, g.pw, g.ow);
        const i32 p = static_cast<i32>(ih * g.w + iw);
        T* to = gx + (r * g.w + iw) * g.c;
        for (i64 c0 = 0; c0 < g.c; c0 += kBlock) {
          const i64 cn = std::min(kBlock, g.c - c0);
          compute_t<T> acc[kBlock] = {};
          for (i64 o = rh.begin; o < rh.end; ++o) {
            for (i64 q = rw.begin; q < rw.end; ++q) {
              const i64 from = image + (o * g.ow + q) * g.c + c0;
              const T* v = gy + from;
              const i32* a = at + from;
              for (i64 i = 0; i < cn; ++i) {
                acc[i] += a[i] == p ? static_cast<compute_t<T>>(v[i]) : compute_t<T>(0);
              }
            }
          }
          for (i64 i = 0; i < cn; ++i) to[c0 + i] = static_cast<T>(acc[i]);
        }
      }
    }
  });
}

// Two rows of inputs from one row of 2x2 windows.
template <class T>
void halves_grad_rows(const Geometry& g, const T* gy, const i32* at, i64 o_h, T* __restrict r0,
                      T* __restrict r1) {
  const i32 p = static_cast<i32>(2 * o_h * g.w), q = p + static_cast<i32>(g.w);
  for (i32 o = 0; o < static_cast<i32>(g.ow); ++o) {
    const T v = gy[o];
    const i32 a = at[o];
    r0[2 * o] = a == p + 2 * o ? v : T{};
    r0[2 * o + 1] = a == p + 2 * o + 1 ? v : T{};
    r1[2 * o] = a == q + 2 * o ? v : T{};
    r1[2 * o + 1] = a == q + 2 * o + 1 ? v : T{};
  }
  for (i64 i = 2 * g.ow; i < g.w; ++i) r0[i] = r1[i] = T{};
}

template <class T>
void max_pool_grad_planes(const Geometry& g, const T* gy, const i32* at, T* gx) {
  parallel_for(g.planes(), grain_for(g.h * g.w), [&](i64 begin, i64 end) {
    for (i64 plane = begin; plane < end; ++plane) {
      const T* v = gy + plane * g.oh * g.ow;
      const i32* a = at + plane * g.oh * g.ow;
      T* to = gx + plane * g.h * g.w;
      if (g.halves()) {
        for (i64 o = 0; o < g.oh; ++o) {
          T* r = to + 2 * o * g.w;
          halves_grad_rows(g, v + o * g.ow, a + o * g.ow, o, r, r + g.w);
        }
        std::fill(to + 2 * g.oh * g.w, to + g.h * g.w, T{});
      } else if constexpr (std::is_same_v<T, compute_t<T>>) {
        std::fill(to, to + g.h * g.w, T{});
        for (i64 i = 0; i < g.oh * g.ow; ++i) to[a[i]] += v[i];
      } else {  // the same sums, but rounded once
        for (i64 ih = 0; ih < g.h; ++ih) {
          const Range rh = windows_of(ih, g.kh, g.sh, g.ph, g.oh);
          for (i64 iw = 0; iw < g.w; ++iw) {
            const Range rw = windows_of(iw, g.kw, g.sw, g.pw, g.ow);
            compute_t<T> acc = 0;
            for (i64 o = rh.begin * g.ow; o < rh.end * g.ow; o += g.ow) {
              for (i64 q = rw.begin; q < rw.end; ++q) {
                if (a[o + q] == ih * g.w + iw) acc += static_cast<compute_t<T>>(v[o + q]);
              }
            }
            to[ih * g.w + iw] = static_cast<T>(acc);
          }
        }
      }
    }
  });
}

template <class T>
void max_pool_gather(const Geometry& g, const T* x, const i32* at, T* y) {
  if (g.channels_last) {
    parallel_for(g.n * g.oh * g.ow, grain_for(g.c), [&](i64 begin, i64 end) {
      for (i64 r = begin; r < end; ++r) {
        const T* image = x + r / (g.oh * g.ow) * g.h * g.w * g.c;
        for (i64 i = 0; i < g.c; ++i) y[r * g.c + i] = image[at[r * g.c + i] * g.c + i];
      }
    });
  } else {
    const i64 size = g.oh * g.ow;
    parallel_for(g.planes(), grain_for(size), [&](i64 begin, i64 end) {
      for (i64 plane = begin; plane < end; ++plane) {
        const T* from = x + plane * g.h * g.w;
        for (i64 i = plane * size; i < (plane + 1) * size; ++i) y[i] = from[at[i]];
      }
    });
  }
}

// ------------------------------------------------------------------------------------ average
//
// All six average poolings are one sum over intervals,
//   out[p, q] = (sum over h in I(p), w in J(q) of in[h, w] pre(h) pre(w)) / (post(p) post(q)),
// where the forward ones divide by the size of the window afterwards and the gradients before.
template <class A>
struct Axis {
  std::vector<Range> of;     // inputs of each output
  std::vector<A> pre, post;  // one of them empty
  bool pairs = false;        // of[i] == [2i, 2i + 2)
};

template <class A>
Axis<A> forward_axis(const std::vector<Range>& windows, const std::vector<i64>& divisors) {
  Axis<A> a;
  a.of = windows;
  a.post.assign(divisors.begin(), divisors.end());
  a.pairs = true;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const i64 first = 2 * static_cast<i64>(i);
    a.pairs = a.pairs && windows[i].begin == first && windows[i].end == first + 2;
  }
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
      if (Forward && cols.pairs) {
        for (i64 j = 0; j < e - q; ++j) finish(p, q + j, sum[2 * j] + sum[2 * j + 1], y);
      } else {
        for (i64 j = q; j < e; ++j) {
          A total = 0;
          for (i64 k = cols.of[j].begin; k < cols.of[j].end; ++k) total += sum[k - from];
          finish(p, j, total, y);
        }
      }
      q = e;
    }
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

RefPtr<Plan> plan_max_pool2d(const PlanRequest& r) {
  const Geometry g(r.in[0], r.out[0], r.out[0], r.attrs<PoolAttrs>());
  std::size_t bytes = 0;
  const Operand in(r.in[0], g.strides(r.in[0].shape), bytes);
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:max_pool2d",
        [g, in](const LaunchArgs& a) {
          max_pool(g, in.load<T>(a.in[0], a.workspace), static_cast<T*>(a.out[0]),
                   static_cast<i32*>(a.out[1]));
        },
        bytes);
  });
}

RefPtr<Plan> plan_max_pool2d_grad(const PlanRequest& r) {
  const Geometry g(r.out[0], r.in[0], r.out[0], r.attrs<PoolAttrs>());
  std::size_t bytes = 0;
  const Operand gy(r.in[0], g.strides(r.in[0].shape), bytes);
  const Operand at(r.in[1], g.strides(r.in[1].shape), bytes);
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:max_pool2d_grad",
        [g, gy, at](const LaunchArgs& a) {
          const T* v = gy.load<T>(a.in[0], a.workspace);
          const i32* p = at.load<i32>(a.in[1], a.workspace);
          T* gx = static_cast<T*>(a.out[0]);
          if (g.channels_last) {
            max_pool_grad_channels_last(g, v, p, gx);
          } else {
            max_pool_grad_planes(g, v, p, gx);
          }
        },
        bytes);
  });
}

RefPtr<Plan> plan_max_pool2d_gather(const PlanRequest& r) {
  const Geometry g(r.in[0], r.out[0], r.out[0], r.attrs<PoolAttrs>());
  std::size_t bytes = 0;
  const Operand in(r.in[0], g.strides(r.in[0].shape), bytes);
  const Operand at(r.in[1], g.strides(r.in[1].shape), bytes);
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:max_pool2d_gather",
        [g, in, at](const LaunchArgs& a) {
          const T* x = in.load<T>(a.in[0], a.workspace);
          max_pool_gather(g, x, at.load<i32>(a.in[1], a.workspace), static_cast<T*>(a.out[0]));
        },
        bytes);
  });
}

RefPtr<Plan> plan_avg_pool2d(const PlanRequest& r) {
  return plan_average<true, PoolAttrs>(r, "cpu:avg_pool2d");
}
RefPtr<Plan> plan_avg_pool2d_grad(const PlanRequest& r) {
  return plan_average<false, PoolAttrs>(r, "cpu:avg_pool2d_grad");
}
RefPtr<Plan> plan_adaptive_avg_pool2d(const PlanRequest& r) {
  return plan_average<true, AdaptivePoolAttrs>(r, "cpu:adaptive_avg_pool2d");
}
RefPtr<Plan> plan_adaptive_avg_pool2d_grad(const PlanRequest& r) {
  return plan_average<false, AdaptivePoolAttrs>(r, "cpu:adaptive_avg_pool2d_grad");
}

}  // namespace tandem::cpu
