#include "data/mnist.h"

#include <fmt/format.h>

#include "core/error.h"
#include "data/find_file.h"
#include "data/idx.h"

namespace tandem::data {

namespace {

constexpr std::int64_t kSide = 28;

IdxArray read_part(const std::filesystem::path& dir, const std::string& name,
                   const std::string& part, int rank) {
  // Folders used by other tools that fetch these sets; a folder of the set's own comes first, so
  // that MNIST and Fashion-MNIST can lie under one directory.
  const std::vector<std::string> folders =
      name == "fashion"
          ? std::vector<std::string>{"fashion", "fashion-mnist", "FashionMNIST/raw", "."}
          : std::vector<std::string>{name, "MNIST/raw", "."};
  const std::string kind = fmt::format("idx{}-ubyte", rank);
  const auto path = find_file(dir, folders, {part + "-" + kind, part + "." + kind}, "load_mnist");
  IdxArray a = read_idx(path);
  if (a.dtype != DType::u8 || a.shape.size() != rank) {
    fail<DataError>("load_mnist", path.string() + ": wrong element type or rank",
                    name_of(a.dtype) + a.shape.str(), fmt::format("u8 of rank {}", rank));
  }
  if (rank == 3 && (a.shape[1] != kSide || a.shape[2] != kSide)) {
    fail<DataError>("load_mnist", path.string() + ": wrong image size", a.shape.str(),
                    "[N, 28, 28]");
  }
  if (a.shape[0] == 0) fail<DataError>("load_mnist", path.string() + ": it holds no samples");
  return a;
}

std::vector<std::uint8_t> as_u8(const IdxArray& a) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(a.bytes.data());
  return {p, p + a.bytes.size()};
}

DatasetPtr read_split(const std::filesystem::path& dir, const std::string& name,
                      const std::string& prefix) {
  const IdxArray images = read_part(dir, name, prefix + "-images", 3);
  const IdxArray labels = read_part(dir, name, prefix + "-labels", 1);
  return std::make_shared<ByteImages>(fmt::format("{} ({}, {})", name, prefix, dir.string()),
                                      Shape{1, kSide, kSide}, 10, as_u8(images), as_u8(labels));
}

}  // namespace

DatasetPair load_mnist(const std::filesystem::path& dir, const std::string& name) {
  return {read_split(dir, name, "train"), read_split(dir, name, "t10k")};
}

}  // namespace tandem::data
