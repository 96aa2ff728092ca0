#include <cstring>

#include "cpu/tiles.h"
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace tandem::cpu {

namespace {

template <class From, class To>
void convert_loop(const void* const* in, unsigned, void* out, std::int64_t n, const void*) {
  const From* a = static_cast<const From*>(in[0]);
  To* o = static_cast<To*>(out);
  if constexpr (std::is_same_v<From, To>) {
    if (n > 0 && a != o) std::memcpy(o, a, static_cast<std::size_t>(n) * sizeof(To));
  } else {
    std::int64_t i = 0;
#ifdef __F16C__
    // The same rounding as Half's own code, eight at a time.
    if constexpr (std::is_same_v<From, float> && std::is_same_v<To, Half>) {
      for (; i + 8 <= n; i += 8) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(o + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(a + i), _MM_FROUND_TO_NEAREST_INT));
      }
    }
    if constexpr (std::is_same_v<From, Half> && std::is_same_v<To, float>) {
      for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(o + i,
                         _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i))));
      }
    }
#endif
#pragma GCC ivdep
    for (; i < n; ++i) o[i] = convert<To>(a[i]);
  }
}

template <class E>
void fill_loop(const void* const* in, unsigned, void* out, std::int64_t n, const void*) {
  const E v = *static_cast<const E*>(in[0]);
  E* o = static_cast<E*>(out);
  for (std::int64_t i = 0; i < n; ++i) o[i] = v;
}

}  // namespace

TileFn convert_tile(DType from, DType to) {
  return visit_dtype(from, [&](auto f) {
    return visit_dtype(to, [](auto t) -> TileFn {
      return convert_loop<typename decltype(f)::type, typename decltype(t)::type>;
    });
  });
}

TileFn fill_tile(std::size_t size) {
  switch (size) {
    case 1: return fill_loop<std::uint8_t>;
    case 2: return fill_loop<std::uint16_t>;
    case 4: return fill_loop<std::uint32_t>;
    default: return fill_loop<std::uint64_t>;
  }
}

}  // namespace tandem::cpu
