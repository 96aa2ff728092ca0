#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <thread>

#include "core/backend.h"
#include "core/error.h"
#include "data/loader.h"
#include "data/synthetic.h"
#include "tests/data/files.h"
#include "tests/data/numbers.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

using namespace data;

std::vector<float> pixels_of(DataLoader& loader) {
  std::vector<float> all;
  for (auto& [x, y] : loader) {
    const auto v = x.to_vector<float>();
    all.insert(all.end(), v.begin(), v.end());
    for (const auto l : y.to_vector<std::int64_t>()) all.push_back(static_cast<float>(l));
  }
  return all;
}

TEST(Loader, InOrder) {
  DataLoader loader(std::make_shared<Numbers>(10), {.batch_size = 4, .shuffle = false});
  EXPECT_EQ(loader.size(), 3);
  std::int64_t i = 0;
  for (auto& [x, y] : loader) {
    const std::int64_t n = i == 8 ? 2 : 4;
    ASSERT_EQ(x.shape(), (Shape{n, 2, 3, 4}));
    ASSERT_EQ(y.shape(), (Shape{n}));
    EXPECT_EQ(x.dtype(), DType::f32);
    EXPECT_EQ(y.dtype(), DType::i64);
    EXPECT_TRUE(x.is_contiguous());
    for (std::int64_t k = 0; k < n; ++k, ++i) {
      EXPECT_EQ(y.data<std::int64_t>()[k], i % 10);
      for (int j = 0; j < 24; ++j) {
        EXPECT_EQ(x.data<float>()[k * 24 + j], Numbers::value(i, j));
      }
    }
  }
  EXPECT_EQ(i, 10);
}

TEST(Loader, DropLast) {
  const auto d = std::make_shared<Numbers>(10);
  DataLoader loader(d, {.batch_size = 4, .drop_last = true});
  EXPECT_EQ(loader.size(), 2);
  int n = 0;
  for (auto& [x, y] : loader) n += static_cast<int>(x.dim(0));
  EXPECT_EQ(n, 8);
  DataLoader none(d, {.batch_size = 11, .drop_last = true});
  for ([[maybe_unused]] auto& batch : none) ADD_FAILURE();
}

TEST(Loader, ShufflesDifferentlyEveryEpochAndReproducibly) {
  const auto d = std::make_shared<Numbers>(100);
  DataLoader a(d, {.seed = 3}), b(d, {.seed = 3}), c(d, {.seed = 4});
  std::vector<std::int64_t> sorted(100);
  std::iota(sorted.begin(), sorted.end(), 0);
  auto first = a.order(0);
  EXPECT_EQ(first, b.order(0));
  EXPECT_NE(first, a.order(1));
  EXPECT_NE(first, c.order(0));
  EXPECT_NE(first, sorted);
  std::sort(first.begin(), first.end());
  EXPECT_EQ(first, sorted);
  const auto epoch0 = pixels_of(a), epoch1 = pixels_of(a);
  EXPECT_NE(epoch0, epoch1);
  EXPECT_EQ(a.epoch(), 2);
  b.set_epoch(1);
  EXPECT_EQ(pixels_of(b), epoch1);
}

TEST(Loader, EveryPlaceOfAShuffleIsEquallyLikely) {
  // 4 samples, 24 orders; over 4,800 epochs each should come about 200 times (sd 14).
  DataLoader loader(std::make_shared<Numbers>(4), {.seed = 1});
  std::map<std::vector<std::int64_t>, int> count;
  for (std::int64_t e = 0; e < 4800; ++e) ++count[loader.order(e)];
  EXPECT_EQ(count.size(), 24u);
  for (const auto& [order, n] : count) EXPECT_NEAR(n, 200, 70);
}

TEST(Loader, SameBatchesWhateverTheWorkers) {
  const auto d = synthetic_digits(203, 1);
  std::vector<float> expected;
  for (const int workers : {0, 1, 2, 5}) {
    for (const int prefetch : {1, 3, 8}) {
      DataLoader loader(d, {.batch_size = 16,
                            .seed = 9,
                            .num_workers = workers,
                            .prefetch = prefetch,
                            .augment = {.flip = AugmentOptions::Flip::random, .translate = 2}});
      auto got = pixels_of(loader);
      const auto second = pixels_of(loader);
      got.insert(got.end(), second.begin(), second.end());
      if (expected.empty()) expected = got;
      EXPECT_TRUE(got == expected) << workers << " workers, prefetch " << prefetch;
    }
  }
}

TEST(Loader, LayoutDtypeAndNormalisation) {
  const auto d = std::make_shared<Numbers>(6);
  DataLoader plain(d, {.batch_size = 6, .shuffle = false, .mean = {0.5f, 0.25f}, .std = {2, 4}});
  DataLoader last(d, {.batch_size = 6,
                      .shuffle = false,
                      .layout = MemoryFormat::channels_last,
                      .mean = {0.5f, 0.25f},
                      .std = {2, 4}});
  const Tensor x = plain.begin()->x, z = last.begin()->x;
  EXPECT_TRUE(z.is_channels_last());
  EXPECT_EQ(x.to_vector<float>(), z.to_vector<float>());  // both in logical order
  EXPECT_EQ(x.data<float>()[0], (Numbers::value(0, 0) - 0.5f) / 2);
  EXPECT_EQ(x.data<float>()[12], (Numbers::value(0, 12) - 0.25f) / 4);
  EXPECT_EQ(z.data<float>()[1], x.data<float>()[12]);
  for (const DType t : {DType::f64, DType::f16, DType::bf16}) {
    DataLoader other(d, {.batch_size = 6, .shuffle = false, .dtype = t});
    const Tensor w = other.begin()->x;
    EXPECT_EQ(w.dtype(), t);
    EXPECT_NEAR(w.to_vector<float>()[100], Numbers::value(4, 4), 1e-3);
  }
}

TEST(Loader, LeavingEarlyStopsTheWorkers) {
  const auto d = std::make_shared<Numbers>(1000);
  d->slow = true;
  for (const int workers : {0, 1, 4}) {
    d->calls = 0;
    DataLoader loader(d, {.batch_size = 1, .num_workers = workers, .prefetch = 4});
    int n = 0;
    for ([[maybe_unused]] auto& batch : loader) {
      if (++n == 3) break;
    }
    EXPECT_LE(d->calls.load(), 3 + 4);  // what was asked for, and what was prefetched
    n = 0;
    for ([[maybe_unused]] auto& batch : loader) {  // and the next epoch runs
      if (++n == 2) break;
    }
  }
  // A loader that is gone before its iterator.
  auto loader = std::make_unique<DataLoader>(d, DataLoaderOptions{.batch_size = 1});
  auto it = loader->begin();
  loader.reset();
  ++it;
  EXPECT_EQ(it->x.dim(0), 1);
}

TEST(Loader, PrefetchIsBounded) {
  const auto d = std::make_shared<Numbers>(100);
  DataLoader loader(d, {.batch_size = 1, .num_workers = 3, .prefetch = 2});
  auto it = loader.begin();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_LE(d->calls.load(), 1 + 2);
}

TEST(Loader, AWorkersExceptionReachesTheConsumerAtItsBatch) {
  for (const int workers : {0, 1, 3}) {
    DataLoader loader(std::make_shared<Numbers>(40, 21),
                      {.batch_size = 4, .shuffle = false, .num_workers = workers});
    int n = 0;
    try {
      for ([[maybe_unused]] auto& batch : loader) ++n;
      ADD_FAILURE();
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "sample 21 is bad");
    }
    EXPECT_EQ(n, 5);
  }
}

TEST(Loader, ALabelOutsideTheClassesIsAnErrorNamingTheSample) {
  for (const int workers : {0, 2}) {
    for (const std::int64_t label : {std::int64_t{10}, std::int64_t{-1}}) {
      const auto d = std::make_shared<Numbers>(12);
      d->mislabelled = 9;
      d->label = label;
      DataLoader loader(d, {.batch_size = 4, .shuffle = false, .num_workers = workers});
      int n = 0;
      const std::string m = test::message_of<DataError>([&] {
        for ([[maybe_unused]] auto& batch : loader) ++n;
      });
      EXPECT_EQ(m, "[dataset] numbers: the label of sample 9 is out of range; got " +
                       std::to_string(label) + "; expected 0 to 9");
      EXPECT_EQ(n, 2);
    }
  }
}

TEST(Loader, TwoEpochsAtOnce) {
  DataLoader loader(std::make_shared<Numbers>(20), {.batch_size = 4});
  int pairs = 0;
  for ([[maybe_unused]] auto& a : loader) {
    for ([[maybe_unused]] auto& b : loader) ++pairs;
  }
  EXPECT_EQ(pairs, 25);
}

TEST(Loader, BadOptions) {
  const auto d = std::make_shared<Numbers>(4);
  EXPECT_THROW(DataLoader(nullptr), ValueError);
  EXPECT_THROW(DataLoader(d, {.batch_size = 0}), ValueError);
  EXPECT_THROW(DataLoader(d, {.num_workers = -1}), ValueError);
  EXPECT_THROW(DataLoader(d, {.prefetch = 0}), ValueError);
  EXPECT_THROW(DataLoader(d, {.dtype = DType::i64}), ValueError);
  EXPECT_THROW(DataLoader(d, {.mean = {1.0f}, .std = {1.0f}}), ValueError);
  EXPECT_THROW(DataLoader(d, {.mean = {1.0f, 1.0f}, .std = {1.0f, 0.0f}}), ValueError);
  for (const float x : {INFINITY, NAN}) {
    EXPECT_THROW(DataLoader(d, {.mean = {1.0f, x}, .std = {1.0f, 1.0f}}), ValueError);
    EXPECT_THROW(DataLoader(d, {.mean = {1.0f, 1.0f}, .std = {1.0f, x}}), ValueError);
  }
  EXPECT_THROW(DataLoader(d, {.augment = {.translate = 3}}), ValueError);
}

TEST(Loader, HandsOutOnTheDefaultDevice) {
  EXPECT_EQ(DataLoaderOptions().device, default_device());
  if (has_device(DeviceType::cuda)) GTEST_SKIP() << "tests/cuda/test_loader.cpp";
  EXPECT_THROW(DataLoader(std::make_shared<Numbers>(4), {.device = {.type = DeviceType::cuda}}),
               DeviceError);
}

class Augment : public testing::Test {
 protected:
  static constexpr int kSide = 8;
  std::vector<float> image() const {
    std::vector<float> v(kSide * kSide);
    std::iota(v.begin(), v.end(), 1.0f);
    return v;
  }
  std::vector<float> run(const AugmentOptions& o, std::int64_t epoch, std::int64_t index) const {
    auto v = image();
    Augmenter(o, {1, kSide, kSide}, 1).apply(v.data(), epoch, index);
    return v;
  }
  std::vector<float> flipped() const {
    auto v = image();
    for (int r = 0; r < kSide; ++r)
      std::reverse(v.begin() + r * kSide, v.begin() + (r + 1) * kSide);
    return v;
  }
};

TEST_F(Augment, RandomFlipHalfOfTheTime) {
  int n = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto v = run({.flip = AugmentOptions::Flip::random}, 0, i);
    EXPECT_TRUE(v == image() || v == flipped());
    n += v == flipped();
  }
  EXPECT_NEAR(n, 500, 80);
}

TEST_F(Augment, AlternatingFlipShowsBothSidesInTwoEpochs) {
  const AugmentOptions o{.flip = AugmentOptions::Flip::alternating};
  int n = 0;
  for (int i = 0; i < 200; ++i) {
    EXPECT_NE(run(o, 0, i), run(o, 1, i));
    EXPECT_EQ(run(o, 0, i), run(o, 2, i));
    n += run(o, 0, i) == flipped();
  }
  EXPECT_NEAR(n, 100, 40);
}

TEST_F(Augment, TranslationCoversTheWholeRangeAndPads) {
  for (const auto border : {AugmentOptions::Border::zero, AugmentOptions::Border::reflect}) {
    std::set<std::pair<int, int>> shifts;
    for (int i = 0; i < 500; ++i) {
      const auto v = run({.translate = 2, .border = border}, 0, i);
      // The pixel now at (4, 4) says where it came from.
      const int from = static_cast<int>(v[4 * kSide + 4]) - 1;
      const int dy = from / kSide - 4, dx = from % kSide - 4;
      shifts.insert({dy, dx});
      for (int y = 0; y < kSide; ++y) {
        for (int x = 0; x < kSide; ++x) {
          int sy = y + dy, sx = x + dx;
          const bool inside = sy >= 0 && sy < kSide && sx >= 0 && sx < kSide;
          const auto mirror = [](int k) { return k < 0 ? -k : k >= kSide ? 2 * kSide - 2 - k : k; };
          float expected = static_cast<float>(mirror(sy) * kSide + mirror(sx) + 1);
          if (!inside && border == AugmentOptions::Border::zero) expected = 0;
          EXPECT_EQ(v[static_cast<std::size_t>(y * kSide + x)], expected);
        }
      }
    }
    EXPECT_EQ(shifts.size(), 25u);
  }
}

}  // namespace
}  // namespace tandem
