// Programs made at random: elementwise ops, views, reductions, writes in place, random ops, matrix
// products and gradients, over values of every shape they produce. Each runs eagerly and compiled,
// under a random choice of passes, three times in a row, and must give the same bits and leave the
// same state behind.
#include <gtest/gtest.h>

#include <random>

#include "autograd/autograd.h"
#include "graph/compile.h"
#include "tests/op_cases.h"

namespace tandem {
namespace {

class Writer {
 public:
  Writer(std::uint64_t seed, std::vector<Tensor>& state) : rng_(seed), state_(state) {}

  std::vector<Tensor> program(const std::vector<Tensor>& args) {
    pool_ = args;
    for (const Tensor& s : state_) pool_.push_back(s);
    // What may be written, and never takes part in gradients.
    std::vector<Tensor> writable = state_;
    const int steps = 6 + pick(18);
    for (int i = 0; i < steps; ++i) {
      const int kind = pick(22);
      if (kind < 8) {
        elementwise();
      } else if (kind < 12) {
        view();
      } else if (kind < 14) {
        reduction();
      } else if (kind < 17) {
        write(writable);
      } else if (kind == 17) {
        pool_.push_back(dropout(any() * 1, 0.5));
      } else if (kind == 18) {
        product();
      } else if (kind == 19) {
        gradient();
      } else {
        layer();
      }
      if (pool_.back().numel() > 64) pool_.back() = pool_.back().reshape({-1}).slice(0, 0, 48);
      if (pick(3) == 0) writable.push_back(any() + 0);
      if (pick(3) == 0) pool_.push_back(writable[index(writable.size())]);
    }
    std::vector<Tensor> out;
    const int n = 1 + pick(3);
    for (int i = 0; i < n; ++i) out.push_back(any());
    out.push_back(pool_.back());
    return out;
  }

 private:
  int pick(int n) { return static_cast<int>(rng_() % static_cast<std::uint64_t>(n)); }
  std::size_t index(std::size_t n) { return static_cast<std::size_t>(rng_() % n); }
  const Tensor& any() { return pool_[index(pool_.size())]; }
  // Bounded, so that nothing overflows to NaN, which would hide differences.
  Tensor bounded(const Tensor& t) { return clamp(t, -4.0, 4.0); }

  void elementwise() {
    const Tensor a = any();
    switch (pick(12)) {
      case 0: pool_.push_back(tanh(a)); break;
      case 1: pool_.push_back(relu(a)); break;
      case 2: pool_.push_back(bounded(square(a))); break;
      case 3: pool_.push_back(sigmoid(a) * 0.5); break;
      case 4: pool_.push_back(a + static_cast<double>(pick(5))); break;
      case 5: pool_.push_back(exp(-abs(a))); break;
      case 6: pool_.push_back(1.5 - a); break;
      case 7: pool_.push_back(where(gt(a, 0.25), a, a * 0.125)); break;
      case 8: pool_.push_back(a.to(DType::bf16).to(DType::f32)); break;
      case 9: pool_.push_back(a + full({}, 0.5) + 0); break;
      default: {
        const Tensor b = partner(a);
        switch (pick(5)) {
          case 0: pool_.push_back(a + b); break;
          case 1: pool_.push_back(bounded(a * b)); break;
          case 2: pool_.push_back(a - b); break;
          case 3: pool_.push_back(maximum(a, b)); break;
          default: pool_.push_back(a / (abs(b) + 1)); break;
        }
      }
    }
  }
  // Something of a's shape, or what broadcasts to it.
  Tensor partner(const Tensor& a) {
    for (int tries = 0; tries < 6; ++tries) {
      const Tensor& b = any();
      if (b.shape() == a.shape() || b.numel() == 1) return b.numel() == 1 ? b.reshape({}) : b;
    }
    return a;
  }

  void view() {
    const Tensor a = any();
    const int rank = a.rank();
    switch (pick(6)) {
      case 0: pool_.push_back(a.reshape({-1})); break;
      case 1:
        if (rank >= 2) pool_.push_back(a.transpose(0, -1));
        break;
      case 2:
        if (rank >= 1 && a.dim(0) > 1) {
          pool_.push_back(a.slice(0, pick(2), a.dim(0), 1 + pick(2)));
        }
        break;
      case 3:
        if (rank >= 1 && a.dim(-1) > 0) {
          pool_.push_back(a.select(rank - 1, pick(static_cast<int>(a.dim(-1)))));
        }
        break;
      case 4:
        if (rank < 4) pool_.push_back(a.unsqueeze(pick(rank + 1)));
        break;
      default:
        if (rank >= 1 && rank < 4) {
          Shape s = a.shape();
          s.insert(0, 2);
          pool_.push_back(a.expand(s));
        }
    }
  }

  void reduction() {
    const Tensor a = any();
    if (a.rank() == 0) return;
    const Dims axis{pick(a.rank())};
    switch (pick(5)) {
      case 0: pool_.push_back(mean(a, axis)); break;
      case 1: pool_.push_back(bounded(sum(a, axis, true))); break;
      case 2: pool_.push_back(max(a, axis)); break;
      case 3: pool_.push_back(softmax(a)); break;
      default: pool_.push_back(bounded(cumsum(a, static_cast<int>(axis[0])))); break;
    }
  }

  void product() {
    for (int tries = 0; tries < 8; ++tries) {
      const Tensor a = any();
      if (a.rank() != 2) continue;
      pool_.push_back(bounded(pick(2) ? matmul(a, a.t()) : linear(a, a * 0.5)));
      return;
    }
  }

  // What may end in an epilogue: with a sum and a ReLU behind it, or something else.
  void layer() {
    for (int tries = 0; tries < 8; ++tries) {
      const Tensor x = any();
      if (x.rank() < 2 || x.dim(1) == 0 || x.numel() == x.dim(1) || !is_floating(x.dtype())) {
        continue;
      }
      Tensor y, mean, var;
      if (x.rank() == 2 && pick(3) == 0) {
        y = linear(x, x * 0.25);
      } else if (x.rank() == 4 && pick(2)) {
        y = conv2d(x, full({2, x.dim(1), 1, 1}, 0.25, {.dtype = x.dtype()}));
      } else if (pick(2)) {
        y = batch_norm(x, {}, {}, mean, var, true);
      } else {
        mean = full({x.dim(1)}, 0.5);
        var = ones({x.dim(1)});
        y = batch_norm(x, {}, {}, mean, var, pick(2) != 0);
      }
      if (pick(4) == 0) pool_.push_back(y);
      if (pick(2)) y = pick(2) ? y + partner(y) : partner(y) + y;
      y = pick(5) ? relu(y) : tanh(y);
      if (y.rank() == 4 && y.dim(2) > 1 && y.dim(3) > 1 && pick(2)) {
        y = max_pool2d(y, {.kernel = {2}, .stride = {1 + pick(2)}});
      }
      pool_.push_back(bounded(y));
      return;
    }
  }

  void write(std::vector<Tensor>& writable) {
    Tensor t = writable[index(writable.size())];
    // Through the tensor itself or a view of it.
    if (t.rank() >= 1 && pick(2)) {
      t = pick(2) ? t.slice(0, pick(2) % t.dim(0), t.dim(0), 1 + pick(2)) : t.select(0, 0);
    }
    switch (pick(6)) {
      case 0: t.mul_(0.5); break;
      case 1: t.add_(static_cast<double>(pick(3))); break;
      case 2: t.fill_(pick(4)); break;
      case 3: t.copy_(tanh(t)); break;
      case 4:
        t.add_(t);
        t.mul_(0.25);
        break;
      default: {
        const Tensor b = partner(t);
        if (b.shape() == t.shape())
          t.copy_(b * 0.5);
        else if (b.rank() == 0)
          t.sub_(b * 0.125);
      }
    }
    if (pick(2)) pool_.push_back(t);  // a view whose base may be written again
  }

  void gradient() {
    Tensor x = (any() * 0.5).detach();
    x.set_requires_grad();
    Tensor y = tanh(x) * x;
    if (x.rank() == 2) y = matmul(y, x.t());
    y = pick(2) ? dropout(y, 0.25) : y * 0.5;
    pool_.push_back(bounded(autograd::grad(sum(y), {x})[0]));
  }

  std::mt19937_64 rng_;
  std::vector<Tensor>& state_;
  std::vector<Tensor> pool_;
};

std::vector<Tensor> make(std::uint64_t seed, std::initializer_list<Shape> shapes) {
  std::mt19937_64 rng(seed);
  std::vector<Tensor> r;
  for (const Shape& s : shapes) {
    std::vector<double> v(static_cast<std::size_t>(numel(s)));
    for (double& x : v) x = static_cast<double>(rng() % 257) / 64 - 2;
    r.push_back(Tensor::from<double>(v, s).to(DType::f32));
  }
  return r;
}

class RandomPrograms : public testing::TestWithParam<int> {};

TEST_P(RandomPrograms, EqualEager) {
  for (int k = 0; k < 25; ++k) {
    const auto seed = static_cast<std::uint64_t>(GetParam() * 1000 + k);
    std::mt19937_64 rng(seed ^ 0xabcdef);
    CompileOptions options;
    std::string what = fmt::format("program {}, without", seed);
    for (const auto& p : graph::all_passes()) {
      if (rng() % 3 == 0) {
        options.without.push_back(p.name);
        what += std::string(" ") + p.name;
      }
    }
    options.memory_plan = rng() % 4 != 0;
    options.verify = rng() % 8 == 0;
    if (!options.memory_plan) what += " memory plan";

    auto eager_state = make(seed, {{3, 4}, {5}, {2, 3, 2}});
    auto state = make(seed, {{3, 4}, {5}, {2, 3, 2}});
    auto fast = compile(
        [&](const std::vector<Tensor>& in) { return Writer(seed, state).program(in); }, options);
    Generator eager_rng(seed), fast_rng(seed);
    std::int64_t drawn = 0;
    for (int turn = 0; turn < 3; ++turn) {
      const auto args =
          make(seed * 10 + static_cast<std::uint64_t>(turn), {{4, 3}, {3, 4}, {6}, {}});
      default_generator().set_state(seed, static_cast<std::uint64_t>(drawn));
      const auto want = Writer(seed, eager_state).program(args);
      const auto end = default_generator().state().to_vector<std::int64_t>();
      default_generator().set_state(seed, static_cast<std::uint64_t>(drawn));
      std::vector<Tensor> got;
      ASSERT_NO_THROW(got = fast(args)) << what;
      EXPECT_EQ(default_generator().state().to_vector<std::int64_t>(), end) << what;
      drawn = end[1];
      ASSERT_EQ(got.size(), want.size()) << what;
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(cases::compare_bits(got[i].contiguous(), want[i].contiguous()), "")
            << what << ", result " << i << ", turn " << turn << "\n"
            << fast.dump();
      }
      for (std::size_t i = 0; i < state.size(); ++i) {
        ASSERT_EQ(cases::compare_bits(state[i], eager_state[i]), "")
            << what << ", state " << i << ", turn " << turn << "\n"
            << fast.dump();
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomPrograms, testing::Range(0, 40));

}  // namespace
}  // namespace tandem
