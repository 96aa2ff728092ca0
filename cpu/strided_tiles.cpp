#include "cpu/strided_tiles.h"

#include <cstdint>
#include <utility>

namespace tandem::cpu {

namespace {

// The stride of a broadcast operand along an axis of the full shape.
std::int64_t stride_along(const TensorDesc& d, const Shape& shape, int axis) {
  const int own = axis - (shape.size() - d.rank());
  return own < 0 || (d.dim(own) == 1 && shape[axis] != 1) ? 0 : d.strides[own];
}

}  // namespace

LoopNest::LoopNest(const Shape& shape, std::span<const TensorDesc* const> operands) {
  int order[kMaxRank];
  int n = 0;
  for (int i = shape.size() - 1; i >= 0; --i) {
    total *= shape[i];
    if (shape[i] == 1) continue;
    // Insertion by the first operand's stride; equal strides stay in row-major order.
    int at = n++;
    const std::int64_t s = stride_along(*operands[0], shape, i);
    for (; at > 0 && stride_along(*operands[0], shape, order[at - 1]) > s; --at) {
      order[at] = order[at - 1];
    }
    order[at] = i;
  }
  for (int k = 0; k < n; ++k) {
    const int i = order[k];
    bool joins = depth > 0;
    for (const TensorDesc* d : operands) {
      joins = joins && stride_along(*d, shape, i) ==
                           stride_along(*d, shape, axis[depth - 1]) * size[depth - 1];
    }
    if (joins) {
      size[depth - 1] *= shape[i];
    } else {
      axis[depth] = i;
      size[depth++] = shape[i];
    }
  }
  if (depth == 0) {
    depth = 1;
    size[0] = 1;
    axis[0] = -1;
  }
}

void LoopNest::choose_tiling(std::span<StridedAccess> accesses) {
  constexpr std::int64_t kRow = 128;     // a row that fills a tile well enough
  constexpr std::int64_t kSide = 8;      // a block's least side
  constexpr std::int64_t kBlock = 1024;  // elements
  for (const StridedAccess& a : accesses) {
    if (a.stride[0] <= a.element || size[0] < kSide || total < kBlock) continue;
    // The loop along which this operand lies in memory.
    int along = 0;
    for (int d = 1; d < depth; ++d) {
      if (size[d] >= kSide && a.stride[d] > 0 && a.stride[d] < a.stride[along]) along = d;
    }
    if (along == 0) continue;
    std::swap(size[1], size[along]);
    std::swap(axis[1], axis[along]);
    for (StridedAccess& b : accesses) std::swap(b.stride[1], b.stride[along]);
    tiling = Tiling::blocks;
    block[0] = std::min<std::int64_t>(size[0], 32);
    block[1] = std::min(size[1], kBlock / block[0]);
    block[0] = std::min(size[0], kBlock / block[1]);
    return;
  }
  if (size[0] < kRow) return;
  for (const StridedAccess& a : accesses) {
    if (!a.is_linear(*this) && !a.is_whole_splat(*this)) tiling = Tiling::rows;
  }
}

void LoopNest::fit_block(std::int64_t elements) {
  while (tiling == Tiling::blocks && block[0] * block[1] > elements) {
    std::int64_t& larger = block[0] > block[1] ? block[0] : block[1];
    larger = (larger + 1) / 2;
  }
}

StridedAccess::StridedAccess(const LoopNest& nest, const Shape& shape, const TensorDesc& d)
    : element(static_cast<std::int64_t>(size_of(d.dtype))) {
  for (int k = 0; k < nest.depth; ++k) {
    stride[k] = nest.axis[k] < 0 ? element : stride_along(d, shape, nest.axis[k]) * element;
  }
}

bool StridedAccess::is_linear(const LoopNest& nest) const {
  std::int64_t dense = element;
  for (int k = 0; k < nest.depth; ++k) {
    if (stride[k] != dense) return false;
    dense *= nest.size[k];
  }
  return true;
}

bool StridedAccess::is_whole_splat(const LoopNest& nest) const {
  for (int k = 0; k < nest.depth; ++k) {
    if (stride[k] != 0) return false;
  }
  return true;
}

void StridedAccess::choose(const LoopNest& nest) {
  const bool rows = nest.tiling == Tiling::rows;
  if (is_whole_splat(nest)) {
    mode = AccessMode::whole_splat;
  } else if (nest.tiling != Tiling::blocks && is_linear(nest)) {
    mode = AccessMode::linear;
  } else if (rows && stride[0] == element) {
    mode = AccessMode::row;
  } else if (rows && stride[0] == 0) {
    mode = AccessMode::row_splat;
  } else {
    mode = AccessMode::strided;
  }
}

namespace {

// Moves n elements between strided memory and a buffer. `Gather` says in which direction.
template <bool Gather, class E>
class Mover {
 public:
  Mover(const LoopNest& nest, const StridedAccess& a, const Cursor& c)
      : nest_(nest), a_(a), c_(c) {}

  void run(char* base, E* buffer, std::int64_t n) {
    if (nest_.tiling == Tiling::blocks) {
      block(at(base), buffer, c_.extent(nest_, 0), c_.extent(nest_, 1));
      return;
    }
    while (n > 0) {
      std::int64_t moved;
      if (nest_.depth > 1 && c_.index[0] == 0 && n >= 2 * nest_.size[0]) {
        const std::int64_t rows = std::min(n / nest_.size[0], nest_.size[1] - c_.index[1]);
        block(at(base), buffer, nest_.size[0], rows);
        moved = rows * nest_.size[0];
      } else {
        moved = std::min(n, nest_.size[0] - c_.index[0]);
        line(at(base), a_.stride[0], buffer, 1, moved);
      }
      c_.advance(nest_, moved);
      buffer += moved;
      n -= moved;
    }
  }

 private:
  char* at(char* base) const {
    for (int d = 0; d < nest_.depth; ++d) base += c_.index[d] * a_.stride[d];
    return base;
  }

  // The loop over the smaller stride goes inside, so that a transposed operand is still moved
  // cache line by cache line.
  void block(char* p, E* buffer, std::int64_t columns, std::int64_t rows) {
    if (a_.stride[1] > 0 && a_.stride[1] < a_.stride[0]) {
      for (std::int64_t i = 0; i < columns; ++i) {
        line(p + i * a_.stride[0], a_.stride[1], buffer + i, columns, rows);
      }
    } else {
      for (std::int64_t j = 0; j < rows; ++j) {
        line(p + j * a_.stride[1], a_.stride[0], buffer + j * columns, 1, columns);
      }
    }
  }

  static void line(char* p, std::int64_t stride, E* buffer, std::int64_t step, std::int64_t n) {
    constexpr auto kSize = static_cast<std::int64_t>(sizeof(E));
    E* m = reinterpret_cast<E*>(p);
    if (stride == kSize && step == 1) {
      for (std::int64_t i = 0; i < n; ++i) {
        if constexpr (Gather) {
          buffer[i] = m[i];
        } else {
          m[i] = buffer[i];
        }
      }
      return;
    }
    const std::int64_t s = stride / kSize;
    for (std::int64_t i = 0; i < n; ++i) {
      if constexpr (Gather) {
        buffer[i * step] = m[i * s];
      } else {
        m[i * s] = buffer[i * step];
      }
    }
  }

  const LoopNest& nest_;
  const StridedAccess& a_;
  Cursor c_;
};

template <bool Gather>
void move(const LoopNest& nest, const StridedAccess& a, const Cursor& c, std::int64_t n, void* base,
          void* buffer) {
  const auto run = [&]<class E>(E* typed) {
    Mover<Gather, E>(nest, a, c).run(static_cast<char*>(base), typed, n);
  };
  switch (a.element) {
    case 1: return run(static_cast<std::uint8_t*>(buffer));
    case 2: return run(static_cast<std::uint16_t*>(buffer));
    case 4: return run(static_cast<std::uint32_t*>(buffer));
    default: return run(static_cast<std::uint64_t*>(buffer));
  }
}

}  // namespace

void gather(const LoopNest& nest, const StridedAccess& a, const Cursor& c, std::int64_t n,
            const void* base, void* buffer) {
  move<true>(nest, a, c, n, const_cast<void*>(base), buffer);
}

void scatter(const LoopNest& nest, const StridedAccess& a, const Cursor& c, std::int64_t n,
             const void* buffer, void* base) {
  move<false>(nest, a, c, n, base, const_cast<void*>(buffer));
}

}  // namespace tandem::cpu
