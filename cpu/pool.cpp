// Maximum pooling.
#include "cpu/pool.h"

#include <atomic>
#include <limits>

#include "cpu/index_check.h"

namespace tandem::cpu {
namespace {

using namespace pool;

// Work is done in stretches that fit into small buffers of the compute type: loops over them are
// long and regular even where rows are short, and 16-bit elements are converted once.
constexpr i64 kStretch = 256;  // outputs of a row
constexpr i64 kMargin = 64;
constexpr i64 kPhases = 4;

// A NaN is taken whatever was there, and nothing but another NaN replaces it.
template <class A>
inline void take(A v, i32 at, A& best, i32& best_at) {
  const bool t = (v > best) | (v != v);
  best = t ? v : best;
  best_at = t ? at : best_at;
}

template <class T>
void max_window_channels_last(const Geometry& g, const T* plane, i64 o_h, i64 o_w, T* y, i32* at) {
  using A = compute_t<T>;
  const Range rh = window(o_h, g.kh, g.sh, g.ph, g.h), rw = window(o_w, g.kw, g.sw, g.pw, g.w);
  for (i64 c0 = 0; c0 < g.c; c0 += kBlock) {
    const i64 cn = std::min(kBlock, g.c - c0);
    A best[kBlock];
    i32 best_at[kBlock];
    bool first = true;
    for (i64 ih = rh.begin; ih < rh.end; ++ih) {
      for (i64 iw = rw.begin; iw < rw.end; ++iw) {
        const i32 p = static_cast<i32>(ih * g.w + iw);
        const T* x = plane + p * g.c + c0;
        if (first) {
          for (i64 i = 0; i < cn; ++i) best[i] = static_cast<A>(x[i]), best_at[i] = p;
          first = false;
        } else {
          for (i64 i = 0; i < cn; ++i) take(static_cast<A>(x[i]), p, best[i], best_at[i]);
        }
      }
    }
    for (i64 i = 0; i < cn; ++i) y[c0 + i] = static_cast<T>(best[i]);
    for (i64 i = 0; i < cn; ++i) at[c0 + i] = best_at[i];
  }
}

// The same for 2x2 windows side by side: one pass.
template <class T>
void max_halves_channels_last(const Geometry& g, const T* plane, i64 o_h, i64 o_w, T* __restrict y,
                              i32* __restrict at) {
  using A = compute_t<T>;
  const i64 c = g.c;
  const i32 p = static_cast<i32>(2 * o_h * g.w + 2 * o_w), q = p + static_cast<i32>(g.w);
  const T *r0 = plane + p * c, *r1 = plane + q * c;
  for (i64 i = 0; i < c; ++i) {
    A best = static_cast<A>(r0[i]);
    i32 best_at = p;
    take(static_cast<A>(r0[c + i]), p + 1, best, best_at);
    take(static_cast<A>(r1[i]), q, best, best_at);
    take(static_cast<A>(r1[c + i]), q + 1, best, best_at);
    y[i] = static_cast<T>(best);
    at[i] = best_at;
  }
}

// A row of outputs. Each row of inputs is split into as many phases as the stride is long, so that
// every tap of the kernel meets neighbouring outputs with neighbouring inputs.
template <class T>
void max_row(const Geometry& g, const T* plane, i64 o_h, T* y, i32* at) {
  using A = compute_t<T>;
  constexpr A kNone = -std::numeric_limits<A>::infinity();
  const Range rh = window(o_h, g.kh, g.sh, g.ph, g.h);
  A best[kStretch], phase[kPhases][kStretch + kMargin];
  for (i64 o = 0; o < g.ow; o += kStretch) {
    const i64 count = std::min(kStretch, g.ow - o), base = o * g.sw - g.pw;
    for (i64 i = 0; i < count; ++i) {
      best[i] = kNone;
      at[o + i] = static_cast<i32>(rh.begin * g.w + std::max<i64>(base + i * g.sw, 0));
    }
    for (i64 ih = rh.begin; ih < rh.end; ++ih) {
      const T* x = plane + ih * g.w;
      const i64 len = count - 1 + (g.kw + g.sw - 1) / g.sw;
      for (i64 f = 0; f < g.sw; ++f) {
        const i64 from = base + f;  // element t of the phase is column from + t sw
        const i64 b = std::min(len, from >= 0 ? 0 : (-from + g.sw - 1) / g.sw);
        const i64 e = std::clamp<i64>((g.w - from + g.sw - 1) / g.sw, b, len);
        A* to = phase[f];
        std::fill(to, to + b, kNone);
        for (i64 t = b; t < e; ++t) to[t] = static_cast<A>(x[from + t * g.sw]);
        std::fill(to + e, to + len, kNone);
      }
      for (i64 k = 0; k < g.kw; ++k) {
        const A* v = phase[k % g.sw] + k / g.sw;
        const i32 p = static_cast<i32>(ih * g.w + base + k), step = static_cast<i32>(g.sw);
        i32* to = at + o;
        for (i32 i = 0; i < static_cast<i32>(count); ++i) {
          take(v[i], p + i * step, best[i], to[i]);
        }
      }
    }
    for (i64 i = 0; i < count; ++i) y[o + i] = static_cast<T>(best[i]);
  }
}

// For strides and kernels too large for that.
template <class T>
void max_row_plain(const Geometry& g, const T* plane, i64 o_h, T* y, i32* at) {
  using A = compute_t<T>;
  const Range rh = window(o_h, g.kh, g.sh, g.ph, g.h);
  for (i64 o = 0; o < g.ow; ++o) {
    const Range rw = window(o, g.kw, g.sw, g.pw, g.w);
    i32 best_at = static_cast<i32>(rh.begin * g.w + rw.begin);
    A best = static_cast<A>(plane[best_at]);
    for (i64 ih = rh.begin; ih < rh.end; ++ih) {
      for (i64 p = ih * g.w + rw.begin; p < ih * g.w + rw.end; ++p) {
        take(static_cast<A>(plane[p]), static_cast<i32>(p), best, best_at);
      }
    }
    y[o] = static_cast<T>(best);
    at[o] = best_at;
  }
}

// Rows of 2x2 windows side by side, several at a time: their inputs laid end to end.
template <class F>
void each_halves_stretch(const Geometry& g, const F& f) {
  const i64 rows = std::max<i64>(1, kPlane / g.w);
  for (i64 o = 0; o < g.oh; o += rows) f(o, std::min(rows, g.oh - o));
}

template <class T>
void max_halves(const Geometry& g, const i32* first, const T* plane, T* y, i32* at) {
  using A = compute_t<T>;
  each_halves_stretch(g, [&](i64 o, i64 rows) {
    A top[kPlane], bottom[kPlane];
    const i64 len = 2 * g.ow;
    for (i64 r = 0; r < rows; ++r) {
      const T* x = plane + 2 * (o + r) * g.w;
      for (i64 i = 0; i < len; ++i) top[r * len + i] = static_cast<A>(x[i]);
      for (i64 i = 0; i < len; ++i) bottom[r * len + i] = static_cast<A>(x[g.w + i]);
    }
    const i32 w = static_cast<i32>(g.w);
    const i32* p = first + o * g.ow;
    T* to = y + o * g.ow;
    i32* to_at = at + o * g.ow;
#pragma GCC ivdep
    for (i64 i = 0; i < rows * g.ow; ++i) {
      A best = top[2 * i];
      i32 best_at = p[i];
      take(top[2 * i + 1], p[i] + 1, best, best_at);
      take(bottom[2 * i], p[i] + w, best, best_at);
      take(bottom[2 * i + 1], p[i] + w + 1, best, best_at);
      to[i] = static_cast<T>(best);
      to_at[i] = best_at;
    }
  });
}

// `first`: for windows side by side, the position of each one's first input.
template <class T>
void max_pool(const Geometry& g, const std::vector<i32>& first, const T* x, T* y, i32* at) {
  if (g.channels_last) {
    parallel_for(g.n * g.oh, grain_for(g.ow * g.c * g.kh * g.kw), [&](i64 begin, i64 end) {
      for (i64 r = begin; r < end; ++r) {
        const T* image = x + r / g.oh * g.h * g.w * g.c;
        for (i64 o = 0; o < g.ow; ++o) {
          const i64 to = (r * g.ow + o) * g.c;
          if (g.halves()) {
            max_halves_channels_last(g, image, r % g.oh, o, y + to, at + to);
          } else {
            max_window_channels_last(g, image, r % g.oh, o, y + to, at + to);
          }
        }
      }
    });
  } else if (!first.empty()) {
    parallel_for(g.planes(), grain_for(g.h * g.w), [&](i64 begin, i64 end) {
      for (i64 plane = begin; plane < end; ++plane) {
        const i64 to = plane * g.oh * g.ow;
        max_halves(g, first.data(), x + plane * g.h * g.w, y + to, at + to);
      }
    });
  } else {
    const bool phases = g.sw <= kPhases && g.kw <= kMargin;
    parallel_for(g.planes() * g.oh, grain_for(g.ow * g.kh * g.kw), [&](i64 begin, i64 end) {
      for (i64 r = begin; r < end; ++r) {
        const auto row = phases ? max_row<T> : max_row_plain<T>;
        row(g, x + r / g.oh * g.h * g.w, r % g.oh, y + r * g.ow, at + r * g.ow);
      }
    });
  }
}

// Keeps kernels that follow positions inside of the plane. It looks at those about to be used, when
// they are on their way into the cache anyway. Kernels that only compare positions need no such
// look, which would cost them up to a tenth of their time.
class Watch {
 public:
  explicit Watch(const Geometry& g) : plane_(static_cast<std::uint32_t>(g.h * g.w)) {}

  bool inside(const i32* at, i64 n) {
    std::uint32_t most = 0;  // as unsigned a negative position is a large one
    for (i64 i = 0; i < n; ++i) most = std::max(most, static_cast<std::uint32_t>(at[i]));
    if (most < plane_) return true;
    bad_.store(true, std::memory_order_relaxed);
    return false;
  }
  bool found_bad() const { return bad_; }

 private:
  std::uint32_t plane_;
  std::atomic<bool> bad_ = false;
};

// Gradient. In planes, each is cleared and added into; in channels-last, where threads share
// planes, each input looks for itself among the positions of the windows that hold it. Both add in
// the order of the windows.
template <class T>
void max_pool_grad_channels_last(const Geometry& g, const T* gy, const i32* at, T* gx) {
  using A = compute_t<T>;
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
          A acc[kBlock] = {};
          for (i64 o = rh.begin; o < rh.end; ++o) {
            for (i64 q = rw.begin; q < rw.end; ++q) {
              const i64 from = image + (o * g.ow + q) * g.c + c0;
              const T* v = gy + from;
              const i32* a = at + from;
              for (i64 i = 0; i < cn; ++i) acc[i] += a[i] == p ? static_cast<A>(v[i]) : A(0);
            }
          }
          for (i64 i = 0; i < cn; ++i) to[c0 + i] = static_cast<T>(acc[i]);
        }
      }
    }
  });
}

// Windows side by side: a choice between the gradient and zero, the same for any dtype (U: an
// unsigned integer of its size).
template <class U>
void halves_grad_channels_last(const Geometry& g, const U* gy, const i32* at, U* gx) {
  parallel_for(g.n * g.h, grain_for(g.w * g.c), [&](i64 begin, i64 end) {
    for (i64 r = begin; r < end; ++r) {
      const i64 ih = r % g.h, o = ih / 2, c = g.c;
      U* row = gx + r * g.w * c;
      const i64 covered = o < g.oh ? 2 * g.ow * c : 0;
      std::fill(row + covered, row + g.w * c, U(0));
      if (covered == 0) continue;
      const i64 from = (r / g.h * g.oh + o) * g.ow * c;
      for (i64 q = 0; q < g.ow; ++q) {
        const U* v = gy + from + q * c;
        const i32* a = at + from + q * c;
        const i32 p = static_cast<i32>(ih * g.w + 2 * q);
        U *left = row + 2 * q * c, *right = left + c;
#pragma GCC ivdep
        for (i64 i = 0; i < c; ++i) {
          left[i] = a[i] == p ? v[i] : U(0);
          right[i] = a[i] == p + 1 ? v[i] : U(0);
        }
      }
    }
  });
}

template <class U>
void halves_grad(const Geometry& g, const i32* first, const U* gy, const i32* at, U* gx) {
  parallel_for(g.planes(), grain_for(g.h * g.w), [&](i64 begin, i64 end) {
    for (i64 plane = begin; plane < end; ++plane) {
      U* to = gx + plane * g.h * g.w;
      each_halves_stretch(g, [&](i64 o, i64 rows) {
        U top[kPlane], bottom[kPlane];
        const auto w = static_cast<std::uint32_t>(g.w);
        const i32 *p = first + o * g.ow, *a = at + (plane * g.oh + o) * g.ow;
        const U* v = gy + (plane * g.oh + o) * g.ow;
        for (i64 i = 0; i < rows * g.ow; ++i) {
          // Unsigned: a position that is none must not overflow.
          const std::uint32_t k =
              static_cast<std::uint32_t>(a[i]) - static_cast<std::uint32_t>(p[i]);
          top[2 * i] = k == 0 ? v[i] : U(0);
          top[2 * i + 1] = k == 1 ? v[i] : U(0);
          bottom[2 * i] = k == w ? v[i] : U(0);
          bottom[2 * i + 1] = k == w + 1 ? v[i] : U(0);
        }
        const i64 len = 2 * g.ow;
        for (i64 r = 0; r < rows; ++r) {
          U *r0 = to + 2 * (o + r) * g.w, *r1 = r0 + g.w;
          for (i64 i = 0; i < len; ++i) r0[i] = top[r * len + i];
          for (i64 i = 0; i < len; ++i) r1[i] = bottom[r * len + i];
          for (i64 i = len; i < g.w; ++i) r0[i] = r1[i] = U(0);
        }
      });
      std::fill(to + 2 * g.oh * g.w, to + g.h * g.w, U(0));
    }
  });
}

// 16-bit gradients are added up in float, in `scratch`: a plane for each of `tasks`.
template <class T>
void max_pool_grad_planes(const Geometry& g, const T* gy, const i32* at, T* gx, i64 tasks,
                          compute_t<T>* scratch, Watch& watch) {
  using A = compute_t<T>;
  const i64 size = g.h * g.w, out = g.oh * g.ow, per = (g.planes() + tasks - 1) / tasks;
  parallel_for(tasks, grain_for(per * size), [&](i64 begin, i64 end) {
    for (i64 plane = begin * per; plane < std::min(end * per, g.planes()); ++plane) {
      if (!watch.inside(at + plane * out, out)) continue;
      T* to = gx + plane * size;
      A* acc;
      if constexpr (std::is_same_v<T, A>) {
        acc = to;
      } else {
        acc = scratch + begin * size;
      }
      std::fill(acc, acc + size, A(0));
      for (i64 i = plane * out; i < (plane + 1) * out; ++i) acc[at[i]] += static_cast<A>(gy[i]);
      if constexpr (!std::is_same_v<T, A>) {
        for (i64 i = 0; i < size; ++i) to[i] = static_cast<T>(acc[i]);
      }
    }
  });
}

template <class T>
void max_pool_gather(const Geometry& g, const T* x, const i32* at, T* y, Watch& watch) {
  if (g.channels_last) {
    parallel_for(g.n * g.oh * g.ow, grain_for(g.c), [&](i64 begin, i64 end) {
      for (i64 r = begin; r < end; ++r) {
        if (!watch.inside(at + r * g.c, g.c)) continue;
        const T* image = x + r / (g.oh * g.ow) * g.h * g.w * g.c;
        for (i64 i = 0; i < g.c; ++i) y[r * g.c + i] = image[at[r * g.c + i] * g.c + i];
      }
    });
  } else {
    const i64 size = g.oh * g.ow;
    parallel_for(g.planes(), grain_for(size), [&](i64 begin, i64 end) {
      for (i64 plane = begin; plane < end; ++plane) {
        if (!watch.inside(at + plane * size, size)) continue;
        const T* from = x + plane * g.h * g.w;
        for (i64 i = plane * size; i < (plane + 1) * size; ++i) y[i] = from[at[i]];
      }
    });
  }
}

}  // namespace

RefPtr<Plan> plan_max_pool2d(const PlanRequest& r) {
  const Geometry g(r.in[0], r.out[0], r.out[0], r.attrs<PoolAttrs>());
  const std::vector<i32> first = g.first_inputs();
  std::size_t bytes = 0;
  const Operand in(r.in[0], g.strides(r.in[0].shape), bytes);
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:max_pool2d",
        [g, first, in](const LaunchArgs& a) {
          max_pool(g, first, in.load<T>(a.in[0], a.workspace), static_cast<T*>(a.out[0]),
                   static_cast<i32*>(a.out[1]));
        },
        bytes);
  });
}

RefPtr<Plan> plan_max_pool2d_grad(const PlanRequest& r) {
  const Geometry g(r.out[0], r.in[0], r.out[0], r.attrs<PoolAttrs>());
  const std::vector<i32> first = g.first_inputs();
  std::size_t bytes = 0;
  const Operand gy(r.in[0], g.strides(r.in[0].shape), bytes);
  const Operand at(r.in[1], g.strides(r.in[1].shape), bytes);
  if (g.halves() && (g.channels_last || !first.empty())) {
    return visit_size(size_of(r.in[0].dtype), [&](auto tag) {
      using U = typename decltype(tag)::type;
      return make_plan(
          "cpu:max_pool2d_grad",
          [g, first, gy, at](const LaunchArgs& a) {
            const U* v = gy.load<U>(a.in[0], a.workspace);
            const i32* p = at.load<i32>(a.in[1], a.workspace);
            U* gx = static_cast<U*>(a.out[0]);
            if (g.channels_last) {
              halves_grad_channels_last(g, v, p, gx);
            } else {
              halves_grad(g, first.data(), v, p, gx);
            }
          },
          bytes);
    });
  }
  const IndexCheck check(r.op.name, r.in[1], g.h * g.w);
  const i64 tasks = std::clamp<i64>(g.planes(), 1, 64);
  const std::size_t scratch =
      reserve(bytes, !g.channels_last && is_low_precision(r.in[0].dtype)
                         ? static_cast<std::size_t>(tasks * g.h * g.w) * sizeof(float)
                         : 0);
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:max_pool2d_grad",
        [=](const LaunchArgs& a) {
          const T* v = gy.load<T>(a.in[0], a.workspace);
          const i32* p = at.load<i32>(a.in[1], a.workspace);
          T* gx = static_cast<T*>(a.out[0]);
          Watch watch(g);
          if (g.channels_last) {
            max_pool_grad_channels_last(g, v, p, gx);
          } else {
            void* ws = static_cast<char*>(a.workspace) + scratch;
            max_pool_grad_planes(g, v, p, gx, tasks, static_cast<compute_t<T>*>(ws), watch);
          }
          if (watch.found_bad()) check(static_cast<const i32*>(a.in[1]));
        },
        bytes);
  });
}

RefPtr<Plan> plan_max_pool2d_gather(const PlanRequest& r) {
  const Geometry g(r.in[0], r.out[0], r.out[0], r.attrs<PoolAttrs>());
  std::size_t bytes = 0;
  const Operand in(r.in[0], g.strides(r.in[0].shape), bytes);
  const Operand at(r.in[1], g.strides(r.in[1].shape), bytes);
  const IndexCheck check(r.op.name, r.in[1], g.h * g.w);
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:max_pool2d_gather",
        [g, in, at, check](const LaunchArgs& a) {
          const T* x = in.load<T>(a.in[0], a.workspace);
          Watch watch(g);
          max_pool_gather(g, x, at.load<i32>(a.in[1], a.workspace), static_cast<T*>(a.out[0]),
                          watch);
          if (watch.found_bad()) check(static_cast<const i32*>(a.in[1]));
        },
        bytes);
  });
}

}  // namespace tandem::cpu
