// Tile functions: the inner loops of all elementwise work. One function applies one op to one run
// of elements that lie next to each other; everything about strides, broadcasting, types and
// threads is done around it (cpu/elementwise.h). Eager ops and fused chains call the same
// functions, so their results are the same bits.
#pragma once
#include <cstdint>

#include "core/dtype.h"
#include "ops/op_list.h"

namespace tandem::cpu {

/// out[i] = op(in[0][i], in[1][i], …) for i in [0, n). Bit k of `splat`: in[k] is one element that
/// stands for all. `params`: the op's scalar parameters in the compute type. `out` may be one of
/// the inputs, but may not overlap one otherwise.
using TileFn = void (*)(const void* const* in, unsigned splat, void* out, std::int64_t n,
                        const void* params);

/// Null where there is none, as for the 16-bit types: those are computed in f32.
TileFn unary_tile(OpId op, DType compute);
TileFn binary_tile(OpId op, DType compute);
TileFn where_tile(DType compute);
inline TileFn op_tile(OpId op, DType compute) {
  if (op == OpId::where_) return where_tile(compute);
  const TileFn f = unary_tile(op, compute);
  return f ? f : binary_tile(op, compute);
}

/// Bit m: a tile function of `arity` inputs takes the splat set m.
constexpr unsigned splat_support(int arity) {
  constexpr unsigned kUnary = 1u << 0;
  constexpr unsigned kBinary = 1u << 0 | 1u << 1 | 1u << 2;
  constexpr unsigned kWhere = 1u << 0 | 1u << 2 | 1u << 4 | 1u << 6;
  return arity == 1 ? kUnary : arity == 2 ? kBinary : kWhere;
}

/// Converts; a copy when the types are equal.
TileFn convert_tile(DType from, DType to);
/// Repeats one element of `size` bytes.
TileFn fill_tile(std::size_t size);

}  // namespace tandem::cpu
