#include "ops/optimise.h"

#include <optional>
#include <vector>

#include "core/update_rules.h"
#include "cpu/operand.h"

namespace tandem::cpu {
namespace {

using i64 = std::int64_t;

// All parameters as one run of elements, so that work is shared evenly whatever their sizes. A
// parameter that is dense in any layout is updated where it is, together with slots of the same
// layout; whatever else there is goes through dense copies.
class Parameters {
 public:
  static constexpr int kMost = 4;  // parameter, gradient, two slots

  Parameters(const PlanRequest& r, i64 n, int lists, std::size_t& bytes) : lists_(lists) {
    i64 at = 0;
    for (i64 i = 0; i < n; ++i) {
      const TensorDesc& p = r.in[static_cast<std::size_t>(i)];
      const Strides layout = p.is_dense() ? p.strides : contiguous_strides(p.shape);
      Param e{.first = at, .dtype = p.dtype, .tensors = {}};
      for (int k = 0; k < lists; ++k) {
        e.tensors[k] = Operand(r.in[static_cast<std::size_t>(k * n + i)], layout, bytes);
        packed_ = packed_ || e.tensors[k].packed();
      }
      params_.push_back(e);
      at += p.numel();
    }
    total_ = at;
  }

  /// Calls f(type_tag<T>, i, begin, end, {parameter, gradient, slots…}) for stretches of elements
  /// of parameter i.
  template <class F>
  void each(const LaunchArgs& a, const F& f) const {
    const i64 n = static_cast<i64>(params_.size());
    if (packed_) {
      for (i64 i = 0; i < n; ++i) {
        for (int k = 0; k < lists_; ++k) {
          params_[i].tensors[k].template load<void>(a.in[k * n + i], a.workspace);
        }
      }
    }
    parallel_for(total_, 16384, [&](i64 begin, i64 end) {
      // The last parameter that starts at or before `begin`.
      i64 i = std::upper_bound(params_.begin(), params_.end(), begin,
                               [](i64 b, const Param& p) { return b < p.first; }) -
              params_.begin() - 1;
      for (; i < n && params_[i].first < end; ++i) {
        const Param& p = params_[i];
        const i64 next = i + 1 < n ? params_[i + 1].first : total_;
        const i64 b = std::max(begin, p.first) - p.first, e = std::min(end, next) - p.first;
        if (b >= e) continue;
        void* tensors[kMost] = {};
        for (int k = 0; k < lists_; ++k) {
          tensors[k] = p.tensors[k].template buffer<void>(a.in[k * n + i], a.workspace);
        }
        visit_floating(p.dtype, [&](auto tag) { f(tag, i, b, e, tensors); });
      }
    });
    if (packed_) {
      for (i64 i = 0; i < n; ++i) {
        for (int k = 0; k < lists_; ++k) {
          if (k != 1) params_[i].tensors[k].store(a.in[k * n + i], a.workspace);
        }
      }
    }
  }

 private:
  struct Param {
    i64 first;  // position of its first element among all
    DType dtype;
    Operand tensors[kMost];
  };
  std::vector<Param> params_;
  i64 total_ = 0;
  int lists_;
  bool packed_ = false;
};

double read_lr(DType t, const void* p) {
  return t == DType::f64 ? *static_cast<const double*>(p) : *static_cast<const float*>(p);
}

/// The step counts of a call's parameters.
class StepCounts {
 public:
  template <class Attrs>
  StepCounts(const char* op, const Attrs& a, const TensorDesc& step)
      : op_(op), n_(a.num_params), positions_(a.positions), stride_(step.strides[0]) {}

  /// Calls f(i, count) for each parameter with the steps it has made, then counts one more.
  /// ValueError for counts that cannot be, before that.
  template <class F>
  void advance(void* step, const F& f) const {
    i64* counts = static_cast<i64*>(step);
    for (i64 i = 0; i < n_; ++i) {
      const i64 count = counts[place(i)];
      if (count < 0 || count >= kStepLimit) {
        fail<ValueError>(op_, "a step count is out of range",
                         fmt::format("{} for parameter {}", count, i),
                         fmt::format("0 <= count < {}", kStepLimit));
      }
    }
    for (i64 i = 0; i < n_; ++i) f(i, counts[place(i)]++);
  }

 private:
  i64 place(i64 i) const { return (positions_.empty() ? i : positions_[i]) * stride_; }

  const char* op_;
  i64 n_;
  std::vector<i64> positions_;
  i64 stride_;
};

/// What the scaling says: gradients count times `factor`, and maybe not at all.
struct Scaling {
  float factor = 1;
  bool skip = false;
};
Scaling read_scaling(bool scaled, const void* p) {
  if (!scaled) return {};
  const float* s = static_cast<const float*>(p);
  return {s[0], s[1] != 0};
}

template <class T, class A>
void sgd(T* __restrict p, const T* __restrict g, i64 n, SgdFactors<A> f) {
  for (i64 i = 0; i < n; ++i) {
    p[i] = static_cast<T>(f.plain(static_cast<A>(p[i]), static_cast<A>(g[i])));
  }
}

template <bool Nesterov, class T, class A>
void sgd_momentum(T* __restrict p, const T* __restrict g, A* __restrict u, i64 n, SgdFactors<A> f) {
  for (i64 i = 0; i < n; ++i) {
    A b = u[i];
    p[i] = static_cast<T>(
        f.template with_momentum<Nesterov>(static_cast<A>(p[i]), static_cast<A>(g[i]), b));
    u[i] = b;
  }
}

template <class T, class A>
void adam(T* __restrict p, const T* __restrict g, A* __restrict m, A* __restrict v, i64 n,
          AdamFactors<A> f) {
  for (i64 i = 0; i < n; ++i) {
    A mi = m[i], vi = v[i];
    p[i] = static_cast<T>(f(static_cast<A>(p[i]), static_cast<A>(g[i]), mi, vi));
    m[i] = mi;
    v[i] = vi;
  }
}

}  // namespace

RefPtr<Plan> plan_sgd_step(const PlanRequest& r) {
  const auto attrs = r.attrs<SgdAttrs>();
  const int lists = attrs.has_momentum() ? 3 : 2;
  const i64 lr_at = lists * attrs.num_params;
  const DType lr_type = r.in[static_cast<std::size_t>(lr_at)].dtype;
  const std::size_t last = r.in.size() - 1;
  std::size_t bytes = 0;
  const Parameters params(r, attrs.num_params, lists, bytes);
  std::optional<StepCounts> counts;
  std::size_t shares_at = 0;  // of the gradient in each parameter's momentum
  if (attrs.counts_steps()) {
    counts.emplace(r.op.name, attrs, r.in[static_cast<std::size_t>(lr_at + 1)]);
    shares_at = reserve(bytes, static_cast<std::size_t>(attrs.num_params) * sizeof(double));
  }
  return make_plan(
      "cpu:sgd_step",
      [=](const LaunchArgs& a) {
        const double lr = read_lr(lr_type, a.in[lr_at]);
        const Scaling scaling = read_scaling(attrs.scaled, a.in[last]);
        if (scaling.skip) return;
        double* shares = nullptr;
        if (counts) {
          shares = reinterpret_cast<double*>(static_cast<char*>(a.workspace) + shares_at);
          counts->advance(a.in[lr_at + 1], [&](i64 i, i64 done) {
            shares[i] = done == 0 ? 1 : 1 - attrs.dampening;
          });
        }
        params.each(a, [&](auto tag, i64 i, i64 b, i64 e, void* const* t) {
          using T = typename decltype(tag)::type;
          using A = compute_t<T>;
          T *p = static_cast<T*>(t[0]) + b, *g = static_cast<T*>(t[1]) + b;
          const SgdFactors<A> f{static_cast<A>(lr), static_cast<A>(attrs.weight_decay),
                                static_cast<A>(scaling.factor), static_cast<A>(attrs.momentum),
                                static_cast<A>(shares ? shares[i] : 1)};
          if (!attrs.has_momentum()) return sgd(p, g, e - b, f);
          A* u = static_cast<A*>(t[2]) + b;
          if (attrs.nesterov) {
            sgd_momentum<true>(p, g, u, e - b, f);
          } else {
            sgd_momentum<false>(p, g, u, e - b, f);
          }
        });
      },
      bytes);
}

RefPtr<Plan> plan_adam_step(const PlanRequest& r) {
  const auto attrs = r.attrs<AdamAttrs>();
  const i64 lr_at = 4 * attrs.num_params;
  const DType lr_type = r.in[static_cast<std::size_t>(lr_at)].dtype;
  const std::size_t last = r.in.size() - 1;
  std::size_t bytes = 0;
  const Parameters params(r, attrs.num_params, 4, bytes);
  const StepCounts counts(r.op.name, attrs, r.in[static_cast<std::size_t>(lr_at + 1)]);
  const std::size_t factors_at =
      reserve(bytes, static_cast<std::size_t>(attrs.num_params) * sizeof(AdamFactors<double>));
  return make_plan(
      "cpu:adam_step",
      [=](const LaunchArgs& a) {
        const double lr = read_lr(lr_type, a.in[lr_at]);
        const Scaling scaling = read_scaling(attrs.scaled, a.in[last]);
        if (scaling.skip) return;
        auto* factors =
            reinterpret_cast<AdamFactors<double>*>(static_cast<char*>(a.workspace) + factors_at);
        i64 known = -1;  // the count the last factors are of: mostly all are the same
        counts.advance(a.in[lr_at + 1], [&](i64 i, i64 done) {
          factors[i] = done == known
                           ? factors[i - 1]
                           : adam_factors(attrs, lr, static_cast<double>(done + 1), scaling.factor);
          known = done;
        });
        params.each(a, [&](auto tag, i64 i, i64 b, i64 e, void* const* s) {
          using T = typename decltype(tag)::type;
          using A = compute_t<T>;
          adam(static_cast<T*>(s[0]) + b, static_cast<const T*>(s[1]) + b,
               static_cast<A*>(s[2]) + b, static_cast<A*>(s[3]) + b, e - b,
               factors[i].template as<A>());
        });
      },
      bytes);
}

}  // namespace tandem::cpu
