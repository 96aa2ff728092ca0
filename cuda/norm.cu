// Batch norm. Sums of a channel are formed in f64, in an order that the shape alone decides: a
// block for each piece of a few channels, then one thread a channel for what is left and for the
// statistics. Values are taken relative to one of the channel's own, so that the variance of values
// far from zero does not cancel.
#include "cuda/norm.h"

#include "core/epilogue.h"
#include "cuda/block.h"
#include "cuda/loops.h"
#include "cuda/pack.h"
#include "ops/norm.h"
#ifdef TANDEM_HAS_CUDNN
#include "cuda/cudnn.h"
#endif

namespace tandem::cuda {
namespace {

using i64 = long long;

struct Pair {
  double a, b;
};

/// The values of each channel, in N tensors walked together.
template <int N>
struct ChannelWalk {
  Walk<N> values;
  i64 channels = 0, step[N] = {};
  Sharing share;

  std::size_t partial_bytes() const {
    return align_up(static_cast<std::size_t>(channels * share.chunks) * sizeof(Pair));
  }
};

/// In the order of memory of `order`, which decides how sums are rounded.
template <int N>
ChannelWalk<N> channels_of(const TensorDesc& order, const std::array<const TensorDesc*, N>& t) {
  ChannelWalk<N> w;
  w.channels = order.dim(1);
  const auto strides = [&](int d) {
    std::array<std::int64_t, N> s;
    for (int k = 0; k < N; ++k) s[k] = t[k]->strides[d];
    return s;
  };
  for (int k = 0; k < N; ++k) w.step[k] = t[k]->strides[1];
  Axes<N> axes;
  for (const auto d64 : memory_order(order)) {
    const int d = static_cast<int>(d64);
    if (d != 1) axes.add(order.dim(d), strides(d));
  }
  w.values = walk_of(axes);
  w.share = share(w.channels, w.values.count, order.strides[1] == 1 && w.channels > 1, 32);
  return w;
}

// x - shift and its square, for the statistics of x; about zero nothing is taken off.
template <class T>
struct Moments {
  const T* x;
  bool about_zero;
  __device__ double shift(const i64 (&first)[1], i64) const {
    return about_zero ? 0 : static_cast<double>(static_cast<compute_t<T>>(x[first[0]]));
  }
  using Values = T;
  __device__ Values load(const i64 (&at)[1]) const { return x[at[0]]; }
  __device__ Pair terms(T v, double shift) const {
    const double d = static_cast<double>(static_cast<compute_t<T>>(v)) - shift;
    return {d, d * d};
  }
};
// g and g (x - mean), for the gradient. Tensors: g, x; where g is masked y; where what is left of
// it is kept gz.
template <class T, int N>
struct GradMoments {
  const T *gy, *x, *y;
  T* gz;
  const compute_t<T>* mean;
  i64 mean_step;
  __device__ double shift(const i64 (&)[N], i64 c) const {
    return static_cast<double>(mean[c * mean_step]);
  }
  struct Values {
    T g, x;
  };
  __device__ Values load(const i64 (&at)[N]) const {
    T g = gy[at[0]];
    if constexpr (N > 2) g = epilogue::relu_grad(g, y[at[2]]);
    if constexpr (N > 3) gz[at[3]] = g;
    return {g, x[at[1]]};
  }
  __device__ Pair terms(const Values& v, double shift) const {
    const double d = static_cast<double>(static_cast<compute_t<T>>(v.g));
    return {d, d * (static_cast<double>(static_cast<compute_t<T>>(v.x)) - shift)};
  }
};

/// Elements of a channel that a thread reads at a time.
constexpr int kBatch = 8;

template <int N, class F>
__global__ void channel_sums(ChannelWalk<N> w, F f, Pair* partial) {
  __shared__ Pair shared[kBlockThreads];
  w.share.each([&](i64 c, i64 chunk) {
    Pair sum{0, 0};
    if (c < w.channels) {
      i64 first[N];
      for (int k = 0; k < N; ++k) first[k] = c * w.step[k];
      const double shift = f.shift(first, c);
      w.share.template each_batch<kBatch>(chunk, [&](const i64(&i)[kBatch], int n) {
        typename F::Values v[kBatch];
#pragma unroll  // so that all are on their way at once
        for (int k = 0; k < kBatch; ++k) {
          if (k >= n) continue;
          i64 at[N];
          w.values.offsets(i[k], at);
          for (int t = 0; t < N; ++t) at[t] += first[t];
          v[k] = f.load(at);
        }
#pragma unroll
        for (int k = 0; k < kBatch; ++k) {
          if (k >= n) continue;
          const Pair p = f.terms(v[k], shift);
          sum.a += p.a;
          sum.b += p.b;
        }
      });
    }
    sum = w.share.combine(sum, shared, [](const Pair& p, const Pair& q) {
      return Pair{p.a + q.a, p.b + q.b};
    });
    if (w.share.part() == 0 && c < w.channels) partial[c * w.share.chunks + chunk] = sum;
  });
}

/// What is left of a channel walk once the sums are formed.
struct Sums {
  i64 channels, count, chunks, step;  // `step`: from one channel of the first tensor to the next
  template <int N>
  static Sums of(const ChannelWalk<N>& w) {
    return {w.channels, w.values.count, w.share.chunks, w.step[0]};
  }
};

__device__ inline Pair total(const Pair* partial, i64 c, i64 chunks) {
  Pair s{0, 0};
  for (i64 k = 0; k < chunks; ++k) {
    s.a += partial[c * chunks + k].a;
    s.b += partial[c * chunks + k].b;
  }
  return s;
}

/// Small tensors, one value a channel.
template <class P>
struct Vectors {
  const P* in[5];
  i64 step[5];
  __device__ P at(int k, i64 c) const { return in[k][c * step[k]]; }
};

struct TrainNumbers {
  double momentum, eps;
  bool running;
};

/// The sums of a channel and what was taken off its values: from the pieces, or as given.
template <class T, class P>
struct Statistics {
  const T* x;
  const Pair* partial;
  const P *sum, *squares;  // null: not given
  i64 sum_step, squares_step;
};

template <class T, class P>
__global__ void train_statistics(Sums w, Statistics<T, P> of, Vectors<P> v, TrainNumbers n,
                                 P* running_mean, P* running_var, P* mean, P* invstd, P* scale) {
  const double count = static_cast<double>(w.count);
  for (i64 c = global_index(); c < w.channels; c += global_size()) {
    if (w.count == 0) {
      mean[c] = 0;
      invstd[c] = static_cast<P>(1 / ::sqrt(n.eps));
      continue;
    }
    double shift = 0;
    Pair s;
    if (of.sum) {
      s = {static_cast<double>(of.sum[c * of.sum_step]),
           static_cast<double>(of.squares[c * of.squares_step])};
    } else {
      shift = static_cast<double>(static_cast<P>(of.x[c * w.step]));
      s = total(of.partial, c, w.chunks);
    }
    const double off = s.a / count;
    double squares = s.b - s.a * off;  // about the mean
    if (squares < 0) squares = 0;
    const double is = 1 / ::sqrt(squares / count + n.eps);
    mean[c] = static_cast<P>(shift + off);
    invstd[c] = static_cast<P>(is);
    scale[c] = static_cast<P>(static_cast<double>(v.at(1, c)) * is);
    if (n.running) {
      const double m = n.momentum;
      P &rm = running_mean[c * v.step[3]], &rv = running_var[c * v.step[4]];
      rm = static_cast<P>((1 - m) * static_cast<double>(rm) + m * (shift + off));
      rv = static_cast<P>((1 - m) * static_cast<double>(rv) + m * (squares / (count - 1)));
    }
  }
}

template <class P>
__device__ double eval_scale_of(const Vectors<P>& v, double eps, i64 c) {
  return static_cast<double>(v.at(1, c)) / ::sqrt(static_cast<double>(v.at(4, c)) + eps);
}

template <class P>
__global__ void eval_scale(i64 channels, Vectors<P> v, double eps, P* scale) {
  for (i64 c = global_index(); c < channels; c += global_size()) {
    scale[c] = static_cast<P>(eval_scale_of(v, eps, c));
  }
}

template <class T, class P>
__global__ void eval_factors(i64 channels, Vectors<P> v, double eps, T* scale, T* shift) {
  for (i64 c = global_index(); c < channels; c += global_size()) {
    const double s = eval_scale_of(v, eps, c);
    scale[c] = static_cast<T>(static_cast<P>(s));
    shift[c] = static_cast<T>(
        static_cast<P>(static_cast<double>(v.at(2, c)) - static_cast<double>(v.at(3, c)) * s));
  }
}

/// A scale and what is taken from and added to a channel's values.
template <class P>
struct Affine {
  const P *mean, *scale, *bias;
  i64 mean_step, bias_step;
};

template <int V, class T>
__device__ Pack<T, V> pack_at(const T* p) {
  return *reinterpret_cast<const Pack<T, V>*>(p);
}

// y = (x - mean) scale + bias, its ReLU, or with four tensors that of y + z. Tensors of the walk:
// x, z if there is one, y, and the channel's number, which grows by `along` within a pack.
template <class T, class P, int N, int V>
__global__ void normalise(Walk<N> w, i64 along, const T* x, Affine<P> p, bool relu, const T* z,
                          T* y) {
  for (i64 i = global_index(); i < w.count; i += global_size()) {
    i64 at[N];
    w.offsets(i, at);
    Pack<T, V> v = pack_at<V>(x + at[0]), more;
    if constexpr (N == 4) more = pack_at<V>(z + at[1]);
    for (int k = 0; k < V; ++k) {
      const i64 c = at[N - 1] + k * along;
      T e = static_cast<T>((static_cast<P>(v.v[k]) - p.mean[c * p.mean_step]) * p.scale[c] +
                           p.bias[c * p.bias_step]);
      if constexpr (N == 4) e = epilogue::add(e, more.v[k]);
      v.v[k] = relu ? epilogue::relu(e) : e;
    }
    *reinterpret_cast<Pack<T, V>*>(y + at[N - 2]) = v;
  }
}

template <class P>
__global__ void grad_factors(Sums w, const Pair* partial, Vectors<P> v, P* gw, P* gb, P* factors) {
  const double count = static_cast<double>(w.count > 0 ? w.count : 1);
  for (i64 c = global_index(); c < w.channels; c += global_size()) {
    const Pair s = w.count > 0 ? total(partial, c, w.chunks) : Pair{0, 0};
    const double is = static_cast<double>(v.at(4, c));
    gb[c] = static_cast<P>(s.a);
    gw[c] = static_cast<P>(s.b * is);
    factors[c] = static_cast<P>(static_cast<double>(v.at(2, c)) * is);
    factors[w.channels + c] = static_cast<P>(s.a / count);
    factors[2 * w.channels + c] = static_cast<P>(s.b * is * is / count);
  }
}

// Tensors of the walk: g, x, y where g is masked by it, gx, and the channel's number as above.
template <class T, class P, int N, int V>
__global__ void grad_input(Walk<N> w, i64 along, i64 channels, const T* gy, const T* x, const T* y,
                           const P* mean, i64 mean_step, const P* factors, T* gx) {
  for (i64 i = global_index(); i < w.count; i += global_size()) {
    i64 at[N];
    w.offsets(i, at);
    Pack<T, V> g = pack_at<V>(gy + at[0]), mask;
    const Pack<T, V> from = pack_at<V>(x + at[1]);
    if constexpr (N == 5) mask = pack_at<V>(y + at[2]);
    for (int k = 0; k < V; ++k) {
      const i64 c = at[N - 1] + k * along;
      if constexpr (N == 5) g.v[k] = epilogue::relu_grad(g.v[k], mask.v[k]);
      const P v = static_cast<P>(g.v[k]) - factors[channels + c];
      const P d = (static_cast<P>(from.v[k]) - mean[c * mean_step]) * factors[2 * channels + c];
      g.v[k] = static_cast<T>((v - d) * factors[c]);
    }
    *reinterpret_cast<Pack<T, V>*>(gx + at[N - 2]) = g;
  }
}

/// All elements of K tensors of one shape and their channels, one by one and, where the innermost
/// axis allows it, in packs.
template <class T, int K>
struct Elements {
  static constexpr int kPack = 16 / static_cast<int>(sizeof(T));
  Walk<K + 1> one, packs;  // no packs: empty
  i64 along = 0;           // from one element of a pack to the next, the channel's number

  /// Calls `f(walk, along, constant V)`: with packs if all pointers allow them.
  template <class F>
  void visit(std::initializer_list<const void*> pointers, const F& f) const {
    const bool aligned = std::all_of(pointers.begin(), pointers.end(), [](const void* p) {
      return pack_aligned<16>(static_cast<const char*>(p));
    });
    if (packs.count > 0 && aligned) return f(packs, along, std::integral_constant<int, kPack>{});
    f(one, i64{0}, std::integral_constant<int, 1>{});
  }
};

/// In the order of the last one's memory.
template <class T, int K>
Elements<T, K> elements_of(const std::array<const TensorDesc*, K>& t) {
  constexpr int V = Elements<T, K>::kPack;
  const TensorDesc& last = *t[K - 1];
  Axes<K + 1> axes;
  for (const auto d64 : memory_order(last)) {
    const int d = static_cast<int>(d64);
    std::array<std::int64_t, K + 1> s;
    for (int k = 0; k < K; ++k) s[k] = t[k]->strides[d];
    s[K] = d == 1 ? 1 : 0;
    axes.add(last.dim(d), s);
  }
  Elements<T, K> e{.one = walk_of(axes), .packs = {}};
  e.packs.count = 0;
  const int inner = axes.rank() - 1;
  if (inner < 0 || axes.size[inner] % V != 0) return e;
  Axes<K + 1> packed;
  for (int d = 0; d <= inner; ++d) {
    std::array<std::int64_t, K + 1> s;
    for (int k = 0; k <= K; ++k) {
      s[k] = axes.stride[k][d];
      if (k < K && (d == inner ? s[k] != 1 : s[k] % V != 0)) return e;
      if (d == inner) s[k] *= V;
    }
    packed.add(d == inner ? axes.size[d] / V : axes.size[d], s);
  }
  e.packs = walk_of(packed);
  e.along = axes.stride[K][inner];
  return e;
}

/// From one channel to the next.
i64 step_of(const TensorDesc& vector) {
  return vector.rank() == 1 && vector.dim(0) != 1 ? vector.strides[0] : 0;
}

template <class P>
Vectors<P> vectors(const PlanRequest& r) {
  Vectors<P> v{};
  for (std::size_t i = 1; i < std::min<std::size_t>(r.in.size(), 5); ++i) {
    v.step[i] = step_of(r.in[i]);
  }
  return v;
}
template <class P>
Vectors<P> bind(Vectors<P> v, const LaunchArgs& a, std::size_t inputs) {
  for (std::size_t i = 1; i < std::min<std::size_t>(inputs, 5); ++i) {
    v.in[i] = static_cast<const P*>(a.in[i]);
  }
  return v;
}

/// The last step of a forward pass: every element on its own.
template <class T>
struct Normalise {
  using P = compute_t<T>;
  Elements<T, 2> all;
  Elements<T, 3> with_residual;
  std::size_t residual = 0;  // which input; 0: none
  bool relu;

  explicit Normalise(const PlanRequest& r) : relu(r.attrs<BatchNormAttrs>().relu) {
    if (r.attrs<BatchNormAttrs>().has_residual(r.in.size())) {
      residual = r.in.size() - 1;
      with_residual = elements_of<T, 3>({&r.in[0], &r.in[residual], &r.out[0]});
    } else {
      all = elements_of<T, 2>({&r.in[0], &r.out[0]});
    }
  }
  void run(const LaunchArgs& a, const Affine<P>& p) const {
    const T* x = static_cast<const T*>(a.in[0]);
    T* y = static_cast<T*>(a.out[0]);
    if (residual) {
      const T* z = static_cast<const T*>(a.in[residual]);
      with_residual.visit({x, z, y}, [&](const auto& w, i64 along, auto v) {
        launch(a, grid_for(w.count, 4), normalise<T, P, 4, v()>, w, along, x, p, relu, z, y);
      });
    } else {
      all.visit({x, y}, [&](const auto& w, i64 along, auto v) {
        launch(a, grid_for(w.count, 4), normalise<T, P, 3, v()>, w, along, x, p, relu,
               static_cast<const T*>(nullptr), y);
      });
    }
  }
};

template <class P>
__global__ void store_sums(i64 channels, i64 chunks, const Pair* partial, P* sum, P* squares) {
  for (i64 c = global_index(); c < channels; c += global_size()) {
    const Pair s = total(partial, c, chunks);
    sum[c] = static_cast<P>(s.a);
    squares[c] = static_cast<P>(s.b);
  }
}

template <class T>
RefPtr<Plan> sums_plan(const TensorDesc& x) {
  using P = compute_t<T>;
  const ChannelWalk<1> w = channels_of<1>(x, {&x});
  if (w.channels == 0) return empty_plan("cuda:channel_sums");
  return make_plan(
      "cuda:channel_sums",
      [=](const LaunchArgs& a) {
        Pair* partial = static_cast<Pair*>(a.workspace);
        const bool any = w.values.count > 0;
        if (any) {
          launch(a, w.share.grid(), channel_sums<1, Moments<T>>, w,
                 Moments<T>{static_cast<const T*>(a.in[0]), true}, partial);
        }
        launch(a, grid_for(w.channels), store_sums<P>, w.channels, any ? w.share.chunks : 0,
               static_cast<const Pair*>(partial), static_cast<P*>(a.out[0]),
               static_cast<P*>(a.out[1]));
      },
      w.partial_bytes());
}

RefPtr<Plan> exact_epilogue(RefPtr<Plan> plan) {
  plan->epilogue = Exactness::exact;
  return plan;
}

template <class T>
RefPtr<Plan> train_plan(const PlanRequest& r) {
  using P = compute_t<T>;
  const auto attrs = r.attrs<BatchNormAttrs>();
  const ChannelWalk<1> w = channels_of<1>(r.in[0], {&r.in[0]});
  const Normalise<T> last(r);
  const Vectors<P> vec = vectors<P>(r);
  const std::size_t inputs = r.in.size();
  const TrainNumbers numbers{attrs.momentum, attrs.eps, attrs.has_running(inputs)};
  const std::size_t given = attrs.sums ? attrs.sums_at(inputs) : 0;
  Statistics<T, P> from{};
  if (given) {
    from.sum_step = step_of(r.in[given]);
    from.squares_step = step_of(r.in[given + 1]);
  }
  if (w.channels == 0) return empty_plan("cuda:batch_norm_train");
  return exact_epilogue(make_plan(
      "cuda:batch_norm_train",
      [=](const LaunchArgs& a) {
        const T* x = static_cast<const T*>(a.in[0]);
        Pair* partial = static_cast<Pair*>(a.workspace);
        P* scale = workspace<P>(a, w.partial_bytes());
        P *mean = static_cast<P*>(a.out[1]), *invstd = static_cast<P*>(a.out[2]);
        const Vectors<P> v = bind(vec, a, inputs);
        const bool any = w.values.count > 0;
        Statistics<T, P> of = from;
        of.x = x;
        of.partial = partial;
        if (given) {
          of.sum = static_cast<const P*>(a.in[given]);
          of.squares = static_cast<const P*>(a.in[given + 1]);
        } else if (any) {
          launch(a, w.share.grid(), channel_sums<1, Moments<T>>, w, Moments<T>{x, false}, partial);
        }
        launch(a, grid_for(w.channels), train_statistics<T, P>, Sums::of(w), of, v, numbers,
               numbers.running ? static_cast<P*>(a.in[3]) : nullptr,
               numbers.running ? static_cast<P*>(a.in[4]) : nullptr, mean, invstd, scale);
        if (any) last.run(a, {mean, scale, v.in[2], 1, v.step[2]});
      },
      w.partial_bytes() + align_up(static_cast<std::size_t>(w.channels) * sizeof(P))));
}

template <class T>
RefPtr<Plan> eval_plan(const PlanRequest& r) {
  using P = compute_t<T>;
  const double eps = r.attrs<BatchNormAttrs>().eps;
  const Normalise<T> last(r);
  const i64 channels = r.in[0].dim(1);
  const Vectors<P> vec = vectors<P>(r);
  if (r.out[0].numel() == 0) return empty_plan("cuda:batch_norm_eval");
  return exact_epilogue(make_plan(
      "cuda:batch_norm_eval",
      [=](const LaunchArgs& a) {
        P* scale = static_cast<P*>(a.workspace);
        const Vectors<P> v = bind(vec, a, 5);
        launch(a, grid_for(channels), eval_scale<P>, channels, v, eps, scale);
        last.run(a, {v.in[3], scale, v.in[2], v.step[3], v.step[2]});
      },
      align_up(static_cast<std::size_t>(channels) * sizeof(P))));
}

/// What a search finds between cuDNN's kernel and ours; null without one.
RefPtr<Plan> searched([[maybe_unused]] const PlanRequest& r) {
#ifdef TANDEM_HAS_CUDNN
  if (r.policy.vendor && r.policy.search > 0) return cudnn_plan(r);
#endif
  return {};
}

/// N tensors take part in the sums, as GradMoments lists them.
template <class T, int N>
RefPtr<Plan> grad_plan(const PlanRequest& r) {
  using P = compute_t<T>;
  constexpr bool masked = N > 2, keeps = N > 3;
  constexpr int again = masked && !keeps ? 3 : 2;  // that the last step reads
  std::array<const TensorDesc*, N> summed{&r.in[0], &r.in[1]};
  if constexpr (masked) summed[2] = &r.in[5];
  if constexpr (keeps) summed[3] = &r.out[3];
  const ChannelWalk<N> w = channels_of<N>(r.in[1], summed);
  std::array<const TensorDesc*, again + 1> last{keeps ? &r.out[3] : &r.in[0], &r.in[1]};
  if constexpr (again == 3) last[2] = &r.in[5];
  last[again] = &r.out[0];
  const Elements<T, again + 1> all = elements_of<T, again + 1>(last);
  const Vectors<P> vec = vectors<P>(r);
  if (w.channels == 0) return empty_plan("cuda:batch_norm_grad");
  return exact_epilogue(make_plan(
      "cuda:batch_norm_grad",
      [=](const LaunchArgs& a) {
        const T *gy = static_cast<const T*>(a.in[0]), *x = static_cast<const T*>(a.in[1]);
        const T* y = masked ? static_cast<const T*>(a.in[5]) : nullptr;
        T* gz = keeps ? static_cast<T*>(a.out[3]) : nullptr;
        Pair* partial = static_cast<Pair*>(a.workspace);
        P* factors = workspace<P>(a, w.partial_bytes());
        const Vectors<P> v = bind(vec, a, 5);
        const bool any = w.values.count > 0;
        if (any) {
          launch(a, w.share.grid(), channel_sums<N, GradMoments<T, N>>, w,
                 GradMoments<T, N>{gy, x, y, gz, v.in[3], v.step[3]}, partial);
        }
        launch(a, grid_for(w.channels), grad_factors<P>, Sums::of(w),
               static_cast<const Pair*>(partial), v, static_cast<P*>(a.out[1]),
               static_cast<P*>(a.out[2]), factors);
        if (any) {
          const T *g = keeps ? gz : gy, *mask = again == 3 ? y : nullptr;
          T* gx = static_cast<T*>(a.out[0]);
          all.visit({g, x, mask, gx}, [&](const auto& e, i64 along, auto n) {
            launch(a, grid_for(e.count, 4), grad_input<T, P, again + 2, n()>, e, along, w.channels,
                   g, x, mask, v.in[3], v.step[3], static_cast<const P*>(factors), gx);
          });
        }
      },
      w.partial_bytes() + align_up(static_cast<std::size_t>(3 * w.channels) * sizeof(P))));
}

}  // namespace

RefPtr<Plan> plan_channel_sums(const TensorDesc& x) {
  return visit_floating(x.dtype,
                        [&](auto tag) { return sums_plan<typename decltype(tag)::type>(x); });
}
RefPtr<Plan> plan_norm_factors(DType dtype, std::span<const TensorDesc> in, double eps) {
  return visit_floating(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using P = compute_t<T>;
    Vectors<P> vec{};
    for (std::size_t i = 0; i < 4; ++i) vec.step[i + 1] = step_of(in[i]);
    const i64 channels = in[0].dim(0);
    return make_plan("cuda:norm_factors", [=](const LaunchArgs& a) {
      Vectors<P> v = vec;
      for (std::size_t i = 0; i < 4; ++i) v.in[i + 1] = static_cast<const P*>(a.in[i]);
      launch(a, grid_for(channels), eval_factors<T, P>, channels, v, eps, static_cast<T*>(a.out[0]),
             static_cast<T*>(a.out[1]));
    });
  });
}
RefPtr<Plan> plan_batch_norm_train(const PlanRequest& r) {
  if (RefPtr<Plan> v = searched(r)) return v;
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return train_plan<typename decltype(tag)::type>(r); });
}
RefPtr<Plan> plan_batch_norm_eval(const PlanRequest& r) {
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return eval_plan<typename decltype(tag)::type>(r); });
}
RefPtr<Plan> plan_batch_norm_grad(const PlanRequest& r) {
  if (RefPtr<Plan> v = searched(r)) return v;
  const auto& attrs = r.attrs<BatchNormGradAttrs>();
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (attrs.residual) return grad_plan<T, 4>(r);
    return attrs.relu ? grad_plan<T, 3>(r) : grad_plan<T, 2>(r);
  });
}

}  // namespace tandem::cuda
