// Fifty training steps of each of the experiments' nets, eager and compiled, from the same start:
// every loss, every parameter and buffer, every slot, every gradient and the generator, bit for
// bit.
#include <gtest/gtest.h>

#include "graph/compile.h"
#include "nn/nn.h"
#include "tests/op_cases.h"

namespace tandem {
namespace {

struct Setup {
  const char* name;
  nn::Sequential (*net)();
  Shape input;
  std::int64_t classes;
  optim::Optimizer (*optimizer)(const nn::Module&);
};

nn::Sequential narrow_resnet() {
  // Batch norm, residual sums, and dropout in front of the classifier.
  nn::Sequential net =
      models::resnet({.blocks = {1, 1}, .classes = 8, .width = 8, .small_input = true});
  nn::Sequential whole;
  whole.add(net);
  whole.add(nn::Dropout(0.4));
  whole.add(nn::Linear(8, 5));
  return whole;
}

const Setup kSetups[] = {
    {"lenet",
     [] { return models::lenet(); },
     {1, 28, 28},
     10,
     [](const nn::Module& m) -> optim::Optimizer {
       return optim::Adam(m.parameters(), {.lr = 1e-3});
     }},
    {"vgg",
     [] { return models::vgg_cifar(); },
     {3, 32, 32},
     10,
     [](const nn::Module& m) -> optim::Optimizer {
       return optim::SGD(m.parameters(), {.lr = 0.01, .momentum = 0.9, .nesterov = true});
     }},
    {"resnet",
     narrow_resnet,
     {3, 8, 8},
     5,
     [](const nn::Module& m) -> optim::Optimizer {
       return optim::SGD(m.parameters(), {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-3});
     }},
};

struct Training {
  nn::Sequential net;
  optim::Optimizer opt;

  explicit Training(const Setup& s) : net(make(s)), opt(s.optimizer(net)) {}
  static nn::Sequential make(const Setup& s) {
    manual_seed(11);
    return s.net();
  }
  Tensor step(const Tensor& x, const Tensor& y) const {
    opt.zero_grad();
    Tensor loss = nn::cross_entropy(net(x), y);
    loss.backward();
    opt.step();
    return loss;
  }
  StateDict everything() const {
    StateDict s = net.state_dict();
    for (const auto& [name, t] : opt.state_dict()) s.push_back({"optimizer " + name, t});
    for (const auto& [name, t] : net.named_parameters())
      s.push_back({"gradient of " + name, t.grad()});
    s.push_back({"generator", default_generator().state().clone()});
    return s;
  }
};

void run(const Setup& setup, int steps, const CompileOptions& options, const std::string& what,
         bool verbose_dump = false) {
  Training eager(setup), compiled(setup);
  auto fast =
      compile([&](const Tensor& x, const Tensor& y) { return compiled.step(x, y); }, options);
  Shape shape = setup.input;
  shape.insert(0, 3);
  Generator data(5);
  std::int64_t drawn = 0;
  for (int i = 0; i < steps; ++i) {
    const Tensor x = rand(shape, {}, &data),
                 y = randint(0, setup.classes, {3}, {.dtype = DType::i64}, &data);
    default_generator().set_state(99, static_cast<std::uint64_t>(drawn));
    const Tensor a = eager.step(x, y);
    const auto end = default_generator().state().to_vector<std::int64_t>();
    default_generator().set_state(99, static_cast<std::uint64_t>(drawn));
    const Tensor b = fast(x, y);
    drawn = end[1];
    ASSERT_EQ(cases::compare_bits(b, a), "") << what << ", loss of step " << i;
    ASSERT_EQ(default_generator().state().to_vector<std::int64_t>(), end) << what << ", step " << i;
    if (i != 0 && i != steps - 1) continue;
    const StateDict p = eager.everything(), q = compiled.everything();
    ASSERT_EQ(p.size(), q.size());
    for (std::size_t k = 0; k < p.size(); ++k) {
      ASSERT_EQ(p[k].second.defined(), q[k].second.defined()) << p[k].first;
      if (!p[k].second.defined()) continue;
      ASSERT_EQ(cases::compare_bits(q[k].second, p[k].second), "")
          << what << ", " << p[k].first << " after step " << i << (verbose_dump ? fast.dump() : "");
    }
  }
  EXPECT_LE(fast.core().size(), 2) << what << ": " << fast.explain();
}

class TrainingStep : public testing::TestWithParam<int> {};

TEST_P(TrainingStep, FiftyStepsEqualEager) {
  run(kSetups[GetParam()], 50, {}, "all passes");
}

TEST_P(TrainingStep, EqualEagerWithoutEachPass) {
  for (const auto& p : graph::all_passes()) {
    run(kSetups[GetParam()], 50, {.without = {p.name}}, std::string("without ") + p.name);
  }
  run(kSetups[GetParam()], 50, {.memory_plan = false}, "without memory plan");
}

TEST_P(TrainingStep, EqualEagerWithPlainKernels) {
  const PolicyScope scope({.vendor = false});
  run(kSetups[GetParam()], 3, {}, "plain kernels");
}

TEST_P(TrainingStep, PassesVerifyMode) {
  run(kSetups[GetParam()], 2, {.verify = true}, "verify");
}

INSTANTIATE_TEST_SUITE_P(Nets, TrainingStep, testing::Values(0, 1, 2),
                         [](const auto& i) { return kSetups[i.param].name; });

TEST(TrainingStep, TrainAndEvalAreTwoPrograms) {
  Training t(kSetups[2]);
  auto predict = compile([&](const Tensor& x) {
    const NoGrad off;
    return t.net(x);
  });
  const Tensor x = rand({2, 3, 8, 8});
  t.net.eval();
  const Tensor a = predict(x), b = predict(x);
  EXPECT_EQ(cases::compare_bits(a, b), "");
  EXPECT_EQ(cases::compare_bits(a,
                                [&] {
                                  const NoGrad off;
                                  return t.net(x);
                                }()),
            "");
  t.net.train();
  predict(x);
  EXPECT_EQ(predict.core().size(), 2);
  EXPECT_NE(predict.core().ledger().back().reason.find("training mode"), std::string::npos);
  t.net.eval();
  predict(x);
  EXPECT_EQ(predict.core().size(), 2);
}

TEST(TrainingStep, AScheduleActsOnTheCompiledStep) {
  const auto losses = [](bool compiled) {
    Training t(kSetups[2]);
    manual_seed(3);
    auto fast = compile([&](const Tensor& x, const Tensor& y) { return t.step(x, y); });
    std::vector<double> out;
    for (int i = 0; i < 6; ++i) {
      t.opt.set_lr(0.1 / (i + 1));
      const Tensor x = full({3, 3, 8, 8}, 0.1 * i) + eye(8),
                   y = Tensor::from<std::int64_t>({0, 1, 2}, {3});
      out.push_back((compiled ? fast(x, y) : t.step(x, y)).item());
    }
    return out;
  };
  EXPECT_EQ(losses(true), losses(false));
}

}  // namespace
}  // namespace tandem
