// Streams, events, copies and faults.
#include <thread>

#include "core/error.h"
#include "tests/cuda/kernels.h"

namespace tandem::cuda::testing {
namespace {

class Streams : public OnGpu {};
class Events : public OnGpu {};
class Copies : public OnGpu {};
class Faults : public OnGpu {};

constexpr int kN = 1 << 16;

TEST_F(Streams, RunInOrder) {
  Ints x(kN);
  fill(*s, x.get(), 1, kN, 20);
  for (int i = 0; i < 10; ++i) add(*s, x.get(), 1, kN);
  EXPECT_EQ(x.read(), std::vector<int>(kN, 11));
}

TEST_F(Streams, EachThreadHasItsOwnCurrentOne) {
  const auto mine = b->make_stream(0);
  Stream* before = b->set_stream(0, mine.get());
  EXPECT_EQ(before, s);
  EXPECT_EQ(&b->stream(0), mine.get());
  std::thread([&] {
    EXPECT_EQ(&b->stream(0), s) << "another thread starts with the default";
  }).join();
  EXPECT_EQ(b->set_stream(0, nullptr), mine.get());
  EXPECT_EQ(&b->stream(0), s);
}

TEST_F(Streams, ThreadsWithTheirOwnDoNotDisturbEachOther) {
  std::vector<std::thread> threads;
  std::vector<int> good(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const auto mine = b->make_stream(0);
      b->set_stream(0, mine.get());
      int ok = 0;
      for (int round = 0; round < 50; ++round) {
        const int n = 100 + 977 * ((round + t) % 7);
        Ints x(n), y(n);
        fill(*mine, x.get(), t, n);
        add(*mine, x.get(), round, n);
        copy(*mine, y.get(), x.get(), n);
        ok += y.read() == std::vector<int>(static_cast<std::size_t>(n), t + round);
      }
      good[static_cast<std::size_t>(t)] = ok;
      b->set_stream(0, nullptr);
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(good, std::vector<int>(4, 50));
}

TEST_F(Streams, OfAnotherDeviceAreRefused) {
  if (b->device_count() < 2) GTEST_SKIP() << "one device";
  const auto other = b->make_stream(1);
  EXPECT_THROW(b->set_stream(0, other.get()), DeviceError);
  EXPECT_EQ(&b->stream(0), s);
}

TEST_F(Streams, OfAbsentDevicesAreRefused) {
  const int n = b->device_count();
  for (const auto& f : std::vector<std::function<void()>>{
           [&] { b->stream(n); }, [&] { b->make_stream(n); }, [&] { b->make_event(n); },
           [&] { b->allocator(n); }, [&] { b->stream(-1); }, [&] { b->allocator(99); }}) {
    EXPECT_NE(message_of(f).find("[device] no such device; got cuda:"), std::string::npos)
        << message_of(f);
  }
}

TEST_F(Streams, WorkOnTheSecondDevice) {
  if (b->device_count() < 2) GTEST_SKIP() << "one device";
  Ints x(100, 1), y(100);
  fill(b->stream(1), x.get(), 5, 100);
  fill(*s, y.get(), 6, 100);  // the device that is current follows the stream
  EXPECT_EQ(x.read(), std::vector<int>(100, 5));
  EXPECT_EQ(y.read(), std::vector<int>(100, 6));
  b->copy(y.get(), gpu(0), x.get(), gpu(1), x.bytes());
  EXPECT_EQ(y.read(), std::vector<int>(100, 5));
}

TEST_F(Events, MakeOneStreamWaitForAnother) {
  Ints x(kN), y(kN);
  const auto other = b->make_stream(0);
  const auto e = b->make_event(0);
  fill(*s, y.get(), 0, kN);
  fill(*s, x.get(), 7, kN, 200);
  e->record(*s);
  fill(*s, y.get(), 1, kN);  // after the event: not waited for
  e->block(*other);
  Ints z(kN);
  copy(*other, z.get(), x.get(), kN);
  other->synchronize();
  EXPECT_EQ(z.read(), std::vector<int>(kN, 7));
}

TEST_F(Events, MeasureTime) {
  Ints x(kN);
  const auto a = b->make_event(0), z = b->make_event(0);
  a->record(*s);
  fill(*s, x.get(), 1, kN, 50);
  z->record(*s);
  const double ms = z->milliseconds_since(*a);
  EXPECT_GT(ms, 0);
  EXPECT_LT(ms, 60000);
}

TEST_F(Events, WaitForTheirPointOnly) {
  Ints x(kN);
  const auto e = b->make_event(0);
  e->synchronize();  // never recorded: nothing to wait for
  fill(*s, x.get(), 3, kN);
  e->record(*s);
  e->synchronize();
  const auto other = b->make_stream(0);
  b->set_stream(0, other.get());
  EXPECT_EQ(x.read(), std::vector<int>(kN, 3));
}

TEST_F(Copies, GoBothWaysAndWithin) {
  Ints x(1000), y(1000);
  std::vector<int> v(1000);
  for (int i = 0; i < 1000; ++i) v[static_cast<std::size_t>(i)] = 3 * i;
  x.write(v);
  b->copy(y.get(), gpu(), x.get(), gpu(), x.bytes());
  EXPECT_EQ(y.read(), v);
  b->copy(nullptr, gpu(), nullptr, kCPU, 0);
}

TEST_F(Copies, RunInTheStreamFromPageLockedMemory) {
  constexpr std::size_t bytes = kN * sizeof(int);
  Allocator& pinned = b->host_allocator();
  auto* from = static_cast<int*>(pinned.allocate(bytes));
  auto* to = static_cast<int*>(pinned.allocate(bytes));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(from) % kAlignment, 0u);
  for (int i = 0; i < kN; ++i) from[i] = i;
  Ints x(kN);
  b->copy_async(x.get(), gpu(), from, kCPU, bytes, *s);
  add(*s, x.get(), 1, kN);
  b->copy_async(to, kCPU, x.get(), gpu(), bytes, *s);
  s->synchronize();
  for (int i = 0; i < kN; ++i) ASSERT_EQ(to[i], i + 1);
  pinned.deallocate(from, bytes);
  pinned.deallocate(to, bytes);
}

TEST_F(Copies, OutsideAnyBlockSayWhatWasAsked) {
  Ints x(100);
  std::vector<int> v(1 << 24);
  const std::string m =
      message_of([&] { b->copy(v.data(), kCPU, reinterpret_cast<void*>(0x10), gpu(), 400); });
  EXPECT_NE(m.find("cudaMemcpyAsync (400 bytes from cuda:0 to cpu)"), std::string::npos) << m;
  EXPECT_NE(m.find("cudaErrorInvalidValue: invalid argument"), std::string::npos) << m;
  // The next call is none the worse for it.
  x.write(std::vector<int>(100, 2));
  EXPECT_EQ(x.read(), std::vector<int>(100, 2));
}

TEST_F(Faults, AreThrownByWhoeverWaits) {
  note(*s, "gather", 7, 5);
  const std::string m = message_of([&] { s->synchronize(); });
  EXPECT_NE(m.find("[gather] index must be in [0, 5); got 7"), std::string::npos) << m;
  EXPECT_NO_THROW(s->synchronize()) << "once";

  note(*s, "nll", -1, 10, true);
  Ints x(4);
  EXPECT_NE(message_of([&] { x.read(); }).find("[nll] label must be in [0, 10); got -1"),
            std::string::npos)
      << "a copy to the host waits, too";

  const auto e = b->make_event(0);
  note(*s, "gather", 9, 5);
  e->record(*s);
  EXPECT_THROW(e->synchronize(), IndexError);
  EXPECT_NO_THROW(x.read());
}

TEST_F(Faults, TheFirstOneCounts) {
  note(*s, "first", 1, 1);
  note(*s, "second", 2, 2);
  EXPECT_NE(message_of([&] { s->synchronize(); }).find("[first]"), std::string::npos);
  EXPECT_NO_THROW(s->synchronize());
}

TEST_F(Faults, LeaveTheStreamUsable) {
  Ints x(100);
  note(*s, "gather", 7, 5);
  fill(*s, x.get(), 1, 100);
  EXPECT_THROW(s->synchronize(), IndexError);
  EXPECT_EQ(x.read(), std::vector<int>(100, 1)) << "the rest of the work was done";
}

}  // namespace
}  // namespace tandem::cuda::testing
