// The IDX format of the MNIST files: http://yann.lecun.com/exdb/mnist (bottom of the page).
//   bytes 0-1 zero, byte 2 the element type, byte 3 the rank, then one big-endian u32 per axis,
//   then the elements, big-endian, row-major. Nothing else.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"

namespace tandem::data {

/// An array as an IDX file holds it.
struct IdxArray {
  DType dtype = DType::u8;
  Shape shape;
  std::vector<std::byte> bytes;  // elements in the machine's byte order, row-major
};

/// What a file may hold at most, checked before memory is taken.
struct IdxLimits {
  /// A file that declares more bytes of elements than this is refused.
  std::uint64_t max_bytes = std::uint64_t{4} << 30;
};

/// Reads a plain or gzipped IDX file of u8, i32, f32 or f64 elements. Throws DataError, naming the
/// file, the rule, what was found and what was expected, unless the file is exactly what its header
/// declares; the declared size is held against the file's before anything is allocated.
IdxArray read_idx(const std::filesystem::path& path, const IdxLimits& limits = {});

}  // namespace tandem::data
