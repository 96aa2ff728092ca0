#include "ops/random.h"

#include "core/random_values.h"
#include "cuda/elementwise.h"
#include "cuda/kernel.h"
#include "cuda/pack.h"

namespace tandem::cuda {

namespace {

using i64 = long long;
using u64 = unsigned long long;

// A thread takes whole Philox blocks: four elements at a time.
constexpr int kWords = 4;
template <class T>
using Four = Pack<T, kWords>;

constexpr i64 blocks_for(i64 n) {
  return (n + kWords - 1) / kWords;
}

__global__ void advance(u64* state, i64 blocks) {
  state[1] += static_cast<u64>(blocks);
}

template <class T, class Value>
__global__ void draw(const u64* state, T* out, i64 n, Value value) {
  const u64 seed = state[0], offset = state[1];
  for (i64 b = global_index(); b * kWords < n; b += global_size()) {
    const Philox4 words = philox(seed, offset + static_cast<u64>(b));
    Four<T> v;
    value(words.v, v.v);
    store_pack(out + b * kWords, v, n - b * kWords);
  }
}

/// One value from each word.
template <class T, class Value>
struct WordByWord {
  Value value;
  __device__ void operator()(const unsigned (&words)[kWords], T (&out)[kWords]) const {
    for (int k = 0; k < kWords; ++k) out[k] = value(words[k]);
  }
};

template <class T>
struct Normal {
  using C = compute_t<T>;
  C mean, std;
  __device__ void operator()(const unsigned (&words)[kWords], T (&out)[kWords]) const {
    float z[kWords];
    for (int k = 0; k < kWords; k += 2) box_muller(words[k], words[k + 1], z[k], z[k + 1]);
    for (int k = 0; k < kWords; ++k) out[k] = convert<T>(mean + std * static_cast<C>(z[k]));
  }
};

template <class T, class Value>
RefPtr<Plan> plan_draw(const char* name, const PlanRequest& r, const Value& value) {
  const i64 n = r.out[0].numel();
  return make_plan(name, [=](const LaunchArgs& a) {
    if (n == 0) return;
    auto* state = static_cast<u64*>(a.in[0]);
    launch(a, grid_for(blocks_for(n)), draw<T, Value>, state, static_cast<T*>(a.out[0]), n, value);
    launch(a, kOneThread, advance, state, blocks_for(n));
  });
}

template <class T>
__global__ void drop(const u64* state, const T* in, T* out, bool* mask, i64 n, unsigned threshold,
                     compute_t<T> scale) {
  using C = compute_t<T>;
  const u64 seed = state[0], offset = state[1];
  for (i64 b = global_index(); b * kWords < n; b += global_size()) {
    const i64 at = b * kWords;
    const Four<T> x = load_pack<kWords>(in + at, n - at);
    const Philox4 words = philox(seed, offset + static_cast<u64>(b));
    Four<T> y;
    Four<bool> keep;
    for (int k = 0; k < kWords; ++k) {
      keep.v[k] = dropout_keeps(words.v[k], threshold);
      y.v[k] = convert<T>(keep.v[k] ? static_cast<C>(x.v[k]) * scale : C{0});
    }
    store_pack(out + at, y, n - at);
    store_pack(mask + at, keep, n - at);
  }
}

}  // namespace

RefPtr<Plan> plan_rand_uniform(const PlanRequest& r) {
  const auto& attrs = r.attrs<UniformAttrs>();
  return visit_dtype(attrs.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_integral_v<T>) {
      using Value = UniformInteger<T>;
      const WordByWord<T, Value> f{
          Value{static_cast<i64>(attrs.lo), static_cast<u64>(attrs.hi - attrs.lo)}};
      return plan_draw<T>("cuda:philox_integer", r, f);
    } else {
      using Value = UniformReal<T>;
      const WordByWord<T, Value> f{Value(attrs.lo, attrs.hi)};
      return plan_draw<T>("cuda:philox_uniform", r, f);
    }
  });
}

RefPtr<Plan> plan_rand_normal(const PlanRequest& r) {
  const auto& attrs = r.attrs<NormalAttrs>();
  return visit_floating(attrs.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const Normal<T> f{static_cast<C>(attrs.mean), static_cast<C>(attrs.std)};
    return plan_draw<T>("cuda:philox_normal", r, f);
  });
}

RefPtr<Plan> plan_dropout(const PlanRequest& r) {
  const TensorDesc &x = r.in[1], &y = r.out[0];
  const auto& attrs = r.attrs<DropoutAttrs>();
  const unsigned threshold = attrs.threshold();
  const i64 n = y.numel();
  // Numbers are drawn in the order of the result's memory.
  const StridedCopy pack = x == y ? StridedCopy() : StridedCopy(y, x);
  return visit_floating(x.dtype, [&, packed = x == y](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    const auto scale = static_cast<compute_t<T>>(attrs.scale());
    return make_plan("cuda:philox_dropout", [=](const LaunchArgs& a) {
      if (n == 0) return;
      auto* state = static_cast<u64*>(a.in[0]);
      auto* out = static_cast<T*>(a.out[0]);
      const auto* in = static_cast<const T*>(a.in[1]);
      if (!packed) {
        pack.run(a, out, in);
        in = out;
      }
      launch(a, grid_for(blocks_for(n)), drop<T>, state, in, out, static_cast<bool*>(a.out[1]), n,
             threshold, scale);
      launch(a, kOneThread, advance, state, blocks_for(n));
    });
  });
}

}  // namespace tandem::cuda
