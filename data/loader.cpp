#include "data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "core/error.h"
#include "core/trace_guard.h"
#include "data/feed.h"

namespace tandem::data {

namespace {

constexpr std::uint64_t kOrder = 0x0DE;  // names the random sequence of an epoch's order

/// What a batch of `n` samples looks like; copied to a device it is one block, labels last.
struct BatchLayout {
  BatchLayout(const DataLoaderOptions& o, const Shape& image, std::int64_t n)
      : x(o.dtype, o.device, {n, image[0], image[1], image[2]}), y(DType::i64, o.device, {n}) {
    x.strides = strides_for(x.shape, o.layout);
    labels = align_up(x.bytes());
    bytes = labels + y.bytes();
  }
  TensorDesc x, y;
  std::size_t labels, bytes;
};

/// A batch on the host: tensors, or memory to be copied from.
struct Made {
  Batch batch;
  std::unique_ptr<Staging> staging;
  std::int64_t size = 0;
};

/// Makes batches. Each worker has its own, for the scratch memory.
class BatchMaker {
 public:
  BatchMaker(const Dataset& dataset, const DataLoaderOptions& o, DeviceFeed* feed,
             std::int64_t epoch)
      : dataset_(dataset),
        o_(o),
        feed_(feed),
        epoch_(epoch),
        shape_(dataset.image_shape()),
        classes_(dataset.classes()),
        augmenter_(o.augment, shape_, o.seed) {}

  Made make(std::span<const std::int64_t> indices) {
    const auto n = static_cast<std::int64_t>(indices.size());
    const std::int64_t values = numel(shape_);
    images_.resize(static_cast<std::size_t>(n * values));
    const BatchLayout layout(o_, shape_, n);
    Made made{{}, nullptr, n};
    void *x, *y;
    if (feed_) {
      made.staging = feed_->staging();
      x = made.staging->data();
      y = made.staging->data() + layout.labels;
    } else {
      made.batch = {Tensor::empty(layout.x), Tensor::empty(layout.y)};
      x = made.batch.x.raw_data();
      y = made.batch.y.raw_data();
    }
    dataset_.get(indices, images_.data(), static_cast<std::int64_t*>(y));
    check_labels(indices, static_cast<const std::int64_t*>(y));
    if (o_.augment.any()) {
      for (std::int64_t i = 0; i < n; ++i) {
        augmenter_.apply(images_.data() + i * values, epoch_, indices[static_cast<std::size_t>(i)]);
      }
    }
    visit_floating(o_.dtype,
                   [&](auto tag) { store(static_cast<typename decltype(tag)::type*>(x), n); });
    return made;
  }

 private:
  /// A loss would find out as well, but not which sample it was.
  void check_labels(std::span<const std::int64_t> indices, const std::int64_t* labels) const {
    for (std::size_t i = 0; i < indices.size(); ++i) {
      if (labels[i] >= 0 && labels[i] < classes_) continue;
      fail<DataError>(
          "dataset",
          fmt::format("{}: the label of sample {} is out of range", dataset_.name(), indices[i]),
          std::to_string(labels[i]), fmt::format("0 to {}", classes_ - 1));
    }
  }

  /// Normalises, converts and lays out.
  template <class T>
  void store(T* out, std::int64_t n) const {
    const std::int64_t channels = shape_[0], plane = shape_[1] * shape_[2];
    const bool last = o_.layout == MemoryFormat::channels_last;
    const std::int64_t step = last ? channels : 1;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const float* from = images_.data() + (i * channels + c) * plane;
        T* to = out + i * channels * plane + (last ? c : c * plane);
        if (o_.mean.empty()) {
          for (std::int64_t k = 0; k < plane; ++k) to[k * step] = convert<T>(from[k]);
        } else {
          const float m = o_.mean[static_cast<std::size_t>(c)];
          const float s = o_.std[static_cast<std::size_t>(c)];
          for (std::int64_t k = 0; k < plane; ++k) to[k * step] = convert<T>((from[k] - m) / s);
        }
      }
    }
  }

  const Dataset& dataset_;
  const DataLoaderOptions& o_;
  DeviceFeed* feed_;  // null on the CPU
  std::int64_t epoch_;
  Shape shape_;
  std::int64_t classes_;
  Augmenter augmenter_;
  std::vector<float> images_;
};

void refuse_capture() {
  if (trace_guards()) {
    fail<CaptureError>("DataLoader", "a batch cannot be drawn inside a capture",
                       "a loader used by the captured function",
                       "batches passed to it as arguments");
  }
}

}  // namespace

// Workers take batch numbers in turn and put what they made into a ring of `prefetch` slots, batch
// b into slot b % prefetch; the consumer empties them in order. A worker may start on batch b only
// once b - prefetch has been taken, so its slot is free and memory is bounded.
//
// For a device the consumer's thread also puts in the copies: of the batch it hands out, unless
// that was done before, and of the next if it is ready. That one's copy waits for what the consumer
// has put into its stream so far, and runs beside the step that follows.
class DataLoader::Epoch {
 public:
  Epoch(DatasetPtr dataset, const DataLoaderOptions& options, std::shared_ptr<DeviceFeed> feed,
        std::vector<std::int64_t> order, std::int64_t batches, std::int64_t epoch)
      : dataset_(std::move(dataset)),
        o_(options),
        feed_(std::move(feed)),
        order_(std::move(order)),
        batches_(batches),
        epoch_(epoch) {
    if (o_.num_workers == 0) {
      maker_ = std::make_unique<BatchMaker>(*dataset_, o_, feed_.get(), epoch_);
      return;
    }
    ring_.resize(static_cast<std::size_t>(o_.prefetch));
    const auto workers = std::min<std::int64_t>(o_.num_workers, batches_);
    try {
      for (std::int64_t i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
    } catch (...) {
      stop();  // a thread could not be started: those that run must not outlive this object
      throw;
    }
  }
  ~Epoch() {
    stop();
    if (feed_) feed_->abandon(upload_);
  }

  /// False when the epoch is over.
  bool next(Batch& out) {
    if (!upload_.from && taken_by_consumer_ == batches_) return false;
    if (!feed_) {
      out = std::move(take().batch);
      return true;
    }
    feed_->reclaim();
    if (!upload_.from) stage(take());
    feed_->start(upload_);
    out = arrived();
    if (next_is_ready()) {
      stage(take());
      try {
        feed_->start(upload_);
      } catch (const Error&) {
        // The batch is asked for next time. If that fails as well, it is thrown then.
      }
    }
    return true;
  }

 private:
  struct Slot {
    bool full = false;
    Made made;
    std::exception_ptr error;
  };

  Slot& slot_of(std::int64_t b) { return ring_[static_cast<std::size_t>(b % o_.prefetch)]; }

  /// The next batch, or the exception of whoever made it.
  Made take() {
    const std::int64_t b = taken_by_consumer_;
    if (maker_) {
      ++taken_by_consumer_;
      return maker_->make(samples(b));
    }
    std::unique_lock lock(mutex_);
    Slot& slot = slot_of(b);
    ready_.wait(lock, [&] { return slot.full; });
    slot.full = false;
    Made made = std::exchange(slot.made, {});
    const std::exception_ptr error = std::exchange(slot.error, nullptr);
    ++taken_by_consumer_;
    lock.unlock();
    room_.notify_all();
    if (error) std::rethrow_exception(error);
    return made;
  }
  /// Whether take() would neither wait nor throw. What is made by the asking thread never is: the
  /// device has the step before to do meanwhile.
  bool next_is_ready() {
    if (maker_ || taken_by_consumer_ == batches_) return false;
    const std::lock_guard lock(mutex_);
    const Slot& slot = slot_of(taken_by_consumer_);
    return slot.full && !slot.error;
  }

  void stage(Made made) {
    upload_size_ = made.size;
    upload_ = {std::move(made.staging), BatchLayout(o_, dataset_->image_shape(), made.size).bytes};
  }
  /// The batch that was on its way.
  Batch arrived() {
    const BatchLayout layout(o_, dataset_->image_shape(), upload_size_);
    auto* at = static_cast<std::byte*>(upload_.to.data);
    const RefPtr<RefCounted> memory = feed_->finish(upload_);
    const auto tensor = [&](std::byte* p, const TensorDesc& d) {
      return Tensor(make_ref<TensorImpl>(Storage::borrow(p, d.bytes(), d.device, memory), d, 0));
    };
    return {tensor(at, layout.x), tensor(at + layout.labels, layout.y)};
  }

  std::span<const std::int64_t> samples(std::int64_t b) const {
    const auto begin = static_cast<std::size_t>(b * o_.batch_size);
    return std::span(order_).subspan(
        begin, std::min(static_cast<std::size_t>(o_.batch_size), order_.size() - begin));
  }

  void work() {
    std::optional<BatchMaker> maker;
    std::unique_lock lock(mutex_);
    while (true) {
      room_.wait(lock, [&] {
        return stop_ || next_ == batches_ || next_ < taken_by_consumer_ + o_.prefetch;
      });
      if (stop_ || next_ == batches_) return;
      const std::int64_t b = next_++;
      lock.unlock();
      Made made;
      std::exception_ptr error;
      try {
        if (!maker) maker.emplace(*dataset_, o_, feed_.get(), epoch_);
        made = maker->make(samples(b));
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      Slot& slot = slot_of(b);
      slot.made = std::move(made);
      slot.error = std::move(error);
      slot.full = true;
      ready_.notify_one();
      // Another worker may be waiting only to hear that nothing is left to start.
      if (next_ == batches_) room_.notify_all();
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    room_.notify_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

  const DatasetPtr dataset_;
  const DataLoaderOptions o_;
  const std::shared_ptr<DeviceFeed> feed_;  // null on the CPU
  const std::vector<std::int64_t> order_;
  const std::int64_t batches_, epoch_;
  std::unique_ptr<BatchMaker> maker_;  // without workers
  DeviceFeed::Upload upload_;          // the consumer's; empty, or the batch it gets next
  std::int64_t upload_size_ = 0;

  std::mutex mutex_;
  std::condition_variable ready_, room_;
  std::vector<Slot> ring_;
  std::int64_t next_ = 0;               // the first batch no worker has started
  std::int64_t taken_by_consumer_ = 0;  // written by the consumer only, under the mutex
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

DataLoader::Iterator::Iterator(std::shared_ptr<Epoch> epoch) : epoch_(std::move(epoch)) {
  ++*this;
}

DataLoader::Iterator& DataLoader::Iterator::operator++() {
  refuse_capture();
  if (done_) fail("DataLoader", "the epoch is over", "++ of an iterator at its end");
  batch_ = {};
  done_ = !epoch_->next(batch_);
  if (done_) epoch_.reset();
  return *this;
}

DataLoader::DataLoader(DatasetPtr dataset, DataLoaderOptions options)
    : dataset_(std::move(dataset)), options_(std::move(options)) {
  const auto check = [](bool ok, const char* rule, const std::string& got,
                        const std::string& expected) {
    if (!ok) fail("DataLoader", rule, got, expected);
  };
  check(dataset_ != nullptr, "there is no data set", "null", "a data set");
  // No batch is larger than the data set; and sizes near 2^63 would overflow.
  const auto& o = options_;
  check(o.batch_size >= 1, "batch_size is too small", std::to_string(o.batch_size), "1 or more");
  check(o.num_workers >= 0 && o.num_workers <= 256, "num_workers is out of range",
        std::to_string(o.num_workers), "0 to 256");
  check(o.prefetch >= 1 && o.prefetch <= 65536, "prefetch is out of range",
        std::to_string(o.prefetch), "1 to 65536");
  check(is_floating(o.dtype), "images need a floating dtype", name_of(o.dtype),
        "f32, f64, f16, bf16");
  check(o.layout != MemoryFormat::preserve, "the layout must be a definite one", name_of(o.layout),
        "contiguous or channels_last");
  check(dataset_->image_shape().size() == 3, "an image has three axes",
        dataset_->image_shape().str(), "[C, H, W]");
  const auto channels = static_cast<std::size_t>(dataset_->image_shape()[0]);
  check(o.mean.size() == o.std.size() && (o.mean.empty() || o.mean.size() == channels),
        "mean and std need one value per channel",
        fmt::format("{} and {} values", o.mean.size(), o.std.size()),
        fmt::format("{} each, or none", channels));
  for (const float m : o.mean) {
    check(std::isfinite(m), "mean must be finite", fmt::format("{}", m), "finite values");
  }
  for (const float s : o.std) {
    check(s > 0 && std::isfinite(s), "std must be positive", fmt::format("{}", s),
          "finite values above 0");
  }
  Augmenter(o.augment, dataset_->image_shape(), o.seed);  // throws for options that do not fit
  if (!o.device.is_cpu()) {
    const std::int64_t most = std::min(o.batch_size, dataset_->size());
    feed_ =
        std::make_shared<DeviceFeed>(o.device, BatchLayout(o, dataset_->image_shape(), most).bytes);
  }
}

DataLoader::Iterator DataLoader::begin() {
  refuse_capture();  // before the epoch is counted
  const std::int64_t epoch = epoch_++;
  return Iterator(std::make_shared<Epoch>(dataset_, options_, feed_, order(epoch), size(), epoch));
}

std::int64_t DataLoader::size() const {
  const std::int64_t n = dataset_->size(), b = options_.batch_size;
  return n / b + (!options_.drop_last && n % b != 0);
}

std::vector<std::int64_t> DataLoader::order(std::int64_t epoch) const {
  std::vector<std::int64_t> v(static_cast<std::size_t>(dataset_->size()));
  std::iota(v.begin(), v.end(), 0);
  if (options_.shuffle) {
    Rng rng(options_.seed, kOrder, static_cast<std::uint64_t>(epoch));
    shuffle(v, rng);
  }
  return v;
}

}  // namespace tandem::data
