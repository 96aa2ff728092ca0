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

struct LossSum {
  double loss;
  i64 used;  // samples that count
};
__device__ inline LossSum operator+(const LossSum& a, const LossSum& b) {
  return {a.loss + b.loss, a.used + b.used};
}

/// The value over the whole block, in every thread.
template <class W>
__device__ W block_total(W v, W* shared) {
  const int t = static_cast<int>(threadIdx.x);
  return combine_threads(v, shared, t, kBlockThreads, 1, t, [](W a, W b) { return a + b; });
}

// The mean of no samples is a NaN.
template <class T>
__device__ void store_loss(const LossSum& s, bool mean, T* out) {
  using A = compute_t<T>;
  *out = static_cast<T>(static_cast<A>(mean ? s.loss / static_cast<double>(s.used) : s.loss));
}

template <class T>
struct LossTo {
  T* each;           // every sample's loss; null: their sum or mean
  LossSum* partial;  // of each block
  T* out;
  bool mean;
};

// The loss of each sample, of tensor 0 (log-probabilities) and 1 (labels); 0 where ignored.
template <class In, class T>
__global__ void sample_losses(Slices<2> s, const In* logp, Labels labels, compute_t<T> peak,
                              double even, LossTo<T> to) {
  using A = compute_t<T>;
  __shared__ double shared[kBlockThreads];
  __shared__ LossSum sums[kBlockThreads];
  LossSum sum{0, 0};
  s.share.each([&](i64 i, i64) {
    const bool exists = i < s.kept.count;
    i64 at[2] = {};
    if (exists) s.kept.offsets(i, at);
    const In* p = logp + at[0];
    double all = 0;  // of all classes
    if (even != 0) {
      if (exists) {
        s.share.each_element(
            0, [&](i64 c) { all += static_cast<double>(static_cast<A>(p[c * s.step[0]])); });
      }
      all = s.share.combine(all, shared, [](double a, double b) { return a + b; });
    }
    if (!exists || s.share.part() != 0) return;
    const i64 t = labels(at[1]);
    A loss = 0;
    if (t >= 0) {
      loss = -static_cast<A>(p[t * s.step[0]]);
      if (even != 0) loss = peak * loss - static_cast<A>(even * all);
    }
    if (to.each) to.each[i] = static_cast<T>(loss);
    sum = sum + LossSum{static_cast<double>(loss), t >= 0};
  });
  if (to.each) return;
  sum = block_total(sum, sums);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    store_loss(sum, to.mean, to.out);
  } else {
    to.partial[blockIdx.x] = sum;
  }
}

template <class T>
__global__ void total_loss(unsigned blocks, LossTo<T> to) {
  __shared__ LossSum sums[kBlockThreads];
  LossSum sum{0, 0};
  for (unsigned b = threadIdx.x; b < blocks; b += kBlockThreads) sum = sum + to.partial[b];
  sum = block_total(sum, sums);
  if (threadIdx.x == 0) store_loss(sum, to.mean, to.out);
}

// Sums go over the blocks of a launch: not too many, whatever the device.
constexpr i64 kMostBlocks = 1024;
const Grid kOneBlock = block_grid(1);

/// What nll and cross_entropy do once there are log-probabilities.
template <class T>
struct LossOf {
  Slices<2> s;
  LabelPlan labels;
  Reduction kind;
  double smoothing;

  LossOf(const Slices<2>& slices, const LabelPlan& l, Reduction k, double smooth)
      : s(slices), labels(l), kind(k), smoothing(smooth) {
    // Without smoothing, a sample has one element to read.
    if (smoothing == 0) s.share = share(s.kept.count, 1, true);
  }
  std::size_t bytes() const { return kMostBlocks * sizeof(LossSum); }

  template <class In>
  void run(const LaunchArgs& a, const In* logp) const {
    using A = compute_t<T>;
    T* out = static_cast<T*>(a.out[0]);
    const bool each = kind == Reduction::none;
    if (each && s.kept.count == 0) return;
    const LossTo<T> to{each ? out : nullptr, workspace<LossSum>(a, 0), out,
                       kind == Reduction::mean};
    Grid g = s.share.grid();
    if (!each) g.blocks.x = std::min<unsigned>(g.blocks.x, kMostBlocks);
    launch(a, g, sample_losses<In, T>, s, logp, labels.bind(a, 1), static_cast<A>(1 - smoothing),
           smoothing / static_cast<double>(s.size), to);
    if (!each && g.blocks.x > 1) launch(a, kOneBlock, total_loss<T>, g.blocks.x, to);
  }
};

__global__ void count_used(Slices<1> s, Labels labels, i64* partial) {
  __shared__ i64 shared[kBlockThreads];
  i64 n = 0;
  for (i64 i = global_index(); i < s.kept.count; i += global_size()) {
    i64 at[1];
    s.kept.offsets(i, at);
    n += labels(at[0]) >= 0;
  }
  n = block_total(n, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = n;
}
__global__ void total_used(unsigned blocks, i64* partial) {
  __shared__ i64 shared[kBlockThreads];
  i64 n = 0;
  for (unsigned b = threadIdx.x; b < blocks; b += kBlockThreads) n += partial[b];
  n = block_total(n, shared);
  if (threadIdx.x == 0) partial[0] = n;
}

/// How many samples count, for the gradient of a mean.
class UsedSamples {
 public:
  UsedSamples(const Shape& shape, int axis, const Strides& labels, bool wanted)
      : s_(slices_of<1>(shape, axis, {labels})), wanted_(wanted) {}
  std::size_t bytes() const { return wanted_ ? kMostBlocks * sizeof(i64) : 0; }
  /// In the launch's workspace; null if not wanted.
  const i64* count(const LaunchArgs& a, const Labels& labels) const {
    if (!wanted_) return nullptr;
    i64* partial = workspace<i64>(a, 0);
    const Grid g = grid_for(s_.kept.count, 4, kBlockThreads, kMostBlocks);
    launch(a, g, count_used, s_, labels, partial);
    if (g.blocks.x > 1) launch(a, kOneBlock, total_used, g.blocks.x, partial);
    return partial;
  }

 private:
  Slices<1> s_;
  bool wanted_;
};

// How the loss of a sample, times f, changes with an element: of the label's class or another.
template <class A>
struct NllSlope {
  __device__ A operator()(A f, bool label, i64) const { return label ? -f : A(0); }
};
// softmax - smoothed target
template <class A>
struct CrossEntropySlope {
  const A* logp;
  A even, peak;
  __device__ A operator()(A f, bool label, i64 at) const {
    const A p = math::exp(logp[at]) - even;
    return f * (label ? p - peak : p);
  }
};

// Tensors of the slices: gx, labels, what the slope reads. Zeros where ignored.
template <class T, class Slope>
__global__ void class_grad(Slices<3> s, Labels labels, const T* gloss, Walk<1> gloss_walk,
                           const i64* used, Slope slope, T* gx) {
  using A = compute_t<T>;
  s.share.each([&](i64 i, i64) {
    if (i >= s.kept.count) return;
    i64 at[3], from[1] = {0};
    s.kept.offsets(i, at);
    if (gloss_walk.rank > 0) gloss_walk.offsets(i, from);
    const i64 t = labels(at[1]);
    const A scale = used ? A(1) / static_cast<A>(*used) : A(1);
    const A f = static_cast<A>(gloss[from[0]]) * scale;
    s.share.each_element(0, [&](i64 c) {
      const A v = t < 0 ? A(0) : slope(f, c == t, at[2] + c * s.step[2]);
      gx[at[0] + c * s.step[0]] = static_cast<T>(v);
    });
  });
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
    const LossOf<T> loss(s, labels, attrs.kind(), 0);
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
    const LossOf<T> loss(s, labels, attrs.kind(), attrs.label_smoothing);
    return make_plan(
        "cuda:cross_entropy",
        [=](const LaunchArgs& a) {
          A* lp = static_cast<A*>(a.out[1]);
          if (any) {
            launch(a, through.share.grid(), softmax_kernel<true, T, A>, through,
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
  const Strides& label = r.in[1].strides;
  if (gx.numel() == 0) return empty_plan("cuda:nll_grad");
  const int axis = class_axis(gx.shape);
  const auto s = slices_of<3>(gx.shape, axis, {gx.strides, label, gx.strides});
  const UsedSamples used(gx.shape, axis, label, attrs.kind() == Reduction::mean);
  const Walk<1> gloss = loss_walk(g, attrs.kind());
  const LabelPlan labels{r.in[1].dtype == DType::i64, gx.dim(axis), attrs.ignore_index, r.op.name};
  return visit_floating(gx.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    using Slope = NllSlope<compute_t<T>>;
    return make_plan(
        "cuda:nll_grad",
        [=](const LaunchArgs& a) {
          const Labels l = labels.bind(a, 1);
          const i64* n = used.count(a, l);
          launch(a, s.share.grid(), class_grad<T, Slope>, s, l, static_cast<const T*>(a.in[0]),
                 gloss, n, Slope{}, static_cast<T*>(a.out[0]));
        },
        used.bytes());
  });
}

RefPtr<Plan> plan_cross_entropy_grad(const PlanRequest& r) {
  const auto attrs = r.attrs<CrossEntropyAttrs>();
  const TensorDesc &g = r.in[0], &logp = r.in[1], &gx = r.out[0];
  const Strides& label = r.in[2].strides;
  if (gx.numel() == 0) return empty_plan("cuda:cross_entropy_grad");
  const int axis = class_axis(gx.shape);
  const auto s = slices_of<3>(gx.shape, axis, {gx.strides, label, logp.strides});
  const UsedSamples used(gx.shape, axis, label, attrs.kind() == Reduction::mean);
  const Walk<1> gloss = loss_walk(g, attrs.kind());
  const LabelPlan labels{r.in[2].dtype == DType::i64, gx.dim(axis), attrs.ignore_index, r.op.name};
  return visit_floating(gx.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    using A = compute_t<T>;
    using Slope = CrossEntropySlope<A>;
    const A even = static_cast<A>(attrs.label_smoothing / static_cast<double>(s.size));
    const A peak = static_cast<A>(1 - attrs.label_smoothing);
    return make_plan(
        "cuda:cross_entropy_grad",
        [=](const LaunchArgs& a) {
          const Labels l = labels.bind(a, 2);
          const i64* n = used.count(a, l);
          launch(a, s.share.grid(), class_grad<T, Slope>, s, l, static_cast<const T*>(a.in[0]),
                 gloss, n, Slope{static_cast<const A*>(a.in[1]), even, peak},
                 static_cast<T*>(a.out[0]));
        },
        used.bytes());
  });
}

}  // namespace tandem::cuda
