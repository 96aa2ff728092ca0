#include "ops/optimise.h"

#include "core/update_rules.h"
#include "cuda/kernel.h"
#include "cuda/operand.h"
#include "cuda/pack.h"

namespace tandem::cuda {

namespace {

using i64 = long long;

// One launch updates many parameters. Their addresses are known at the launch only, so they travel
// in the kernel's own arguments: up to 4 KB everywhere, 32 KB where there are more parameters.
constexpr int kFew = 64, kMany = 680;
constexpr int kMost = 4;  // tensors of a parameter: itself, its gradient, two slots
constexpr int kThreads = 256, kWidth = 4;
constexpr i64 kChunk = i64{kThreads} * kWidth * 4;  // elements a block updates

template <int Capacity>
struct Table {
  int count = 0;
  unsigned first[Capacity];  // block of each parameter
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
  const double* share;

  __device__ bool begin(Factors& f) const {
    if (in.skips()) return false;
    f = {static_cast<A>(read_lr(in.lr_type, in.lr)), static_cast<A>(decay),
         static_cast<A>(in.scale()), static_cast<A>(momentum),
         share != nullptr ? static_cast<A>(*share) : A(1)};
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
  const AdamFactors<double>* factors;

  __device__ bool begin(Factors& f) const {
    if (in.skips()) return false;
    f = factors->as<A>();
    return true;
  }
  static __device__ A step(const Factors& f, A p, A g, A& m, A& v) { return f(p, g, m, v); }
};

template <class T, class Rule, int Capacity>
__global__ void __launch_bounds__(kThreads) update(const Table<Capacity> table, const Rule rule) {
  using A = compute_t<T>;
  typename Rule::Factors f;
  if (!rule.begin(f)) return;
  // The last parameter whose blocks start here or before.
  int t = 0, end = table.count;
  while (end - t > 1) {
    const int mid = (t + end) / 2;
    (table.first[mid] <= blockIdx.x ? t : end) = mid;
  }
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

__global__ void begin_sgd(Inputs in, i64* step, double dampening, double* share) {
  if (in.skips()) return;
  *share = *step == 0 ? 1 : 1 - dampening;
  ++*step;
}

__global__ void begin_adam(Inputs in, i64* step, AdamAttrs attrs, AdamFactors<double>* factors) {
  if (in.skips()) return;
  *factors =
      adam_factors(attrs, read_lr(in.lr_type, in.lr), static_cast<double>(++*step), in.scale());
}

// ---------------------------------------------------------------------------------------- plans

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
    Param e{.first = b.blocks, .size = p.numel(), .tensors = {}};
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
  const std::size_t share_at = attrs.counts_steps() ? reserve(bytes, sizeof(double)) : 0;
  const Parameters params(r, attrs.num_params, lists, bytes);
  return make_plan(
      "cuda:sgd_step",
      [=](const LaunchArgs& a) {
        const Inputs in = inputs(a, lr_at, lr_type, scaling_at);
        double* share = nullptr;
        if (attrs.counts_steps()) {
          share = workspace<double>(a, share_at);
          launch(a, kOneThread, begin_sgd, in, static_cast<i64*>(a.in[lr_at + 1]), attrs.dampening,
                 share);
        }
        const auto with = [&]<Momentum M>(std::integral_constant<Momentum, M>) {
          params.run(a, [&](auto tag) {
            using A = compute_t<typename decltype(tag)::type>;
            return Sgd<A, M>{in, attrs.weight_decay, attrs.momentum, share};
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
  const std::size_t factors_at = reserve(bytes, sizeof(AdamFactors<double>));
  const Parameters params(r, attrs.num_params, 4, bytes);
  return make_plan(
      "cuda:adam_step",
      [=](const LaunchArgs& a) {
        const Inputs in = inputs(a, lr_at, lr_type, scaling_at);
        auto* factors = workspace<AdamFactors<double>>(a, factors_at);
        launch(a, kOneThread, begin_adam, in, static_cast<i64*>(a.in[lr_at + 1]), attrs, factors);
        params.run(a, [&](auto tag) {
          return Adam<compute_t<typename decltype(tag)::type>>{in, factors};
        });
      },
      bytes);
}

}  // namespace tandem::cuda
