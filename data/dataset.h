// Labelled images.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/shape.h"

namespace tandem::data {

/// What a loader reads from. Every method may be called from many threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::string name() const = 0;  // for people to read
  /// Number of samples.
  virtual std::int64_t size() const = 0;
  /// [C, H, W] of every image.
  virtual Shape image_shape() const = 0;
  /// Labels are in [0, classes()): a loader refuses others with a DataError.
  virtual std::int64_t classes() const = 0;
  /// Generated here rather than read from files of real samples.
  virtual bool synthetic() const { return false; }
  /// Writes the images of `indices`, one after the other, row-major [C, H, W], values in [0, 1], to
  /// `images` and their labels to `labels`. Throws IndexError for an index out of range.
  virtual void get(std::span<const std::int64_t> indices, float* images,
                   std::int64_t* labels) const = 0;
};

using DatasetPtr = std::shared_ptr<const Dataset>;

/// Images kept in memory, 8 bits a value.
class ByteImages final : public Dataset {
 public:
  /// `pixels` holds the images one after the other, each [C, H, W] row-major. Throws DataError when
  /// the sizes do not fit together or a label is outside [0, classes).
  ByteImages(std::string name, const Shape& image_shape, std::int64_t classes,
             std::vector<std::uint8_t> pixels, std::vector<std::uint8_t> labels,
             bool synthetic = false);

  std::string name() const override { return name_; }
  std::int64_t size() const override { return static_cast<std::int64_t>(labels_.size()); }
  Shape image_shape() const override { return shape_; }
  std::int64_t classes() const override { return classes_; }
  bool synthetic() const override { return synthetic_; }
  void get(std::span<const std::int64_t> indices, float* images,
           std::int64_t* labels) const override;

  std::span<const std::uint8_t> pixels() const { return pixels_; }
  std::span<const std::uint8_t> labels() const { return labels_; }

 private:
  std::string name_;
  Shape shape_;
  std::int64_t classes_, values_;  // values per image
  std::vector<std::uint8_t> pixels_, labels_;
  bool synthetic_;
};

/// A training set and the test set that goes with it.
struct DatasetPair {
  DatasetPtr train, test;
};

/// "mnist", "fashion", "cifar10", "synthetic-digits" or "synthetic-cifar". `dir` is where the files
/// of a real one lie; the synthetic ones read no files. Throws ValueError for another name, and
/// DataError when files are missing or wrong.
DatasetPair load_dataset(std::string_view name, const std::filesystem::path& dir = {});
/// The names load_dataset knows.
std::span<const std::string_view> dataset_names();

}  // namespace tandem::data
