// Layer norm. A row is the work of one to 256 threads, which keep it in registers if it is short
// enough; a block makes several short rows. Mean and squares about it are merged pair by pair
// (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances", 1982), relative to the row's first value, so values far from zero lose nothing.
// Gradients of weight and bias are sums over rows: of pieces of the rows, then of the pieces. All
// orders are decided by the shape alone.
#include "ops/norm.h"

#include "cuda/block.h"
#include "cuda/operand.h"
#include "cuda/pack.h"

namespace tandem::cuda {
namespace {

using i64 = long long;

constexpr int kKept = 4;  // packs of a row that a thread keeps

struct Rows {
  i64 count = 1, size = 1;
  int parts = 1;  // threads for a row
};

template <class A>
struct Moments {
  A count = 0, mean = 0, squares = 0;
};
template <class A>
__device__ Moments<A> merge(const Moments<A>& a, const Moments<A>& b) {
  const A n = a.count + b.count, d = b.mean - a.mean, share = n > 0 ? b.count / n : A(0);
  return {n, a.mean + d * share, a.squares + b.squares + d * d * a.count * share};
}
template <int V, class T, class A = compute_t<T>>
__device__ Moments<A> moments_of(const Pack<T, V>& x, A shift) {
  A d[V], mean = 0, squares = 0;
  for (int v = 0; v < V; ++v) {
    d[v] = static_cast<A>(x.v[v]) - shift;
    mean += d[v];
  }
  mean *= A(1) / A(V);
  for (int v = 0; v < V; ++v) squares += (d[v] - mean) * (d[v] - mean);
  return {A(V), mean, squares};
}

/// The packs of a row that are this thread's. Visited twice: kept from the first time, or read
/// anew.
template <class T, int V, bool Kept>
class ThreadsPacks {
 public:
  __device__ ThreadsPacks(const T* row, i64 packs, int part, int parts)
      : row_(row), packs_(packs), part_(part), parts_(parts) {
    if constexpr (Kept) {
      each_number([&](int k, i64 i) { kept_[k] = load_pack<V>(row + i * V, V); });
    }
  }
  /// Calls f(number of the pack, pack).
  template <class F>
  __device__ void each(const F& f) const {
    each_number([&](int k, i64 i) { f(i, get(k, i)); });
  }
  /// Calls f(number of the packs, this pack, the other row's pack).
  template <class F>
  __device__ void each_with(const ThreadsPacks& other, const F& f) const {
    each_number([&](int k, i64 i) { f(i, get(k, i), other.get(k, i)); });
  }

 private:
  __device__ Pack<T, V> get(int k, i64 i) const {
    if constexpr (Kept) {
      return kept_[k];
    } else {
      return load_pack<V>(row_ + i * V, V);
    }
  }
  template <class F>
  __device__ void each_number(const F& f) const {
    if constexpr (Kept) {
#pragma unroll  // registers have no index
      for (int k = 0; k < kKept; ++k) {
        const i64 i = part_ + i64{k} * parts_;
        if (i < packs_) f(k, i);
      }
    } else {
      for (i64 i = part_; i < packs_; i += parts_) f(0, i);
    }
  }

  const T* row_;
  i64 packs_;
  int part_, parts_;
  Pack<T, V> kept_[Kept ? kKept : 1];
};

template <class T, int V, bool Kept>
__global__ void __launch_bounds__(kBlockThreads)
    forward(const Rows r, const T* x, const compute_t<T>* w, const compute_t<T>* b,
            compute_t<T> eps, T* y, compute_t<T>* mean, compute_t<T>* rstd) {
  using A = compute_t<T>;
  __shared__ Moments<A> shared[kBlockThreads];
  const int t = static_cast<int>(threadIdx.x), part = t % r.parts, across = kBlockThreads / r.parts;
  for (i64 g = blockIdx.x; g * across < r.count; g += gridDim.x) {
    const i64 row = g * across + t / r.parts, at = row * r.size;
    const ThreadsPacks<T, V, Kept> packs(x + at, row < r.count ? r.size / V : 0, part, r.parts);
    const A shift = row < r.count && r.size > 0 ? static_cast<A>(x[at]) : A(0);
    Moments<A> m;
    packs.each([&](i64, const Pack<T, V>& p) { m = merge(m, moments_of<V>(p, shift)); });
    m = combine_threads(m, shared, t, r.parts, 1, part,
                        [](const Moments<A>& p, const Moments<A>& q) { return merge(p, q); });
    const A size = static_cast<A>(r.size);
    const A mu = r.size > 0 ? shift + m.mean : static_cast<A>(NAN);
    const A s = A(1) / ::sqrt(m.squares / size + eps);
    if (part == 0 && row < r.count) {
      mean[row] = mu;
      rstd[row] = s;
    }
    packs.each([&](i64 i, const Pack<T, V>& p) {
      const auto wi = load_pack<V>(w + i * V, V), bi = load_pack<V>(b + i * V, V);
      Pack<T, V> result;
      for (int v = 0; v < V; ++v) {
        result.v[v] = static_cast<T>((static_cast<A>(p.v[v]) - mu) * s * wi.v[v] + bi.v[v]);
      }
      store_pack(y + at + i * V, result, V);
    });
  }
}

template <class A>
struct GradSums {
  A g, gn;
};

// gx = rstd (w gy - mean(w gy) - n mean(w gy n)), n = (x - mean) rstd.
template <class T, int V, bool Kept>
__global__ void __launch_bounds__(kBlockThreads)
    grad_input(const Rows r, const T* gy, const T* x, const compute_t<T>* w,
               const compute_t<T>* mean, const compute_t<T>* rstd, T* gx) {
  using A = compute_t<T>;
  __shared__ GradSums<A> shared[kBlockThreads];
  const int t = static_cast<int>(threadIdx.x), part = t % r.parts, across = kBlockThreads / r.parts;
  for (i64 g = blockIdx.x; g * across < r.count; g += gridDim.x) {
    const i64 row = g * across + t / r.parts, at = row * r.size;
    const bool used = row < r.count;
    const A mu = used ? mean[row] : A(0), s = used ? rstd[row] : A(0);
    const ThreadsPacks<T, V, Kept> xs(x + at, used ? r.size / V : 0, part, r.parts);
    const ThreadsPacks<T, V, Kept> gs(gy + at, used ? r.size / V : 0, part, r.parts);
    GradSums<A> sum{0, 0};
    const auto each = [&](const auto& f) {
      gs.each_with(xs, [&](i64 i, const Pack<T, V>& gp, const Pack<T, V>& xp) {
        const auto wi = load_pack<V>(w + i * V, V);
        A v[V], n[V];
        for (int k = 0; k < V; ++k) {
          v[k] = static_cast<A>(gp.v[k]) * wi.v[k];
          n[k] = (static_cast<A>(xp.v[k]) - mu) * s;
        }
        f(i, v, n);
      });
    };
    each([&](i64, const A(&v)[V], const A(&n)[V]) {
      for (int k = 0; k < V; ++k) {
        sum.g += v[k];
        sum.gn += v[k] * n[k];
      }
    });
    sum = combine_threads(sum, shared, t, r.parts, 1, part,
                          [](const GradSums<A>& p, const GradSums<A>& q) {
                            return GradSums<A>{p.g + q.g, p.gn + q.gn};
                          });
    const A size = static_cast<A>(r.size), g_mean = sum.g / size, gn_mean = sum.gn / size;
    each([&](i64 i, const A(&v)[V], const A(&n)[V]) {
      Pack<T, V> result;
      for (int k = 0; k < V; ++k) {
        result.v[k] = static_cast<T>(s * (v[k] - g_mean - n[k] * gn_mean));
      }
      store_pack(gx + at + i * V, result, V);
    });
  }
}

// Sums over rows. A block takes a chunk of rows and kColumns packs of columns.
constexpr int kColumns = 32, kDown = kBlockThreads / kColumns;

struct Chunks {
  i64 tiles = 1, rows = 1, count = 1;
};

// partial[chunk][0: weight, 1: bias][column]
template <class T, int V>
__global__ void __launch_bounds__(kBlockThreads)
    grad_weight(const Rows r, const Chunks c, const T* gy, const T* x, const compute_t<T>* mean,
                const compute_t<T>* rstd, compute_t<T>* partial) {
  using A = compute_t<T>;
  constexpr int kWide = kColumns * V;
  __shared__ A shared[2][kDown][kWide];
  const int t = static_cast<int>(threadIdx.x), lane = t % kColumns, down = t / kColumns;
  for (i64 b = blockIdx.x; b < c.tiles * c.count; b += gridDim.x) {
    const i64 chunk = b / c.tiles, first = b % c.tiles * kWide, column = first + lane * V;
    const i64 end = (chunk + 1) * c.rows < r.count ? (chunk + 1) * c.rows : r.count;
    A weight[V] = {}, bias[V] = {};
    if (column < r.size) {
      for (i64 row = chunk * c.rows + down; row < end; row += kDown) {
        const auto g = load_pack<V>(gy + row * r.size + column, V);
        const auto v = load_pack<V>(x + row * r.size + column, V);
        const A mu = mean[row], s = rstd[row];
        for (int k = 0; k < V; ++k) {
          const A gk = static_cast<A>(g.v[k]);
          weight[k] += gk * ((static_cast<A>(v.v[k]) - mu) * s);
          bias[k] += gk;
        }
      }
    }
    for (int k = 0; k < V; ++k) {
      shared[0][down][lane * V + k] = weight[k];
      shared[1][down][lane * V + k] = bias[k];
    }
    __syncthreads();
    for (int k = t; k < 2 * kWide; k += kBlockThreads) {
      const int which = k / kWide, at = k % kWide;
      A sum = 0;
      for (int d = 0; d < kDown; ++d) sum += shared[which][d][at];
      if (first + at < r.size) partial[(2 * chunk + which) * r.size + first + at] = sum;
    }
    __syncthreads();
  }
}

template <class A>
__global__ void __launch_bounds__(kBlockThreads)
    sum_chunks(i64 size, i64 chunks, const A* partial, A* weight, A* bias) {
  __shared__ double shared[kBlockThreads];
  const int t = static_cast<int>(threadIdx.x), lane = t % kColumns, down = t / kColumns;
  for (i64 b = blockIdx.x; b * kColumns < 2 * size; b += gridDim.x) {
    const i64 i = b * kColumns + lane;
    double sum = 0;
    for (i64 c = down; c < chunks && i < 2 * size; c += kDown) {
      sum += static_cast<double>(partial[c * 2 * size + i]);
    }
    sum = combine_threads(sum, shared, t, kDown, kColumns, down,
                          [](double p, double q) { return p + q; });
    if (down == 0 && i < 2 * size) (i < size ? weight[i] : bias[i - size]) = static_cast<A>(sum);
  }
}

// --------------------------------------------------------------------------------------- plans

Rows rows_of(const TensorDesc& x, i64 axes) {
  Rows r;
  for (int i = 0; i < x.rank(); ++i) (i < x.rank() - axes ? r.count : r.size) *= x.dim(i);
  return r;
}

/// Calls f<V, Kept>(rows) with the width of packs and the threads for a row.
template <class T, class F>
RefPtr<Plan> with_threads(Rows r, const F& f) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = r.size % kWide == 0;
  const i64 packs = wide ? r.size / kWide : r.size;
  r.parts = power_of_two((packs + kKept - 1) / kKept, kBlockThreads);
  // More for few rows: about 512 blocks keep a large device busy.
  while (r.parts < packs && r.parts < kBlockThreads && r.count * r.parts < 512 * kBlockThreads) {
    r.parts *= 2;
  }
  if (!wide) return f.template operator()<1, false>(r);
  if (packs <= i64{kKept} * r.parts) return f.template operator()<kWide, true>(r);
  return f.template operator()<kWide, false>(r);
}

Operand dense(const TensorDesc& d, std::size_t& bytes) {
  return {d, contiguous_strides(d.shape), bytes};
}

template <class T>
RefPtr<Plan> forward_plan(const PlanRequest& r) {
  using A = compute_t<T>;
  const auto& attrs = r.attrs<LayerNormAttrs>();
  std::size_t bytes = 0;
  const Operand in = dense(r.in[0], bytes), weight = dense(r.in[1], bytes),
                bias = dense(r.in[2], bytes), out = dense(r.out[0], bytes);
  const A eps = static_cast<A>(attrs.eps);
  return with_threads<T>(rows_of(r.in[0], attrs.axes), [&]<int V, bool Kept>(const Rows& rows) {
    return make_plan(
        "cuda:layer_norm",
        [=](const LaunchArgs& a) {
          if (rows.count == 0) return;
          const T* x = in.load<T>(a, a.in[0]);
          const A *w = weight.load<A>(a, a.in[1]), *b = bias.load<A>(a, a.in[2]);
          T* y = out.buffer<T>(a, a.out[0]);
          launch(a, block_grid(rows.count, kBlockThreads / rows.parts), forward<T, V, Kept>, rows,
                 x, w, b, eps, y, static_cast<A*>(a.out[1]), static_cast<A*>(a.out[2]));
          out.store(a, a.out[0]);
        },
        bytes);
  });
}

template <class T>
RefPtr<Plan> grad_plan(const PlanRequest& r) {
  using A = compute_t<T>;
  std::size_t bytes = 0;
  std::array<Operand, 5> in;
  for (std::size_t i = 0; i < 5; ++i) in[i] = dense(r.in[i], bytes);
  const Operand out = dense(r.out[0], bytes);
  return with_threads<T>(rows_of(r.in[1], r.in[2].rank()), [&]<int V, bool Kept>(const Rows& rows) {
    // About 1024 blocks, of 32 rows or more.
    Chunks c;
    c.tiles = (rows.size + kColumns * V - 1) / (kColumns * V);
    const i64 wanted = std::clamp<i64>(1024 / std::max<i64>(1, c.tiles), 1, 256);
    c.rows = std::max<i64>(32, (rows.count + wanted - 1) / wanted);
    c.count = (rows.count + c.rows - 1) / c.rows;
    const std::size_t partial_at =
        reserve(bytes, static_cast<std::size_t>(2 * c.count * rows.size) * sizeof(A));
    return make_plan(
        "cuda:layer_norm_grad",
        [=](const LaunchArgs& a) {
          if (rows.size == 0) return;
          A* partial = workspace<A>(a, partial_at);
          if (rows.count > 0) {
            const T *gy = in[0].template load<T>(a, a.in[0]),
                    *x = in[1].template load<T>(a, a.in[1]);
            const A *w = in[2].template load<A>(a, a.in[2]),
                    *mean = in[3].template load<A>(a, a.in[3]),
                    *rstd = in[4].template load<A>(a, a.in[4]);
            launch(a, block_grid(rows.count, kBlockThreads / rows.parts), grad_input<T, V, Kept>,
                   rows, gy, x, w, mean, rstd, out.template buffer<T>(a, a.out[0]));
            out.store(a, a.out[0]);
            launch(a, block_grid(c.tiles * c.count), grad_weight<T, V>, rows, c, gy, x, mean, rstd,
                   partial);
          }
          launch(a, block_grid(2 * rows.size, kColumns), sum_chunks<A>, rows.size, c.count,
                 static_cast<const A*>(partial), static_cast<A*>(a.out[1]),
                 static_cast<A*>(a.out[2]));
        },
        bytes);
  });
}

}  // namespace

RefPtr<Plan> plan_layer_norm(const PlanRequest& r) {
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return forward_plan<typename decltype(tag)::type>(r); });
}
RefPtr<Plan> plan_layer_norm_grad(const PlanRequest& r) {
  return visit_floating(r.in[1].dtype,
                        [&](auto tag) { return grad_plan<typename decltype(tag)::type>(r); });
}

}  // namespace tandem::cuda
