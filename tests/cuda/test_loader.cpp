// Batches on the GPU: the CPU's bits, in the consumer's order, in memory that comes back and yet is
// the consumer's for as long as it wants.
#include "data/loader.h"

#include <bit>
#include <set>
#include <thread>

#include "core/error.h"
#include "core/trace_guard.h"
#include "data/synthetic.h"
#include "graph/compile.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/cuda/kernels.h"
#include "tests/data/numbers.h"
#include "tests/op_cases.h"

namespace tandem::cuda::testing {
namespace {

using data::Batch;
using data::DataLoader;
using data::DataLoaderOptions;

std::shared_ptr<Numbers> numbers(std::int64_t n, std::int64_t bad = -1) {
  return std::make_shared<Numbers>(n, bad);
}

// "" or what is wrong with batch `b` of the loader's epoch.
std::string wrong(const DataLoader& loader, std::int64_t epoch, std::int64_t b, const Batch& got) {
  const auto order = loader.order(epoch);
  const std::vector<float> x = got.x.to_vector<float>();
  const std::vector<std::int64_t> y = got.y.to_vector<std::int64_t>();
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::int64_t sample =
        order[static_cast<std::size_t>(b * loader.options().batch_size) + i];
    if (y[i] != sample % 10) return "label " + std::to_string(i) + " is " + std::to_string(y[i]);
    for (std::size_t k = 0; k < 24; ++k) {
      if (x[i * 24 + k] != Numbers::value(sample, static_cast<int>(k))) {
        return "value " + std::to_string(k) + " of image " + std::to_string(i) + " is " +
               std::to_string(x[i * 24 + k]);
      }
    }
  }
  return {};
}

class Loader : public GpuByDefault {};

TEST_F(Loader, GivesTheCpusBatches) {
  const auto d = data::synthetic_digits(57, 1);
  for (const int workers : {0, 1, 3}) {
    for (const DType t : {DType::f32, DType::bf16}) {
      for (const MemoryFormat layout : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
        DataLoaderOptions o{
            .batch_size = 10, .seed = 3, .num_workers = workers, .layout = layout, .dtype = t};
        o.augment = {.flip = data::AugmentOptions::Flip::random, .translate = 2};
        EXPECT_EQ(o.device, gpu()) << "the default device";
        DataLoader there(d, o);
        o.device = kCPU;
        DataLoader here(d, o);
        for (int epoch = 0; epoch < 2; ++epoch) {
          auto want = here.begin();
          int n = 0;
          for (auto& [x, y] : there) {
            ASSERT_EQ(x.device(), gpu());
            ASSERT_EQ(want->x.device(), kCPU);
            ASSERT_EQ(cases::compare_bits(x, want->x.to(gpu())), "") << n;
            ASSERT_EQ(cases::compare_bits(y, want->y.to(gpu())), "") << n;
            EXPECT_EQ(x.is_channels_last(), want->x.is_channels_last());
            ++want, ++n;
          }
          EXPECT_EQ(n, 6);
          EXPECT_TRUE(want == here.end());
        }
      }
    }
  }
}

TEST_F(Loader, ADeviceThatIsNotThereIsRefused) {
  EXPECT_THROW(DataLoader(numbers(4), {.device = gpu(200)}), DeviceError);
}

TEST_F(Loader, KeptBatchesStayAsTheyAre) {
  for (const int workers : {0, 2}) {
    DataLoader loader(numbers(120), {.batch_size = 4, .num_workers = workers});
    std::vector<Batch> kept;
    std::vector<Tensor> images, labels;  // of others: a view is enough, and half a batch
    std::set<void*> addresses;
    std::int64_t b = 0;
    for (auto& batch : loader) {
      if (b % 3 == 0) kept.push_back(batch);
      if (b % 3 == 1) images.push_back(batch.x.slice(0, 1, 3));
      if (b % 3 == 2) labels.push_back(batch.y);
      EXPECT_TRUE(addresses.insert(batch.x.raw_data()).second) << "batch " << b;
      ++b;
    }
    for (std::size_t i = 0; i < 10; ++i) {
      const auto n = static_cast<std::int64_t>(i) * 3;
      EXPECT_EQ(wrong(loader, 0, n, kept[i]), "") << "batch " << n;
      const auto order = loader.order(0);
      EXPECT_EQ(images[i].to_vector<float>()[25],
                Numbers::value(order[static_cast<std::size_t>(4 * (n + 1) + 2)], 1));
      EXPECT_EQ(labels[i].to_vector<std::int64_t>()[3],
                order[static_cast<std::size_t>(4 * (n + 2) + 3)] % 10);
    }
  }
}

TEST_F(Loader, MemoryComesBackAndIsGivenBack) {
  const std::size_t before = b->allocator(0).stats().in_use;
  const std::size_t pinned = b->host_allocator().stats().in_use;
  {
    Tensor kept;
    {
      DataLoader loader(numbers(400), {.batch_size = 4});
      for (int epoch = 0; epoch < 3; ++epoch) {
        std::set<void*> x, y;
        for (auto& batch : loader) {
          EXPECT_EQ(reinterpret_cast<std::uintptr_t>(batch.y.raw_data()) % kAlignment, 0u);
          x.insert(batch.x.raw_data()), y.insert(batch.y.raw_data());
        }
        EXPECT_EQ(x.size(), 2u) << "one is filled while the other is read";
        EXPECT_EQ(y.size(), 2u);
      }
      std::vector<Batch> all;  // all at once, and then two at a time as before
      for (auto& batch : loader) all.push_back(batch);
      all.clear();
      EXPECT_LT(b->allocator(0).stats().in_use - before, 8u * 1024);
      auto it = loader.begin();  // left with a batch on its way
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      kept = (++it)->x;
    }
    EXPECT_GT(b->allocator(0).stats().in_use, before);
    kept.to_vector<float>();
  }
  EXPECT_EQ(b->allocator(0).stats().in_use, before);
  EXPECT_EQ(b->host_allocator().stats().in_use, pinned);
}

TEST_F(Loader, HoldingTheLastBatchCostsTwoBlocksMore) {
  DataLoader loader(numbers(400), {.batch_size = 4});
  std::set<void*> addresses;
  Batch last;  // as Python's loop variables do
  std::int64_t n = 0;
  for (auto& batch : loader) {
    last = batch;
    addresses.insert(last.x.raw_data());
    ASSERT_EQ(wrong(loader, 0, n++, last), "");
  }
  EXPECT_LE(addresses.size(), 4u);
}

// Its device time is long, so that the host is ahead.
void slow_copy(Stream& s, const Ints& out, const Tensor& x) {
  copy(s, out.get(), static_cast<const int*>(x.raw_data()), out.size(), 20);
}

TEST_F(Loader, IsReadInTheConsumersOrder) {
  constexpr int kBatches = 40;
  DataLoader loader(numbers(4 * kBatches), {.batch_size = 4, .shuffle = false});
  std::vector<std::unique_ptr<Ints>> out;
  for (auto& batch : loader) {
    out.push_back(std::make_unique<Ints>(4 * 24));
    slow_copy(*s, *out.back(), batch.x);
  }
  for (int i = 0; i < kBatches; ++i) {
    const int first = out[static_cast<std::size_t>(i)]->read()[0];
    EXPECT_EQ(std::bit_cast<float>(first), Numbers::value(4 * i, 0)) << "batch " << i;
  }
}

// The rule of all tensors: the memory follows the stream in whose order it was dropped.
TEST_F(Loader, BatchesMayBeUsedAndDroppedOnOtherStreams) {
  constexpr int kBatches = 40;
  const auto other = b->make_stream(0);
  DataLoader loader(numbers(4 * kBatches), {.batch_size = 4, .shuffle = false});
  std::vector<std::unique_ptr<Ints>> out;
  const auto ready = b->make_event(0);
  for (auto& batch : loader) {
    out.push_back(std::make_unique<Ints>(4 * 24));
    ready->record(*s);
    ready->block(*other);
    std::thread([&] {
      b->set_stream(0, other.get());
      slow_copy(*other, *out.back(), batch.x);
      batch = {};
      b->set_stream(0, nullptr);
    }).join();
  }
  other->synchronize();
  for (int i = 0; i < kBatches; ++i) {
    const int first = out[static_cast<std::size_t>(i)]->read()[0];
    EXPECT_EQ(std::bit_cast<float>(first), Numbers::value(4 * i, 0)) << "batch " << i;
  }
}

TEST_F(Loader, MayBeAskedFromChangingStreams) {
  constexpr int kBatches = 24;
  const auto other = b->make_stream(0);
  DataLoader loader(numbers(4 * kBatches), {.batch_size = 4, .shuffle = false});
  std::vector<std::unique_ptr<Ints>> out;
  for (int i = 0; i < kBatches; ++i) out.push_back(std::make_unique<Ints>(4 * 24));
  s->synchronize();
  int i = 0;
  for (auto it = loader.begin(); it != loader.end(); ++it, ++i) {
    slow_copy(b->stream(0), *out[static_cast<std::size_t>(i)], it->x);
    if (i % 3 == 1) *it = {};  // dropped in the stream's order, and in that of the next
    b->set_stream(0, i % 4 < 2 ? other.get() : nullptr);
  }
  b->set_stream(0, nullptr);
  other->synchronize();
  for (i = 0; i < kBatches; ++i) {
    const int first = out[static_cast<std::size_t>(i)]->read()[0];
    EXPECT_EQ(std::bit_cast<float>(first), Numbers::value(4 * i, 0)) << "batch " << i;
  }
}

TEST_F(Loader, EpochsMayRunAtOnceInThreadsOfTheirOwn) {
  DataLoader loader(numbers(80), {.batch_size = 4, .num_workers = 2});
  std::vector<DataLoader::Iterator> epochs;
  for (int e = 0; e < 3; ++e) epochs.push_back(loader.begin());
  s->synchronize();  // the first batches are ready in this stream's order
  std::vector<std::string> what(3);
  std::vector<std::thread> threads;
  for (int e = 0; e < 3; ++e) {
    threads.emplace_back([&, e] {
      const auto mine = b->make_stream(0);
      if (e > 0) b->set_stream(0, mine.get());
      auto it = std::move(epochs[static_cast<std::size_t>(e)]);
      for (std::int64_t n = 0; it != loader.end(); ++it, ++n) {
        what[static_cast<std::size_t>(e)] += wrong(loader, e, n, *it);
      }
      b->set_stream(0, nullptr);
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(what, std::vector<std::string>(3));
}

TEST_F(Loader, LeavingEarlyAndLoadersThatAreGone) {
  const auto d = numbers(400);
  for (const int workers : {0, 1, 4}) {
    auto loader =
        std::make_unique<DataLoader>(d, DataLoaderOptions{.batch_size = 4, .num_workers = workers});
    for (int epoch = 0; epoch < 20; ++epoch) {
      std::int64_t n = 0;
      for (auto& batch : *loader) {
        if (epoch % 4 == 1) {
          ASSERT_EQ(wrong(*loader, epoch, n, batch), "") << n;
        }
        if (++n > epoch % 7) break;
      }
    }
    const Batch kept = *loader->begin();
    auto it = loader->begin();
    const DataLoader same(d, loader->options());
    loader.reset();
    ++it;
    EXPECT_EQ(wrong(same, 20, 0, kept), "");
    EXPECT_EQ(wrong(same, 21, 1, *it), "");
  }
}

TEST_F(Loader, AWorkersExceptionReachesTheConsumerAtItsBatch) {
  for (const int workers : {0, 1, 3}) {
    DataLoader loader(numbers(40, 21), {.batch_size = 4, .shuffle = false, .num_workers = workers});
    auto it = loader.begin();
    for (std::int64_t n = 0; n < 4; ++n, ++it) EXPECT_EQ(wrong(loader, 0, n, *it), "");
    EXPECT_EQ(message_of([&] { ++it; }), "sample 21 is bad");
    ++it;
    EXPECT_EQ(wrong(loader, 0, 6, *it), "") << "and those after it are not lost";
  }
}

TEST_F(Loader, FaultsAreThrownToWhoAsksAndNoBatchIsLost) {
  DataLoader loader(numbers(80), {.batch_size = 4});
  std::vector<Batch> kept;
  std::vector<std::string> thrown;
  auto it = loader.begin();
  note(*s, "gather", 7, 5);
  while (it != loader.end()) {
    kept.push_back(*it);
    for (bool again = true; again;) {
      try {
        ++it;
        again = false;
      } catch (const IndexError& e) {
        thrown.push_back(e.what());
      }
    }
  }
  ASSERT_EQ(thrown.size(), 1u);
  EXPECT_NE(thrown[0].find("[gather] index must be in [0, 5); got 7"), std::string::npos);
  ASSERT_EQ(kept.size(), 20u);
  for (std::int64_t n = 0; n < 20; ++n) {
    EXPECT_EQ(wrong(loader, 0, n, kept[static_cast<std::size_t>(n)]), "") << n;
  }
}

TEST_F(Loader, NotInsideACapture) {
  DataLoader loader(numbers(8), {.batch_size = 4});
  auto fast = compile([&] { return loader.begin()->x * 2; });
  EXPECT_THROW(fast(), CaptureError);
  EXPECT_EQ(loader.epoch(), 0);
}

TEST_F(Loader, ABatchMayBeDroppedWhileAGraphIsRecorded) {
  DataLoader loader(numbers(80), {.batch_size = 4});
  auto it = loader.begin();
  Ints x(100);
  Batch held = std::move(*it);
  ++it;
  b->begin_capture(*s);
  fill(*s, x.get(), 3, 100);
  held = {};
  const auto g = b->end_capture(*s);
  EXPECT_EQ(g->nodes(), 1u);
  for (std::int64_t n = 1; it != loader.end(); ++it, ++n) {
    EXPECT_EQ(wrong(loader, 0, n, *it), "") << n;
  }
  g->launch(*s);
  EXPECT_EQ(x.read(), std::vector<int>(100, 3));
}

// A net, its optimiser and a step.
struct Training {
  nn::Sequential net =
      (manual_seed(4), nn::Sequential{nn::Conv2d(2, 4, 3, {.padding = 1}), nn::BatchNorm2d(4),
                                      nn::ReLU(), nn::Flatten(), nn::Linear(4 * 3 * 4, 10)});
  optim::SGD opt{net.parameters(), {.lr = 1e-2}};
  Tensor step(const Tensor& x, const Tensor& y) const {
    opt.zero_grad();
    Tensor loss = nn::cross_entropy(net(x), y);
    loss.backward();
    opt.step();
    return loss;
  }
};

TEST_F(Loader, ACompiledStepIsReplayedAndNeverUpdated) {
  const auto d = numbers(48);
  for (const bool hold : {false, true}) {
    const DataLoaderOptions o{.batch_size = 4, .seed = 2};
    DataLoader loader(d, o);
    DataLoaderOptions on_host = o;
    on_host.device = kCPU;
    DataLoader plain(d, on_host);
    const Training eager, compiled;
    auto fast = compile([&](const Tensor& x, const Tensor& y) { return compiled.step(x, y); });
    graph::LaunchRecorder::Stats warm;
    for (int epoch = 0; epoch < 4; ++epoch) {
      auto want = plain.begin();
      Batch last;
      Tensor loss;  // held as well: results then alternate between two addresses
      for (auto& batch : loader) {
        const Tensor result = fast(batch.x, batch.y);
        if (hold) last = batch, loss = result;
        ASSERT_EQ(cases::compare_bits(result, eager.step(want->x.to(gpu()), want->y.to(gpu()))),
                  "");
        ++want;
      }
      const graph::LaunchRecorder& r = fast.core().program().executor->recorder();
      ASSERT_TRUE(r.usable()) << r.why_not();
      if (epoch == 0) {
        warm = r.stats();
        EXPECT_LE(warm.recorded, 4u);
      }
      EXPECT_EQ(r.stats().recorded, warm.recorded) << "epoch " << epoch << ", hold " << hold;
      EXPECT_EQ(r.stats().updated, 0u) << "epoch " << epoch << ", hold " << hold;
      EXPECT_EQ(r.stats().replayed, static_cast<std::uint64_t>(12 * (epoch + 1) - 1));
    }
  }
}

}  // namespace
}  // namespace tandem::cuda::testing
