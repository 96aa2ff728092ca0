// The reduction engine: one pass over memory in the order it lies, for any operation that combines
// elements. Used by the reductions, and by kernels that need a row reduced.
//
// An operation is a struct with
//   In     element type                     Ctx    a value per output the elements are loaded
//   Lane   type of the vector loop                 with (the mean, for a variance); or NoCtx
//   Wide   type lanes are gathered in
//   Lane first() / Wide wide_first()        what changes nothing
//   Lane load(In, Ctx), Lane combine(Lane, Lane), Wide widen(Lane), Wide merge(Wide, Wide)
// all static. Lanes take few elements each before they are widened, which bounds rounding errors.
#pragma once
#include "cpu/strided.h"

namespace tandem::cpu {

struct NoCtx {};

/// How one reduction walks memory. The order of additions follows from this alone.
struct ReduceLayout {
  /// `mask`: bit i set when axis i of `in` is reduced. `out` has those axes dropped or of size 1.
  ReduceLayout(const TensorDesc& in, unsigned mask);

  static constexpr std::int64_t kBlock = 512;  // columns a task accumulates at once

  std::int64_t outputs = 1, count = 1;  // results; elements that make one
  /// The fastest varying axis is kept, so rows are added to each other; otherwise each is summed.
  bool column = false;
  Axes<2> kept;     // input, output; without the innermost axis if `column`
  Axes<1> reduced;  // without the innermost axis unless `column`
  std::int64_t inner = 1, in_step = 0, out_step = 0;  // the innermost axis
  std::int64_t blocks = 1;                            // column blocks
  std::int64_t range = 0, chunk = 0, chunks = 1;      // reduced positions, cut into chunks

  std::int64_t partials() const {
    return chunks == 1 ? 0 : kept.count * blocks * chunks * (column ? kBlock : 1);
  }
};

/// Reduces `n` elements `step` apart.
template <class Op>
typename Op::Wide reduce_row(const typename Op::In* p, std::int64_t n, std::int64_t step,
                             typename Op::Ctx ctx) {
  using Lane = typename Op::Lane;
  constexpr std::int64_t lanes = sizeof(Lane) == 1 ? 64 : 128 / sizeof(Lane);
  constexpr std::int64_t block = 4096;
  auto w = Op::wide_first();
  while (step == 1 && n >= lanes) {
    const std::int64_t len = std::min(n, block) / lanes * lanes;
    Lane acc[lanes];
    for (std::int64_t l = 0; l < lanes; ++l) acc[l] = Op::load(p[l], ctx);
    for (std::int64_t i = lanes; i < len; i += lanes) {
      for (std::int64_t l = 0; l < lanes; ++l)
        acc[l] = Op::combine(acc[l], Op::load(p[i + l], ctx));
    }
    for (std::int64_t h = lanes / 2; h > 0; h /= 2) {
      for (std::int64_t l = 0; l < h; ++l) acc[l] = Op::combine(acc[l], acc[l + h]);
    }
    w = Op::merge(w, Op::widen(acc[0]));
    p += len;
    n -= len;
  }
  for (std::int64_t i = 0; i < n; ++i) w = Op::merge(w, Op::widen(Op::load(p[i * step], ctx)));
  return w;
}

namespace detail {

// Positions [begin, end) of one output's elements.
template <class Op>
typename Op::Wide reduce_range(const ReduceLayout& l, const typename Op::In* p, std::int64_t begin,
                               std::int64_t end, typename Op::Ctx ctx) {
  if (l.reduced.rank() == 0)
    return reduce_row<Op>(p + begin * l.in_step, end - begin, l.in_step, ctx);
  auto w = Op::wide_first();
  if (begin == end) return w;
  std::int64_t col = begin % l.inner;
  for (Odometer<1> at(l.reduced, begin / l.inner); begin < end; at.next(), col = 0) {
    const std::int64_t len = std::min(l.inner - col, end - begin);
    w = Op::merge(w, reduce_row<Op>(p + at[0] + col * l.in_step, len, l.in_step, ctx));
    begin += len;
  }
  return w;
}

// Rows [begin, end) of `width` columns, into wide[0, width).
template <class Op, class Step>
void reduce_columns(const ReduceLayout& l, const typename Op::In* p, std::int64_t width, Step step,
                    std::int64_t begin, std::int64_t end, const typename Op::Ctx* ctx,
                    typename Op::Wide* wide) {
  using Lane = typename Op::Lane;
  constexpr bool plain = std::is_same_v<typename Op::Ctx, NoCtx>;
  const auto load = [ctx, step](const typename Op::In* row, std::int64_t j) {
    if constexpr (plain) {
      return Op::load(row[j * step], NoCtx{});
    } else {
      return Op::load(row[j * step], ctx[j]);
    }
  };
  for (std::int64_t j = 0; j < width; ++j) wide[j] = Op::wide_first();
  Odometer<1> at(l.reduced, begin);
  while (begin < end) {
    Lane lane[ReduceLayout::kBlock];
    for (std::int64_t j = 0; j < width; ++j) lane[j] = Op::first();
    const std::int64_t stop = std::min(end, begin + 64);
    for (; begin + 4 <= stop; begin += 4) {
      const typename Op::In* row[4];
      for (auto& r : row) {
        r = p + at[0];
        at.next();
      }
      for (std::int64_t j = 0; j < width; ++j) {
        lane[j] = Op::combine(lane[j], Op::combine(Op::combine(load(row[0], j), load(row[1], j)),
                                                   Op::combine(load(row[2], j), load(row[3], j))));
      }
    }
    for (; begin < stop; ++begin, at.next()) {
      const typename Op::In* row = p + at[0];
      for (std::int64_t j = 0; j < width; ++j) lane[j] = Op::combine(lane[j], load(row, j));
    }
    for (std::int64_t j = 0; j < width; ++j) wide[j] = Op::merge(wide[j], Op::widen(lane[j]));
  }
}

template <class Op, class Store>
void reduce_by_row(const ReduceLayout& l, const typename Op::In* in, const typename Op::Ctx* ctx,
                   typename Op::Wide* partial, const Store& store) {
  const auto ctx_at = [ctx](std::int64_t i) { return ctx ? ctx[i] : typename Op::Ctx{}; };
  if (l.chunks == 1) {
    parallel_for(l.kept.count, grain_for(l.count), [&](std::int64_t b, std::int64_t e) {
      for (Odometer<2> at(l.kept, b); b < e; ++b, at.next()) {
        store(at[1], reduce_range<Op>(l, in + at[0], 0, l.count, ctx_at(at[1])));
      }
    });
    return;
  }
  parallel_for(l.kept.count * l.chunks, 1, [&](std::int64_t b, std::int64_t e) {
    for (; b < e; ++b) {
      const Odometer<2> at(l.kept, b / l.chunks);
      const std::int64_t from = b % l.chunks * l.chunk;
      partial[b] =
          reduce_range<Op>(l, in + at[0], from, std::min(l.range, from + l.chunk), ctx_at(at[1]));
    }
  });
  Odometer<2> at(l.kept, 0);
  for (std::int64_t o = 0; o < l.kept.count; ++o, at.next()) {
    auto w = Op::wide_first();
    for (std::int64_t c = 0; c < l.chunks; ++c) w = Op::merge(w, partial[o * l.chunks + c]);
    store(at[1], w);
  }
}

template <class Op, class Store>
void reduce_by_column(const ReduceLayout& l, const typename Op::In* in, const typename Op::Ctx* ctx,
                      typename Op::Wide* partial, const Store& store) {
  constexpr std::int64_t block = ReduceLayout::kBlock;
  const std::int64_t cost = std::min(l.chunk, l.range) * std::min(l.inner, block);
  parallel_for(
      l.kept.count * l.blocks * l.chunks, grain_for(cost), [&](std::int64_t b, std::int64_t e) {
        typename Op::Wide local[block];
        typename Op::Ctx local_ctx[block];
        for (; b < e; ++b) {
          const std::int64_t strip = b / l.chunks, from = b % l.chunks * l.chunk;
          const Odometer<2> at(l.kept, strip / l.blocks);
          const std::int64_t j0 = strip % l.blocks * block, width = std::min(block, l.inner - j0);
          const std::int64_t out = at[1] + j0 * l.out_step;
          if (ctx) {
            for (std::int64_t j = 0; j < width; ++j) local_ctx[j] = ctx[out + j * l.out_step];
          }
          auto* wide = l.chunks == 1 ? local : partial + b * block;
          const auto* p = in + at[0] + j0 * l.in_step;
          const std::int64_t to = std::min(l.range, from + l.chunk);
          if (l.in_step == 1) {
            constexpr std::integral_constant<std::int64_t, 1> one;
            reduce_columns<Op>(l, p, width, one, from, to, local_ctx, wide);
          } else {
            reduce_columns<Op>(l, p, width, l.in_step, from, to, local_ctx, wide);
          }
          if (l.chunks > 1) continue;
          for (std::int64_t j = 0; j < width; ++j) store(out + j * l.out_step, wide[j]);
        }
      });
  if (l.chunks == 1) return;
  for (std::int64_t strip = 0; strip < l.kept.count * l.blocks; ++strip) {
    const Odometer<2> at(l.kept, strip / l.blocks);
    const std::int64_t j0 = strip % l.blocks * block, width = std::min(block, l.inner - j0);
    typename Op::Wide* total = partial + strip * l.chunks * block;
    for (std::int64_t c = 1; c < l.chunks; ++c) {
      for (std::int64_t j = 0; j < width; ++j) {
        total[j] = Op::merge(total[j], total[c * block + j]);
      }
    }
    for (std::int64_t j = 0; j < width; ++j) store(at[1] + (j0 + j) * l.out_step, total[j]);
  }
}

}  // namespace detail

/// Runs a reduction; `store(i, wide)` takes result i. `partial` has room for `l.partials()`;
/// `ctx` is null, or holds a value for each result.
template <class Op, class Store>
void reduce_all(const ReduceLayout& l, const typename Op::In* in, const typename Op::Ctx* ctx,
                typename Op::Wide* partial, const Store& store) {
  if (l.outputs == 0) return;
  if (l.column) {
    detail::reduce_by_column<Op>(l, in, ctx, partial, store);
  } else {
    detail::reduce_by_row<Op>(l, in, ctx, partial, store);
  }
}

}  // namespace tandem::cpu
