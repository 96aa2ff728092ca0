// The plain matrix product, tile by tile: c[s][i, j] = sum over k of a[s](i, k) b[s](k, j), for any
// element type and any way of finding the elements. A block works on one tile of c; pieces of the
// operands' lines (rows of a, columns of b) go through shared memory, and each thread keeps a few
// rows and columns of sums in registers.
//
// The order of summation depends on k alone: pieces of chunk_of(k) terms are summed one after the
// other, then the pieces. So neither the tiles nor who sums a piece (one block all of them, or a
// block each, with the sums meeting in the workspace) shows in the result. Included by .cu files.
#pragma once
#include "core/epilogue.h"
#include "core/matrix_product.h"
#include "cuda/divisor.h"
#include "cuda/kernel.h"
#include "cuda/pack.h"

namespace tandem::cuda {

// -------------------------------------------------------------------------------- operands

/// An operand of any strides: an element lies where its line and its depth together say.
template <class E>
struct StridedOperand {
  using Element = E;
  using Sum = acc_t<E>;
  struct Term {
    long long at;
  };

  const E* data = nullptr;
  Walk<1> lines, depth;
  bool along_depth = false;  // neighbouring threads read along the depth, not along the lines

  __device__ Term line(long long i) const { return term(lines, i); }
  __device__ Term deep(long long k) const { return term(depth, k); }
  __device__ Sum get(const E* from, const Term& l, const Term& d) const {
    const long long at = l.at + d.at;
    return at < 0 ? Sum(0) : static_cast<Sum>(from[at]);
  }

 private:
  __device__ static Term term(const Walk<1>& w, long long i) {
    if (i >= w.count) return {-(1ll << 62)};  // nowhere, with any other
    long long at[1];
    w.offsets(i, at);
    return {at[0]};
  }
};

/// An image read through the windows of a convolution (an implicit im2col). Position and tap each
/// contribute to the row and to the column; outside the image there are zeros. Tensors of the
/// walks: offset, row, column.
template <class E>
struct WindowOperand {
  using Element = E;
  using Sum = acc_t<E>;
  struct alignas(16) Term {
    long long at;
    int y, x;
  };

  const E* data = nullptr;
  Walk<3> lines, depth;
  bool along_depth = false;
  Term origin{};  // what lines begin with: the padding
  int height = 0, width = 0;
  // Rows and columns are multiples of these, or there is a zero (the gradient of a strided
  // convolution). Where both are 1 the walks' offsets already contain them, and the strides are 0.
  Divisor by_y{}, by_x{};
  bool whole = true;
  long long y_stride = 0, x_stride = 0;

  __device__ Term line(long long i) const {
    Term t = term(lines, i);
    t.at += origin.at;
    t.y += origin.y;
    t.x += origin.x;
    return t;
  }
  __device__ Term deep(long long k) const { return term(depth, k); }
  __device__ Sum get(const E* from, const Term& l, const Term& d) const {
    int y = l.y + d.y, x = l.x + d.x;
    long long at = l.at + d.at;
    if (!whole) {
      if (y < 0 || x < 0) return Sum(0);
      const unsigned row = by_y.quotient(static_cast<unsigned>(y));
      const unsigned column = by_x.quotient(static_cast<unsigned>(x));
      if (row * by_y.by != static_cast<unsigned>(y) || column * by_x.by != static_cast<unsigned>(x))
        return Sum(0);
      y = static_cast<int>(row);
      x = static_cast<int>(column);
      at += y * y_stride + x * x_stride;
    }
    // One comparison for both bounds: a negative number is a huge one.
    const bool inside = static_cast<unsigned>(y) < static_cast<unsigned>(height) &&
                        static_cast<unsigned>(x) < static_cast<unsigned>(width);
    return inside ? static_cast<Sum>(from[at]) : Sum(0);
  }

 private:
  __device__ static Term term(const Walk<3>& w, long long i) {
    // Above the image, with any other: rows and columns are below kWindowLimit in magnitude.
    if (i >= w.count) return {0, -(1 << 29), 0};
    long long at[3];
    w.offsets(i, at);
    return {at[0], static_cast<int>(at[1]), static_cast<int>(at[2])};
  }
};
/// What rows and columns of a WindowOperand must stay below: sums of three of them are ints.
inline constexpr std::int64_t kWindowLimit = 1 << 29;

/// Where c is, what is added to it, and whether its ReLU is stored.
template <class E>
struct ProductResult {
  E* data = nullptr;
  long long batch = 0, row = 0;  // strides
  Walk<1> columns;
  bool in_fours = false;  // four columns, from a multiple of four on, lie side by side
  const E* bias = nullptr;
  long long bias_batch = 0, bias_row = 0, bias_column = 0;
  bool relu = false;  // of floating types

  /// The next `count` <= 4 columns from j on, a multiple of 4.
  __device__ void store(long long s, long long i, long long j, int count,
                        const acc_t<E>* sums) const {
    Pack<E, 4> v;
    for (int q = 0; q < 4; ++q) {
      acc_t<E> sum = sums[q];
      if (bias != nullptr && q < count) {
        sum += static_cast<acc_t<E>>(bias[s * bias_batch + i * bias_row + (j + q) * bias_column]);
      }
      v.v[q] = static_cast<E>(sum);
      if constexpr (std::is_floating_point_v<acc_t<E>>) {
        if (relu) v.v[q] = epilogue::relu(v.v[q]);
      }
    }
    E* to = data + s * batch + i * row;
    long long at[1];
    if (in_fours) {
      columns.offsets(j, at);
      store_pack(to + at[0], v, count);
      return;
    }
    for (int q = 0; q < count; ++q) {
      columns.offsets(j + q, at);
      to[at[0]] = v.v[q];
    }
  }
};

// -------------------------------------------------------------------------------- kernels

/// Rows and columns of a block's tile and of a thread's share, which is taken in fours.
template <int Rows, int Columns, int ThreadRows, int ThreadColumns>
struct TileShape {
  static constexpr int rows = Rows, columns = Columns;
  static constexpr int thread_rows = ThreadRows, thread_columns = ThreadColumns;
  static constexpr int across = Columns / ThreadColumns, down = Rows / ThreadRows;
  static constexpr int threads = across * down;
  // Fours of a thread are this far apart.
  static constexpr int row_step = Rows / (ThreadRows / 4),
                       column_step = Columns / (ThreadColumns / 4);
  static constexpr int depth = 16;  // of what is in shared memory at a time
};

struct SmallTiles : TileShape<32, 32, 4, 4> {};
// 64-bit sums take two registers.
template <class T>
struct LargeTiles : TileShape<64, sizeof(T) == 8 ? 64 : 128, 8, sizeof(T) == 8 ? 4 : 8> {};

struct ProductTiles {
  long long m, n, k;
  Walk<2> batch;  // offsets of a and of b
  long long row_tiles, column_tiles;
  long long chunk, chunks;  // terms of a piece of the sum, and the number of pieces
  bool split;               // a block for each piece
  long long tiles;          // of all batches and pieces
};

/// a b + c, rounded once on the GPU.
template <class T>
__device__ T multiply_add(T a, T b, T c) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, float>) return ::fmaf(a, b, c);
  if constexpr (std::is_same_v<T, double>) return ::fma(a, b, c);
#endif
  return a * b + c;
}

/// A thread's share of a tile of lines, from global memory, and into shared memory.
template <int Lines, class Shape>
struct Share {
  static constexpr int count = Lines * Shape::depth / Shape::threads;
  static constexpr int pitch = Lines + 4;  // spreads a line over the banks; fours stay aligned
  static_assert(Shape::threads % Lines == 0 && Shape::threads % Shape::depth == 0);

  template <class Op>
  __device__ static void fetch(const Op& op, const typename Op::Element* from,
                               const typename Op::Term* line, const typename Op::Term* deep,
                               typename Op::Sum (&v)[count]) {
    const int t = static_cast<int>(threadIdx.x);
    if (op.along_depth) {
      const auto d = deep[t % Shape::depth];
#pragma unroll
      for (int r = 0; r < count; ++r) {
        v[r] = op.get(from, line[t / Shape::depth + r * (Shape::threads / Shape::depth)], d);
      }
    } else {
      const auto l = line[t % Lines];
#pragma unroll
      for (int r = 0; r < count; ++r) {
        v[r] = op.get(from, l, deep[t / Lines + r * (Shape::threads / Lines)]);
      }
    }
  }

  template <class T>
  __device__ static void put(bool along_depth, const T (&v)[count],
                             T (&tile)[Shape::depth][pitch]) {
    const int t = static_cast<int>(threadIdx.x);
    if (along_depth) {
#pragma unroll
      for (int r = 0; r < count; ++r) {
        tile[t % Shape::depth][t / Shape::depth + r * (Shape::threads / Shape::depth)] = v[r];
      }
    } else {
#pragma unroll
      for (int r = 0; r < count; ++r) {
        tile[t / Lines + r * (Shape::threads / Lines)][t % Lines] = v[r];
      }
    }
  }
};

/// Lines `at`, `at` + apart, … in fours: a thread's part of one depth of a tile.
template <int Apart, class T, int Count>
__device__ void read_fours(const T* at, T (&v)[Count]) {
#pragma unroll
  for (int g = 0; g < Count / 4; ++g) {
    const auto four = *reinterpret_cast<const Pack<T, 4>*>(at + g * Apart);
#pragma unroll
    for (int q = 0; q < 4; ++q) v[g * 4 + q] = four.v[q];
  }
}

/// sum += a b for a thread's share, which begins at (row, column) of the tile.
template <class Shape, class T, int PitchA, int PitchB>
__device__ void multiply_tiles(const T (&a)[Shape::depth][PitchA],
                               const T (&b)[Shape::depth][PitchB], int row, int column,
                               T (&sum)[Shape::thread_rows][Shape::thread_columns]) {
#pragma unroll
  for (int k = 0; k < Shape::depth; ++k) {
    T x[Shape::thread_rows], y[Shape::thread_columns];
    read_fours<Shape::row_step>(&a[k][row], x);
    read_fours<Shape::column_step>(&b[k][column], y);
#pragma unroll
    for (int i = 0; i < Shape::thread_rows; ++i) {
#pragma unroll
      for (int j = 0; j < Shape::thread_columns; ++j) {
        sum[i][j] = multiply_add(x[i], y[j], sum[i][j]);
      }
    }
  }
}

template <class Shape, class A, class B, class R>
__global__ void __launch_bounds__(Shape::threads)
    product_tiles(ProductTiles p, A a, B b, R result, typename A::Sum* partial) {
  using T = typename A::Sum;
  using ShareA = Share<Shape::rows, Shape>;
  using ShareB = Share<Shape::columns, Shape>;
  constexpr int K = Shape::depth, TM = Shape::thread_rows, TN = Shape::thread_columns;
  alignas(4 * sizeof(T)) __shared__ T a_tile[2][K][ShareA::pitch];
  alignas(4 * sizeof(T)) __shared__ T b_tile[2][K][ShareB::pitch];
  __shared__ typename A::Term a_line[Shape::rows], a_deep[2][K];
  __shared__ typename B::Term b_line[Shape::columns], b_deep[2][K];

  const int t = static_cast<int>(threadIdx.x);
  const int row = t / Shape::across * 4, column = t % Shape::across * 4;
  for (long long tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
    // Of the tile before, some threads may still be reading a_tile and b_tile: not before all have
    // come to the barrier below are they written again.
    const long long rest = tile / p.column_tiles;
    const long long j0 = (tile - rest * p.column_tiles) * Shape::columns;
    const long long above = rest / p.row_tiles;
    const long long i0 = (rest - above * p.row_tiles) * Shape::rows;
    const long long s = p.split ? above / p.chunks : above;
    const long long piece = p.split ? above - s * p.chunks : 0;
    long long base[2];
    p.batch.offsets(s, base);
    const auto* from_a = a.data + base[0];
    const auto* from_b = b.data + base[1];
    const long long k0 = piece * p.chunk;
    const long long terms = p.split && p.k - k0 > p.chunk ? p.chunk : p.k - k0;
    const long long steps = (terms + K - 1) / K;

    const auto look_up = [&](long long step) {  // where the depths of a step are
      if (t < K) {
        a_deep[step % 2][t] = a.deep(k0 + step * K + t);
        b_deep[step % 2][t] = b.deep(k0 + step * K + t);
      }
    };
    for (int i = t; i < Shape::rows; i += Shape::threads) a_line[i] = a.line(i0 + i);
    for (int j = t; j < Shape::columns; j += Shape::threads) b_line[j] = b.line(j0 + j);
    look_up(0);
    look_up(1);
    __syncthreads();
    T va[ShareA::count], vb[ShareB::count];
    const auto fetch = [&](long long step) {
      ShareA::fetch(a, from_a, a_line, a_deep[step % 2], va);
      ShareB::fetch(b, from_b, b_line, b_deep[step % 2], vb);
    };
    const auto put = [&](long long step) {
      ShareA::put(a.along_depth, va, a_tile[step % 2]);
      ShareB::put(b.along_depth, vb, b_tile[step % 2]);
    };
    fetch(0);
    put(0);
    __syncthreads();

    T total[TM][TN] = {}, sum[TM][TN] = {};
    const bool busy = i0 + row < p.m && j0 + column < p.n;
    long long left = p.chunk / K;  // steps of this piece
    for (long long step = 0; step < steps; ++step) {
      const bool more = step + 1 < steps;
      if (more) fetch(step + 1);
      look_up(step + 2);
      if (busy) multiply_tiles<Shape>(a_tile[step % 2], b_tile[step % 2], row, column, sum);
      if (more) put(step + 1);
      if (--left == 0 || !more) {
        left = p.chunk / K;
#pragma unroll
        for (int i = 0; i < TM; ++i) {
#pragma unroll
          for (int j = 0; j < TN; ++j) {
            total[i][j] += sum[i][j];
            sum[i][j] = 0;
          }
        }
      }
      if (more) __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < TM; ++i) {
      const long long at_row = i0 + i / 4 * Shape::row_step + row + i % 4;
      if (at_row >= p.m) continue;
#pragma unroll
      for (int g = 0; g < TN / 4; ++g) {
        const long long at_column = j0 + g * Shape::column_step + column;
        if (at_column >= p.n) continue;
        const int count = p.n - at_column < 4 ? static_cast<int>(p.n - at_column) : 4;
        if (!p.split) {
          result.store(s, at_row, at_column, count, &total[i][g * 4]);
          continue;
        }
        T* to = partial + ((piece * p.batch.count + s) * p.m + at_row) * p.n + at_column;
        for (int q = 0; q < 4; ++q) {
          if (q < count) to[q] = total[i][g * 4 + q];
        }
      }
    }
  }
}

/// Adds up the pieces that blocks of their own have summed.
template <class T, class R>
__global__ void add_pieces(ProductTiles p, R result, const T* partial) {
  const long long fours = (p.n + 3) / 4, size = p.batch.count * p.m * p.n;
  for (long long f = global_index(); f < p.batch.count * p.m * fours; f += global_size()) {
    const long long line = f / fours, j = (f - line * fours) * 4;
    const int count = p.n - j < 4 ? static_cast<int>(p.n - j) : 4;
    T total[4] = {};
    for (long long c = 0; c < p.chunks; ++c) {
      for (int q = 0; q < 4; ++q) {
        if (q < count) total[q] += partial[c * size + line * p.n + j + q];
      }
    }
    const long long s = line / p.m;
    result.store(s, line - s * p.m, j, count, total);
  }
}

// -------------------------------------------------------------------------------- plans

/// How many terms are summed in one go. Short enough that sums of many terms lose little, and that
/// there is work for many blocks; at most 64 pieces, as a piece costs memory.
inline long long chunk_of(std::int64_t k) {
  const std::int64_t least = (k + 63) / 64;
  return std::max<std::int64_t>(256, (least + 15) / 16 * 16);
}

template <class Shape>
ProductTiles tiles_of(std::int64_t m, std::int64_t n, std::int64_t k, const Axes<2>& batch) {
  ProductTiles p{};
  p.m = m;
  p.n = n;
  p.k = k;
  p.batch = walk_of(batch);
  p.row_tiles = (m + Shape::rows - 1) / Shape::rows;
  p.column_tiles = (n + Shape::columns - 1) / Shape::columns;
  p.chunk = chunk_of(k);
  p.chunks = std::max<long long>(1, (k + p.chunk - 1) / p.chunk);
  p.tiles = p.row_tiles * p.column_tiles * batch.count;
  return p;
}

/// How far apart in memory what neighbouring threads would read is; `length`: of how many threads.
struct Step {
  long long apart, length;
  friend bool operator<(const Step& a, const Step& b) {
    return a.apart != b.apart ? a.apart < b.apart : a.length > b.length;
  }
};
template <int N>
Step step_of(const Walk<N>& w, long long y_stride = 0, long long x_stride = 0) {
  if (w.rank == 0) return {1ll << 62, 1};
  const int last = w.rank - 1;
  long long apart = w.stride[0][last];
  if constexpr (N == 3) apart += w.stride[1][last] * y_stride + w.stride[2][last] * x_stride;
  return {apart < 0 ? -apart : apart, w.size[last]};
}

/// Which inputs of an op the operands are.
struct ProductInputs {
  int a, b, bias;  // -1: no bias
};

/// The plan of c = a b + bias; the operands' pointers are set at the launch.
template <class E, class B>
RefPtr<Plan> plan_tiles(std::string name, int device, std::int64_t m, std::int64_t n,
                        std::int64_t k, const Axes<2>& batch, const StridedOperand<E>& a,
                        const B& b, ProductResult<E> result, const ProductInputs& in) {
  using A = StridedOperand<E>;
  using R = ProductResult<E>;
  using T = acc_t<E>;
  if (batch.count == 0 || m == 0 || n == 0) return make_plan(name, [](const LaunchArgs&) {});
  const Walk<1>& c = result.columns;
  result.in_fours =
      c.rank == 0 || (c.stride[0][c.rank - 1] == 1 && (c.rank == 1 || c.size[c.rank - 1] % 4 == 0));

  using Large = LargeTiles<T>;
  constexpr std::int64_t most_partial = std::int64_t{64} << 20;  // bytes
  const int multiprocessors = device_info(device).multiprocessors,
            blocks_wanted = 2 * multiprocessors;
  const ProductTiles small = tiles_of<SmallTiles>(m, n, k, batch);
  ProductTiles p = tiles_of<Large>(m, n, k, batch);
  // Large tiles take half the time for as much of c, if there is as much and blocks enough.
  // Nobody is in a hurry for products of integers.
  constexpr bool in_floats = std::is_floating_point_v<T>;
  const bool large = in_floats &&
                     p.tiles * Large::rows * Large::columns <=
                         2 * small.tiles * SmallTiles::rows * SmallTiles::columns &&
                     p.tiles * p.chunks >= blocks_wanted / 2;
  if (!large) p = small;
  const std::int64_t partial =
      p.chunks * batch.count * m * n * static_cast<std::int64_t>(sizeof(T));
  p.split = p.chunks > 1 && p.tiles < blocks_wanted && partial <= most_partial;
  if (p.split) p.tiles *= p.chunks;
  // Blocks that are done with a tile go on to the next.
  const auto blocks = static_cast<unsigned>(std::min<long long>(p.tiles, 64ll * multiprocessors));

  return make_plan(
      std::move(name),
      [=](const LaunchArgs& args) {
        A left = a;
        B right = b;
        R c = result;
        left.data = static_cast<const E*>(args.in[in.a]);
        right.data = static_cast<const E*>(args.in[in.b]);
        if (in.bias >= 0) c.bias = static_cast<const E*>(args.in[in.bias]);
        c.data = static_cast<E*>(args.out[0]);
        T* partial = static_cast<T*>(args.workspace);
        if constexpr (in_floats) {
          if (large) {
            launch(args, {dim3(blocks), dim3(Large::threads)}, product_tiles<Large, A, B, R>, p,
                   left, right, c, partial);
          }
        }
        if (!large) {
          launch(args, {dim3(blocks), dim3(SmallTiles::threads)},
                 product_tiles<SmallTiles, A, B, R>, p, left, right, c, partial);
        }
        if (p.split) {
          launch(args, grid_for(p.batch.count * p.m * ((p.n + 3) / 4)), add_pieces<T, R>, p, c,
                 static_cast<const T*>(partial));
        }
      },
      p.split ? static_cast<std::size_t>(partial) : 0);
}

}  // namespace tandem::cuda
