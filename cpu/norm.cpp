#include "cpu/norm.h"

#include <algorithm>
#include <cmath>

#include "core/epilogue.h"
#include "cpu/lanes.h"
#include "cpu/operand.h"
#include "ops/norm.h"

namespace tandem::cpu {
namespace {

using i64 = std::int64_t;

// Elements of channel c: either N runs of S (planes, NCHW), or one in every C (rows, NHWC and
// [N, C]). Loops run along whatever is contiguous.
class Channels {
 public:
  explicit Channels(const TensorDesc& dense)
      : n_(dense.dim(0)), c_(dense.dim(1)), rows_(dense.is_channels_last() || dense.rank() == 2) {
    for (int i = 2; i < dense.rank(); ++i) s_ *= dense.dim(i);
    if (c_ == 1) {  // both at once: one channel is best taken as a run
      rows_ = false;
      if (s_ == 1) std::swap(n_, s_);
    } else if (s_ == 1) {
      rows_ = true;
    }
    // The number of blocks depends on nothing but the shape, so neither does the result.
    const i64 length = rows_ ? n_ * s_ : n_;
    const i64 wanted = rows_ ? std::min<i64>(32, count() / 128) : 32 / std::max<i64>(1, c_);
    blocks_ = std::clamp<i64>(wanted, 1, std::max<i64>(1, length));
  }

  i64 channels() const { return c_; }
  i64 count() const { return n_ * s_; }  // values per channel
  /// Doubles that `sums` needs to work with.
  std::size_t scratch(int k) const { return static_cast<std::size_t>(k * blocks_ * c_); }
  i64 first(i64 c) const { return rows_ ? c : c * s_; }

  /// out[k * C + c] := sum of term k over channel c, where f(c)(offset) gives an element's terms.
  template <int K, class F>
  void sums(const F& f, double* scratch, double* out) const {
    if (rows_) {
      sum_rows<K>(f, scratch);
    } else {
      sum_planes<K>(f, scratch);
    }
    for (int k = 0; k < K; ++k) {
      for (i64 c = 0; c < c_; ++c) {
        double t = 0;
        for (i64 b = 0; b < blocks_; ++b) t += scratch[(b * K + k) * c_ + c];
        out[k * c_ + c] = t;
      }
    }
  }

  /// Calls f(c)(offset) for every element.
  template <class F>
  void each(const F& f) const {
    if (rows_) {
      parallel_for(count(), grain_for(c_), [&](i64 begin, i64 end) {
        for (i64 r = begin; r < end; ++r) {
          const i64 at = r * c_;
#pragma GCC ivdep
          for (i64 c = 0; c < c_; ++c) f(c)(at + c);
        }
      });
    } else {
      parallel_for(n_ * c_, grain_for(s_), [&](i64 begin, i64 end) {
        for (i64 r = begin; r < end; ++r) {
          const auto g = f(r % c_);
          const i64 at = r * s_;
#pragma GCC ivdep
          for (i64 j = 0; j < s_; ++j) g(at + j);
        }
      });
    }
  }

 private:
  template <int K, class F>
  void sum_planes(const F& f, double* scratch) const {
    const i64 per = (n_ + blocks_ - 1) / blocks_;
    parallel_for(blocks_ * c_, grain_for(per * s_), [&](i64 begin, i64 end) {
      for (i64 t = begin; t < end; ++t) {
        const i64 b = t / c_, c = t % c_;
        const auto g = f(c);
        LaneSums<double, K> acc;
        for (i64 i = b * per; i < std::min(n_, (b + 1) * per); ++i) {
          const i64 at = (i * c_ + c) * s_;
          acc.add(s_, [&](i64 j) { return g(at + j); });
        }
        for (int k = 0; k < K; ++k) scratch[(b * K + k) * c_ + c] = acc.total(k);
      }
    });
  }

  template <int K, class F>
  void sum_rows(const F& f, double* scratch) const {
    const i64 per = (count() + blocks_ - 1) / blocks_;
    parallel_for(blocks_, grain_for(per * c_), [&](i64 begin, i64 end) {
      for (i64 b = begin; b < end; ++b) {
        double* acc = scratch + b * K * c_;
        for (i64 i = 0; i < K * c_; ++i) acc[i] = 0;
        i64 r = b * per;
        const i64 last = std::min(count(), r + per);
        // Four rows at a time: the accumulators, not the elements, are what is loaded most.
        for (; r + 4 <= last; r += 4) add_rows<K, 4>(f, r * c_, acc);
        for (; r < last; ++r) add_rows<K, 1>(f, r * c_, acc);
      }
    });
  }

  template <int K, int R, class F>
  void add_rows(const F& f, i64 at, double* acc) const {
#pragma GCC ivdep
    for (i64 c = 0; c < c_; ++c) {
      const auto g = f(c);
      std::array<double, K> t = g(at + c);
      for (int r = 1; r < R; ++r) {
        const std::array<double, K> v = g(at + r * c_ + c);
        for (int k = 0; k < K; ++k) t[k] += v[k];
      }
      for (int k = 0; k < K; ++k) acc[k * c_ + c] += t[k];
    }
  }

  i64 n_, c_, s_ = 1;
  bool rows_;
  i64 blocks_;
};

// y = (x - mean) scale + bias, channel by channel; f(y, i) is what is stored of element i.
template <class T, class P, class F>
void normalise(const Channels& ch, const T* x, const P* mean, const P* scale, const P* bias, T* y,
               const F& f) {
  ch.each([=](i64 c) {
    return [=, m = mean[c], s = scale[c], b = bias[c]](i64 i) {
      y[i] = f(static_cast<T>((static_cast<P>(x[i]) - m) * s + b), i);
    };
  });
}
template <class T, class P>
void normalise(const Channels& ch, const T* x, const P* mean, const P* scale, const P* bias, T* y,
               bool relu, const T* residual) {
  if (residual) {
    normalise(ch, x, mean, scale, bias, y,
              [=](T v, i64 i) { return epilogue::relu(epilogue::add(v, residual[i])); });
  } else if (relu) {
    normalise(ch, x, mean, scale, bias, y, [](T v, i64) { return epilogue::relu(v); });
  } else {
    normalise(ch, x, mean, scale, bias, y, [](T v, i64) { return v; });
  }
}

/// The inputs of a batch norm, those of x's shape laid out like y; what they take of the workspace.
struct Inputs {
  std::array<Operand, 8> in;
  std::size_t count, bytes = 0;
  bool residual;  // the last one

  Inputs(const PlanRequest& r, const BatchNormAttrs& attrs)
      : count(r.in.size()), residual(attrs.has_residual(count)) {
    for (std::size_t i = 0; i < count; ++i) {
      const bool image = i == 0 || (residual && i + 1 == count);
      in[i] = Operand(r.in[i], image ? r.out[0].strides : Strides{1}, bytes);
    }
  }
  const Operand& operator[](std::size_t i) const { return in[i]; }
  template <class T>
  const T* load_residual(const LaunchArgs& a) const {
    return residual ? in[count - 1].template load<T>(a.in[count - 1], a.workspace) : nullptr;
  }
};

RefPtr<Plan> exact_epilogue(RefPtr<Plan> plan) {
  plan->epilogue = Exactness::exact;
  return plan;
}

template <class T>
T* at(void* workspace, std::size_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(workspace) + offset);
}

std::size_t bytes_for(std::size_t n) {
  return n * sizeof(double);
}

/// The terms x - shift and its square, for Channels::sums.
template <class T>
auto moments(const T* x, const double* shift) {
  return [=](i64 c) {
    return [=, s = shift[c]](i64 i) {
      const double d = static_cast<double>(static_cast<compute_t<T>>(x[i])) - s;
      return std::array<double, 2>{d, d * d};
    };
  };
}

template <class T>
RefPtr<Plan> sums_plan(const TensorDesc& x) {
  using P = compute_t<T>;
  const Channels ch(x);
  const auto n = static_cast<std::size_t>(ch.channels());
  std::size_t bytes = 0;
  const std::size_t shift_at = reserve(bytes, bytes_for(n)),
                    sums_at = reserve(bytes, bytes_for(2 * n)),
                    scratch_at = reserve(bytes, bytes_for(ch.scratch(2)));
  return make_plan(
      "cpu:channel_sums",
      [=](const LaunchArgs& a) {
        double *shift = at<double>(a.workspace, shift_at), *sums = at<double>(a.workspace, sums_at);
        std::fill_n(shift, n, 0.0);
        ch.template sums<2>(moments<T>(static_cast<const T*>(a.in[0]), shift),
                            at<double>(a.workspace, scratch_at), sums);
        for (std::size_t k = 0; k < 2; ++k) {
          P* out = static_cast<P*>(a.out[k]);
          for (std::size_t c = 0; c < n; ++c) out[c] = static_cast<P>(sums[k * n + c]);
        }
      },
      bytes);
}

template <class T>
RefPtr<Plan> train_plan(const PlanRequest& r) {
  using P = compute_t<T>;
  const Channels ch(r.out[0]);
  const auto attrs = r.attrs<BatchNormAttrs>();
  const std::size_t n = static_cast<std::size_t>(ch.channels());
  const std::size_t given = attrs.sums ? attrs.sums_at(r.in.size()) : 0;
  const bool running = attrs.has_running(r.in.size());
  const Inputs in(r, attrs);
  std::size_t bytes = in.bytes;
  const std::size_t shift_at = reserve(bytes, bytes_for(n)),
                    sums_at = reserve(bytes, bytes_for(2 * n)),
                    scale_at = reserve(bytes, bytes_for(n)),
                    scratch_at = reserve(bytes, bytes_for(ch.scratch(2)));
  return exact_epilogue(make_plan(
      "cpu:batch_norm_train",
      [=](const LaunchArgs& a) {
        void* ws = a.workspace;
        const T* x = in[0].template load<T>(a.in[0], ws);
        const P *w = in[1].template load<P>(a.in[1], ws), *b = in[2].template load<P>(a.in[2], ws);
        P *mean = static_cast<P*>(a.out[1]), *invstd = static_cast<P*>(a.out[2]);
        P* scale = at<P>(ws, scale_at);
        const double count = static_cast<double>(ch.count());
        double *shift = at<double>(ws, shift_at), *sums = at<double>(ws, sums_at);
        if (ch.count() == 0) {
          for (i64 c = 0; c < ch.channels(); ++c) {
            mean[c] = 0;
            invstd[c] = static_cast<P>(1 / std::sqrt(attrs.eps));
          }
          return;
        }
        if (given) {
          for (std::size_t k = 0; k < 2; ++k) {
            const P* s = in[given + k].template load<P>(a.in[given + k], ws);
            std::copy_n(s, n, sums + k * n);
          }
          std::fill_n(shift, n, 0.0);
        } else {
          // Sums of x and x² in double, one pass. Taken relative to one of the channel's own
          // values, so that the variance of values far from zero does not cancel.
          for (i64 c = 0; c < ch.channels(); ++c) {
            shift[c] = static_cast<double>(static_cast<P>(x[ch.first(c)]));
          }
          ch.template sums<2>(moments<T>(x, shift), at<double>(ws, scratch_at), sums);
        }
        P* rm = running ? in[3].template load<P>(a.in[3], ws) : nullptr;
        P* rv = running ? in[4].template load<P>(a.in[4], ws) : nullptr;
        for (i64 c = 0; c < ch.channels(); ++c) {
          const double off = sums[c] / count;
          double squares = sums[ch.channels() + c] - sums[c] * off;  // about the mean
          if (squares < 0) squares = 0;
          const double is = 1 / std::sqrt(squares / count + attrs.eps);
          mean[c] = static_cast<P>(shift[c] + off);
          invstd[c] = static_cast<P>(is);
          scale[c] = static_cast<P>(static_cast<double>(w[c]) * is);
          if (running) {
            const double m = attrs.momentum;
            rm[c] = static_cast<P>((1 - m) * static_cast<double>(rm[c]) + m * (shift[c] + off));
            rv[c] =
                static_cast<P>((1 - m) * static_cast<double>(rv[c]) + m * (squares / (count - 1)));
          }
        }
        if (running) {
          in[3].store(a.in[3], ws);
          in[4].store(a.in[4], ws);
        }
        normalise(ch, x, mean, scale, b, static_cast<T*>(a.out[0]), attrs.relu,
                  in.template load_residual<T>(a));
      },
      bytes));
}

template <class T>
RefPtr<Plan> eval_plan(const PlanRequest& r) {
  using P = compute_t<T>;
  const Channels ch(r.out[0]);
  const auto attrs = r.attrs<BatchNormAttrs>();
  const Inputs in(r, attrs);
  std::size_t bytes = in.bytes;
  const std::size_t scale_at = reserve(bytes, bytes_for(static_cast<std::size_t>(ch.channels())));
  return exact_epilogue(make_plan(
      "cpu:batch_norm_eval",
      [=](const LaunchArgs& a) {
        void* ws = a.workspace;
        const T* x = in[0].template load<T>(a.in[0], ws);
        const P* p[5] = {};
        for (int i = 1; i < 5; ++i) p[i] = in[i].template load<P>(a.in[i], ws);
        P* scale = at<P>(ws, scale_at);
        for (i64 c = 0; c < ch.channels(); ++c) {
          const double std = std::sqrt(static_cast<double>(p[4][c]) + attrs.eps);
          scale[c] = static_cast<P>(static_cast<double>(p[1][c]) / std);
        }
        normalise(ch, x, p[3], scale, p[2], static_cast<T*>(a.out[0]), attrs.relu,
                  in.template load_residual<T>(a));
      },
      bytes));
}

// What of a channel's gradients follows from sums over it.
template <class P>
struct GradFactors {
  P *scale, *mean, *slope;  // gx = (g - mean - (x - x's mean) slope) scale
};

// gw, gb and gx of a batch norm; first(i) gives the gradient of element i to the sums, again(i) to
// gx.
template <class T, class P, class First, class Again>
void gradients(const Channels& ch, const T* x, const P* w, const P* mean, const P* invstd, T* gx,
               P* gw, P* gb, double* sums, double* scratch, const GradFactors<P>& f,
               const First& first, const Again& again) {
  ch.sums<2>(
      [=](i64 c) {
        return [=, m = static_cast<double>(mean[c])](i64 i) {
          const double g = static_cast<double>(static_cast<P>(first(i)));
          return std::array<double, 2>{g, g * (static_cast<double>(static_cast<P>(x[i])) - m)};
        };
      },
      scratch, sums);
  const double count = static_cast<double>(std::max<i64>(1, ch.count()));
  for (i64 c = 0; c < ch.channels(); ++c) {
    const double is = static_cast<double>(invstd[c]), dot = sums[ch.channels() + c];
    gb[c] = static_cast<P>(sums[c]);
    gw[c] = static_cast<P>(dot * is);
    f.scale[c] = static_cast<P>(static_cast<double>(w[c]) * is);
    f.mean[c] = static_cast<P>(sums[c] / count);
    f.slope[c] = static_cast<P>(dot * is * is / count);
  }
  ch.each([=](i64 c) {
    return [=, m = mean[c], s = f.scale[c], g = f.mean[c], k = f.slope[c]](i64 i) {
      const P v = static_cast<P>(again(i)) - g;
      gx[i] = static_cast<T>((v - (static_cast<P>(x[i]) - m) * k) * s);
    };
  });
}

template <class T>
RefPtr<Plan> grad_plan(const PlanRequest& r) {
  using P = compute_t<T>;
  const Channels ch(r.out[0]);
  const auto attrs = r.attrs<BatchNormGradAttrs>();
  const std::size_t n = static_cast<std::size_t>(ch.channels());
  std::size_t bytes = 0;
  std::array<Operand, 6> in;
  for (std::size_t i = 0; i < r.in.size(); ++i) {
    const bool image = i < 2 || i == 5;
    in[i] = Operand(r.in[i], image ? r.out[0].strides : Strides{1}, bytes);
  }
  const std::size_t sums_at = reserve(bytes, bytes_for(2 * n)),
                    factors_at = reserve(bytes, bytes_for(3 * n)),
                    scratch_at = reserve(bytes, bytes_for(ch.scratch(2)));
  return exact_epilogue(make_plan(
      "cpu:batch_norm_grad",
      [=](const LaunchArgs& a) {
        void* ws = a.workspace;
        const T *gy = in[0].template load<T>(a.in[0], ws), *x = in[1].template load<T>(a.in[1], ws);
        const P *w = in[2].template load<P>(a.in[2], ws),
                *mean = in[3].template load<P>(a.in[3], ws),
                *invstd = in[4].template load<P>(a.in[4], ws);
        P* factors = at<P>(ws, factors_at);
        const GradFactors<P> f{factors, factors + ch.channels(), factors + 2 * ch.channels()};
        const auto run = [&](const auto& first, const auto& again) {
          gradients<T, P>(ch, x, w, mean, invstd, static_cast<T*>(a.out[0]),
                          static_cast<P*>(a.out[1]), static_cast<P*>(a.out[2]),
                          at<double>(ws, sums_at), at<double>(ws, scratch_at), f, first, again);
        };
        const auto given = [=](i64 i) { return gy[i]; };
        if (!attrs.relu) return run(given, given);
        const T* y = in[5].template load<T>(a.in[5], ws);
        const auto masked = [=](i64 i) { return epilogue::relu_grad(gy[i], y[i]); };
        if (!attrs.residual) return run(masked, masked);
        T* gz = static_cast<T*>(a.out[3]);  // laid out like gx
        run([=](i64 i) { return gz[i] = masked(i); }, [=](i64 i) { return gz[i]; });
      },
      bytes));
}

}  // namespace

RefPtr<Plan> plan_channel_sums(const TensorDesc& x) {
  return visit_floating(x.dtype,
                        [&](auto tag) { return sums_plan<typename decltype(tag)::type>(x); });
}
RefPtr<Plan> plan_batch_norm_train(const PlanRequest& r) {
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return train_plan<typename decltype(tag)::type>(r); });
}
RefPtr<Plan> plan_batch_norm_eval(const PlanRequest& r) {
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return eval_plan<typename decltype(tag)::type>(r); });
}
RefPtr<Plan> plan_batch_norm_grad(const PlanRequest& r) {
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return grad_plan<typename decltype(tag)::type>(r); });
}

}  // namespace tandem::cpu
