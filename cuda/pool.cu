// Pooling, forward and backward, of tensors of any strides. A thread makes one place of several
// channels, so that finding its windows costs little: neighbouring channels where these lie side by
// side (channels-last), which are then read and written together, or else channels far apart, while
// its neighbours take the neighbouring places. Gradients are gathered: each input collects from the
// windows that hold it, in their order.
#include "ops/pool.h"

#include <vector>

#include "cuda/block.h"
#include "cuda/divisor.h"
#include "cuda/elementwise.h"
#include "cuda/index.h"
#include "cuda/pack.h"

namespace tandem::cuda {
namespace {

using i64 = long long;

constexpr i64 kMostItems = (i64{1} << 31) - 1;  // of a launch: what a Divisor can divide

struct Range {
  int begin, end;
};

/// How windows lie along one axis. Sums may pass 2^31, so they are formed unsigned.
struct Axis {
  unsigned size = 1, pooled = 1;
  unsigned kernel = 1, step = 1, padding = 0;
  Divisor by_step;
  bool padding_counts = false;
  bool adaptive = false, narrow = false;  // narrow: the products of sizes are below 2^31
  Divisor by_size, by_pooled;

  /// The first place of a window, which may lie in the padding.
  __device__ int start(unsigned o) const { return static_cast<int>(o * step - padding); }

  /// The inputs of a window.
  __device__ Range window(unsigned o) const {
    if (adaptive) return covered(o, size, by_pooled);
    const int b = start(o);
    const unsigned room = size - static_cast<unsigned>(b);
    return {b < 0 ? 0 : b,
            static_cast<int>(kernel < room ? static_cast<unsigned>(b) + kernel : size)};
  }
  /// The windows that hold an input.
  __device__ Range holders(unsigned i) const {
    if (adaptive) return covered(i, pooled, by_size);
    const unsigned at = i + padding, end = by_step.quotient_of_any(at) + 1;
    return {static_cast<int>(at < kernel ? 0 : by_step.quotient_of_any(at - kernel) + 1),
            static_cast<int>(end < pooled ? end : pooled)};
  }
  /// What the sum over a window is divided by, for this axis.
  __device__ unsigned divisor(unsigned o) const {
    const Range w = window(o);
    if (!padding_counts) return static_cast<unsigned>(w.end - w.begin);
    const unsigned room = size + padding - static_cast<unsigned>(start(o));
    return kernel < room ? kernel : room;
  }

 private:
  /// Parts [i n / m, (i + 1) n / m), rounded outwards, of n things: windows and, with n and m
  /// exchanged, the windows of an input as well.
  __device__ Range covered(unsigned i, unsigned n, const Divisor& m) const {
    if (narrow) {
      return {static_cast<int>(m.quotient(i * n)),
              static_cast<int>(m.quotient((i + 1) * n + m.by - 1))};
    }
    const unsigned long long from = static_cast<unsigned long long>(i) * n;
    return {static_cast<int>(from / m.by), static_cast<int>((from + n + m.by - 1) / m.by)};
  }
};

struct Place {
  unsigned n, channel, y, x;
  int lanes;  // how many of the thread's channels there are
};

/// Of a tensor: from one image, thread of channels, channel of a thread, row and column to the
/// next.
struct Steps {
  i64 base, n, channel, lane, y, x;
  /// The plane a place is in.
  __device__ i64 plane(const Place& p) const { return base + p.n * n + p.channel * channel; }
  __device__ i64 at(const Place& p) const { return plane(p) + p.y * y + p.x * x; }
};

enum Role { kIn, kOut, kPositions, kRoles };

/// A launch: `count` places of the output.
struct Geometry {
  Axis y, x;
  Steps steps[kRoles] = {};
  unsigned count = 0, first_y = 0, first_x = 0;
  Divisor inner, middle, outer;
  bool across_channels = false;  // `inner` divides channels, else columns
  // The first `full_lanes` channels of a thread exist, and one more, `last_lane` behind its first
  // one, if that is below `channels`.
  int full_lanes = 0;
  i64 last_lane = 0, channels = 0;

  __device__ Place place(unsigned i) const {
    const unsigned q0 = inner.quotient(i), r0 = i - q0 * inner.by;
    const unsigned q1 = middle.quotient(q0), r1 = q0 - q1 * middle.by;
    const unsigned q2 = outer.quotient(q1), r2 = q1 - q2 * outer.by;
    Place p;
    p.n = q2;
    p.channel = across_channels ? r0 : r2;
    p.y = (across_channels ? r2 : r1) + first_y;
    p.x = (across_channels ? r1 : r0) + first_x;
    p.lanes = full_lanes + (p.channel + last_lane < channels);
    return p;
  }
};

/// The V channels of a place: side by side, or `lane` apart, of which `lanes` exist (what is read
/// for the others is the first one's).
template <bool Packed, int V, class T>
__device__ Pack<T, V> load_lanes(const T* p, i64 lane, int lanes) {
  if constexpr (Packed) {
    return *reinterpret_cast<const Pack<T, V>*>(p);
  } else {
    Pack<T, V> r;
    for (int v = 0; v < V; ++v) r.v[v] = p[v < lanes ? v * lane : 0];
    return r;
  }
}
template <bool Packed, int V, class T>
__device__ void store_lanes(T* p, const Pack<T, V>& value, i64 lane, int lanes) {
  if constexpr (Packed) {
    *reinterpret_cast<Pack<T, V>*>(p) = value;
  } else {
    for (int v = 0; v < V; ++v) {
      if (v < lanes) p[v * lane] = value.v[v];
    }
  }
}

template <class T>
constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

__device__ inline unsigned clamp_to(int i, unsigned size) {
  return i < 0 ? 0u : static_cast<unsigned>(i) < size ? static_cast<unsigned>(i) : size - 1;
}

// ------------------------------------------------------------------------------------- maximum

// A NaN is taken whatever was there, and nothing but another NaN replaces it.
template <class A>
__device__ void take(A v, int at, A& best, int& best_at) {
  const bool t = (v > best) | (v != v);
  best = t ? v : best;
  best_at = t ? at : best_at;
}

/// K: square windows of this size, 0: any. Places outside are moved to the nearest inside, which is
/// in the window too and, taken twice in a row, changes nothing.
template <class T, bool Packed, int K>
__global__ void __launch_bounds__(kBlockThreads)
    max_pool(const Geometry g, const T* in, T* out, int* positions) {
  using A = compute_t<T>;
  constexpr int V = kLanes<T>;
  const Steps &from = g.steps[kIn], &to = g.steps[kOut], &to_at = g.steps[kPositions];
  for (i64 i = global_index(); i < g.count; i += global_size()) {
    const Place p = g.place(static_cast<unsigned>(i));
    const T* plane = in + from.plane(p);
    const Range rows = g.y.window(p.y), columns = g.x.window(p.x);
    A best[V];
    Pack<int, V> at;
    for (int v = 0; v < V; ++v) {
      best[v] = -static_cast<A>(INFINITY);
      at.v[v] = rows.begin * static_cast<int>(g.x.size) + columns.begin;
    }
    const auto visit = [&](unsigned r, unsigned c) {
      const auto x = load_lanes<Packed, V>(plane + (r * from.y + c * from.x), from.lane, p.lanes);
      const int position = static_cast<int>(r * g.x.size + c);
      for (int v = 0; v < V; ++v) take(static_cast<A>(x.v[v]), position, best[v], at.v[v]);
    };
    if constexpr (K > 0) {
      const int top = g.y.start(p.y), left = g.x.start(p.x);
      for (int r = 0; r < K; ++r) {
        for (int c = 0; c < K; ++c)
          visit(clamp_to(top + r, g.y.size), clamp_to(left + c, g.x.size));
      }
    } else {
      for (int r = rows.begin; r < rows.end; ++r) {
        for (int c = columns.begin; c < columns.end; ++c) {
          visit(static_cast<unsigned>(r), static_cast<unsigned>(c));
        }
      }
    }
    Pack<T, V> y;
    for (int v = 0; v < V; ++v) y.v[v] = static_cast<T>(best[v]);
    store_lanes<Packed>(out + to.at(p), y, to.lane, p.lanes);
    store_lanes<Packed>(positions + to_at.at(p), at, to_at.lane, p.lanes);
  }
}

template <class T, bool Packed>
__global__ void __launch_bounds__(kBlockThreads)
    max_pool_grad(const Geometry g, const T* gy, const int* positions, T* gx) {
  using A = compute_t<T>;
  constexpr int V = kLanes<T>;
  const Steps &from = g.steps[kIn], &to = g.steps[kOut], &from_at = g.steps[kPositions];
  for (i64 i = global_index(); i < g.count; i += global_size()) {
    const Place p = g.place(static_cast<unsigned>(i));
    const Range rows = g.y.holders(p.y), columns = g.x.holders(p.x);
    const int position = static_cast<int>(p.y * g.x.size + p.x);
    A sum[V] = {};
    for (int r = rows.begin; r < rows.end; ++r) {
      for (int c = columns.begin; c < columns.end; ++c) {
        const auto at = load_lanes<Packed, V>(
            positions + (from_at.plane(p) + r * from_at.y + c * from_at.x), from_at.lane, p.lanes);
        const auto v = load_lanes<Packed, V>(gy + (from.plane(p) + r * from.y + c * from.x),
                                             from.lane, p.lanes);
        for (int k = 0; k < V; ++k) {
          sum[k] += at.v[k] == position ? static_cast<A>(v.v[k]) : A(0);
        }
      }
    }
    Pack<T, V> result;
    for (int k = 0; k < V; ++k) result.v[k] = static_cast<T>(sum[k]);
    store_lanes<Packed>(gx + to.at(p), result, to.lane, p.lanes);
  }
}

/// U: an unsigned integer of the elements' size.
template <class U, bool Packed>
__global__ void __launch_bounds__(kBlockThreads)
    max_pool_gather(const Geometry g, const Ids ids, Divisor by_row, const U* in,
                    const int* positions, U* out) {
  constexpr int V = kLanes<U>;
  const Steps &from = g.steps[kIn], &to = g.steps[kOut], &from_at = g.steps[kPositions];
  for (i64 i = global_index(); i < g.count; i += global_size()) {
    const Place p = g.place(static_cast<unsigned>(i));
    const auto at = load_lanes<Packed, V>(positions + from_at.at(p), from_at.lane, p.lanes);
    Pack<U, V> result;
    for (int v = 0; v < V; ++v) {
      const unsigned position = static_cast<unsigned>(at.v[v]);
      const unsigned r = by_row.quotient(position), c = position - r * by_row.by;
      result.v[v] = 0;
      ids.check(at.v[v]);
      if (v < p.lanes && ids.allows(at.v[v])) {
        result.v[v] = in[from.plane(p) + v * from.lane + r * from.y + c * from.x];
      }
    }
    store_lanes<Packed>(out + to.at(p), result, to.lane, p.lanes);
  }
}

// ------------------------------------------------------------------------------------- average

template <class A>
__device__ A window_size(const Geometry& g, unsigned y, unsigned x) {
  return static_cast<A>(g.y.divisor(y)) * static_cast<A>(g.x.divisor(x));
}

template <class T, bool Packed>
__global__ void __launch_bounds__(kBlockThreads) mean_pool(const Geometry g, const T* in, T* out) {
  using A = compute_t<T>;
  constexpr int V = kLanes<T>;
  const Steps &from = g.steps[kIn], &to = g.steps[kOut];
  for (i64 i = global_index(); i < g.count; i += global_size()) {
    const Place p = g.place(static_cast<unsigned>(i));
    const T* plane = in + from.plane(p);
    const Range rows = g.y.window(p.y), columns = g.x.window(p.x);
    A sum[V] = {};
    for (int r = rows.begin; r < rows.end; ++r) {
      for (int c = columns.begin; c < columns.end; ++c) {
        const auto x = load_lanes<Packed, V>(plane + (r * from.y + c * from.x), from.lane, p.lanes);
        for (int v = 0; v < V; ++v) sum[v] += static_cast<A>(x.v[v]);
      }
    }
    const A size = window_size<A>(g, p.y, p.x);
    Pack<T, V> y;
    for (int v = 0; v < V; ++v) y.v[v] = static_cast<T>(sum[v] / size);
    store_lanes<Packed>(out + to.at(p), y, to.lane, p.lanes);
  }
}

/// Windows of many elements, shared by threads. One channel a place.
template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    mean_pool_large(const Geometry g, const Sharing s, const T* in, T* out) {
  using A = compute_t<T>;
  __shared__ A shared[kBlockThreads];
  const Steps &from = g.steps[kIn], &to = g.steps[kOut];
  s.each([&](i64 i, i64) {
    const bool used = i < g.count;
    const Place p = g.place(used ? static_cast<unsigned>(i) : 0u);
    const Range rows = g.y.window(p.y), columns = g.x.window(p.x);
    unsigned height = static_cast<unsigned>(rows.end - rows.begin);
    unsigned width = static_cast<unsigned>(columns.end - columns.begin);
    const T* first = in + (from.plane(p) + rows.begin * from.y + columns.begin * from.x);
    if (width * from.x == from.y) width *= height, height = 1;  // whole rows
    A sum = 0;
    if (used && width > 0) {
      const unsigned n = static_cast<unsigned>(s.parts), part = static_cast<unsigned>(s.part());
      const unsigned down = n / width, right = n % width;
      unsigned r = part / width, c = part % width;
      while (r < height) {
        sum += static_cast<A>(first[r * from.y + c * from.x]);
        r += down;
        c += right;
        if (c >= width) c -= width, ++r;
      }
    }
    sum = s.combine(sum, shared, [](A a, A b) { return a + b; });
    if (s.part() == 0 && used) out[to.at(p)] = static_cast<T>(sum / window_size<A>(g, p.y, p.x));
  });
}

template <class T, bool Packed>
__global__ void __launch_bounds__(kBlockThreads)
    mean_pool_grad(const Geometry g, const T* gy, T* gx) {
  using A = compute_t<T>;
  constexpr int V = kLanes<T>;
  const Steps &from = g.steps[kIn], &to = g.steps[kOut];
  for (i64 i = global_index(); i < g.count; i += global_size()) {
    const Place p = g.place(static_cast<unsigned>(i));
    const T* plane = gy + from.plane(p);
    const Range rows = g.y.holders(p.y), columns = g.x.holders(p.x);
    A sum[V] = {}, last = 0, factor = 0;
    for (int r = rows.begin; r < rows.end; ++r) {
      for (int c = columns.begin; c < columns.end; ++c) {
        const A size = window_size<A>(g, static_cast<unsigned>(r), static_cast<unsigned>(c));
        // Most windows are of one size.
        if (size != last) last = size, factor = A(1) / size;
        const auto v = load_lanes<Packed, V>(plane + (r * from.y + c * from.x), from.lane, p.lanes);
        for (int k = 0; k < V; ++k) sum[k] += static_cast<A>(v.v[k]) * factor;
      }
    }
    Pack<T, V> result;
    for (int k = 0; k < V; ++k) result.v[k] = static_cast<T>(sum[k]);
    store_lanes<Packed>(gx + to.at(p), result, to.lane, p.lanes);
  }
}

// --------------------------------------------------------------------------------------- plans

Axis axis_of(const PoolAttrs& a, int i, i64 size, i64 pooled) {
  Axis x;
  x.size = static_cast<unsigned>(size);
  x.pooled = static_cast<unsigned>(pooled);
  x.kernel = static_cast<unsigned>(a.kernel[i]);
  x.step = static_cast<unsigned>(a.stride[i]);
  x.padding = static_cast<unsigned>(a.padding[i]);
  x.by_step = divisor(x.step);
  x.padding_counts = a.count_include_pad;
  return x;
}

Axis axis_of(const AdaptivePoolAttrs&, int, i64 size, i64 pooled) {
  Axis x;
  x.size = static_cast<unsigned>(size);
  x.pooled = static_cast<unsigned>(pooled);
  x.adaptive = true;
  x.narrow = (size + 1) * (pooled + 1) <= kMostItems;
  x.by_size = divisor(x.size);
  x.by_pooled = divisor(x.pooled);
  return x;
}

/// A pooling or its gradient: its tensors by role, and the launches that make all places of the
/// output.
class Pooling {
 public:
  using Tensors = std::array<const TensorDesc*, kRoles>;

  /// `large` has the size before pooling, `small` that after.
  template <class Attrs>
  Pooling(const Attrs& a, const TensorDesc& large, const TensorDesc& small, const Tensors& tensors)
      : lanes_(16 / static_cast<int>(size_of(tensors[kOut]->dtype))) {
    const TensorDesc& out = *tensors[kOut];
    for (int d = 0; d < 4; ++d) size_[d] = out.dim(d);
    for (int k = 0; k < kRoles; ++k) {
      for (int d = 0; d < 4; ++d) stride_[k][d] = tensors[k] ? tensors[k]->strides[d] : 0;
    }
    base_.y = axis_of(a, 0, large.dim(2), small.dim(2));
    base_.x = axis_of(a, 1, large.dim(3), small.dim(3));
    const int space = large.dim(3) > 1 ? 3 : 2;
    base_.across_channels =
        size_[1] > 1 && large.dim(space) > 1 && large.strides[1] < large.strides[space];
    bool packs = base_.across_channels && size_[1] % lanes_ == 0;
    // Where all planes are at one distance, images are more channels.
    bool even = !base_.across_channels && size_[0] * size_[1] <= kMostItems;
    for (int k = 0; k < kRoles; ++k) {
      if (!tensors[k]) continue;
      packs = packs && stride_[k][1] == 1;
      for (int d : {0, 2, 3}) {
        packs = packs && (tensors[k]->dim(d) == 1 || stride_[k][d] % lanes_ == 0);
      }
      even = even && (size_[0] == 1 || stride_[k][0] == size_[1] * stride_[k][1]);
    }
    if (even) {
      size_[1] *= size_[0];
      size_[0] = 1;
    }
    plain_ = pieces(lanes_, false);
    if (packs) packed_ = pieces(lanes_, true);
  }

  /// For kernels that make one channel of a place.
  std::vector<Geometry> single() const { return pieces(1, false); }

  /// Calls f(geometry, packed) for every launch; packed (std::bool_constant): the thread's channels
  /// lie side by side, and at addresses `p` that allow accesses of 16 bytes.
  template <class F, class... P>
  void each(const F& f, const P*... p) const {
    if (!packed_.empty() && (aligned(p) && ...)) {
      for (const Geometry& g : packed_) f(g, std::true_type{});
    } else {
      for (const Geometry& g : plain_) f(g, std::false_type{});
    }
  }

 private:
  template <class P>
  bool aligned(const P* p) const {
    return reinterpret_cast<std::uintptr_t>(p) % (sizeof(P) * static_cast<unsigned>(lanes_)) == 0;
  }

  std::vector<Geometry> pieces(int lanes, bool packed) const {
    const i64 threads = (size_[1] + lanes - 1) / lanes;  // for the channels of a place
    if (size_[0] == 0 || threads == 0 || size_[2] == 0 || size_[3] == 0) return {};
    Geometry g = base_;
    g.full_lanes = static_cast<int>((size_[1] + threads - 1) / threads) - 1;
    g.last_lane = packed ? 0 : g.full_lanes * threads;
    g.channels = size_[1];
    for (int k = 0; k < kRoles; ++k) {
      const auto& s = stride_[k];
      g.steps[k] = {0, s[0], packed ? lanes : s[1], packed ? 1 : threads * s[1], s[2], s[3]};
    }
    std::vector<Geometry> done;
    split(g, {size_[0], threads, size_[2], size_[3]}, done);
    return done;
  }

  /// `size`: images, threads of channels, rows, columns.
  static void split(Geometry& g, const std::array<i64, 4>& size, std::vector<Geometry>& done) {
    double count = 1;
    int longest = 0;
    for (int d = 0; d < 4; ++d) {
      count *= static_cast<double>(size[d]);
      if (size[d] > size[longest]) longest = d;
    }
    if (count > static_cast<double>(kMostItems)) {
      auto half = size, rest = size;
      half[longest] = size[longest] / 2;
      rest[longest] -= half[longest];
      Geometry second = g;
      split(g, half, done);
      skip(second, longest, half[longest]);
      split(second, rest, done);
      return;
    }
    const auto by = [&](int d) { return divisor(static_cast<unsigned>(size[d])); };
    g.count = static_cast<unsigned>(count);
    g.inner = by(g.across_channels ? 1 : 3);
    g.middle = by(g.across_channels ? 3 : 2);
    g.outer = by(g.across_channels ? 2 : 1);
    done.push_back(g);
  }

  static void skip(Geometry& g, int axis, i64 n) {
    if (axis == 2) g.first_y += static_cast<unsigned>(n);
    if (axis == 3) g.first_x += static_cast<unsigned>(n);
    if (axis == 1) g.channels -= n;
    for (Steps& s : g.steps) s.base += n * (axis == 0 ? s.n : axis == 1 ? s.channel : 0);
  }

  int lanes_;
  Geometry base_;
  std::array<i64, 4> size_;  // of the output
  std::array<std::array<i64, 4>, kRoles> stride_;
  std::vector<Geometry> plain_, packed_;  // packed: empty where channels do not lie side by side
};

template <class T>
RefPtr<Plan> max_pool_plan(const Pooling& pool) {
  return make_plan("cuda:max_pool2d", [pool](const LaunchArgs& a) {
    const T* x = static_cast<const T*>(a.in[0]);
    T* y = static_cast<T*>(a.out[0]);
    int* at = static_cast<int*>(a.out[1]);
    pool.each(
        [&]<bool Packed>(const Geometry& g, std::bool_constant<Packed>) {
          // Without overflow, and with places inside to move others to.
          const auto usual = [](const Axis& d) { return d.size > 0 && d.size < 1u << 30; };
          const bool square = g.y.kernel == g.x.kernel && usual(g.y) && usual(g.x);
          const auto kernel = square && g.x.kernel == 2   ? max_pool<T, Packed, 2>
                              : square && g.x.kernel == 3 ? max_pool<T, Packed, 3>
                                                          : max_pool<T, Packed, 0>;
          launch(a, grid_for(g.count), kernel, g, x, y, at);
        },
        x, y, at);
  });
}

template <class T>
RefPtr<Plan> max_pool_grad_plan(const Pooling& pool) {
  return make_plan("cuda:max_pool2d_grad", [pool](const LaunchArgs& a) {
    const T* gy = static_cast<const T*>(a.in[0]);
    const int* at = static_cast<const int*>(a.in[1]);
    T* gx = static_cast<T*>(a.out[0]);
    pool.each(
        [&]<bool Packed>(const Geometry& g, std::bool_constant<Packed>) {
          launch(a, grid_for(g.count), max_pool_grad<T, Packed>, g, gy, at, gx);
        },
        gy, at, gx);
  });
}

template <class U>
RefPtr<Plan> max_pool_gather_plan(const Pooling& pool, const IdsPlan& ids, Divisor by_row) {
  return make_plan("cuda:max_pool2d_gather", [pool, ids, by_row](const LaunchArgs& a) {
    const U* x = static_cast<const U*>(a.in[0]);
    const int* at = static_cast<const int*>(a.in[1]);
    U* y = static_cast<U*>(a.out[0]);
    pool.each(
        [&]<bool Packed>(const Geometry& g, std::bool_constant<Packed>) {
          launch(a, grid_for(g.count), max_pool_gather<U, Packed>, g, ids.bind(a, 1), by_row, x, at,
                 y);
        },
        x, at, y);
  });
}

/// The number of elements in most windows.
i64 window_elements(const PoolAttrs& a, const TensorDesc& x, const TensorDesc&) {
  return std::min(a.kernel[0], x.dim(2)) * std::min(a.kernel[1], x.dim(3));
}
i64 window_elements(const AdaptivePoolAttrs&, const TensorDesc& x, const TensorDesc& y) {
  return x.dim(2) * x.dim(3) / (y.dim(2) * y.dim(3));
}

template <class Attrs>
RefPtr<Plan> plan_mean(const PlanRequest& r, const char* name) {
  const TensorDesc &x = r.in[0], &y = r.out[0];
  const auto& attrs = r.attrs<Attrs>();
  const Pooling pool(attrs, x, y, {&x, &y, nullptr});
  const i64 elements = y.numel() > 0 ? window_elements(attrs, x, y) : 0;
  return visit_floating(x.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    if (elements >= 32) {
      return make_plan(name, [pieces = pool.single(), elements](const LaunchArgs& a) {
        for (const Geometry& g : pieces) {
          const Sharing s = share(g.count, elements / 4, g.across_channels);  // four for a thread
          launch(a, s.grid(), mean_pool_large<T>, g, s, static_cast<const T*>(a.in[0]),
                 static_cast<T*>(a.out[0]));
        }
      });
    }
    return make_plan(name, [pool](const LaunchArgs& a) {
      const T* from = static_cast<const T*>(a.in[0]);
      T* to = static_cast<T*>(a.out[0]);
      pool.each(
          [&]<bool Packed>(const Geometry& g, std::bool_constant<Packed>) {
            launch(a, grid_for(g.count), mean_pool<T, Packed>, g, from, to);
          },
          from, to);
    });
  });
}

template <class Attrs>
RefPtr<Plan> plan_mean_grad(const PlanRequest& r, const char* name) {
  const TensorDesc &gy = r.in[0], &gx = r.out[0];
  const Pooling pool(r.attrs<Attrs>(), gx, gy, {&gy, &gx, nullptr});
  return visit_floating(gx.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    return make_plan(name, [pool](const LaunchArgs& a) {
      const T* from = static_cast<const T*>(a.in[0]);
      T* to = static_cast<T*>(a.out[0]);
      pool.each(
          [&]<bool Packed>(const Geometry& g, std::bool_constant<Packed>) {
            launch(a, grid_for(g.count), mean_pool_grad<T, Packed>, g, from, to);
          },
          from, to);
    });
  });
}

}  // namespace

RefPtr<Plan> plan_max_pool2d(const PlanRequest& r) {
  const Pooling pool(r.attrs<PoolAttrs>(), r.in[0], r.out[0], {&r.in[0], &r.out[0], &r.out[1]});
  return visit_floating(
      r.in[0].dtype, [&](auto tag) { return max_pool_plan<typename decltype(tag)::type>(pool); });
}
RefPtr<Plan> plan_max_pool2d_grad(const PlanRequest& r) {
  const Pooling pool(r.attrs<PoolAttrs>(), r.out[0], r.in[0], {&r.in[0], &r.out[0], &r.in[1]});
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    return max_pool_grad_plan<typename decltype(tag)::type>(pool);
  });
}
RefPtr<Plan> plan_max_pool2d_gather(const PlanRequest& r) {
  const TensorDesc& x = r.in[0];
  const Pooling pool(r.attrs<PoolAttrs>(), x, r.out[0], {&x, &r.out[0], &r.in[1]});
  const IdsPlan ids(r, r.in[1], x.dim(2) * x.dim(3));
  return visit_size(size_of(x.dtype), [&](auto tag) {
    const auto by_row = divisor(static_cast<unsigned>(std::max<i64>(1, x.dim(3))));
    return max_pool_gather_plan<typename decltype(tag)::type>(pool, ids, by_row);
  });
}

RefPtr<Plan> plan_avg_pool2d(const PlanRequest& r) {
  return plan_mean<PoolAttrs>(r, "cuda:avg_pool2d");
}
RefPtr<Plan> plan_avg_pool2d_grad(const PlanRequest& r) {
  return plan_mean_grad<PoolAttrs>(r, "cuda:avg_pool2d_grad");
}
RefPtr<Plan> plan_adaptive_avg_pool2d(const PlanRequest& r) {
  return plan_mean<AdaptivePoolAttrs>(r, "cuda:adaptive_avg_pool2d");
}
RefPtr<Plan> plan_adaptive_avg_pool2d_grad(const PlanRequest& r) {
  return plan_mean_grad<AdaptivePoolAttrs>(r, "cuda:adaptive_avg_pool2d_grad");
}

}  // namespace tandem::cuda
