// Batches of a data set, made ready by worker threads.
#pragma once
#include <iterator>
#include <memory>
#include <vector>

#include "core/tensor.h"
#include "data/augment.h"
#include "data/dataset.h"

namespace tandem::data {

/// Options of a DataLoader.
struct DataLoaderOptions {
  std::int64_t batch_size = 64;
  /// A new order every epoch, or the data set's own.
  bool shuffle = true;
  /// Of the order and of the augmentation.
  std::uint64_t seed = 0;
  /// Leave out the last batch if it is smaller than the others. A smaller batch is another
  /// signature for a compiled program, and means another capture.
  bool drop_last = false;
  /// Threads that make batches; 0: they are made in the thread that asks for them.
  int num_workers = 1;
  /// Batches that may be ready or in the making at a time, on the host.
  int prefetch = 4;
  MemoryFormat layout = MemoryFormat::contiguous;  // or channels_last
  DType dtype = DType::f32;                        // any floating type
  /// Where the batches are handed out. They are made on the host; to a GPU they are copied while it
  /// works on the batch before.
  Device device = default_device();
  /// Per channel: (x - mean) / std. Empty: x in [0, 1] as it is.
  std::vector<float> mean = {}, std = {};
  AugmentOptions augment = {};
};

class DeviceFeed;

/// Images [N, C, H, W] of the loader's dtype, layout and device, labels i64 [N].
struct Batch {
  Tensor x, y;
};

/// Runs over a data set in batches:
///
///   data::DataLoader loader(train, {.batch_size = 64, .seed = 1});
///   for (int epoch = 0; epoch < 5; ++epoch)
///     for (auto& [x, y] : loader) step(x, y);
///
/// Every range-for is one epoch. What the batches hold depends on (seed, epoch) alone, not on the
/// number of workers. An exception of a worker is thrown to whoever asks for that batch. Leaving
/// the loop early stops the workers. Not for use inside a capture: CaptureError.
///
/// On a GPU a batch is ready in the order of the stream that is current when it is asked for; the
/// host does not wait for it. It is the caller's as any tensor is: for as long as it is kept, and
/// dropped in the order of the stream that used it last. If each batch is dropped before the next
/// but one is asked for, their memory has the same few addresses all along, as compiled programs
/// that replay a recorded device graph want it. The host may be some batches ahead of the device;
/// then asking is a wait like others, and throws what kernels found wrong (Stream::synchronize).
/// The batch is not lost: ask again.
class DataLoader {
  class Epoch;

 public:
  class Iterator {
   public:
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;

    /// The batch is the caller's to keep or to change.
    Batch& operator*() { return batch_; }
    Batch* operator->() { return &batch_; }
    Iterator& operator++();
    bool operator==(std::default_sentinel_t) const { return done_; }

   private:
    friend class DataLoader;
    explicit Iterator(std::shared_ptr<Epoch> epoch);
    std::shared_ptr<Epoch> epoch_;
    Batch batch_;
    bool done_ = false;
  };

  /// Throws ValueError for options that make no sense, DeviceError for a device that is not there.
  DataLoader(DatasetPtr dataset, DataLoaderOptions options = {});

  /// Starts the next epoch.
  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

  /// Batches per epoch.
  std::int64_t size() const;
  const Dataset& dataset() const { return *dataset_; }
  const DataLoaderOptions& options() const { return options_; }
  /// The epoch the next begin() will run; set it to resume.
  std::int64_t epoch() const { return epoch_; }
  void set_epoch(std::int64_t epoch) { epoch_ = epoch; }
  /// The samples of an epoch in the order they are given.
  std::vector<std::int64_t> order(std::int64_t epoch) const;

 private:
  DatasetPtr dataset_;
  DataLoaderOptions options_;
  std::shared_ptr<DeviceFeed> feed_;  // null on the CPU
  std::int64_t epoch_ = 0;
};

}  // namespace tandem::data
