// The caching allocator: whose memory is whose, and when.
#include <random>
#include <set>
#include <thread>

#include "tests/cuda/kernels.h"

namespace tandem::cuda::testing {
namespace {

class Memory : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (!b) return;
    a = &b->allocator(0);
#if defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "a memory checker sees every allocation: nothing is cached";
#endif
    a->trim();
  }
  void TearDown() override {
    OnGpu::TearDown();
    if (a) a->trim();
  }
  Allocator* a = nullptr;
};

TEST_F(Memory, IsAligned) {
  std::vector<std::pair<void*, std::size_t>> all;
  for (std::size_t n :
       {1, 255, 256, 257, 1000, 4096, 100000, 600000, 1 << 20, (1 << 20) + 1, 5000000, 40000000}) {
    all.emplace_back(a->allocate(n), n);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(all.back().first) % kAlignment, 0u) << n;
  }
  EXPECT_EQ(a->allocate(0), nullptr);
  for (auto [p, n] : all) a->deallocate(p, n);
  a->deallocate(nullptr, 0);
}

TEST_F(Memory, BlocksDoNotOverlap) {
  std::mt19937 rng(1);
  std::vector<std::pair<std::uintptr_t, std::size_t>> live;
  for (int k = 0; k < 3000; ++k) {
    if (live.size() > 60 || (!live.empty() && rng() % 3 == 0)) {
      const std::size_t i = rng() % live.size();
      a->deallocate(reinterpret_cast<void*>(live[i].first), live[i].second);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(i));
      continue;
    }
    const std::size_t n = 1 + rng() % (std::size_t{1} << (8 + rng() % 16));
    const auto p = reinterpret_cast<std::uintptr_t>(a->allocate(n));
    for (auto [q, m] : live) ASSERT_TRUE(p + n <= q || q + m <= p) << n << " and " << m;
    live.emplace_back(p, n);
  }
  for (auto [p, n] : live) a->deallocate(reinterpret_cast<void*>(p), n);
  EXPECT_EQ(a->stats().in_use, 0u);
  a->trim();
  EXPECT_EQ(a->stats().cached, 0u) << "all of it can be given back";
}

TEST_F(Memory, IsHandedOutAgainInTheSameStream) {
  for (std::size_t n : {std::size_t{1000}, std::size_t{3} << 20}) {
    void* p = a->allocate(n);
    a->deallocate(p, n);
    const auto before = a->stats();
    void* q = a->allocate(n - 10);
    EXPECT_EQ(p, q);
    EXPECT_EQ(a->stats().system_allocations, before.system_allocations);
    a->deallocate(q, n - 10);
  }
}

TEST_F(Memory, OfOneStreamIsNotHandedOutInAnother) {
  for (std::size_t n : {std::size_t{1000}, std::size_t{3} << 20}) {
    void* p = a->allocate(n);
    a->deallocate(p, n);
    const auto other = b->make_stream(0);
    b->set_stream(0, other.get());
    void* q = a->allocate(n);
    EXPECT_NE(p, q);
    a->deallocate(q, n);
    b->set_stream(0, nullptr);
  }
}

// Freed on the stream that used it last: its own stream may have it once the other has got there.
TEST_F(Memory, FreedOnAnotherStreamWaitsForThat) {
  for (const int n : {1000, 1 << 20}) {
    const auto other = b->make_stream(0);
    Ints out(n);
    {
      auto x = std::make_unique<Ints>(n);
      fill(*s, x->get(), 5, n);
      const auto e = b->make_event(0);
      e->record(*s);
      e->block(*other);
      b->set_stream(0, other.get());
      copy(*other, out.get(), x->get(), n, 200);
      x = nullptr;
      b->set_stream(0, nullptr);
    }
    // Enough to come upon the same block.
    std::vector<std::unique_ptr<Ints>> more;
    for (int i = 0; i < 40; ++i) {
      more.push_back(std::make_unique<Ints>(n));
      fill(*s, more.back()->get(), 6, n);
    }
    s->synchronize();
    other->synchronize();
    EXPECT_EQ(out.read(), std::vector<int>(static_cast<std::size_t>(n), 5));
  }
}

TEST_F(Memory, OfAStreamThatIsGoneIsUsedAgain) {
  void* p = nullptr;
  {
    const auto other = b->make_stream(0);
    b->set_stream(0, other.get());
    p = a->allocate(1000);
    a->deallocate(p, 1000);
    b->set_stream(0, nullptr);
  }
  const auto before = a->stats().system_allocations;
  for (int i = 0; i < 10; ++i) {
    const auto other = b->make_stream(0);
    b->set_stream(0, other.get());
    void* q = a->allocate(1000);
    EXPECT_EQ(p, q);
    a->deallocate(q, 1000);
    b->set_stream(0, nullptr);
  }
  EXPECT_EQ(a->stats().system_allocations, before);
}

TEST_F(Memory, MayOutliveItsStream) {
  std::unique_ptr<Ints> x;
  {
    const auto other = b->make_stream(0);
    b->set_stream(0, other.get());
    x = std::make_unique<Ints>(1000);
    fill(*other, x->get(), 3, 1000);
    b->set_stream(0, nullptr);
  }
  EXPECT_EQ(x->read(), std::vector<int>(1000, 3));
  x = nullptr;
  EXPECT_EQ(a->stats().in_use, 0u);
  a->trim();
  EXPECT_EQ(a->stats().cached, 0u);
}

TEST_F(Memory, LargeBlocksAreSplitAndMerged) {
  const std::size_t mib = 1 << 20;
  void* p = a->allocate(30 * mib);
  a->deallocate(p, 30 * mib);
  const auto before = a->stats();
  // Parts of it, and then the whole again.
  void* x = a->allocate(3 * mib);
  void* y = a->allocate(12 * mib);
  void* z = a->allocate(10 * mib);
  EXPECT_EQ(x, p);
  a->deallocate(y, 12 * mib);
  a->deallocate(x, 3 * mib);
  a->deallocate(z, 10 * mib);
  EXPECT_EQ(a->allocate(30 * mib), p);
  a->deallocate(p, 30 * mib);
  EXPECT_EQ(a->stats().system_allocations, before.system_allocations);
}

TEST_F(Memory, IsCounted) {
  a->reset_peak();
  const auto start = a->stats();
  void* p = a->allocate(1000);
  auto now = a->stats();
  EXPECT_EQ(now.allocations, start.allocations + 1);
  EXPECT_EQ(now.in_use, start.in_use + 1024);
  EXPECT_GE(now.peak, now.in_use);
  EXPECT_GT(now.cached, 0u) << "the rest of the slab";
  a->deallocate(p, 1000);
  now = a->stats();
  EXPECT_EQ(now.in_use, start.in_use);
  EXPECT_EQ(now.peak, start.in_use + 1024);
  a->reset_peak();
  EXPECT_EQ(a->stats().peak, start.in_use);
  a->trim();
  EXPECT_EQ(a->stats().cached, 0u);
}

TEST_F(Memory, IsSharedByThreads) {
  std::vector<std::thread> threads;
  std::vector<std::vector<std::pair<void*, std::size_t>>> left(4);
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::unique_ptr<Stream> mine;
      if (t % 2) {
        mine = b->make_stream(0);
        b->set_stream(0, mine.get());
      }
      std::mt19937 rng(t);
      auto& live = left[t];
      for (int k = 0; k < 2000; ++k) {
        if (live.size() > 20) {
          a->deallocate(live.back().first, live.back().second);
          live.pop_back();
        }
        const std::size_t n = 1 + rng() % (1 << 21);
        live.emplace_back(a->allocate(n), n);
      }
      b->set_stream(0, nullptr);
    });
  }
  for (auto& t : threads) t.join();
  std::set<void*> all;
  std::size_t count = 0;
  for (auto& live : left) {
    for (auto [p, n] : live) all.insert(p);
    count += live.size();
    for (auto [p, n] : live) a->deallocate(p, n);  // on another thread, and another stream
  }
  EXPECT_EQ(all.size(), count);
  EXPECT_EQ(a->stats().in_use, 0u);
  s->synchronize();
  a->trim();
  EXPECT_EQ(a->stats().cached, 0u);
}

TEST_F(Memory, OfTheHostIsCachedToo) {
  Allocator& h = b->host_allocator();
  void* p = h.allocate(5000);
  h.deallocate(p, 5000);
  const auto before = h.stats().system_allocations;
  void* q = h.allocate(5000);
  EXPECT_EQ(p, q);
  EXPECT_EQ(h.stats().system_allocations, before);
  h.deallocate(q, 5000);
  h.trim();
  EXPECT_EQ(h.stats().cached, 0u);
}

}  // namespace
}  // namespace tandem::cuda::testing
