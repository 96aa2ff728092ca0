// What the loader does to a device that runs nothing before somebody waits for it, and that can be
// told to fail.
#include <bit>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <set>
#include <thread>

#include "core/error.h"
#include "cuda/emulation/runtime.h"
#include "data/feed.h"
#include "data/loader.h"
#include "tests/cuda/kernels.h"
#include "tests/data/numbers.h"

namespace tandem::cuda::testing {
namespace {

using data::DataLoader;
using data::DeviceFeed;

/// Ints that kernels and the host see.
class Flag {
 public:
  Flag() : p_(static_cast<int*>(memory().allocate(sizeof(int)))) { *p_ = 0; }
  ~Flag() { memory().deallocate(p_, sizeof(int)); }
  Flag(const Flag&) = delete;
  Flag& operator=(const Flag&) = delete;
  int* get() const { return p_; }

 private:
  static Allocator& memory() { return backend(DeviceType::cuda).host_allocator(); }
  int* p_;
};

class LoaderOrder : public GpuByDefault {
 protected:
  // Lets the workers get as far ahead as they may.
  static void wait_for(const Numbers& d, int calls) {
    for (int ms = 0; d.calls < calls && ms < 2000; ++ms) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  DeviceFeed::Upload upload(DeviceFeed& feed, int value) {
    DeviceFeed::Upload u{feed.staging(), 4 * sizeof(int)};
    std::fill_n(reinterpret_cast<int*>(u.from->data()), 4, value);
    return u;
  }
};

TEST_F(LoaderOrder, TheHostDoesNotWait) {
  DataLoader loader(std::make_shared<Numbers>(40), {.batch_size = 4});
  auto it = loader.begin();
  Flag step;
  fill(*s, step.get(), 1, 1);
  for (int i = 0; i < 4; ++i) ++it;
  EXPECT_EQ(*step.get(), 0) << "the device has done nothing yet";
  it->x.to_vector<float>();
  EXPECT_EQ(*step.get(), 1);
}

// But its memory is bounded: it is so many batches ahead and no more.
TEST_F(LoaderOrder, TheHostIsNotFarAhead) {
  DataLoader loader(std::make_shared<Numbers>(400), {.batch_size = 4});
  const std::size_t before = b->host_allocator().stats().in_use;
  int ahead = 0;
  std::vector<std::unique_ptr<Flag>> steps;
  for ([[maybe_unused]] auto& batch : loader) {
    steps.push_back(std::make_unique<Flag>());
    fill(*s, steps.back()->get(), 1, 1);
    int open = 0;
    for (auto& f : steps) open += *f->get() == 0;
    ahead = std::max(ahead, open);
    ASSERT_LT(b->host_allocator().stats().in_use - before, 20u * 512 + steps.size() * 256);
  }
  EXPECT_GE(ahead, 4);
  EXPECT_LE(ahead, 8);
}

TEST_F(LoaderOrder, ACopyWaitsForTheBatchBeforeInItsMemoryAndForNothingElse) {
  const auto feed = std::make_shared<DeviceFeed>(gpu(), 4 * sizeof(int));
  DeviceFeed::Upload first = upload(*feed, 1), second = upload(*feed, 2);
  Flag before, step;
  Ints seen(4);
  fill(*s, before.get(), 1, 1);
  feed->start(first);
  const auto* at = static_cast<const int*>(first.to.data);
  RefPtr<RefCounted> memory = feed->finish(first);
  copy(*s, seen.get(), at, 4);
  memory = nullptr;
  feed->start(second);  // into other memory, beside the step
  fill(*s, step.get(), 1, 1);
  second.from->copied().synchronize();
  EXPECT_EQ(*step.get(), 0);
  EXPECT_EQ(*before.get(), 1) << "the memory was in use when the copy was put in, for all it knows";

  DeviceFeed::Upload third = upload(*feed, 3);
  memory = feed->finish(second);
  feed->start(third);
  EXPECT_EQ(third.to.data, at) << "where the first one was";
  third.from->copied().synchronize();
  EXPECT_EQ(*step.get(), 1);
  EXPECT_EQ(seen.read(), std::vector<int>(4, 1)) << "read before the third was written there";
  feed->abandon(third);
}

TEST_F(LoaderOrder, AMissingWaitIsSeen) {
  const auto feed = std::make_shared<DeviceFeed>(gpu(), 4 * sizeof(int));
  DeviceFeed::Upload u = upload(*feed, 5);
  feed->start(u);
  Ints early(4), late(4);
  const auto* at = static_cast<const int*>(u.to.data);
  copy(*s, early.get(), at, 4);
  EXPECT_NE(early.read(), std::vector<int>(4, 5)) << "nobody waited for the copy";
  const auto memory = feed->finish(u);
  copy(*s, late.get(), at, 4);
  EXPECT_EQ(late.read(), std::vector<int>(4, 5));
}

TEST_F(LoaderOrder, PageLockedMemoryIsNotWrittenBeforeItsCopyIsDone) {
  const auto feed = std::make_shared<DeviceFeed>(gpu(), 4 * sizeof(int));
  std::vector<RefPtr<RefCounted>> kept;
  std::vector<const int*> at;
  std::set<const void*> staging;
  for (int i = 0; i < 30; ++i) {
    feed->reclaim();
    DeviceFeed::Upload u = upload(*feed, i);
    staging.insert(u.from->data());
    feed->start(u);
    at.push_back(static_cast<const int*>(u.to.data));
    kept.push_back(feed->finish(u));
  }
  EXPECT_LT(staging.size(), 10u) << "it is used again";
  for (int i = 0; i < 30; ++i) {
    Ints seen(4);
    copy(*s, seen.get(), at[static_cast<std::size_t>(i)], 4);
    EXPECT_EQ(seen.read(), std::vector<int>(4, i));
  }
}

TEST_F(LoaderOrder, TheNextBatchIsOnItsWayWhenOneIsHandedOut) {
  const auto d = std::make_shared<Numbers>(40);
  DataLoader loader(d, {.batch_size = 4, .shuffle = false, .prefetch = 2});
  auto it = loader.begin();
  wait_for(*d, 3);
  ++it;  // the third's copy is put in
  wait_for(*d, 5);
  // So the fourth's is the next, and that it fails concerns only the one who asks for it.
  emulation::fail_call("cudaMemcpyAsync", cudaErrorUnknown);
  ++it;
  EXPECT_EQ(it->y.to_vector<std::int64_t>()[0], 8);
  ++it;
  EXPECT_EQ(it->y.to_vector<std::int64_t>()[0], 2);
}

// The order is that of the stream it is handed out in, not of the one it was put on its way for.
TEST_F(LoaderOrder, TheBatchOnItsWayMayBeAskedForInAnotherStream) {
  const auto d = std::make_shared<Numbers>(40);
  const auto other = b->make_stream(0);
  Ints seen(4 * 24);
  s->synchronize();
  const std::size_t before = b->allocator(0).stats().in_use;
  {
    DataLoader loader(d, {.batch_size = 4, .shuffle = false});
    auto it = loader.begin();
    wait_for(*d, 5);
    ++it;
    b->set_stream(0, other.get());
    ++it;
    copy(*other, seen.get(), static_cast<const int*>(it->x.raw_data()), seen.size());
    b->set_stream(0, nullptr);
    *it = {};
    for (int i = 0; i < 4; ++i) ++it;
    it->x.to_vector<float>();
    other->synchronize();
    EXPECT_EQ(std::bit_cast<float>(seen.read()[0]), Numbers::value(8, 0));
  }
  EXPECT_EQ(b->allocator(0).stats().in_use, before);
}

// Its memory goes to others, who must not find it written late.
TEST_F(LoaderOrder, ABatchThatNobodyAskedForHarmsNobody) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "nothing is cached";
#endif
  constexpr int kInts = 1 << 18;
  for (const bool destroyed : {false, true}) {
    b->allocator(0).trim();
    const auto other = b->make_stream(0);
    auto feed = std::make_shared<DeviceFeed>(gpu(), kInts * sizeof(int));
    DeviceFeed::Upload u{feed->staging(), kInts * sizeof(int)};
    std::fill_n(reinterpret_cast<int*>(u.from->data()), kInts, 1);
    feed->start(u);
    const void* at = u.to.data;
    feed->abandon(u);
    if (destroyed) {
      feed = nullptr;
    } else {
      b->set_stream(0, other.get());
      u = upload(*feed, 2);
      feed->start(u);
      feed->abandon(u);
      b->set_stream(0, nullptr);
    }
    std::vector<std::unique_ptr<Ints>> taken;
    while (taken.size() < 64 && (taken.empty() || taken.back()->get() != at)) {
      taken.push_back(std::make_unique<Ints>(kInts));
    }
    ASSERT_EQ(taken.back()->get(), at);
    fill(*s, taken.back()->get(), 3, kInts);
    s->synchronize();
    feed = nullptr;
    b->host_allocator().trim();  // whatever is still to be done is done
    EXPECT_EQ(taken.back()->read(), std::vector<int>(kInts, 3)) << destroyed;
  }
}

TEST_F(LoaderOrder, FailedCallsAreThrownAndNoBatchIsWrong) {
  // A worker's failure costs its batch, as any of its exceptions; what fails in the consumer's
  // thread is done again when it asks again.
  int threw = 0;
  for (const int workers : {0, 2}) {
    for (const char* call :
         {"cudaMemcpyAsync", "cudaEventRecord", "cudaStreamWaitEvent", "cudaMalloc",
          "cudaHostAlloc", "cudaEventCreateWithFlags", "cudaEventSynchronize"}) {
      for (int nth = 1; nth < 24; ++nth) {
        b->allocator(0).trim();
        b->host_allocator().trim();
        const std::size_t before = b->allocator(0).stats().in_use;
        std::vector<data::Batch> kept;
        int errors = 0;
        {
          DataLoader loader(std::make_shared<Numbers>(48),
                            {.batch_size = 4, .shuffle = false, .num_workers = workers});
          emulation::fail_call(call, cudaErrorUnknown, nth);
          std::optional<DataLoader::Iterator> it;
          const auto tried = [&](const auto& f) {
            try {
              f();
            } catch (const DeviceError&) {
              ++errors;
              f();
            }
          };
          tried([&] { it.emplace(loader.begin()); });
          while (*it != loader.end()) {
            kept.push_back(**it);
            tried([&] { ++*it; });
          }
          emulation::fail_call(call, cudaSuccess, 1);  // should it not have come to it
        }
        EXPECT_LE(errors, 1);
        EXPECT_GE(kept.size(), 12u - static_cast<std::size_t>(errors)) << call << " " << nth;
        std::int64_t last = -1;
        for (const data::Batch& batch : kept) {
          const auto x = batch.x.to_vector<float>();
          const auto y = batch.y.to_vector<std::int64_t>();
          const std::int64_t sample = std::lround(x[0] * 65536 / 24);
          EXPECT_GT(sample, last) << call << " " << nth;
          for (std::size_t i = 0; i < 4; ++i) {
            const std::int64_t n = sample + static_cast<std::int64_t>(i);
            EXPECT_EQ(x[24 * i + 5], Numbers::value(n, 5)) << call << " " << nth;
            EXPECT_EQ(y[i], n % 10) << call << " " << nth;
          }
          last = sample;
        }
        kept.clear();
        EXPECT_EQ(b->allocator(0).stats().in_use, before) << call << " " << nth;
        threw += errors;
      }
    }
  }
  EXPECT_GT(threw, 60);
}

using LoaderDeathTest = LoaderOrder;

TEST_F(LoaderDeathTest, TheProcessMayEndDuringACopy) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        set_default_device(gpu());
        const auto d = std::make_shared<Numbers>(4000);
        static DataLoader loader(d, {.batch_size = 4, .num_workers = 3});
        static auto it = loader.begin();
        static data::Batch kept = *it;
        wait_for(*d, 4);
        ++it;
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tandem::cuda::testing
