// Element types, their names and NumPy-like promotion.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/half.h"

namespace tandem {

/// The element types, in the order of docs/types.md.
enum class DType : std::uint8_t { f32, f64, f16, bf16, i32, i64, u8, boolean };
inline constexpr int kNumDTypes = 8;

/// Bytes of one element.
constexpr std::size_t size_of(DType t) {
  constexpr std::size_t sizes[kNumDTypes] = {4, 8, 2, 2, 4, 8, 1, 1};
  return sizes[static_cast<int>(t)];
}

/// "f32", …, "bool".
constexpr const char* name_of(DType t) {
  constexpr const char* names[kNumDTypes] = {"f32", "f64", "f16", "bf16",
                                             "i32", "i64", "u8",  "bool"};
  return static_cast<int>(t) < kNumDTypes ? names[static_cast<int>(t)] : "no type";
}

/// Kinds of types. Integral counts bool, low precision is f16 and bf16.
constexpr bool is_floating(DType t) {
  return t <= DType::bf16;
}
constexpr bool is_integral(DType t) {
  return t >= DType::i32;
}
constexpr bool is_low_precision(DType t) {
  return t == DType::f16 || t == DType::bf16;
}

/// The largest finite number of a floating type.
constexpr double max_of(DType t) {
  switch (t) {
    case DType::f16: return 65504;
    case DType::bf16: return 0x1.fep127;
    case DType::f32: return 0x1.fffffep127;
    default: return 0x1.fffffffffffffp1023;
  }
}

/// The type of `a op b` for two tensors. Table in docs/types.md: floating beats integral beats
/// bool; among equals the wider wins; f16 with bf16 gives f32.
DType promote(DType a, DType b);

/// C++ type -> DType.
template <class T>
struct dtype_of;
// clang-format off
template <> struct dtype_of<float>        { static constexpr DType value = DType::f32; };
template <> struct dtype_of<double>       { static constexpr DType value = DType::f64; };
template <> struct dtype_of<Half>         { static constexpr DType value = DType::f16; };
template <> struct dtype_of<BFloat16>     { static constexpr DType value = DType::bf16; };
template <> struct dtype_of<std::int32_t> { static constexpr DType value = DType::i32; };
template <> struct dtype_of<std::int64_t> { static constexpr DType value = DType::i64; };
template <> struct dtype_of<std::uint8_t> { static constexpr DType value = DType::u8; };
template <> struct dtype_of<bool>         { static constexpr DType value = DType::boolean; };
// clang-format on

/// A type as a value, for visit_dtype.
template <class T>
struct type_tag {
  using type = T;
};

/// Calls `f(type_tag<T>{})` with the C++ type of `t`.
template <class F>
decltype(auto) visit_dtype(DType t, F&& f) {
  switch (t) {
    case DType::f32: return f(type_tag<float>{});
    case DType::f64: return f(type_tag<double>{});
    case DType::f16: return f(type_tag<Half>{});
    case DType::bf16: return f(type_tag<BFloat16>{});
    case DType::i32: return f(type_tag<std::int32_t>{});
    case DType::i64: return f(type_tag<std::int64_t>{});
    case DType::u8: return f(type_tag<std::uint8_t>{});
    case DType::boolean: break;
  }
  return f(type_tag<bool>{});
}

/// Like `visit_dtype` for the four floating types; any other type must have been refused before.
template <class F>
decltype(auto) visit_floating(DType t, F&& f) {
  switch (t) {
    case DType::f64: return f(type_tag<double>{});
    case DType::f16: return f(type_tag<Half>{});
    case DType::bf16: return f(type_tag<BFloat16>{});
    default: return f(type_tag<float>{});
  }
}

}  // namespace tandem
