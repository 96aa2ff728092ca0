#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/dispatch.h"
#include "core/error.h"
#include "graph/compile.h"
#include "nn/nn.h"
#include "ops/ops.h"

namespace tandem {
namespace {

using testing::HasSubstr;
using Place = models::PlainNetOptions::Dropout;

TEST(Models, ParameterCounts) {
  EXPECT_EQ(models::lenet().parameter_count(), 3274634);
  EXPECT_EQ(models::vgg_cifar().parameter_count(), 3441592);
  EXPECT_EQ(models::resnet18(10, true).parameter_count(), 11173962);
  EXPECT_EQ(models::resnet18().parameter_count(), 11689512);
  EXPECT_EQ(models::resnet50().parameter_count(), 25557032);
  EXPECT_EQ(models::resnet(models::resnet_options(34)).parameter_count(), 21797672);
  EXPECT_THROW(models::resnet_options(19), ValueError);
  EXPECT_THROW(models::resnet({.blocks = {1, 0}}), ValueError);
}

TEST(Models, ByName) {
  for (const auto name : models::model_names()) {
    if (name == "vgg16" || (name.starts_with("resnet") && !name.ends_with("cifar")))
      continue;  // large
    const models::Model m = models::make_model(name);
    EXPECT_EQ(m.name, name);
    const NoGrad no_grad;
    m.net.eval();
    const Tensor y = m.net(zeros({2, m.input[0], m.input[1], m.input[2]}));
    EXPECT_EQ(y.shape(), (Shape{2, m.classes})) << name;
  }
  EXPECT_EQ(models::make_model("resnet18-cifar", {.classes = 7}).classes, 7);
  EXPECT_THROW(models::make_model("lenet", {.classes = 7}), ValueError);
  try {
    models::make_model("alexnet");
    ADD_FAILURE();
  } catch (const ValueError& e) {
    EXPECT_THAT(e.what(), HasSubstr("resnet50"));
  }
}

TEST(Models, OnesForLargeImagesTrainTheSameInBothModes) {
  if (!default_device().is_cpu()) GTEST_SKIP() << "takes long where a device is emulated";
  for (const char* name : {"resnet18", "resnet50"}) {
    SCOPED_TRACE(name);
    const Tensor x = randn({1, 3, 224, 224}), label = full({1}, 7, {.dtype = DType::i64});
    // Losses of two steps, and the parameters after them.
    const auto train = [&](bool compiled) {
      manual_seed(3);
      const models::Model m = models::make_model(name);
      const optim::SGD opt(m.net.parameters(), {.lr = 0.01, .momentum = 0.9});
      const auto step = [&](const Tensor& images, const Tensor& labels) {
        opt.zero_grad();
        Tensor loss = nn::cross_entropy(m.net(images), labels);
        loss.backward();
        opt.step();
        return loss;
      };
      auto fast = compile(step);
      std::vector<Tensor> made;
      for (int i = 0; i < 2; ++i) made.push_back(compiled ? fast(x, label) : step(x, label));
      for (const Tensor& p : m.net.parameters()) made.push_back(p);
      return made;
    };
    const std::vector<Tensor> eager = train(false), fast = train(true);
    EXPECT_GT(std::abs(eager[0].item() - eager[1].item()), 1e-3) << "it learns something";
    ASSERT_EQ(eager.size(), fast.size());
    for (std::size_t i = 0; i < eager.size(); ++i) {
      ASSERT_EQ(eager[i].to_bits(), fast[i].to_bits()) << "tensor " << i;
    }
  }
}

TEST(Models, ResNetForLargeImagesAndBottlenecks) {
  const NoGrad no_grad;
  const auto net = models::resnet(
      {.blocks = {1, 2}, .bottleneck = true, .classes = 5, .width = 8, .zero_last = true});
  EXPECT_EQ(net(randn({1, 3, 64, 64})).shape(), (Shape{1, 5}));
  const auto names = net.named_parameters();
  EXPECT_EQ(names[0].first, "conv1.weight");
  const auto has = [&](const std::string& name) {
    for (const auto& e : names) {
      if (e.first == name) return true;
    }
    return false;
  };
  EXPECT_TRUE(has("layer1.0.conv3.weight"));
  EXPECT_TRUE(has("layer1.0.downsample.1.bias"));
  EXPECT_TRUE(has("layer2.1.bn2.weight"));
  EXPECT_FALSE(has("layer2.1.downsample.0.weight"));
  EXPECT_TRUE(has("fc.bias"));
}

TEST(Models, ReluAfterPoolGivesTheSameValues) {
  for (const bool small : {true, false}) {
    const auto make = [&](bool after) {
      Generator g(5);
      const models::PlainNetOptions o{.relu_after_pool = after, .generator = &g};
      const auto net = small ? models::lenet(o) : models::vgg_cifar(o);
      net.eval();
      return net;
    };
    const NoGrad no_grad;
    const Tensor x = small ? randn({3, 1, 28, 28}) : randn({3, 3, 32, 32});
    EXPECT_EQ(make(false)(x).to_vector<float>(), make(true)(x).to_vector<float>());
  }
}

TEST(Models, Toggles) {
  const auto count = [](const nn::Sequential& net, const std::string& kind) {
    int n = 0;
    for (int i = 0; i < net.size(); ++i) n += net[i].describe().starts_with(kind);
    return n;
  };
  EXPECT_EQ(count(models::lenet(), "Dropout"), 1);
  EXPECT_EQ(count(models::vgg_cifar(), "Dropout"), 3);
  EXPECT_EQ(count(models::lenet({.dropout = Place::none}), "Dropout"), 0);
  EXPECT_EQ(count(models::vgg_cifar({.dropout = Place::none}), "Dropout"), 0);
  const auto before = models::lenet({.dropout = Place::before_relu});
  EXPECT_EQ(before[8].describe(), "Dropout(0.5)");
  EXPECT_EQ(before[9].describe(), "ReLU()");

  const auto tutorial = models::lenet({.init = models::Init::truncated_normal});
  for (const auto& [name, p] : tutorial.named_parameters()) {
    if (name.ends_with("bias")) {
      EXPECT_EQ(p.to_vector<float>()[0], 0.1f);
    } else {
      EXPECT_NEAR(std::sqrt(mean(square(p.detach())).item()), 0.08796, 0.008) << name;
    }
  }
  const auto glorot = models::lenet({.init = models::Init::glorot_uniform});
  EXPECT_EQ(max(abs(glorot.named_parameters()[1].second.detach())).item(), 0);

  const auto last = models::lenet({.layout = MemoryFormat::channels_last});
  EXPECT_TRUE(last.parameters()[2].is_channels_last());
  EXPECT_FALSE(models::lenet().parameters()[2].is_channels_last());
  const NoGrad no_grad;
  const auto bf16 = models::resnet({.blocks = {1},
                                    .classes = 3,
                                    .width = 8,
                                    .small_input = true,
                                    .layout = MemoryFormat::channels_last,
                                    .tensor = {.dtype = DType::bf16}});
  const Tensor x = randn({2, 3, 8, 8}).to(DType::bf16).to(MemoryFormat::channels_last);
  EXPECT_EQ(bf16(x).dtype(), DType::bf16);
}

TEST(Models, ZeroLastStartsEachBlockAsTheIdentity) {
  const NoGrad no_grad;
  const auto net = models::resnet(
      {.blocks = {1}, .classes = 3, .width = 4, .small_input = true, .zero_last = true});
  for (const auto& [path, m] : net.named_modules()) {
    if (path != "layer1.0") continue;
    const Tensor x = abs(randn({2, 4, 8, 8}));
    EXPECT_EQ((*m)(x).to_vector<float>(), x.to_vector<float>());
  }
}

TEST(Models, OneStepOfEachPlainNetLowersItsLoss) {
  manual_seed(1);
  for (const bool small : {true, false}) {
    const auto net = small ? models::lenet() : models::vgg_cifar();
    const optim::SGD opt(net.parameters(), {.lr = 0.02, .momentum = 0.9});
    const Tensor x = small ? rand({8, 1, 28, 28}) : rand({8, 3, 32, 32});
    const Tensor y = Tensor::from<std::int64_t>({0, 1, 2, 3, 4, 5, 6, 7}, {8});
    net.eval();
    const double before = nn::cross_entropy(net(x), y).item();
    net.train();
    for (int i = 0; i < 5; ++i) {
      opt.zero_grad();
      nn::cross_entropy(net(x), y).backward();
      opt.step();
    }
    net.eval();
    EXPECT_LT(nn::cross_entropy(net(x), y).item(), before);
  }
}

}  // namespace
}  // namespace tandem
