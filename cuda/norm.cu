// Batch norm. Sums of a channel are formed in f64, in an order that the shape alone decides: a
// block for each piece of a few channels, then one thread a channel for what is left and for the
// statistics. Values are taken relative to one of the channel's own, so that the variance of values
// far from zero does not cancel.
#include "ops/norm.h"

#include "core/epilogue.h"
#include "cuda/block.h"
#include "cuda/loops.h"

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

// x - shift and its square, for the statistics of x.
template <class T>
struct Moments {
  const T* x;
  __device__ double shift(const i64 (&first)[1], i64) const {
    return static_cast<double>(static_cast<compute_t<T>>(x[first[0]]));
  }
  __device__ Pair operator()(const i64 (&at)[1], double shift) const {
    const double d = static_cast<double>(static_cast<compute_t<T>>(x[at[0]])) - shift;
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
  __device__ Pair operator()(const i64 (&at)[N], double shift) const {
    T g = gy[at[0]];
    if constexpr (N > 2) g = epilogue::relu_grad(g, y[at[2]]);
    if constexpr (N > 3) gz[at[3]] = g;
    const double d = static_cast<double>(static_cast<compute_t<T>>(g));
    return {d, d * (static_cast<double>(static_cast<compute_t<T>>(x[at[1]])) - shift)};
  }
};

template <int N, class F>
__global__ void channel_sums(ChannelWalk<N> w, F f, Pair* partial) {
  __shared__ Pair shared[kBlockThreads];
  w.share.each([&](i64 c, i64 chunk) {
    Pair sum{0, 0};
    if (c < w.channels) {
      i64 first[N];
      for (int k = 0; k < N; ++k) first[k] = c * w.step[k];
      const double shift = f.shift(first, c);
      w.share.each_element(chunk, [&](i64 i) {
        i64 at[N];
        w.values.offsets(i, at);
        for (int k = 0; k < N; ++k) at[k] += first[k];
        const Pair p = f(at, shift);
        sum.a += p.a;
        sum.b += p.b;
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

template <class T, class P>
__global__ void train_statistics(Sums w, const T* x, const Pair* partial, Vectors<P> v,
                                 TrainNumbers n, P* running_mean, P* running_var, P* mean,
                                 P* invstd, P* scale) {
  const double count = static_cast<double>(w.count);
  for (i64 c = global_index(); c < w.channels; c += global_size()) {
    if (w.count == 0) {
      mean[c] = 0;
      invstd[c] = static_cast<P>(1 / ::sqrt(n.eps));
      continue;
    }
    const double shift = static_cast<double>(static_cast<P>(x[c * w.step]));
    const Pair s = total(partial, c, w.chunks);
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
__global__ void eval_scale(i64 channels, Vectors<P> v, double eps, P* scale) {
  for (i64 c = global_index(); c < channels; c += global_size()) {
    scale[c] = static_cast<P>(static_cast<double>(v.at(1, c)) /
                              ::sqrt(static_cast<double>(v.at(4, c)) + eps));
  }
}

/// A scale and what is taken from and added to a channel's values.
template <class P>
struct Affine {
  const P *mean, *scale, *bias;
  i64 mean_step, bias_step;
};

// y = (x - mean) scale + bias, its ReLU, or with four tensors that of y + z. Tensors of the walk:
// x, z if there is one, y, and the channel's number.
template <class T, class P, int N>
__global__ void normalise(Walk<N> w, const T* x, Affine<P> p, bool relu, const T* z, T* y) {
  for (i64 i = global_index(); i < w.count; i += global_size()) {
    i64 at[N];
    w.offsets(i, at);
    const i64 c = at[N - 1];
    T v = static_cast<T>((static_cast<P>(x[at[0]]) - p.mean[c * p.mean_step]) * p.scale[c] +
                         p.bias[c * p.bias_step]);
    if constexpr (N == 4) v = epilogue::add(v, z[at[1]]);
    y[at[N - 2]] = relu ? epilogue::relu(v) : v;
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

// Tensors of the walk: g, x, y where g is masked by it, gx, and the channel's number.
template <class T, class P, int N>
__global__ void grad_input(Walk<N> w, i64 channels, const T* gy, const T* x, const T* y,
                           const P* mean, i64 mean_step, const P* factors, T* gx) {
  for (i64 i = global_index(); i < w.count; i += global_size()) {
    i64 at[N];
    w.offsets(i, at);
    const i64 c = at[N - 1];
    T g = gy[at[0]];
    if constexpr (N == 5) g = epilogue::relu_grad(g, y[at[2]]);
    const P v = static_cast<P>(g) - factors[channels + c];
    const P d = (static_cast<P>(x[at[1]]) - mean[c * mean_step]) * factors[2 * channels + c];
    gx[at[N - 2]] = static_cast<T>((v - d) * factors[c]);
  }
}

/// All elements of tensors of one shape, in the order of the last one's memory, and their channels.
template <int K>
Walk<K + 1> elements_of(const std::array<const TensorDesc*, K>& t) {
  const TensorDesc& last = *t[K - 1];
  Axes<K + 1> axes;
  for (const auto d64 : memory_order(last)) {
    const int d = static_cast<int>(d64);
    std::array<std::int64_t, K + 1> s;
    for (int k = 0; k < K; ++k) s[k] = t[k]->strides[d];
    s[K] = d == 1 ? 1 : 0;
    axes.add(last.dim(d), s);
  }
  return walk_of(axes);
}

template <class P>
Vectors<P> vectors(const PlanRequest& r) {
  Vectors<P> v{};
  for (std::size_t i = 1; i < std::min<std::size_t>(r.in.size(), 5); ++i) {
    v.step[i] = r.in[i].rank() == 1 && r.in[i].dim(0) != 1 ? r.in[i].strides[0] : 0;
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
  Walk<3> all;
  Walk<4> with_residual;
  std::size_t residual = 0;  // which input; 0: none
  bool relu;

  explicit Normalise(const PlanRequest& r) : relu(r.attrs<BatchNormAttrs>().relu) {
    if (r.attrs<BatchNormAttrs>().has_residual(r.in.size())) {
      residual = r.in.size() - 1;
      with_residual = elements_of<3>({&r.in[0], &r.in[residual], &r.out[0]});
    } else {
      all = elements_of<2>({&r.in[0], &r.out[0]});
    }
  }
  void run(const LaunchArgs& a, const Affine<P>& p) const {
    const T* x = static_cast<const T*>(a.in[0]);
    T* y = static_cast<T*>(a.out[0]);
    if (residual) {
      launch(a, grid_for(with_residual.count, 4), normalise<T, P, 4>, with_residual, x, p, relu,
             static_cast<const T*>(a.in[residual]), y);
    } else {
      launch(a, grid_for(all.count, 4), normalise<T, P, 3>, all, x, p, relu,
             static_cast<const T*>(nullptr), y);
    }
  }
};

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
  const TrainNumbers numbers{attrs.momentum, attrs.eps, inputs >= 5};
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
        if (any) launch(a, w.share.grid(), channel_sums<1, Moments<T>>, w, Moments<T>{x}, partial);
        launch(a, grid_for(w.channels), train_statistics<T, P>, Sums::of(w), x,
               static_cast<const Pair*>(partial), v, numbers,
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
  const Walk<again + 2> all = elements_of<again + 1>(last);
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
          launch(a, grid_for(all.count, 4), grad_input<T, P, again + 2>, all, w.channels,
                 keeps ? gz : gy, x, y, v.in[3], v.step[3], static_cast<const P*>(factors),
                 static_cast<T*>(a.out[0]));
        }
      },
      w.partial_bytes() + align_up(static_cast<std::size_t>(3 * w.channels) * sizeof(P))));
}

}  // namespace

RefPtr<Plan> plan_batch_norm_train(const PlanRequest& r) {
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return train_plan<typename decltype(tag)::type>(r); });
}
RefPtr<Plan> plan_batch_norm_eval(const PlanRequest& r) {
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return eval_plan<typename decltype(tag)::type>(r); });
}
RefPtr<Plan> plan_batch_norm_grad(const PlanRequest& r) {
  const auto& attrs = r.attrs<BatchNormGradAttrs>();
  return visit_floating(r.in[0].dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (attrs.residual) return grad_plan<T, 4>(r);
    return attrs.relu ? grad_plan<T, 3>(r) : grad_plan<T, 2>(r);
  });
}

}  // namespace tandem::cuda
