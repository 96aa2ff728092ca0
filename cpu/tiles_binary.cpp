#include "core/functors.h"
#include "cpu/tiles.h"

namespace tandem::cpu {

namespace {

template <class F, class T>
void binary(const void* const* in, unsigned splat, void* out, std::int64_t n, const void* params) {
  using R = decltype(F::apply(T{}, T{}, static_cast<const T*>(nullptr)));
  const T* a = static_cast<const T*>(in[0]);
  const T* b = static_cast<const T*>(in[1]);
  R* o = static_cast<R*>(out);
  const T* p = static_cast<const T*>(params);
  const T q[2] = {p[0], p[1]};
  // Writing over an input is allowed, but only element for element.
  if (splat == 0) {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) o[i] = F::apply(a[i], b[i], q);
  } else if (splat == 2) {
    const T s = *b;
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) o[i] = F::apply(a[i], s, q);
  } else {
    const T s = *a;
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) o[i] = F::apply(s, b[i], q);
  }
}

// The condition is read as bytes: GCC vectorises no loop that selects by bools in memory.
template <class T, bool SplatA, bool SplatB>
void select(const void* condition, const T* a, const T* b, T* o, std::int64_t n) {
  const auto* c = static_cast<const unsigned char*>(condition);
  const T a0 = *a, b0 = *b;
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    const T x = SplatA ? a0 : a[i], y = SplatB ? b0 : b[i];
    o[i] = functor::where::apply(c[i] != 0, x, y, static_cast<const T*>(nullptr));
  }
}

template <class T>
void where(const void* const* in, unsigned splat, void* out, std::int64_t n, const void*) {
  const void* c = in[0];
  const T* a = static_cast<const T*>(in[1]);
  const T* b = static_cast<const T*>(in[2]);
  T* o = static_cast<T*>(out);
  if (n == 0) return;
  switch (splat) {
    case 0: return select<T, false, false>(c, a, b, o, n);
    case 2: return select<T, true, false>(c, a, b, o, n);
    case 4: return select<T, false, true>(c, a, b, o, n);
    default: return select<T, true, true>(c, a, b, o, n);
  }
}

#define TANDEM_CASE(name) \
  case OpId::name##_: return binary<functor::name, T>;

template <class T>
TileFn for_any(OpId op) {
  switch (op) {
    TANDEM_CASE(add)
    TANDEM_CASE(mul)
    TANDEM_CASE(maximum)
    TANDEM_CASE(minimum)
    TANDEM_CASE(eq)
    TANDEM_CASE(ne)
    TANDEM_CASE(lt)
    TANDEM_CASE(le)
    TANDEM_CASE(gt)
    TANDEM_CASE(ge)
    TANDEM_CASE(logical_and)
    TANDEM_CASE(logical_or)
    default: return nullptr;
  }
}

template <class T>
TileFn for_number(OpId op) {
  switch (op) {
    TANDEM_CASE(sub)
    TANDEM_CASE(pow)
    TANDEM_CASE(floor_divide)
    TANDEM_CASE(remainder)
    TANDEM_CASE(clamp_grad)
    default: return for_any<T>(op);
  }
}

template <class T>
TileFn for_float(OpId op) {
  switch (op) {
    TANDEM_CASE(div)
    TANDEM_CASE(tanh_grad)
    TANDEM_CASE(sigmoid_grad)
    TANDEM_CASE(relu_grad)
    TANDEM_CASE(leaky_relu_grad)
    TANDEM_CASE(gelu_grad)
    TANDEM_CASE(silu_grad)
    TANDEM_CASE(softplus_grad)
    default: return for_number<T>(op);
  }
}

#undef TANDEM_CASE

}  // namespace

TileFn binary_tile(OpId op, DType compute) {
  switch (compute) {
    case DType::f32: return for_float<float>(op);
    case DType::f64: return for_float<double>(op);
    case DType::i32: return for_number<std::int32_t>(op);
    case DType::i64: return for_number<std::int64_t>(op);
    case DType::u8: return for_number<std::uint8_t>(op);
    case DType::boolean: return for_any<bool>(op);
    default: return nullptr;
  }
}

TileFn where_tile(DType compute) {
  switch (compute) {
    case DType::f32: return where<float>;
    case DType::f64: return where<double>;
    case DType::i32: return where<std::int32_t>;
    case DType::i64: return where<std::int64_t>;
    case DType::u8: return where<std::uint8_t>;
    case DType::boolean: return where<bool>;
    default: return nullptr;
  }
}

}  // namespace tandem::cpu
