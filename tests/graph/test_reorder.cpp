// The pass that pools before the ReLU: where it does, where it must not, and that no bit changes,
// those of NaN, infinities, signed zeros and ties included.
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "autograd/autograd.h"
#include "graph/compile.h"
#include "graph/tracer.h"
#include "nn/nn.h"
#include "ops/ops.h"

namespace tandem::graph {
namespace {

using Function = std::function<std::vector<Tensor>(const Tensor&)>;

constexpr const char* kPass = "reorder";

TensorDesc image(DType t = DType::f32) {
  return {t, default_device(), {2, 3, 6, 8}};
}

Program capture(const Function& f) {
  RefPtr<Tracer> tracer(new Tracer);
  const Tensor x = tracer->input(image());
  const CaptureScope scope(*tracer);
  return tracer->finish(f(x));
}
Program after(const Function& f, int changed) {
  const Program p = capture(f);
  PassStats s;
  Program out = reorder(p, s);
  EXPECT_EQ(s.changed, changed) << dump(p) << "->\n" << dump(out);
  EXPECT_EQ(out.nodes.size(), p.nodes.size());
  EXPECT_NO_THROW(verify(out, kPass));
  EXPECT_EQ(out.outputs, p.outputs) << "values keep their names";
  return out;
}

/// The elements that all nodes of this op make.
std::int64_t elements(const Program& p, std::string_view op) {
  std::int64_t n = 0;
  for (const Node& node : p.nodes) {
    if (node.op().name == op) n += p.values[static_cast<std::size_t>(node.outputs[0])].desc.numel();
  }
  return n;
}

/// The function and the gradient of its sum.
Function with_gradient(std::function<Tensor(const Tensor&)> f) {
  return [f = std::move(f)](const Tensor& t) {
    const Tensor x = t.detach().set_requires_grad();
    const Tensor y = f(x);
    return std::vector{y.detach(), autograd::grad((y * y).sum(), {x})[0]};
  };
}

TEST(Reorder, PoolsBeforeTheRelu) {
  const auto f =
      with_gradient([](const Tensor& x) { return max_pool2d(relu(x), {.kernel = {2}}); });
  const Program p = after(f, 2);
  const std::int64_t pooled = image().numel() / 4;
  EXPECT_EQ(elements(p, "relu"), pooled);
  EXPECT_EQ(elements(p, "relu_grad"), pooled);
  EXPECT_EQ(elements(p, "max_pool2d"), pooled);
  EXPECT_EQ(elements(p, "max_pool2d_grad"), 4 * pooled);
  EXPECT_NE(dump(p).find(kPass), std::string::npos);
  after([](const Tensor& x) { return std::vector{max_pool2d(relu(x), {.kernel = {2}})}; }, 1);
}

TEST(Reorder, OfEachLayerOfANet) {
  auto f = compile([net = models::lenet()](const Tensor& t) {
    Tensor loss = net(t).sum();
    loss.backward();
    return loss;
  });
  f(ones({2, 1, 28, 28}));
  for (const PassReport& r : f.core().program().passes) {
    if (r.name == kPass) {
      EXPECT_EQ(r.stats.changed, 4);
    }
  }
}

TEST(Reorder, LeavesWhatSomebodyElseReads) {
  const Pool2dOptions half{.kernel = {2}};
  const auto left = [](const Function& f) { after(f, 0); };
  left([&](const Tensor& x) {  // the ReLU's result
    const Tensor y = relu(x);
    return std::vector{max_pool2d(y, half), y};
  });
  left([&](const Tensor& x) {
    const Tensor y = relu(x);
    return std::vector{max_pool2d(y, half).sum() + y.sum()};
  });
  left([&](const Tensor& x) {  // two poolings
    const Tensor y = relu(x);
    return std::vector{max_pool2d(y, half), max_pool2d(y, {.kernel = {3}})};
  });
  left([&](const Tensor& x) {  // the positions
    const auto [y, at] = max_pool2d_with_indices(relu(x), half);
    return std::vector{y, at};
  });
  left([&](const Tensor& t) {  // the gradient between the two
    const Tensor x = t.detach().set_requires_grad(), y = relu(x);
    const auto g = autograd::grad(max_pool2d(y, half).sum(), {y, x});
    return std::vector{g[0], g[1]};
  });
  left([&](const Tensor& t) {  // a gradient of the gradient
    const Tensor x = t.detach().set_requires_grad();
    const Tensor y = max_pool2d(relu(x), half);
    const Tensor g = autograd::grad((y * y).sum(), {x}, {.create_graph = true})[0];
    return std::vector{autograd::grad((g * g).sum(), {x})[0]};
  });
}

TEST(Reorder, LeavesWhatItWouldNotShorten) {
  after([](const Tensor& x) { return std::vector{avg_pool2d(relu(x), {.kernel = {2}})}; }, 0);
  after([](const Tensor& x) { return std::vector{max_pool2d(tanh(x), {.kernel = {2}})}; }, 0);
  after(
      [](const Tensor& x) {
        return std::vector{max_pool2d(relu(x), {.kernel = {3}, .stride = {1}, .padding = {1}})};
      },
      0);
  // Batch norm takes the ReLU along for nothing; but a gradient is worth it.
  const auto normalised = [](const Tensor& x) {
    Tensor mean, var;
    return max_pool2d(relu(batch_norm(x, {}, {}, mean, var, true)), {.kernel = {2}});
  };
  after([&](const Tensor& x) { return std::vector{normalised(x)}; }, 0);
  after(with_gradient(normalised), 2);
}

TEST(Reorder, KeepsToTheOrderOfWrites) {
  const Pool2dOptions half{.kernel = {2}};
  // x is written over before it is pooled: it must be pooled where the ReLU stood.
  after(
      [&](const Tensor& t) {
        Tensor x = t * 2;
        const Tensor y = relu(x);
        x.add_(1);
        return std::vector{max_pool2d(y, half), x};
      },
      1);
  after(
      [&](const Tensor& x) {  // what was pooled is written over
        Tensor y = max_pool2d(relu(x), half);
        y.mul_(2);
        return std::vector{y};
      },
      0);
}

// Few different values, so that windows have ties; and all that is special.
Tensor special(DType t, MemoryFormat format, std::uint64_t seed) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const double values[] = {
      1, 2, 0.5, -1, -2, -0.5, 0, -0.0, inf, -inf, std::numeric_limits<double>::quiet_NaN()};
  std::vector<double> v;
  std::mt19937 rng(static_cast<unsigned>(seed));
  for (std::int64_t i = 0; i < image().numel(); ++i) {
    v.push_back(values[rng() % (seed % 2 ? std::size(values) : 8)]);
  }
  return Tensor::from(v, image().shape).to(t).to(format);
}

TEST(Reorder, KeepsEveryBit) {
  CompileOptions only;
  for (const Pass& p : all_passes()) {
    if (std::string_view(p.name) != kPass) only.without.push_back(p.name);
  }
  const Pool2dOptions pools[] = {{.kernel = {2}},
                                 {.kernel = {3}, .stride = {2}, .padding = {1}},
                                 {.kernel = {3, 2}, .stride = {1, 2}},
                                 {.kernel = {4}, .stride = {3}, .ceil_mode = true}};
  for (const DType t : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const MemoryFormat format : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
      for (const Pool2dOptions& o : pools) {
        const auto f = [&](const Tensor& t, const Tensor& weights) {
          const Tensor x = t.detach().set_requires_grad();
          const Tensor y = max_pool2d(relu(x), o);
          return std::vector{y.detach(), autograd::grad((y * weights).sum(), {x})[0]};
        };
        auto compiled = compile(f, only);
        for (std::uint64_t seed = 0; seed < 6; ++seed) {
          manual_seed(seed);
          const Tensor x = special(t, format, seed);
          const Tensor w = randn(max_pool2d(x, o).shape()).to(t);
          const auto want = f(x, w), got = compiled(x, w);
          for (std::size_t k = 0; k < want.size(); ++k) {
            EXPECT_EQ(got[k].to_bits(), want[k].to_bits())
                << name_of(t) << " kernel " << o.kernel.str() << " seed " << seed << " result "
                << k;
            EXPECT_EQ(got[k].desc(), want[k].desc());
          }
        }
        EXPECT_EQ(compiled.core().program().passes.at(0).stats.changed, 2);
      }
    }
  }
}

}  // namespace
}  // namespace tandem::graph
