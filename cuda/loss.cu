// Losses of class labels. A label outside the classes is a fault: its sample counts as ignored
// until the host throws.
#include "ops/loss.h"

#include "cuda/softmax.h"

namespace tandem::cuda {
namespace {

using i64 = long long;

struct Labels {
  const void* data;
  bool wide;  // i64, else i32
  i64 classes, ignore;
  const char* op;
  Fault* fault;

  /// The label at an offset, or -1: ignored, or no class at all.
  __device__ i64 operator()(i64 at) const {
    const i64 t = wide ? static_cast<const std::int64_t*>(data)[at]
                       : static_cast<const std::int32_t*>(data)[at];
    if (t == ignore) return -1;
    if (t >= 0 && t < classes) return t;
    note_fault(fault, FaultKind::label_out_of_range, op, t, classes);
    return -1;
  }
};

struct LabelPlan {
  bool wide;
  i64 classes, ignore;
  const char* op;
  Labels bind(const LaunchArgs& a, int input) const {
    return {a.in[input], wide, classes, ignore, op, stream_of(a).fault()};
  }
};

int class_axis(const Shape& s) {
  return s.size() == 1 ? 0 : 1;
}

// The loss of each sample, of tensor 0 (log-probabilities) and 1 (labels); 0 where ignored.
template <class In, class A>
__global__ void sample_losses(Slices<2> s, const In* logp, Labels labels, A peak, double even,
                              A* losses) {
  for (i64 i = global_index(); i < s.kept.count; i += global_size()) {
    i64 at[2];
    s.kept.offsets(i, at);
    const i64 t = labels(at[1]);
    if (t < 0) {
      losses[i] = 0;
      continue;
    }
    const In* p = logp + at[0];
    A loss = -static_cast<A>(p[t * s.step[0]]);
    if (even != 0) {
      double all = 0;
      for (i64 c = 0; c < s.size; ++c) all += static_cast<double>(static_cast<A>(p[c * s.step[0]]));
      loss = peak * loss - static_cast<A>(even * all);
    }
    losses[i] = loss;
  }
}

// One block: how many samples count, for the mean.
__global__ void count_used(Slices<1> s, Labels labels, i64* used) {
  __shared__ i64 shared[kBlockThreads];
  const int t = static_cast<int>(threadIdx.x);
  i64 n = 0;
  for (i64 i = t; i < s.kept.count; i += kBlockThreads) {
    i64 at[1];
    s.kept.offsets(i, at);
    n += labels(at[0]) >= 0;
  }
  n = combine_threads(n, shared, t, kBlockThreads, 1, t, [](i64 a, i64 b) { return a + b; });
  if (t == 0) *used = n;
}

template <class T, class A>
__global__ void copy_losses(i64 n, const A* losses, T* out) {
  for (i64 i = global_index(); i < n; i += global_size()) out[i] = static_cast<T>(losses[i]);
}

// One block: the sum, or the mean over `used` samples (NaN of none).
template <class T, class A>
__global__ void total_loss(i64 n, const A* losses, const i64* used, T* out) {
  __shared__ double shared[kBlockThreads];
  const int t = static_cast<int>(threadIdx.x);
  double sum = 0;
  for (i64 i = t; i < n; i += kBlockThreads) sum += static_cast<double>(losses[i]);
  sum = combine_threads(sum, shared, t, kBlockThreads, 1, t,
                        [](double a, double b) { return a + b; });
  if (t == 0) *out = static_cast<T>(static_cast<A>(used ? sum / static_cast<double>(*used) : sum));
}

Slices<1> label_slices(const Slices<2>& s) {
  Slices<1> l;
  l.kept.rank = s.kept.rank;
  l.kept.count = s.kept.count;
  for (int d = 0; d < s.kept.rank; ++d) {
    l.kept.size[d] = s.kept.size[d];
    l.kept.stride[0][d] = s.kept.stride[1][d];
  }
  return l;
}

const Grid kOneBlock{.blocks = dim3(1), .threads = dim3(kBlockThreads)};

/// What nll and cross_entropy do once there are log-probabilities.
template <class T>
struct LossOf {
  using A = compute_t<T>;
  Slices<2> s;
  LabelPlan labels;
  Reduction kind;
  double smoothing;

  std::size_t losses_bytes() const {
    return align_up(static_cast<std::size_t>(s.kept.count) * sizeof(A));
  }
  std::size_t bytes() const { return losses_bytes() + kAlignment; }

  template <class In>
  void run(const LaunchArgs& a, const In* logp) const {
    const Labels l = labels.bind(a, 1);
    A* losses = static_cast<A*>(a.workspace);
    i64* used = reinterpret_cast<i64*>(static_cast<char*>(a.workspace) + losses_bytes());
    if (s.kept.count > 0) {
      launch(a, grid_for(s.kept.count), sample_losses<In, A>, s, logp, l,
             static_cast<A>(1 - smoothing), smoothing / static_cast<double>(s.size), losses);
    }
    T* out = static_cast<T*>(a.out[0]);
    if (kind == Reduction::none) {
      if (s.kept.count > 0) {
        launch(a, grid_for(s.kept.count), copy_losses<T, A>, s.kept.count, losses, out);
      }
      return;
    }
    const bool mean = kind == Reduction::mean;
    if (mean) launch(a, kOneBlock, count_used, label_slices(s), l, used);
    launch(a, kOneBlock, total_loss<T, A>, s.kept.count, losses, mean ? used : nullptr, out);
  }
};

template <class T>
__global__ void nll_grad_kernel(Slices<2> s, Labels labels, const T* gloss, Walk<1> gloss_walk,
                                const i64* used, T* gx) {
  using A = compute_t<T>;
  for (i64 i = global_index(); i < s.kept.count; i += global_size()) {
    i64 at[2], from[1] = {0};
    s.kept.offsets(i, at);
    if (gloss_walk.rank > 0) gloss_walk.offsets(i, from);
    const i64 t = labels(at[1]);
    const A scale = used ? A(1) / static_cast<A>(*used) : A(1);
    const A f = static_cast<A>(gloss[from[0]]) * scale;
    for (i64 c = 0; c < s.size; ++c) {
      gx[at[0] + c * s.step[0]] = c == t ? static_cast<T>(-f) : T(A(0));
    }
  }
}

// gx = factor (softmax - smoothed target), zeros where ignored.
template <class T>
__global__ void cross_entropy_grad_kernel(Slices<3> s, Labels labels, const T* gloss,
                                          Walk<1> gloss_walk, const compute_t<T>* logp,
                                          const i64* used, compute_t<T> even, compute_t<T> peak,
                                          T* gx) {
  using A = compute_t<T>;
  const i64 n = s.kept.count * s.size;
  for (i64 e = global_index(); e < n; e += global_size()) {
    const i64 i = e / s.size, c = e % s.size;
    i64 at[3], from[1] = {0};
    s.kept.offsets(i, at);
    if (gloss_walk.rank > 0) gloss_walk.offsets(i, from);
    const i64 t = labels(at[1]);
    T& to = gx[at[2] + c * s.step[2]];
    if (t < 0) {
      to = T(A(0));
      continue;
    }
    const A scale = used ? A(1) / static_cast<A>(*used) : A(1);
    const A f = static_cast<A>(gloss[from[0]]) * scale;
    const A p = math::exp(logp[at[0] + c * s.step[0]]) - even;
    to = static_cast<T>(f * (c == t ? p - peak : p));
  }
}

// Where the gradient of each sample's loss lies; rank 0: one for all.
Walk<1> loss_walk(const TensorDesc& g, Reduction kind) {
  Axes<1> axes;
  if (kind == Reduction::none) {
    for (int i = 0; i < g.rank(); ++i) axes.add(g.dim(i), {g.strides[i]});
  }
  return walk_of(axes);
}

}  // namespace

RefPtr<Plan> plan_nll(const PlanRequest& r) {
  const auto attrs = r.attrs<NllAttrs>();
  const TensorDesc& x = r.in[0];
  const int axis = class_axis(x.shape);
  const auto s = slices_of<2>(x.shape, axis, {x.strides, r.in[1].strides});
  const LabelPlan labels{r.in[1].dtype == DType::i64, x.dim(axis), attrs.ignore_index, r.op.name};
  return visit_floating(x.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    const LossOf<T> loss{s, labels, attrs.kind(), 0};
    return make_plan(
        "cuda:nll", [loss](const LaunchArgs& a) { loss.run(a, static_cast<const T*>(a.in[0])); },
        loss.bytes());
  });
}

RefPtr<Plan> plan_cross_entropy(const PlanRequest& r) {
  const auto attrs = r.attrs<CrossEntropyAttrs>();
  const TensorDesc &x = r.in[0], &logp = r.out[1];
  const int axis = class_axis(x.shape);
  const auto through = slices_of<2>(x.shape, axis, {x.strides, logp.strides});
  const auto s = slices_of<2>(x.shape, axis, {logp.strides, r.in[1].strides});
  const LabelPlan labels{r.in[1].dtype == DType::i64, x.dim(axis), attrs.ignore_index, r.op.name};
  const bool any = x.numel() > 0;
  return visit_floating(x.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    using A = compute_t<T>;
    const LossOf<T> loss{s, labels, attrs.kind(), attrs.label_smoothing};
    return make_plan(
        "cuda:cross_entropy",
        [=](const LaunchArgs& a) {
          A* lp = static_cast<A*>(a.out[1]);
          if (any) {
            launch(a, through.grid(), softmax_kernel<true, T, A, 2>, through, through.parts(),
                   static_cast<const T*>(a.in[0]), lp);
          }
          loss.run(a, static_cast<const A*>(lp));
        },
        loss.bytes());
  });
}

RefPtr<Plan> plan_nll_grad(const PlanRequest& r) {
  const auto attrs = r.attrs<NllAttrs>();
  const TensorDesc &g = r.in[0], &gx = r.out[0];
  const int axis = class_axis(gx.shape);
  const auto counted = slices_of<2>(gx.shape, axis, {gx.strides, r.in[1].strides});
  const Walk<1> gloss = loss_walk(g, attrs.kind());
  const LabelPlan labels{r.in[1].dtype == DType::i64, gx.dim(axis), attrs.ignore_index, r.op.name};
  const bool mean = attrs.kind() == Reduction::mean;
  if (gx.numel() == 0) return make_plan("cuda:nll_grad", [](const LaunchArgs&) {});
  return visit_floating(gx.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cuda:nll_grad",
        [=](const LaunchArgs& a) {
          const Labels l = labels.bind(a, 1);
          i64* used = static_cast<i64*>(a.workspace);
          if (mean) launch(a, kOneBlock, count_used, label_slices(counted), l, used);
          launch(a, grid_for(counted.kept.count), nll_grad_kernel<T>, counted, l,
                 static_cast<const T*>(a.in[0]), gloss,
                 static_cast<const i64*>(mean ? used : nullptr), static_cast<T*>(a.out[0]));
        },
        kAlignment);
  });
}

RefPtr<Plan> plan_cross_entropy_grad(const PlanRequest& r) {
  const auto attrs = r.attrs<CrossEntropyAttrs>();
  const TensorDesc &g = r.in[0], &logp = r.in[1], &gx = r.out[0];
  const int axis = class_axis(gx.shape);
  const auto s = slices_of<3>(gx.shape, axis, {logp.strides, r.in[2].strides, gx.strides});
  const auto counted = slices_of<2>(gx.shape, axis, {gx.strides, r.in[2].strides});
  const Walk<1> gloss = loss_walk(g, attrs.kind());
  const LabelPlan labels{r.in[2].dtype == DType::i64, gx.dim(axis), attrs.ignore_index, r.op.name};
  const bool mean = attrs.kind() == Reduction::mean;
  if (gx.numel() == 0) return make_plan("cuda:cross_entropy_grad", [](const LaunchArgs&) {});
  return visit_floating(gx.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    using A = compute_t<T>;
    const A even = static_cast<A>(attrs.label_smoothing / static_cast<double>(s.size));
    const A peak = static_cast<A>(1 - attrs.label_smoothing);
    return make_plan(
        "cuda:cross_entropy_grad",
        [=](const LaunchArgs& a) {
          const Labels l = labels.bind(a, 2);
          i64* used = static_cast<i64*>(a.workspace);
          if (mean) launch(a, kOneBlock, count_used, label_slices(counted), l, used);
          launch(a, grid_for(s.kept.count * s.size, 4), cross_entropy_grad_kernel<T>, s, l,
                 static_cast<const T*>(a.in[0]), gloss, static_cast<const A*>(a.in[1]),
                 static_cast<const i64*>(mean ? used : nullptr), even, peak,
                 static_cast<T*>(a.out[0]));
        },
        kAlignment);
  });
}

}  // namespace tandem::cuda
