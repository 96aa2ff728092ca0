#include "ops/loss.h"

#include "cpu/softmax.h"

namespace tandem::cpu {
namespace {

using i64 = std::int64_t;

Slices class_slices(const TensorDesc& scores) {
  return {scores, scores.rank() == 1 ? 0 : 1};
}

// Class labels as dense i64, checked before they are used as positions.
class Labels {
 public:
  Labels(const char* op, const TensorDesc& d, i64 classes, i64 ignore, std::size_t& bytes)
      : op_(op),
        count_(d.numel()),
        classes_(classes),
        ignore_(ignore),
        wide_(d.dtype == DType::i64),
        in_(d, contiguous_strides(d.shape), bytes) {
    if (!wide_) at_ = reserve(bytes, static_cast<std::size_t>(count_) * sizeof(i64));
  }

  i64 count() const { return count_; }
  bool ignored(i64 label) const { return label == ignore_; }

  /// Throws IndexError. `used` := the number of samples not ignored.
  const i64* load(void* p, void* workspace, i64& used) const {
    const i64* t;
    if (wide_) {
      t = in_.load<i64>(p, workspace);
    } else {
      const std::int32_t* from = in_.load<std::int32_t>(p, workspace);
      i64* to = reinterpret_cast<i64*>(static_cast<char*>(workspace) + at_);
      for (i64 i = 0; i < count_; ++i) to[i] = from[i];
      t = to;
    }
    i64 bad = 0;
    used = 0;
    for (i64 i = 0; i < count_; ++i) {
      const bool use = t[i] != ignore_;
      used += use;
      bad += use & ((t[i] < 0) | (t[i] >= classes_));
    }
    if (bad) refuse(t);
    return t;
  }

 private:
  [[noreturn]] void refuse(const i64* t) const {
    i64 i = 0;
    while (ignored(t[i]) || (t[i] >= 0 && t[i] < classes_)) ++i;
    fail<IndexError>(op_, "a label is outside the classes",
                     fmt::format("label {} of sample {}", t[i], i),
                     fmt::format("0 to {}", classes_ - 1));
  }

  const char* op_;
  i64 count_, classes_, ignore_;
  bool wide_;
  Operand in_;
  std::size_t at_ = 0;
};

// `sample(i)` is the loss of sample i; ignored samples give 0. `scratch` holds one A per sample.
template <class T, class F>
void reduce_loss(Reduction r, i64 n, i64 used, T* out, compute_t<T>* scratch, i64 cost,
                 const F& sample) {
  using A = compute_t<T>;
  parallel_for(n, grain_for(cost), [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end; ++i) scratch[i] = sample(i);
  });
  if (r == Reduction::none) {
    for (i64 i = 0; i < n; ++i) out[i] = static_cast<T>(scratch[i]);
    return;
  }
  double total = 0;
  for (i64 i = 0; i < n; ++i) total += static_cast<double>(scratch[i]);
  if (r == Reduction::mean) total /= static_cast<double>(used);  // 0 / 0: NaN
  out[0] = static_cast<T>(static_cast<A>(total));
}

// What the gradient of one sample's loss is multiplied by.
template <class T>
auto loss_factor(Reduction r, const T* gloss, i64 used) {
  using A = compute_t<T>;
  const A scale = r == Reduction::mean ? A(1) / static_cast<A>(used) : A(1);
  return [=](i64 i) { return static_cast<A>(gloss[r == Reduction::none ? i : 0]) * scale; };
}

// Sample i is row i of the classes, or column i mod inner of slice i / inner.
i64 first_of(const Slices& s, i64 i) {
  return i / s.inner * s.size * s.inner + i % s.inner;
}

template <class T>
void cross_entropy_grad(const Slices& s, const Labels& labels, const CrossEntropyAttrs& attrs,
                        const T* gloss, const compute_t<T>* logp, const i64* t, i64 used, T* gx) {
  using A = compute_t<T>;
  const A even = static_cast<A>(attrs.label_smoothing / static_cast<double>(s.size));
  const A peak = static_cast<A>(1 - attrs.label_smoothing);
  const auto factor = loss_factor(attrs.kind(), gloss, used);
  const auto at_label = [&](i64 i, i64 at) {
    gx[at] = static_cast<T>(factor(i) * (math::exp(logp[at]) - even - peak));
  };
  if (s.inner == 1) {
    parallel_for(s.outer, grain_for(4 * s.size), [&](i64 begin, i64 end) {
      for (i64 i = begin; i < end; ++i) {
        T* to = gx + i * s.size;
        if (labels.ignored(t[i])) {
          std::fill(to, to + s.size, T{});
          continue;
        }
        const A* from = logp + i * s.size;
        const A f = factor(i);
#pragma GCC ivdep
        for (i64 c = 0; c < s.size; ++c) to[c] = static_cast<T>(f * (math::exp(from[c]) - even));
        at_label(i, i * s.size + t[i]);
      }
    });
    return;
  }
  each_column_block(s, [&](i64 at, i64 columns) {
    const i64 first = at / (s.size * s.inner) * s.inner + at % (s.size * s.inner);  // sample
    A f[kColumns];
    for (i64 j = 0; j < columns; ++j)
      f[j] = labels.ignored(t[first + j]) ? A(0) : factor(first + j);
    for (i64 c = 0; c < s.size; ++c) {
      const A* from = logp + at + c * s.inner;
      T* to = gx + at + c * s.inner;
#pragma GCC ivdep
      for (i64 j = 0; j < columns; ++j) to[j] = static_cast<T>(f[j] * (math::exp(from[j]) - even));
    }
    for (i64 j = 0; j < columns; ++j) {
      const i64 label = t[first + j];
      if (!labels.ignored(label)) {
        at_label(first + j, at + label * s.inner + j);
      } else {  // zeros even where the scores are not finite
        for (i64 c = 0; c < s.size; ++c) gx[at + c * s.inner + j] = T{};
      }
    }
  });
}

}  // namespace

RefPtr<Plan> plan_nll(const PlanRequest& r) {
  const auto attrs = r.attrs<NllAttrs>();
  const TensorDesc& x = r.in[0];
  const TensorDesc dense(x.dtype, x.device, x.shape);
  const Slices s = class_slices(dense);
  std::size_t bytes = 0;
  const Operand in(x, dense.strides, bytes);
  const Labels labels(r.op.name, r.in[1], x.dim(x.rank() == 1 ? 0 : 1), attrs.ignore_index, bytes);
  const std::size_t scratch =
      reserve(bytes, static_cast<std::size_t>(labels.count()) * sizeof(double));
  return visit_floating(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = compute_t<T>;
    return make_plan(
        "cpu:nll",
        [=](const LaunchArgs& a) {
          i64 used;
          const i64* t = labels.load(a.in[1], a.workspace, used);
          const T* logp = in.load<T>(a.in[0], a.workspace);
          reduce_loss(attrs.kind(), labels.count(), used, static_cast<T*>(a.out[0]),
                      reinterpret_cast<A*>(static_cast<char*>(a.workspace) + scratch), 1,
                      [&](i64 i) {
                        if (labels.ignored(t[i])) return A(0);
                        return -static_cast<A>(logp[first_of(s, i) + t[i] * s.inner]);
                      });
        },
        bytes);
  });
}

RefPtr<Plan> plan_nll_grad(const PlanRequest& r) {
  const auto attrs = r.attrs<NllAttrs>();
  const TensorDesc& gx = r.out[0];
  const Slices s = class_slices(gx);
  const i64 total = gx.numel();
  std::size_t bytes = 0;
  const Operand in(r.in[0], contiguous_strides(r.in[0].shape), bytes);
  const Labels labels(r.op.name, r.in[1], gx.dim(gx.rank() == 1 ? 0 : 1), attrs.ignore_index,
                      bytes);
  return visit_floating(gx.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:nll_grad",
        [=](const LaunchArgs& a) {
          i64 used;
          const i64* t = labels.load(a.in[1], a.workspace, used);
          const T* g = in.load<T>(a.in[0], a.workspace);
          T* to = static_cast<T*>(a.out[0]);
          const auto factor = loss_factor(attrs.kind(), g, used);
          std::fill(to, to + total, T{});
          for (i64 i = 0; i < labels.count(); ++i) {
            if (labels.ignored(t[i])) continue;
            to[first_of(s, i) + t[i] * s.inner] = static_cast<T>(-factor(i));
          }
        },
        bytes);
  });
}

RefPtr<Plan> plan_cross_entropy(const PlanRequest& r) {
  const auto attrs = r.attrs<CrossEntropyAttrs>();
  const TensorDesc &x = r.in[0], &logp = r.out[1];
  const Slices s = class_slices(logp);
  std::size_t bytes = 0;
  const Operand in(x, logp.strides, bytes);
  const Labels labels(r.op.name, r.in[1], x.dim(x.rank() == 1 ? 0 : 1), attrs.ignore_index, bytes);
  const std::size_t scratch =
      reserve(bytes, static_cast<std::size_t>(labels.count()) * sizeof(double));
  return visit_floating(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = compute_t<T>;
    return make_plan(
        "cpu:cross_entropy",
        [=](const LaunchArgs& a) {
          i64 used;
          const i64* t = labels.load(a.in[1], a.workspace, used);
          A* lp = static_cast<A*>(a.out[1]);
          softmax_slices<true>(s, in.load<T>(a.in[0], a.workspace), lp);
          const A peak = static_cast<A>(1 - attrs.label_smoothing);
          const double even = attrs.label_smoothing / static_cast<double>(s.size);
          reduce_loss(attrs.kind(), labels.count(), used, static_cast<T*>(a.out[0]),
                      reinterpret_cast<A*>(static_cast<char*>(a.workspace) + scratch),
                      even == 0 ? 1 : s.size, [&](i64 i) {
                        if (labels.ignored(t[i])) return A(0);
                        const A* p = lp + first_of(s, i);
                        const A at_label = -p[t[i] * s.inner];
                        if (even == 0) return at_label;
                        const double all =
                            blocked_sum<A>(s.size, [&](i64 c) { return p[c * s.inner]; });
                        return peak * at_label - static_cast<A>(even * all);
                      });
        },
        bytes);
  });
}

RefPtr<Plan> plan_cross_entropy_grad(const PlanRequest& r) {
  const auto attrs = r.attrs<CrossEntropyAttrs>();
  const TensorDesc &logp = r.in[1], &gx = r.out[0];
  const Slices s = class_slices(gx);
  std::size_t bytes = 0;
  const Operand in(r.in[0], contiguous_strides(r.in[0].shape), bytes);
  const Operand scores(logp, gx.strides, bytes);
  const Labels labels(r.op.name, r.in[2], gx.dim(gx.rank() == 1 ? 0 : 1), attrs.ignore_index,
                      bytes);
  return visit_floating(gx.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return make_plan(
        "cpu:cross_entropy_grad",
        [=](const LaunchArgs& a) {
          i64 used;
          const i64* t = labels.load(a.in[2], a.workspace, used);
          const T* g = in.load<T>(a.in[0], a.workspace);
          const auto* lp = scores.load<compute_t<T>>(a.in[1], a.workspace);
          cross_entropy_grad(s, labels, attrs, g, lp, t, used, static_cast<T*>(a.out[0]));
        },
        bytes);
  });
}

}  // namespace tandem::cpu
