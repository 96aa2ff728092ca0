// Launches recorded by the device and replayed with one call: the same bits as eager, step after
// step, whatever happens to the tensors in between. Runs where there is a CUDA device, real or
// emulated.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "core/backend.h"
#include "graph/compile.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/on_gpu.h"
#include "tests/op_cases.h"

namespace tandem {
namespace {

using DeviceGraph = testing::GpuByDefault;

struct Training {
  nn::Sequential net =
      (manual_seed(4),
       nn::Sequential{nn::Conv2d(1, 4, 3, {.padding = 1}), nn::BatchNorm2d(4), nn::ReLU(),
                      nn::MaxPool2d(2), nn::Flatten(), nn::Dropout(0.4), nn::Linear(4 * 3 * 3, 5)});
  optim::Adam opt{net.parameters(), {.lr = 1e-2}};
  Tensor step(const Tensor& x, const Tensor& y) const {
    opt.zero_grad();
    Tensor loss = nn::cross_entropy(net(x), y);
    loss.backward();
    opt.step();
    return loss;
  }
};

TEST_F(DeviceGraph, TrainingEqualsEagerAndIsReplayed) {
  for (const bool keep : {false, true}) {
    const Training eager, compiled;
    auto fast = compile([&](const Tensor& x, const Tensor& y) { return compiled.step(x, y); });
    Generator data(5, default_device());
    std::vector<Tensor> held;
    for (int i = 0; i < 14; ++i) {
      const Tensor x = rand({3, 1, 6, 6}, {}, &data);
      const Tensor y = randint(0, 5, {3}, {.dtype = DType::i64}, &data);
      default_generator(default_device()).set_state(9, static_cast<std::uint64_t>(i) << 20);
      const Tensor a = eager.step(x, y);
      default_generator(default_device()).set_state(9, static_cast<std::uint64_t>(i) << 20);
      const Tensor b = fast(x, y);
      ASSERT_EQ(cases::compare_bits(b, a), "") << "loss of step " << i;
      if (keep) held.push_back(b);  // so that results need new memory every time
    }
    const StateDict p = eager.net.state_dict(), q = compiled.net.state_dict();
    for (std::size_t k = 0; k < p.size(); ++k) {
      ASSERT_EQ(cases::compare_bits(q[k].second, p[k].second), "") << p[k].first;
    }
    const graph::LaunchRecorder& r = fast.core().program().executor->recorder();
    EXPECT_TRUE(r.usable()) << r.why_not();
    EXPECT_GE(r.stats().replayed, 12u);
    EXPECT_LE(r.stats().recorded, 4u);
    for (std::size_t i = 1; i < held.size(); ++i) {
      EXPECT_NE(held[i].raw_data(), held[i - 1].raw_data());
    }
  }
}

TEST_F(DeviceGraph, IndependentBranchesTakeSeveralStreams) {
  const auto branches = [](const Tensor& x) {
    const Tensor a = matmul(x, x), b = matmul(x.t(), x), c = exp(x).sum({0});
    return matmul(a, b) + c;
  };
  auto fast = compile(branches);
  for (int i = 0; i < 6; ++i) {
    const Tensor x = rand({8, 8});
    ASSERT_EQ(cases::compare_bits(fast(x), branches(x)), "") << i;
  }
  EXPECT_GT(fast.core().program().executor->recorder().streams(), 1);
}

TEST_F(DeviceGraph, CanBeSwitchedOff) {
  auto fast = compile([](const Tensor& x) { return x * 2 + 1; }, {.device_graph = false});
  const Tensor x = rand({4});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(cases::compare_bits(fast(x), x * 2 + 1), "");
  EXPECT_EQ(fast.core().program().executor->recorder().stats().replayed, 0u);
  EXPECT_EQ(fast.core().ledger().at(0).no_device_graph, "switched off");
}

TEST_F(DeviceGraph, FaultsOfReplayedKernelsAreThrown) {
  auto fast = compile([](const Tensor& x, const Tensor& y) { return nn::cross_entropy(x, y); });
  const Tensor x = rand({2, 3});
  const Tensor good = zeros({2}, {.dtype = DType::i64}), bad = full({2}, 7, {.dtype = DType::i64});
  for (int i = 0; i < 4; ++i) fast(x, good).item();
  EXPECT_THROW(fast(x, bad).item(), IndexError);
  EXPECT_EQ(cases::compare_bits(fast(x, good), nn::cross_entropy(x, good)), "");
}

// What other threads put into the stream they share meanwhile is run, and none of it is recorded.
TEST_F(DeviceGraph, OtherThreadsGoOnWhileOneRecords) {
  std::atomic<bool> over = false, failed = false;
  std::atomic<int> rounds = 0;
  std::string wrong;  // the other thread's
  std::thread other([&] {
    const testing::DefaultDevice here(Device{DeviceType::cuda, 0});
    try {
      for (int i = 0; !over; ++i, ++rounds) {
        if ((full({3}, i) + 1).sum().item<double>() != 3 * (i + 1)) wrong = "another value";
      }
    } catch (const std::exception& e) {
      wrong = e.what();
    }
    failed = !wrong.empty();
  });
  const auto f = [](const Tensor& x) {
    Tensor y = x;
    for (int i = 0; i < 40; ++i) y = matmul(y, x);
    return y;
  };
  const Tensor x = rand({4, 4}), want = f(x);
  auto fast = compile(f);
  std::vector<Tensor> held;  // new addresses, so that each call records
  while (!failed && (held.size() < 40 || rounds < 4)) held.push_back(fast(x));
  for (const Tensor& y : held) EXPECT_EQ(cases::compare_bits(y, want), "");
  EXPECT_EQ(fast.core().ledger().at(0).no_device_graph, "");
  over = true;
  other.join();
  EXPECT_EQ(wrong, "");
}

TEST_F(DeviceGraph, RunsInAnotherStreamComeAfterTheOneBefore) {
  const auto one = b->make_stream(0), two = b->make_stream(0);
  const Tensor count = zeros({2});
  b->stream(0).synchronize();
  auto fast = compile([&](const Tensor& x) {
    Tensor n = count;
    n.add_(x);
    return n * 2;
  });
  const Tensor x = ones({2});
  b->stream(0).synchronize();
  for (int i = 1; i <= 6; ++i) {
    b->set_stream(0, i % 2 ? one.get() : two.get());
    const Tensor y = fast(x);
    if (i > 3) {
      EXPECT_EQ(y.to_vector<float>(), std::vector<float>(2, 2.F * static_cast<float>(i)));
    }
  }
  b->set_stream(0, nullptr);
}

TEST_F(DeviceGraph, AResultThatAnotherStreamReadsIsNotWrittenOver) {
  const auto one = b->make_stream(0), two = b->make_stream(0);
  auto fast = compile([](const Tensor& x) { return x * 3; });
  const Tensor x = ones({5}), other = full({5}, 7);
  b->stream(0).synchronize();
  b->set_stream(0, one.get());
  for (int i = 0; i < 3; ++i) fast(x);
  Tensor result = fast(x);
  const auto made = b->make_event(0);
  made->record(*one);

  b->set_stream(0, two.get());
  made->block(*two);
  const Tensor twice = result * 2;  // not run yet
  result = Tensor();

  b->set_stream(0, one.get());
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(fast(other).to_vector<float>(), std::vector<float>(5, 21)) << i;
  }
  b->set_stream(0, two.get());
  EXPECT_EQ(twice.to_vector<float>(), std::vector<float>(5, 6));
  b->set_stream(0, nullptr);
}

TEST(DeviceGraphOnTheCpu, SaysThatThereAreNone) {
  auto fast = compile([](const Tensor& x) { return x + 1; });
  fast(ones({2}, {.device = kCPU}));
  const graph::LaunchRecorder& r = fast.core().program().executor->recorder();
  EXPECT_FALSE(r.usable());
  EXPECT_EQ(r.why_not(), "cpu has no graphs of launches");
  EXPECT_EQ(fast.core().ledger().at(0).no_device_graph, "cpu has no graphs of launches");
  EXPECT_NE(fast.core().explain().find("no device graph: cpu has no graphs"), std::string::npos);
}

}  // namespace
}  // namespace tandem
