#include "data/dataset.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "core/error.h"
#include "data/cifar.h"
#include "data/mnist.h"
#include "data/synthetic.h"

namespace tandem::data {

namespace {

constexpr std::array<std::string_view, 5> kNames = {"mnist", "fashion", "cifar10",
                                                    "synthetic-digits", "synthetic-cifar"};

// v / 255 rounded once, as dividing every value would give.
constexpr std::array<float, 256> kUnit = [] {
  std::array<float, 256> t{};
  for (int i = 0; i < 256; ++i) t[static_cast<std::size_t>(i)] = static_cast<float>(i) / 255.0f;
  return t;
}();

}  // namespace

ByteImages::ByteImages(std::string name, const Shape& image_shape, std::int64_t classes,
                       std::vector<std::uint8_t> pixels, std::vector<std::uint8_t> labels,
                       bool synthetic)
    : name_(std::move(name)),
      shape_(image_shape),
      classes_(classes),
      values_(checked_numel(image_shape, "ByteImages")),
      pixels_(std::move(pixels)),
      labels_(std::move(labels)),
      synthetic_(synthetic) {
  if (shape_.size() != 3) {
    fail<DataError>("ByteImages", name_ + ": an image has three axes", shape_.str(), "[C, H, W]");
  }
  if (pixels_.size() != labels_.size() * static_cast<std::size_t>(values_)) {
    fail<DataError>("ByteImages", name_ + ": images and labels differ in number",
                    fmt::format("{} pixel values", pixels_.size()),
                    fmt::format("{} labels x {} values", labels_.size(), values_));
  }
  for (std::size_t i = 0; i < labels_.size(); ++i) {
    if (labels_[i] >= classes_) {
      fail<DataError>("ByteImages", fmt::format("{}: label {} is out of range", name_, i),
                      std::to_string(labels_[i]), fmt::format("0 to {}", classes_ - 1));
    }
  }
}

void ByteImages::get(std::span<const std::int64_t> indices, float* images,
                     std::int64_t* labels) const {
  for (const std::int64_t i : indices) {
    if (i < 0 || i >= size()) {
      fail<IndexError>("Dataset::get", name_ + ": no such sample", std::to_string(i),
                       fmt::format("0 to {}", size() - 1));
    }
    const std::uint8_t* p = pixels_.data() + i * values_;
    for (std::int64_t k = 0; k < values_; ++k) images[k] = kUnit[p[k]];
    images += values_;
    *labels++ = labels_[static_cast<std::size_t>(i)];
  }
}

std::span<const std::string_view> dataset_names() {
  return kNames;
}

DatasetPair load_dataset(std::string_view name, const std::filesystem::path& dir) {
  // Sizes and seeds of the synthetic sets are fixed: their names stand for definite images.
  if (name == "synthetic-digits") return {synthetic_digits(60000, 1), synthetic_digits(10000, 2)};
  if (name == "synthetic-cifar") return {synthetic_cifar(50000, 1), synthetic_cifar(10000, 2)};
  if (name == "mnist" || name == "fashion") return load_mnist(dir, std::string(name));
  if (name == "cifar10") return load_cifar10(dir);
  fail("load_dataset", "no data set of this name", name,
       fmt::format("{}", fmt::join(kNames, ", ")));
}

}  // namespace tandem::data
