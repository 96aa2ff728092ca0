// Sorting the rows of a matrix of items (core/sort_items.h): tiles in shared memory, which passes
// over memory then merge in pairs. Every thread finds by bisection where its piece of a merged
// whole begins in both halves (Green, McColl and Bader, "GPU merge path", ICS 2012).
#pragma once
#include <vector>

#include "core/sort_items.h"
#include "core/workspace.h"
#include "cuda/block.h"

namespace tandem::cuda {

inline constexpr int kSortEach = 8;  // items a thread
inline constexpr int kSortTile = kBlockThreads * kSortEach;

/// A tile in shared memory. A gap after every 16 items keeps threads that each walk items of their
/// own out of each other's banks.
template <class Item>
struct SortTile {
  Item item[kSortTile + kSortTile / 16];
  __device__ Item& operator[](int i) { return item[i + i / 16]; }
};

/// How many of the first d items of two sorted runs together come from the first: `a` gives its na
/// items, `b` the nb of the second.
template <class A, class B>
__device__ int merge_path(const A& a, int na, const B& b, int nb, int d) {
  int lo = d > nb ? d - nb : 0, hi = d < na ? d : na;
  while (lo < hi) {
    const int mid = (lo + hi) / 2;
    if (b(d - 1 - mid) < a(mid)) {
      hi = mid;
    } else {
      lo = mid + 1;
    }
  }
  return lo;
}

/// The same in memory, by a warp: 32 guesses at a time.
template <class Item>
__device__ long long merge_path(const Item* a, long long na, const Item* b, long long nb,
                                long long d) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  long long lo = d > nb ? d - nb : 0, hi = d < na ? d : na;
  while (lo < hi) {
    const long long step = (hi - lo + 31) / 32, mid = lo + lane * step;
    const bool before = mid < hi && !(b[d - 1 - mid] < a[mid]);
    const int count = __popc(__ballot_sync(~0u, before));
    if (count == 0) break;
    hi = hi < lo + count * step ? hi : lo + count * step;
    lo += (count - 1) * step + 1;
  }
  return lo;
}

/// Items d to d + kSortEach of two sorted runs in shared memory together: na items from `a` on, nb
/// from `b` on.
template <class Item>
__device__ void merge_piece(SortTile<Item>& s, int a, int na, int b, int nb, int d,
                            Item (&out)[kSortEach]) {
  int i = merge_path([&](int k) { return s[a + k]; }, na, [&](int k) { return s[b + k]; }, nb, d);
  int j = d - i;
  Item x = i < na ? s[a + i] : Item::last(), y = j < nb ? s[b + j] : Item::last();
#pragma unroll
  for (int e = 0; e < kSortEach; ++e) {
    if (y < x) {
      out[e] = y;
      ++j;
      y = j < nb ? s[b + j] : Item::last();
    } else {
      out[e] = x;
      ++i;
      x = i < na ? s[a + i] : Item::last();
    }
  }
}

/// Sorts each `slot` items of the tile (a power of two, at least kSortEach). Begins and ends with a
/// barrier.
template <class Item>
__device__ void sort_slots(SortTile<Item>& s, int slot) {
  const int first = static_cast<int>(threadIdx.x) * kSortEach;
  Item v[kSortEach];
  __syncthreads();
#pragma unroll
  for (int e = 0; e < kSortEach; ++e) v[e] = s[first + e];
#pragma unroll
  for (int round = 0; round < kSortEach; ++round) {
#pragma unroll
    for (int e = round % 2; e + 1 < kSortEach; e += 2) {
      const Item a = v[e], b = v[e + 1];
      const bool swap = b < a;
      v[e] = swap ? b : a;
      v[e + 1] = swap ? a : b;
    }
  }
  for (int run = kSortEach;; run *= 2) {
    // Each thread writes where it alone has read since the last barrier, or nobody has.
#pragma unroll
    for (int e = 0; e < kSortEach; ++e) s[first + e] = v[e];
    __syncthreads();
    if (run >= slot) return;
    const int pair = first & ~(2 * run - 1);
    merge_piece(s, pair, run, pair + run, run, first - pair, v);
    __syncthreads();
  }
}

/// What one launch of sort_tiles does: tiles of the rows of n items, of which the first `keep` of
/// each tile are kept.
struct TileSort {
  long long rows, n, keep;
  int slot;     // a row's place in a tile, if it is shorter; else a tile
  bool across;  // neighbours in memory are of different rows

  TileSort(long long rows, long long n, long long keep, bool across)
      : rows(rows), n(n), keep(keep), slot(kSortEach), across(across) {
    while (slot < n && slot < kSortTile) slot *= 2;
  }
  __host__ __device__ long long tiles() const { return (n + slot - 1) / slot; }  // of a row
  __host__ __device__ long long pieces() const { return rows * tiles(); }
  /// Of a row, afterwards.
  __host__ __device__ long long kept() const {
    const long long before = (tiles() - 1) * slot, rest = n - before;
    return (tiles() - 1) * keep + (rest < keep ? rest : keep);
  }
};

/// From `from` to `to`, or where these are null from f.load(row, i) to f.store(row, i, item).
template <class Item, class F>
__global__ void sort_tiles(TileSort p, F f, const Item* from, Item* to) {
  __shared__ SortTile<Item> s;
  const int t = static_cast<int>(threadIdx.x), slots = kSortTile / p.slot;
  const long long tiles = p.tiles(), pieces = p.pieces(), kept = p.kept();
  // Calls g(row, tile of the row, position in the tile, place in shared memory).
  const auto each = [&](long long block, auto&& g) {
#pragma unroll
    for (int e = 0; e < kSortEach; ++e) {
      const int k = e * kBlockThreads + t;
      const int which = p.across ? k % slots : k / p.slot, i = p.across ? k / slots : k % p.slot;
      const long long piece = block * slots + which;
      long long row = piece, tile = 0;
      if (tiles > 1) {
        row = p.across ? piece % p.rows : piece / tiles;
        tile = p.across ? piece / p.rows : piece % tiles;
      }
      if (piece < pieces) {
        g(row, tile, i, which * p.slot + i);
      } else {
        s[which * p.slot + i] = Item::last();
      }
    }
  };
  for (long long block = blockIdx.x; block * slots < pieces; block += gridDim.x) {
    each(block, [&](long long row, long long tile, int i, int place) {
      const long long at = tile * p.slot + i;
      s[place] = at >= p.n ? Item::last() : from ? from[row * p.n + at] : f.load(row, at);
    });
    sort_slots(s, p.slot);
    each(block, [&](long long row, long long tile, int i, int place) {
      const long long at = tile * p.keep + i;
      if (i >= p.keep || at >= kept) return;
      if (to) {
        to[row * kept + at] = s[place];
      } else {
        f.store(row, at, s[place]);
      }
    });
    __syncthreads();
  }
}

/// Merges neighbouring runs of `run` items (a multiple of a tile) of rows of n.
template <class Item>
__global__ void merge_runs(long long rows, long long n, long long run, const Item* from, Item* to) {
  __shared__ SortTile<Item> s;
  __shared__ long long split[2];
  const int t = static_cast<int>(threadIdx.x);
  const long long tiles = (n + kSortTile - 1) / kSortTile;
  for (long long block = blockIdx.x; block < rows * tiles; block += gridDim.x) {
    const long long row = block / tiles, first = block % tiles * kSortTile;
    const long long pair = first / (2 * run) * (2 * run), left = n - pair;
    const long long na = left < run ? left : run;
    const long long nb = left - na < run ? left - na : run;
    const Item *a = from + row * n + pair, *b = a + na;
    const long long d = first - pair;
    const int size = static_cast<int>(n - first < kSortTile ? n - first : kSortTile);
    if (t < 64) {
      const long long k = merge_path(a, na, b, nb, d + (t < 32 ? 0 : size));
      if (t % 32 == 0) split[t / 32] = k;
    }
    __syncthreads();
    const long long a0 = split[0], b0 = d - a0;
    const int la = static_cast<int>(split[1] - a0), lb = size - la;
    for (int i = t; i < size; i += kBlockThreads) s[i] = i < la ? a[a0 + i] : b[b0 + i - la];
    __syncthreads();
    Item v[kSortEach];
    const int begin = t * kSortEach;
    if (begin < size) merge_piece(s, 0, la, la, lb, begin, v);
    __syncthreads();
    if (begin < size) {
#pragma unroll
      for (int e = 0; e < kSortEach; ++e) s[begin + e] = v[e];
    }
    __syncthreads();
    for (int i = t; i < size; i += kBlockThreads) to[row * n + first + i] = s[i];
    __syncthreads();
  }
}

/// f.store of the first k of rows of n sorted items.
template <class Item, class F>
__global__ void store_sorted(long long rows, long long n, long long k, bool across, F f,
                             const Item* from) {
  for (long long e = global_index(); e < rows * k; e += global_size()) {
    const long long row = across ? e % rows : e / k, i = across ? e / rows : e % k;
    f.store(row, i, from[row * n + i]);
  }
}

/// Sorts rows of n items; the first k of each are wanted. Made in `plan`.
template <class Item>
class RowSort {
 public:
  /// `stored`: f.store takes the result. Otherwise it stays in the workspace, and k is n.
  RowSort(long long rows, long long n, long long k, bool across, bool stored,
          std::size_t& workspace_bytes)
      : rows_(rows), k_(k), stored_(stored) {
    // A few of each tile, of which again a few are the best. Or all, in order.
    const bool few = k <= kSortTile / 2;
    do {
      stages_.emplace_back(rows, n, few || n <= kSortTile ? k : kSortTile, across);
      n = stages_.back().kept();
      across = false;  // the workspace is in the order of rows
    } while (few && stages_.back().tiles() > 1);
    const TileSort& first = stages_[0];
    const bool passes = first.tiles() > 1;
    if (stored && !passes) return;
    length_ = n;
    bytes_ = align_up(static_cast<std::size_t>(rows * first.kept()) * sizeof(Item));
    offset_ = reserve(workspace_bytes, passes ? 2 * bytes_ : bytes_);
  }

  /// Puts the sort into the launch's stream. Where the items are, unless they were stored.
  template <class F>
  const Item* run(const LaunchArgs& a, const F& f) const {
    Item *from = nullptr, *to = workspace<Item>(a, offset_);
    Item* other = workspace<Item>(a, offset_ + bytes_);
    const auto next = [&] {
      from = to;
      to = other;
      other = from;
    };
    for (const TileSort& s : stages_) {
      const bool stores = stored_ && s.tiles() == 1;
      const long long slots = kSortTile / s.slot;
      launch(a, grid((s.pieces() + slots - 1) / slots), sort_tiles<Item, F>, s, f,
             static_cast<const Item*>(from), stores ? nullptr : to);
      if (stores) return nullptr;
      next();
    }
    if (stages_.back().tiles() > 1) {
      const long long blocks = rows_ * stages_.back().tiles();
      for (long long run = kSortTile; run < length_; run *= 2) {
        launch(a, grid(blocks), merge_runs<Item>, rows_, length_, run,
               static_cast<const Item*>(from), to);
        next();
      }
    }
    if (stored_) {
      launch(a, grid_for(rows_ * k_), store_sorted<Item, F>, rows_, length_, k_, stages_[0].across,
             f, static_cast<const Item*>(from));
    }
    return from;
  }

 private:
  static Grid grid(long long blocks) {
    return {.blocks = dim3(static_cast<unsigned>(std::min<long long>(blocks, 1 << 30))),
            .threads = dim3(kBlockThreads)};
  }

  long long rows_, k_, length_ = 0;
  bool stored_;
  std::vector<TileSort> stages_;
  std::size_t bytes_ = 0, offset_ = 0;
};

}  // namespace tandem::cuda
