// Launches recorded by the device and replayed.
#include "core/error.h"
#include "ops/ops.h"
#include "tests/cuda/kernels.h"

namespace tandem::cuda::testing {
namespace {

class Graphs : public OnGpu {
 protected:
  void TearDown() override {
    // A test that failed in between must not leave a capture open.
    try {
      if (b) b->end_capture(*s);
    } catch (const Error&) {
    }
    OnGpu::TearDown();
  }
  std::unique_ptr<DeviceGraph> record(const std::function<void()>& f) {
    b->begin_capture(*s);
    f();
    return b->end_capture(*s);
  }
};

TEST_F(Graphs, AreReplayed) {
  Ints x(1000);
  fill(*s, x.get(), 0, 1000);
  const auto g = record([&] {
    add(*s, x.get(), 1, 1000);
    add(*s, x.get(), 2, 1000);
  });
  EXPECT_EQ(x.read(), std::vector<int>(1000, 0)) << "recorded, not run";
  EXPECT_EQ(g->nodes(), 2u);
  for (int i = 0; i < 5; ++i) g->launch(*s);
  EXPECT_EQ(x.read(), std::vector<int>(1000, 15));
}

TEST_F(Graphs, TakeOverNewPointers) {
  Ints x(1000), y(1000);
  fill(*s, x.get(), 0, 1000);
  fill(*s, y.get(), 0, 1000);
  const auto program = [&](int* p) {
    return record([&] {
      add(*s, p, 1, 1000);
      add(*s, p, 2, 1000);
    });
  };
  const auto g = program(x.get());
  g->launch(*s);
  {
    auto newer = program(y.get());
    EXPECT_TRUE(g->update(*newer));
  }
  g->launch(*s);
  EXPECT_EQ(x.read(), std::vector<int>(1000, 3)) << "the launch before the update";
  EXPECT_EQ(y.read(), std::vector<int>(1000, 3));
}

TEST_F(Graphs, RefuseOtherLaunchesAndStayAsTheyWere) {
  Ints x(1000), y(1000);
  fill(*s, x.get(), 0, 1000);
  const auto g = record([&] { add(*s, x.get(), 1, 1000); });
  g->launch(*s);
  const auto longer = record([&] {
    add(*s, x.get(), 1, 1000);
    add(*s, x.get(), 1, 1000);
  });
  const auto other = record([&] { b->copy_async(y.get(), gpu(), x.get(), gpu(), x.bytes(), *s); });
  EXPECT_FALSE(g->update(*longer));
  EXPECT_FALSE(g->update(*other));
  g->launch(*s);
  EXPECT_EQ(x.read(), std::vector<int>(1000, 2));
}

TEST_F(Graphs, KeepTheOrderBetweenStreams) {
  Ints x(1000), y(1000), z(1000);
  fill(*s, x.get(), 1, 1000);
  s->synchronize();
  const auto other = b->make_stream(0);
  const auto fork = b->make_event(0), join = b->make_event(0);
  const auto g = record([&] {
    add(*s, x.get(), 1, 1000);
    fork->record(*s);
    fork->block(*other);
    copy(*other, y.get(), x.get(), 1000);
    add(*other, y.get(), 10, 1000);
    join->record(*other);
    fill(*s, z.get(), 100, 1000);
    join->block(*s);
    copy(*s, z.get(), y.get(), 1000);
  });
  EXPECT_EQ(g->nodes(), 5u);
  g->launch(*s);
  g->launch(*s);
  EXPECT_EQ(z.read(), std::vector<int>(1000, 13));
}

TEST_F(Graphs, CannotLeaveAStreamBehind) {
  Ints x(1000);
  const auto other = b->make_stream(0);
  const auto fork = b->make_event(0);
  b->begin_capture(*s);
  add(*s, x.get(), 1, 1000);
  fork->record(*s);
  fork->block(*other);
  add(*other, x.get(), 1, 1000);
  const std::string m = message_of([&] { b->end_capture(*s); });
  EXPECT_NE(m.find("cudaErrorStreamCaptureUnjoined"), std::string::npos) << m;
  fill(*s, x.get(), 4, 1000);
  EXPECT_EQ(x.read(), std::vector<int>(1000, 4));
}

TEST_F(Graphs, CannotBeWaitedForWhileTheyAreRecorded) {
  Ints x(1000);
  b->begin_capture(*s);
  add(*s, x.get(), 1, 1000);
  const std::string m = message_of([&] { s->synchronize(); });
  EXPECT_NE(m.find("cudaStreamSynchronize"), std::string::npos) << m;
  EXPECT_NE(m.find("cudaErrorStreamCaptureUnsupported"), std::string::npos) << m;
  EXPECT_THROW(b->end_capture(*s), DeviceError);
  fill(*s, x.get(), 4, 1000);
  EXPECT_EQ(x.read(), std::vector<int>(1000, 4));
}

TEST_F(Graphs, OneAtATime) {
  b->begin_capture(*s);
  EXPECT_THROW(b->begin_capture(*s), CaptureError);
  Ints x(10);
  fill(*s, x.get(), 1, 10);
  EXPECT_EQ(b->end_capture(*s)->nodes(), 1u);
  EXPECT_THROW(b->end_capture(*s), CaptureError);
}

// A program with a temporary, small or large.
class GraphMemory : public Graphs {
 protected:
  std::unique_ptr<DeviceGraph> record_through(const Ints& in, const Ints& out) {
    return record([&] {
      for (int round = 0; round < 3; ++round) {
        Ints t(in.size()), u(in.size());
        copy(*s, t.get(), in.get(), in.size());
        copy(*s, u.get(), t.get(), in.size());
        copy(*s, out.get(), u.get(), in.size());
      }
    });
  }
  // Fills all that a new stream gets, which is what nobody else wants any more, and a part of what
  // this one gets. Whatever a graph still uses is not among it.
  void fill_what_is_free(int n) {
    const auto other = b->make_stream(0);
    for (Stream* stream : {other.get(), s}) {
      b->set_stream(0, stream);
      std::vector<std::unique_ptr<Ints>> mine;
      for (int i = 0; i < 8; ++i) {
        mine.push_back(std::make_unique<Ints>(n));
        fill(*stream, mine.back()->get(), 9, n);
      }
      stream->synchronize();
      filled.insert(filled.end(), std::make_move_iterator(mine.begin()),
                    std::make_move_iterator(mine.end()));
      b->set_stream(0, nullptr);
    }
  }
  void expect_filled() {
    for (const auto& m : filled) {
      EXPECT_EQ(m->read(), std::vector<int>(static_cast<std::size_t>(m->size()), 9));
    }
  }
  std::vector<int> counting(int n) {
    std::vector<int> v(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) v[static_cast<std::size_t>(i)] = i;
    return v;
  }
  void TearDown() override {
    filled.clear();
    Graphs::TearDown();
  }
  std::vector<std::unique_ptr<Ints>> filled;
  static constexpr int sizes[] = {5000, 3 << 18};
};

TEST_F(GraphMemory, IsNobodyElses) {
  for (const int n : sizes) {
    Ints in(n), out(n);
    in.write(counting(n));
    const auto before = in.allocator().stats();
    const auto g = record_through(in, out);
    EXPECT_EQ(in.allocator().stats().in_use, before.in_use);
    fill_what_is_free(n);
    g->launch(*s);
    EXPECT_EQ(out.read(), counting(n));
    expect_filled();
    filled.clear();
  }
}

TEST_F(GraphMemory, IsGivenBackOnceTheLastReplayIsOver) {
  for (const int n : sizes) {
    Ints in(n), out(n);
    in.write(counting(n));
    auto g = record_through(in, out);
    g->launch(*s);
    g = nullptr;
    fill_what_is_free(n);
    expect_filled();
    EXPECT_EQ(out.read(), counting(n));
    filled.clear();
  }
}

TEST_F(GraphMemory, OfANewerRecordingGoesOverToTheOlder) {
  for (const int n : sizes) {
    Ints in(n), out(n), out2(n);
    in.write(counting(n));
    auto g = record_through(in, out);
    g->launch(*s);
    auto newer = record_through(in, out2);
    ASSERT_TRUE(g->update(*newer));
    newer = nullptr;
    fill_what_is_free(n);
    g->launch(*s);
    EXPECT_EQ(out2.read(), counting(n));
    EXPECT_EQ(out.read(), counting(n));
    expect_filled();
    filled.clear();
  }
}

TEST_F(GraphMemory, FreedOnAnotherStreamIsNotReused) {
  const auto other = b->make_stream(0);
  void* p = nullptr;
  const auto g = record([&] {
    p = b->allocator(0).allocate(1000);
    b->set_stream(0, other.get());
    b->allocator(0).deallocate(p, 1000);
    b->set_stream(0, nullptr);
    Ints x(250);
    EXPECT_NE(static_cast<void*>(x.get()), p);
    fill(*s, x.get(), 1, 250);
  });
}

TEST_F(Graphs, WhatWasTakenMayOutliveThem) {
  std::unique_ptr<Ints> kept;
  auto g = record([&] {
    kept = std::make_unique<Ints>(1000);
    fill(*s, kept->get(), 6, 1000);
  });
  g->launch(*s);
  EXPECT_EQ(kept->read(), std::vector<int>(1000, 6));
  g = nullptr;
  add(*s, kept->get(), 1, 1000);
  EXPECT_EQ(kept->read(), std::vector<int>(1000, 7));
  kept = nullptr;
  Ints x(1000);
  fill(*s, x.get(), 1, 1000);
  EXPECT_EQ(x.read(), std::vector<int>(1000, 1));
}

TEST_F(Graphs, NoteFaultsOnWhateverStreamTheyAreReplayed) {
  const auto g = record([&] { note(*s, "gather", 7, 5); });
  EXPECT_NO_THROW(s->synchronize());
  const auto other = b->make_stream(0);
  for (int i = 0; i < 2; ++i) {
    g->launch(*other);
    EXPECT_THROW(other->synchronize(), IndexError);
  }
}

TEST_F(Graphs, RecordOperations) {
  const TensorOptions on{.device = gpu()};
  const Tensor x = full({64, 64}, 2, on);
  Tensor y = zeros({64, 64}, on);
  s->synchronize();
  (x * 3 + y);  // plans are made before
  y.copy_(x * 3 + y);
  y.fill_(0);
  const auto g = record([&] { y.copy_(x * 3 + y); });
  for (int i = 0; i < 4; ++i) g->launch(*s);
  EXPECT_EQ(y.to_vector<float>(), std::vector<float>(64 * 64, 24));
}

}  // namespace
}  // namespace tandem::cuda::testing
