#include "ops/random.h"

#include "core/random_values.h"
#include "cpu/strided.h"
#include "ops/op_list.h"

namespace tandem::cpu {

namespace {

// Philox blocks computed together. With fewer, loops over them are unrolled before they vectorise.
constexpr int kLanes = 32;
constexpr int kWords = 4 * kLanes;     // words they give
constexpr std::int64_t kGrain = 8192;  // elements; a multiple of kWords

// The words of kLanes blocks, in order: philox() of each, round by round for all at once.
void draw(std::uint64_t seed, std::uint64_t block, unsigned* words) {
  unsigned c0[kLanes], c1[kLanes], c2[kLanes] = {}, c3[kLanes] = {};
  for (int l = 0; l < kLanes; ++l) {
    const std::uint64_t counter = block + static_cast<unsigned>(l);
    c0[l] = static_cast<unsigned>(counter);
    c1[l] = static_cast<unsigned>(counter >> 32);
  }
  unsigned k0 = static_cast<unsigned>(seed), k1 = static_cast<unsigned>(seed >> 32);
  for (int r = 0; r < 10; ++r, k0 += kPhiloxKey0, k1 += kPhiloxKey1) {
    for (int l = 0; l < kLanes; ++l) philox_round(c0[l], c1[l], c2[l], c3[l], k0, k1);
  }
  for (int l = 0; l < kLanes; ++l) {
    words[4 * l] = c0[l];
    words[4 * l + 1] = c1[l];
    words[4 * l + 2] = c2[l];
    words[4 * l + 3] = c3[l];
  }
}

// Calls `f(i, words, count)` for the elements [i, i + count) of n, and moves the state on.
template <class F>
void for_words(void* state, std::int64_t n, const F& f) {
  auto* s = static_cast<std::uint64_t*>(state);
  const std::uint64_t seed = s[0], offset = s[1];
  parallel_for(n, kGrain, [&](std::int64_t i, std::int64_t end) {
    for (; i < end; i += kWords) {
      unsigned words[kWords];
      draw(seed, offset + static_cast<std::uint64_t>(i) / 4, words);
      f(i, words, static_cast<int>(std::min<std::int64_t>(kWords, end - i)));
    }
  });
  s[1] = offset + static_cast<std::uint64_t>((n + 3) / 4);
}

template <class T, class Value>
RefPtr<Plan> plan_uniform(const char* name, const Value& value, std::int64_t n) {
  return make_plan(name, [=](const LaunchArgs& a) {
    auto* out = static_cast<T*>(a.out[0]);
    for_words(a.in[0], n, [=](std::int64_t i, const unsigned* words, int count) {
      for (int k = 0; k < count; ++k) out[i + k] = value(words[k]);
    });
  });
}

}  // namespace

RefPtr<Plan> plan_rand_uniform(const PlanRequest& r) {
  const auto& attrs = r.attrs<UniformAttrs>();
  const std::int64_t n = r.out[0].numel();
  return visit_dtype(attrs.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_integral_v<T>) {
      const UniformInteger<T> value{static_cast<std::int64_t>(attrs.lo),
                                    static_cast<std::uint64_t>(attrs.hi - attrs.lo)};
      return plan_uniform<T>("cpu:philox_integer", value, n);
    } else {
      return plan_uniform<T>("cpu:philox_uniform", UniformReal<T>(attrs.lo, attrs.hi), n);
    }
  });
}

RefPtr<Plan> plan_rand_normal(const PlanRequest& r) {
  const auto& attrs = r.attrs<NormalAttrs>();
  const std::int64_t n = r.out[0].numel();
  return visit_floating(attrs.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C mean = static_cast<C>(attrs.mean), std = static_cast<C>(attrs.std);
    return make_plan("cpu:philox_normal", [=](const LaunchArgs& a) {
      auto* out = static_cast<T*>(a.out[0]);
      for_words(a.in[0], n, [=](std::int64_t i, const unsigned* words, int count) {
        float z[kWords];
        for (int k = 0; k < kWords; k += 2) box_muller(words[k], words[k + 1], z[k], z[k + 1]);
        for (int k = 0; k < count; ++k) out[i + k] = convert<T>(mean + std * static_cast<C>(z[k]));
      });
    });
  });
}

RefPtr<Plan> plan_dropout(const PlanRequest& r) {
  const TensorDesc &x = r.in[1], &y = r.out[0];
  const auto& attrs = r.attrs<DropoutAttrs>();
  const std::uint32_t threshold = attrs.threshold();
  const std::int64_t n = y.numel();
  const bool packed = x == y;
  const BlockCopy pack = copy_of(y, x);
  return visit_floating(x.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C scale = static_cast<C>(attrs.scale());
    return make_plan("cpu:philox_dropout", [=](const LaunchArgs& a) {
      auto* out = static_cast<T*>(a.out[0]);
      auto* mask = static_cast<bool*>(a.out[1]);
      const auto* in = static_cast<const T*>(a.in[1]);
      if (!packed) {
        pack.run(out, in);
        in = out;
      }
      for_words(a.in[0], n, [=](std::int64_t i, const unsigned* words, int count) {
        for (int k = 0; k < count; ++k) {
          const bool keep = dropout_keeps(words[k], threshold);
          const C v = static_cast<C>(in[i + k]) * scale;
          mask[i + k] = keep;
          out[i + k] = convert<T>(keep ? v : C{0});
        }
      });
    });
  });
}

}  // namespace tandem::cpu
