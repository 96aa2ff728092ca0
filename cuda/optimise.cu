#include "ops/optimise.h"

#include <optional>
#include <vector>

#include "core/update_rules.h"
#include "cuda/kernel.h"
#include "cuda/operand.h"
#include "cuda/pack.h"

namespace tandem::cuda {

namespace {

using i64 = long long;

// One launch updates many parameters. Their addresses are known at the launch only, so they travel
// in the kernel's own arguments: up to 4 KB everywhere, 32 KB where there are more parameters.
constexpr int kFew = 64, kMany = 672;
constexpr int kMost = 4;  // tensors of a parameter: itself, its gradient, two slots
constexpr int kThreads = 256, kWidth = 4;
constexpr i64 kChunk = i64{kThreads} * kWidth * 4;  // elements a block updates

template <int Capacity>
struct Table {
  int count = 0;
  unsigned first[Capacity];  // block of each parameter
  int index[Capacity];       // among the call's parameters
  i64 size[Capacity];
  void* at[kMost][Capacity];
};
static_assert(sizeof(Table<kFew>) <= 4096 - 128 && sizeof(Table<kMany>) <= 32764 - 128);

// ------------------------------------------------------------------------------------- kernels

__device__ double read_lr(DType t, const void* p) {
  return t == DType::f64 ? *static_cast<const double*>(p) : *static_cast<const float*>(p);
}

/// What all rules read on the device when a step begins.
struct Inputs {
  const void* lr;
  DType lr_type;
  const float* scaling;  // null: none

  __device__ bool skips() const { return scaling != nullptr && scaling[1] != 0; }
  __device__ float scale() const { return scaling != nullptr ? scaling[0] : 1.0f; }
};

enum class Momentum : unsigned char { none, plain, nesterov };

template <class A, Momentum M>
struct Sgd {
  static constexpr int slots = M == Momentum::none ? 0 : 1;
  using Factors = SgdFactors<A>;
  Inputs in;
  double decay, momentum;
  const double* shares;  // for each parameter, NaN where its count is bad; null: 1

  __device__ bool begin(int index, Factors& f) const {
    if (in.skips() || (shares != nullptr && isnan(shares[index]))) return false;
    f = {static_cast<A>(read_lr(in.lr_type, in.lr)), static_cast<A>(decay),
         static_cast<A>(in.scale()), static_cast<A>(momentum),
         shares != nullptr ? static_cast<A>(shares[index]) : A(1)};
    return true;
  }
  static __device__ A step(const Factors& f, A p, A g, A& u, A&) {
    if constexpr (M == Momentum::none) return f.plain(p, g);
    return f.template with_momentum<M == Momentum::nesterov>(p, g, u);
  }
};

template <class A>
struct Adam {
  static constexpr int slots = 2;
  using Factors = AdamFactors<A>;
  Inputs in;
  const AdamFactors<double>* factors;  // for each parameter, beta2 NaN where its count is bad

  __device__ bool begin(int index, Factors& f) const {
    if (in.skips() || isnan(factors[index].beta2)) return false;
    f = factors[index].template as<A>();
    return true;
  }
  static __device__ A step(const Factors& f, A p, A g, A& m, A& v) { return f(p, g, m, v); }
};

template <class T, class Rule, int Capacity>
__global__ void __launch_bounds__(kThreads) update(const Table<Capacity> table, const Rule rule) {
  using A = compute_t<T>;
  // The last parameter whose blocks start here or before.
  int t = 0, end = table.count;
  while (end - t > 1) {
    const int mid = (t + end) / 2;
    (table.first[mid] <= blockIdx.x ? t : end) = mid;
  }
  typename Rule::Factors f;
  if (!rule.begin(table.index[t], f)) return;
  const i64 begin = static_cast<i64>(blockIdx.x - table.first[t]) * kChunk;
  const i64 n = min(table.size[t], begin + kChunk);
  T* p = static_cast<T*>(table.at[0][t]);
  const T* g = static_cast<const T*>(table.at[1][t]);
  for (i64 i = begin + threadIdx.x * kWidth; i < n; i += kThreads * kWidth) {
    auto x = load_pack<kWidth>(p + i, n - i);
    const auto d = load_pack<kWidth>(g + i, n - i);
    Pack<A, kWidth> slot[2] = {};
    for (int k = 0; k < Rule::slots; ++k) {
      slot[k] = load_pack<kWidth>(static_cast<const A*>(table.at[2 + k][t]) + i, n - i);
    }
    for (int j = 0; j < kWidth; ++j) {
      x.v[j] = static_cast<T>(Rule::step(f, static_cast<A>(x.v[j]), static_cast<A>(d.v[j]),
                                         slot[0].v[j], slot[1].v[j]));
    }
    store_pack(p + i, x, n - i);
    for (int k = 0; k < Rule::slots; ++k) {
      store_pack(static_cast<A*>(table.at[2 + k][t]) + i, slot[k], n - i);
    }
  }
}

/// Step counts that a launch reads and advances, one for each thread.
struct Counts {
  static constexpr int kMost = 512;
  i64* step = nullptr;
  Fault* fault = nullptr;
  const char* op = nullptr;
  int first = 0;  // parameter
  int count = 0;
  int at[kMost] = {};  // where in `step`

  /// This thread's count; null if it has none.
  __device__ i64* mine() const {
    return threadIdx.x < static_cast<unsigned>(count) ? step + at[threadIdx.x] : nullptr;
  }
  __device__ int parameter() const { return first + static_cast<int>(threadIdx.x); }
  /// Whether `n` can be a count; notes a fault if not.
  __device__ bool allows(i64 n) const {
    if (n >= 0 && n < kStepLimit) return true;
    note_fault(fault, FaultKind::count_out_of_range, op, n, kStepLimit);
    return false;
  }
};

__global__ void begin_sgd(Inputs in, Counts c, double dampening, double* shares) {
  i64* step = c.mine();
  if (step == nullptr || in.skips()) return;
  double& share = shares[c.parameter()];
  if (!c.allows(*step)) {
    share = NAN;
    return;
  }
  share = *step == 0 ? 1 : 1 - dampening;
  ++*step;
}

/// Those of AdamAttrs that the factors depend on.
struct AdamRates {
  double beta1, beta2, eps, weight_decay;
  bool decoupled, eps_hat;
};

__global__ void begin_adam(Inputs in, Counts c, AdamRates rates, AdamFactors<double>* factors) {
  i64* step = c.mine();
  if (step == nullptr || in.skips()) return;
  AdamFactors<double>& f = factors[c.parameter()];
  if (!c.allows(*step)) {
    f.beta2 = NAN;
    return;
  }
  f = adam_factors(rates, read_lr(in.lr_type, in.lr), static_cast<double>(++*step), in.scale());
}

// ---------------------------------------------------------------------------------------- plans

/// The step counts of a call's parameters, in batches that one launch can take.
class StepCounts {
 public:
  template <class Attrs>
  StepCounts(const char* op, const Attrs& a, const TensorDesc& step) {
    for (i64 i = 0; i < a.num_params; ++i) {
      if (i % Counts::kMost == 0) batches_.push_back({.op = op, .first = static_cast<int>(i)});
      Counts& c = batches_.back();
      const i64 position = a.positions.empty() ? i : a.positions[static_cast<std::size_t>(i)];
      c.at[c.count++] = static_cast<int>(position * step.strides[0]);
    }
  }

  /// Launches `kernel(in, counts, args…)` for all.
  template <class Kernel, class... Args>
  void run(const LaunchArgs& a, i64 step_at, Kernel kernel, const Inputs& in,
           const Args&... args) const {
    for (Counts c : batches_) {
      c.step = static_cast<i64*>(a.in[step_at]);
      c.fault = stream_of(a).fault();
      launch(a, {.blocks = dim3(1), .threads = dim3(Counts::kMost)}, kernel, in, c, args...);
    }
  }

 private:
  std::vector<Counts> batches_;
};

/// The parameters of a call, in batches that one launch can take. What is not dense, or has slots
/// of another layout, goes through dense copies.
class Parameters {
 public:
  Parameters(const PlanRequest& r, i64 n, int lists, std::size_t& bytes) : lists_(lists) {
    for (const DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      for (i64 i = 0; i < n; ++i) {
        const TensorDesc& p = r.in[static_cast<std::size_t>(i)];
        if (p.dtype == t && p.numel() > 0) add(r, i, n, bytes);
      }
    }
  }

  /// Launches `rule.template operator()<T>()` for all batches.
  template <class RuleOf>
  void run(const LaunchArgs& a, const RuleOf& rule) const {
    each_packed([&](const Tensor& t) { t.operand.template load<void>(a, a.in[t.input]); });
    for (const Batch& b : batches_) {
      visit_floating(b.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (b.params.size() <= kFew) {
          launch_batch<T, kFew>(a, b, rule(tag));
        } else {
          launch_batch<T, kMany>(a, b, rule(tag));
        }
      });
    }
    each_packed([&](const Tensor& t) {
      if (t.list != kGradient) t.operand.store(a, a.in[t.input]);
    });
  }

 private:
  static constexpr int kGradient = 1;
  struct Tensor {
    Operand operand;
    i64 input = 0;
    int list = 0;
  };
  struct Param {
    unsigned first;
    int index;
    i64 size;
    Tensor tensors[kMost];
  };
  struct Batch {
    DType dtype;
    unsigned blocks = 0;
    std::vector<Param> params;
  };

  void add(const PlanRequest& r, i64 i, i64 n, std::size_t& bytes) {
    const TensorDesc& p = r.in[static_cast<std::size_t>(i)];
    const i64 blocks = (p.numel() + kChunk - 1) / kChunk;
    if (batches_.empty() || batches_.back().dtype != p.dtype ||
        batches_.back().params.size() == kMany || batches_.back().blocks + blocks > 0x7fffffff) {
      batches_.push_back({p.dtype, 0, {}});
    }
    Batch& b = batches_.back();
    const Strides layout = p.is_dense() ? p.strides : contiguous_strides(p.shape);
    Param e{.first = b.blocks, .index = static_cast<int>(i), .size = p.numel(), .tensors = {}};
    for (int k = 0; k < lists_; ++k) {
      const i64 input = k * n + i;
      e.tensors[k] = {Operand(r.in[static_cast<std::size_t>(input)], layout, bytes), input, k};
      packed_ = packed_ || e.tensors[k].operand.packed();
    }
    b.params.push_back(e);
    b.blocks += static_cast<unsigned>(blocks);
  }

  template <class F>
  void each_packed(const F& f) const {
    if (!packed_) return;
    for (const Batch& b : batches_) {
      for (const Param& p : b.params) {
        for (int k = 0; k < lists_; ++k) {
          if (p.tensors[k].operand.packed()) f(p.tensors[k]);
        }
      }
    }
  }

  template <class T, int Capacity, class Rule>
  void launch_batch(const LaunchArgs& a, const Batch& b, const Rule& rule) const {
    Table<Capacity> table;
    table.count = static_cast<int>(b.params.size());
    for (int i = 0; i < table.count; ++i) {
      const Param& p = b.params[static_cast<std::size_t>(i)];
      table.first[i] = p.first;
      table.index[i] = p.index;
      table.size[i] = p.size;
      for (int k = 0; k < lists_; ++k) {
        const Tensor& t = p.tensors[k];
        table.at[k][i] = t.operand.template buffer<void>(a, a.in[t.input]);
      }
    }
    launch(a, {.blocks = dim3(b.blocks), .threads = dim3(kThreads)}, update<T, Rule, Capacity>,
           table, rule);
  }

  std::vector<Batch> batches_;
  int lists_;
  bool packed_ = false;
};

Inputs inputs(const LaunchArgs& a, i64 lr_at, DType lr_type, i64 scaling_at) {
  return {a.in[lr_at], lr_type,
          scaling_at < 0 ? nullptr : static_cast<const float*>(a.in[scaling_at])};
}

}  // namespace

RefPtr<Plan> plan_sgd_step(const PlanRequest& r) {
  const auto attrs = r.attrs<SgdAttrs>();
  const int lists = attrs.has_momentum() ? 3 : 2;
  const i64 lr_at = lists * attrs.num_params;
  const DType lr_type = r.in[static_cast<std::size_t>(lr_at)].dtype;
  const i64 scaling_at = attrs.scaled ? static_cast<i64>(r.in.size()) - 1 : -1;
  std::size_t bytes = 0;
  std::optional<StepCounts> counts;
  std::size_t shares_at = 0;  // of the gradient in each parameter's momentum
  if (attrs.counts_steps()) {
    counts.emplace(r.op.name, attrs, r.in[static_cast<std::size_t>(lr_at + 1)]);
    shares_at = reserve(bytes, static_cast<std::size_t>(attrs.num_params) * sizeof(double));
  }
  const Parameters params(r, attrs.num_params, lists, bytes);
  return make_plan(
      "cuda:sgd_step",
      [=](const LaunchArgs& a) {
        const Inputs in = inputs(a, lr_at, lr_type, scaling_at);
        double* shares = nullptr;
        if (counts) {
          shares = workspace<double>(a, shares_at);
          counts->run(a, lr_at + 1, begin_sgd, in, attrs.dampening, shares);
        }
        const auto with = [&]<Momentum M>(std::integral_constant<Momentum, M>) {
          params.run(a, [&](auto tag) {
            using A = compute_t<typename decltype(tag)::type>;
            return Sgd<A, M>{in, attrs.weight_decay, attrs.momentum, shares};
          });
        };
        if (!attrs.has_momentum()) {
          with(std::integral_constant<Momentum, Momentum::none>{});
        } else if (attrs.nesterov) {
          with(std::integral_constant<Momentum, Momentum::nesterov>{});
        } else {
          with(std::integral_constant<Momentum, Momentum::plain>{});
        }
      },
      bytes);
}

RefPtr<Plan> plan_adam_step(const PlanRequest& r) {
  const auto attrs = r.attrs<AdamAttrs>();
  const i64 lr_at = 4 * attrs.num_params;
  const DType lr_type = r.in[static_cast<std::size_t>(lr_at)].dtype;
  const i64 scaling_at = attrs.scaled ? static_cast<i64>(r.in.size()) - 1 : -1;
  std::size_t bytes = 0;
  const StepCounts counts(r.op.name, attrs, r.in[static_cast<std::size_t>(lr_at + 1)]);
  const AdamRates rates{attrs.beta1,        attrs.beta2,     attrs.eps,
                        attrs.weight_decay, attrs.decoupled, attrs.eps_hat};
  const std::size_t factors_at =
      reserve(bytes, static_cast<std::size_t>(attrs.num_params) * sizeof(AdamFactors<double>));
  const Parameters params(r, attrs.num_params, 4, bytes);
  return make_plan(
      "cuda:adam_step",
      [=](const LaunchArgs& a) {
        const Inputs in = inputs(a, lr_at, lr_type, scaling_at);
        auto* factors = workspace<AdamFactors<double>>(a, factors_at);
        counts.run(a, lr_at + 1, begin_adam, in, rates, factors);
        params.run(a, [&](auto tag) {
          return Adam<compute_t<typename decltype(tag)::type>>{in, factors};
        });
      },
      bytes);
}

}  // namespace tandem::cuda
