#include "core/functors.h"
#include "cpu/tiles.h"

namespace tandem::cpu {

namespace {

template <class F, class T>
void unary(const void* const* in, unsigned, void* out, std::int64_t n, const void* params) {
  using R = decltype(F::apply(T{}, static_cast<const T*>(nullptr)));
  const T* a = static_cast<const T*>(in[0]);
  R* o = static_cast<R*>(out);
  const T* p = static_cast<const T*>(params);
  const T q[2] = {p[0], p[1]};
  // Writing over the input is allowed, but only element for element.
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) o[i] = F::apply(a[i], q);
}

#define TANDEM_CASE(name) \
  case OpId::name##_: return unary<functor::name, T>;

template <class T>
TileFn for_any(OpId op) {
  switch (op) {
    TANDEM_CASE(logical_not)
    TANDEM_CASE(isnan)
    default: return nullptr;
  }
}

template <class T>
TileFn for_number(OpId op) {
  switch (op) {
    TANDEM_CASE(neg)
    TANDEM_CASE(abs)
    TANDEM_CASE(sign)
    TANDEM_CASE(floor)
    TANDEM_CASE(ceil)
    TANDEM_CASE(round)
    TANDEM_CASE(square)
    TANDEM_CASE(relu)
    TANDEM_CASE(clamp)
    default: return for_any<T>(op);
  }
}

template <class T>
TileFn for_float(OpId op) {
  switch (op) {
    TANDEM_CASE(reciprocal)
    TANDEM_CASE(exp)
    TANDEM_CASE(log)
    TANDEM_CASE(log1p)
    TANDEM_CASE(sqrt)
    TANDEM_CASE(rsqrt)
    TANDEM_CASE(sin)
    TANDEM_CASE(cos)
    TANDEM_CASE(acos)
    TANDEM_CASE(asin)
    TANDEM_CASE(atan)
    TANDEM_CASE(erf)
    TANDEM_CASE(tanh)
    TANDEM_CASE(sigmoid)
    TANDEM_CASE(leaky_relu)
    TANDEM_CASE(gelu)
    TANDEM_CASE(silu)
    TANDEM_CASE(softplus)
    default: return for_number<T>(op);
  }
}

#undef TANDEM_CASE

}  // namespace

TileFn unary_tile(OpId op, DType compute) {
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

}  // namespace tandem::cpu
