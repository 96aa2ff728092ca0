#include "data/cifar.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/file_reader.h"
#include "data/find_file.h"

namespace tandem::data {

namespace {

constexpr std::size_t kImage = 3 * 32 * 32;
constexpr std::size_t kMaxRecords = 100000;  // the real files hold 10,000 each

void append(const std::filesystem::path& dir, const std::string& name,
            std::vector<std::uint8_t>& pixels, std::vector<std::uint8_t>& labels) {
  FileReader file(find_file(dir, {".", "cifar-10-batches-bin"}, {name}, "load_cifar10"),
                  "load_cifar10");
  const std::uint64_t most = file.most_left();
  pixels.reserve(pixels.size() + std::min<std::size_t>(most, 10000 * kImage));
  std::uint8_t record[1 + kImage];
  for (std::size_t i = 0;; ++i) {
    const std::size_t got = file.read(record, sizeof record);
    if (got == 0 && i == 0) file.fail("it is empty");
    if (got == 0) return;
    if (i == kMaxRecords) {
      file.fail("it holds too many records", "more", fmt::format("at most {}", kMaxRecords));
    }
    if (got != sizeof record) {
      file.fail(fmt::format("record {} is cut short", i), fmt::format("{} bytes", got),
                fmt::format("{} bytes", sizeof record));
    }
    if (record[0] > 9) {
      file.fail(fmt::format("the label of record {} is out of range", i), std::to_string(record[0]),
                "0 to 9");
    }
    labels.push_back(record[0]);
    pixels.insert(pixels.end(), record + 1, record + sizeof record);
  }
}

DatasetPtr read_files(const std::filesystem::path& dir, const std::vector<std::string>& names,
                      const char* split) {
  std::vector<std::uint8_t> pixels, labels;
  for (const std::string& name : names) append(dir, name, pixels, labels);
  return std::make_shared<ByteImages>(fmt::format("cifar10 ({}, {})", split, dir.string()),
                                      Shape{3, 32, 32}, 10, std::move(pixels), std::move(labels));
}

}  // namespace

DatasetPair load_cifar10(const std::filesystem::path& dir) {
  return {read_files(dir,
                     {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                      "data_batch_4.bin", "data_batch_5.bin"},
                     "train"),
          read_files(dir, {"test_batch.bin"}, "test")};
}

}  // namespace tandem::data
