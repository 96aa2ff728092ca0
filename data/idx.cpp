#include "data/idx.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "data/file_reader.h"

namespace tandem::data {

namespace {

DType dtype_of_code(unsigned char code, const FileReader& file) {
  switch (code) {
    case 0x08: return DType::u8;
    case 0x0C: return DType::i32;
    case 0x0D: return DType::f32;
    case 0x0E: return DType::f64;
    case 0x09:
    case 0x0B:
      file.fail("its element type (i8 or i16) is not supported", fmt::format("0x{:02x}", code),
                "0x08 (u8), 0x0c (i32), 0x0d (f32) or 0x0e (f64)");
    default:
      file.fail("its third byte is no IDX element type", fmt::format("0x{:02x}", code),
                "0x08 (u8), 0x0c (i32), 0x0d (f32) or 0x0e (f64)");
  }
}

void swap_bytes(std::vector<std::byte>& bytes, std::size_t element) {
  if (element == 1 || std::endian::native == std::endian::big) return;
  for (std::size_t i = 0; i < bytes.size(); i += element) {
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                 bytes.begin() + static_cast<std::ptrdiff_t>(i + element));
  }
}

}  // namespace

IdxArray read_idx(const std::filesystem::path& path, const IdxLimits& limits) {
  FileReader file(path, "read_idx");
  unsigned char head[4];
  file.read_exactly(head, 4, "its IDX magic number");
  if (head[0] != 0 || head[1] != 0) {
    file.fail("not an IDX file: it must begin with two zero bytes",
              fmt::format("{:02x} {:02x}", head[0], head[1]), "00 00");
  }
  IdxArray a;
  a.dtype = dtype_of_code(head[2], file);
  const int rank = head[3];
  if (rank < 1 || rank > kMaxRank) {
    file.fail("its rank is out of range", std::to_string(rank), fmt::format("1 to {}", kMaxRank));
  }
  unsigned char sizes[4 * kMaxRank];
  file.read_exactly(sizes, 4 * static_cast<std::size_t>(rank), "its list of sizes");
  std::uint64_t bytes = size_of(a.dtype);
  bool empty = false;
  for (int i = 0; i < rank; ++i) {
    const unsigned char* s = sizes + 4 * i;
    const std::uint64_t n = std::uint64_t{s[0]} << 24 | s[1] << 16 | s[2] << 8 | s[3];
    a.shape.push_back(static_cast<std::int64_t>(n));
    // In 128 bits, where a 64-bit limit times a 32-bit size cannot wrap around.
    const auto product = static_cast<unsigned __int128>(bytes) * std::max<std::uint64_t>(n, 1);
    empty = empty || n == 0;
    if (product > limits.max_bytes) {
      file.fail("it declares more data than is allowed", "sizes up to " + a.shape.str(),
                fmt::format("at most {} bytes", limits.max_bytes));
    }
    bytes = static_cast<std::uint64_t>(product);
  }
  if (empty) bytes = 0;
  if (bytes > file.most_left()) {
    file.fail("it is shorter than its header declares",
              fmt::format("{} bytes at most after the header", file.most_left()),
              fmt::format("{} bytes for {}{}", bytes, name_of(a.dtype), a.shape.str()));
  }
  a.bytes.resize(bytes);
  file.read_exactly(a.bytes.data(), a.bytes.size(), "its data");
  file.expect_end();
  swap_bytes(a.bytes, size_of(a.dtype));
  return a;
}

}  // namespace tandem::data
