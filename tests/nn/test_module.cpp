#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/dispatch.h"
#include "core/error.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names(const StateDict& d) {
  std::vector<std::string> v;
  for (const auto& e : d) v.push_back(e.first);
  return v;
}

/// A module of a user's own, as nn/module.h shows it.
class Residual final : public nn::Module {
 public:
  explicit Residual(std::int64_t c)
      : conv_(register_module("conv", nn::Conv2d(c, c, 3, {.padding = 1}))),
        scale_(register_parameter("scale", ones({c, 1, 1}))) {}
  Tensor forward(const Tensor& x) const override { return x + relu(conv_(x)) * scale_; }
  std::string describe() const override { return "Residual"; }

 private:
  nn::Conv2d conv_;
  Tensor scale_;
};

/// Notes the module path at its forward.
class Probe final : public nn::Module {
 public:
  explicit Probe(std::string* path, std::uint32_t* line) : path_(path), line_(line) {}
  Tensor forward(const Tensor& x) const override {
    *path_ = CallSite::path();
    *line_ = CallSite::blame(SrcLoc::current()).line();
    return x;
  }

 private:
  std::string* path_;
  std::uint32_t* line_;
};

nn::Sequential small_net() {
  return nn::Sequential{nn::Conv2d(1, 2, 3), nn::BatchNorm2d(2), nn::ReLU(), nn::Flatten(),
                        nn::Linear(8, 3, {.bias = false})};
}

TEST(Layers, CheckTheirOptionsWhenTheyAreMade) {
  EXPECT_THROW(nn::Conv2d(1, 1, 3, {.stride = 0}), ShapeError);
  EXPECT_THROW(nn::Conv2d(1, 1, 3, {.padding = -1}), ValueError);
  EXPECT_THROW(nn::Conv2d(1, 1, 3, {.dilation = 0}), ShapeError);
  EXPECT_THROW(nn::ConvTranspose2d(1, 1, 3, {.output_padding = 1}), ValueError);
  EXPECT_NO_THROW(nn::ConvTranspose2d(1, 1, 3, {.stride = 2, .output_padding = 1}));
  EXPECT_THROW(nn::MaxPool2d(2, {.padding = 2}), ValueError);
  EXPECT_NO_THROW(nn::MaxPool2d(2, {.padding = 1}));
}

TEST(Module, NamesInOrderOfRegistration) {
  const auto net = small_net();
  EXPECT_THAT(names(net.named_parameters()),
              ElementsAre("0.weight", "0.bias", "1.weight", "1.bias", "4.weight"));
  EXPECT_THAT(names(net.named_buffers()), ElementsAre("1.running_mean", "1.running_var"));
  EXPECT_THAT(names(net.state_dict()), ElementsAre("0.weight", "0.bias", "1.weight", "1.bias",
                                                   "1.running_mean", "1.running_var", "4.weight"));
  EXPECT_EQ(net.parameters().size(), 5u);
  EXPECT_EQ(net.parameter_count(), 18 + 2 + 2 + 2 + 24);
  for (const auto& p : net.parameters()) EXPECT_TRUE(p.requires_grad());
  for (const auto& [name, b] : net.named_buffers()) EXPECT_FALSE(b.requires_grad());
}

TEST(Module, UsersOwnModuleInASequential) {
  const auto net = nn::Sequential(nn::Conv2d(3, 4, 3), Residual(4), nn::Flatten());
  EXPECT_THAT(names(net.named_parameters()),
              ElementsAre("0.weight", "0.bias", "1.scale", "1.conv.weight", "1.conv.bias"));
  const Tensor y = net(randn({2, 3, 5, 5}));
  EXPECT_EQ(y.shape(), (Shape{2, 4 * 9}));
  sum(y).backward();
  for (const auto& [name, p] : net.named_parameters()) EXPECT_TRUE(p.grad().defined()) << name;
  net.zero_grad();
  for (const auto& p : net.parameters()) EXPECT_FALSE(p.grad().defined());
}

TEST(Module, CopiesAreHandlesToTheSameState) {
  const auto net = small_net();
  const auto other = net;
  const nn::AnyModule any = net;
  const auto inside = nn::Sequential(net, nn::ReLU());
  EXPECT_TRUE(other.parameters()[0].same_as(net.parameters()[0]));
  EXPECT_TRUE(any.parameters()[0].same_as(net.parameters()[0]));
  EXPECT_TRUE(inside.parameters()[0].same_as(net.parameters()[0]));
  other.eval();
  EXPECT_FALSE(net.training());
  EXPECT_FALSE(any.training());
  net.add(nn::Linear(3, 2));
  EXPECT_EQ(other.size(), 6);
  EXPECT_EQ(any.parameters().size(), 7u);
}

TEST(Module, SharedParametersCountOnce) {
  const nn::Linear layer(3, 3);
  const auto net = nn::Sequential(layer, nn::ReLU(), layer);
  EXPECT_EQ(net.parameters().size(), 2u);
  EXPECT_EQ(net.parameter_count(), 12);
  EXPECT_EQ(net.state_dict().size(), 4u);  // but each place has its name
}

TEST(Module, TrainAndEvalReachEveryModule) {
  const auto net = nn::Sequential(nn::Sequential(nn::Dropout(0.5)), nn::BatchNorm1d(4));
  EXPECT_TRUE(net.training());
  net.eval();
  for (const auto& [path, m] : net.named_modules()) EXPECT_FALSE(m->training()) << path;
  net.train();
  for (const auto& [path, m] : net.named_modules()) EXPECT_TRUE(m->training()) << path;
}

TEST(Module, DropoutFollowsTheMode) {
  const nn::Dropout drop(0.5);
  const Tensor x = ones({1000});
  const auto zeros_in = [](const Tensor& t) { return 1000 - sum(ne(t, 0)).item<std::int64_t>(); };
  EXPECT_NEAR(static_cast<double>(zeros_in(drop(x))), 500, 100);
  drop.eval();
  EXPECT_EQ(zeros_in(drop(x)), 0);
}

TEST(Module, DropoutWithAGeneratorOfItsOwn) {
  Generator g1(7), g2(7);
  const nn::Dropout a(0.5, &g1), b(0.5, &g2);
  const Tensor x = ones({64});
  const auto first = a(x).to_vector<float>();
  EXPECT_EQ(first, b(x).to_vector<float>());
  EXPECT_NE(first, a(x).to_vector<float>());
}

TEST(Module, BatchNormUpdatesItsStatisticsInTrainingOnly) {
  const nn::BatchNorm2d bn(2);
  const Tensor x = randn({8, 2, 3, 3}) + 5;
  bn(x);
  const auto after = bn.running_mean().to_vector<float>();
  EXPECT_NEAR(after[0], 0.5, 0.1);
  bn.eval();
  bn(x);
  EXPECT_EQ(bn.running_mean().to_vector<float>(), after);
  EXPECT_THROW(bn(ones({2, 2})), ShapeError);
  EXPECT_THROW(nn::BatchNorm1d(2)(ones({2, 2, 3, 3})), ShapeError);
}

TEST(Module, StateDictRoundTrip) {
  const auto a = small_net(), b = small_net();
  a(randn({4, 1, 4, 4}));  // moves the running statistics
  b.load_state_dict(a.state_dict());
  const StateDict x = a.state_dict(), y = b.state_dict();
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_FALSE(x[i].second.same_as(y[i].second));
    EXPECT_EQ(x[i].second.to_vector<float>(), y[i].second.to_vector<float>());
  }
  for (const auto& p : b.parameters()) EXPECT_TRUE(p.requires_grad());
  const Tensor in = randn({2, 1, 4, 4});
  a.eval();
  b.eval();
  EXPECT_EQ(a(in).to_vector<float>(), b(in).to_vector<float>());
}

TEST(Module, LoadErrorsNameTheTensorAndChangeNothing) {
  const auto net = small_net();
  const auto before = net.parameters()[0].to_vector<float>();
  StateDict state;
  for (const auto& [name, t] : net.state_dict()) state.emplace_back(name, zeros_like(t));

  StateDict missing = state;
  missing.erase(missing.begin() + 3);
  EXPECT_THAT(message_of<ValueError>([&] { net.load_state_dict(missing); }),
              HasSubstr("lacks some of the tensors; got none for 1.bias"));
  StateDict unexpected = state;
  unexpected.emplace_back("5.weight", ones({1}));
  EXPECT_THAT(message_of<ValueError>([&] { net.load_state_dict(unexpected); }),
              HasSubstr("does not have; got 5.weight"));
  StateDict wrong = state;
  wrong.back().second = ones({8, 3});
  EXPECT_THAT(message_of<ShapeError>([&] { net.load_state_dict(wrong); }),
              HasSubstr("\"4.weight\" has another shape; got [8, 3]; expected [3, 8]"));
  StateDict ints = state;
  ints.back().second = ones({3, 8}, {.dtype = DType::i64});
  EXPECT_THROW(net.load_state_dict(ints), TypeError);
  EXPECT_EQ(net.parameters()[0].to_vector<float>(), before);

  missing.emplace_back("5.weight", ones({1}));
  net.load_state_dict(missing, false);
  EXPECT_EQ(net.parameters()[0].to_vector<float>(), std::vector<float>(18, 0.0f));
  EXPECT_EQ(net.parameters()[2].to_vector<float>(), std::vector<float>(2, 0.0f));
  EXPECT_EQ(net.parameters()[3].to_vector<float>(), std::vector<float>(2, 0.0f));
}

TEST(Module, LoadConvertsDtypes) {
  const auto net = nn::Linear(2, 2);
  StateDict state;
  for (const auto& [name, t] : net.state_dict()) {
    state.emplace_back(name, full(t.shape(), 0.1, {.dtype = DType::f64}));
  }
  net.load_state_dict(state);
  EXPECT_EQ(net.weight().dtype(), DType::f32);
  EXPECT_EQ(net.weight().to_vector<float>(), std::vector<float>(4, 0.1f));
}

TEST(Module, ConversionsReachTheModulesOwnHandles) {
  const auto net = small_net();
  const auto parameters = net.parameters();
  net.to(MemoryFormat::channels_last);
  net.to(DType::bf16);
  EXPECT_EQ(parameters[0].dtype(), DType::bf16);
  EXPECT_TRUE(parameters[0].is_channels_last());
  EXPECT_TRUE(parameters[0].requires_grad());
  // Normalisation stays in f32.
  EXPECT_EQ(parameters[2].dtype(), DType::f32);
  EXPECT_EQ(net.named_buffers()[0].second.dtype(), DType::f32);
  const Tensor y = net(randn({2, 1, 4, 4}).to(DType::bf16));
  EXPECT_EQ(y.dtype(), DType::bf16);
  net.to(DType::f64);
  EXPECT_EQ(parameters[2].dtype(), DType::f64);
  EXPECT_EQ(net(randn({2, 1, 4, 4}, {.dtype = DType::f64})).dtype(), DType::f64);
  EXPECT_THROW(net.to(DType::i32), TypeError);
}

TEST(Module, PathsAndLines) {
  std::string path;
  std::uint32_t line = 0;
  const auto features = nn::Sequential(nn::ReLU(), Probe(&path, &line));
  const Tensor x = ones({1});
  features(x);
  EXPECT_EQ(path, "1");
  nn::Sequential net;
  net.add("features", features).add("head", nn::ReLU());
  net(x);
  EXPECT_EQ(line, static_cast<std::uint32_t>(__LINE__ - 1));
  EXPECT_EQ(path, "features.1");
  EXPECT_EQ(CallSite::path(), "");
}

TEST(Module, Text) {
  EXPECT_EQ(small_net().str(),
            "Sequential(\n"
            "  (0): Conv2d(1, 2, 3)\n"
            "  (1): BatchNorm2d(2)\n"
            "  (2): ReLU()\n"
            "  (3): Flatten()\n"
            "  (4): Linear(8, 3, bias=false)\n"
            ")");
  EXPECT_THAT(nn::Sequential(nn::Sequential(nn::ReLU())).add(small_net()).str(),
              HasSubstr("\n    (0): Conv2d"));
  EXPECT_EQ(nn::Conv2d(4, 8, {3, 5}, {.stride = 2, .padding = {1, 2}, .groups = 2}).str(),
            "Conv2d(4, 8, 3x5, stride=2, padding=1x2, groups=2)");
  EXPECT_EQ(nn::MaxPool2d(3, {.stride = 2, .padding = 1}).str(),
            "MaxPool2d(3, stride=2, padding=1)");
  const std::string s = models::lenet().summary();
  EXPECT_THAT(s, HasSubstr("3,274,634 parameters"));
  EXPECT_THAT(s, HasSubstr("weight[1024, 3136] bias[1024]"));
}

TEST(Module, RegistrationErrors) {
  const auto net = nn::Sequential(nn::ReLU());
  EXPECT_THAT(message_of<ValueError>([&] { net.add("0", nn::ReLU()); }),
              HasSubstr("has something of this name already; got \"0\""));
  EXPECT_THROW(net.add("a.b", nn::ReLU()), ValueError);
  EXPECT_THROW(net.add("", nn::ReLU()), ValueError);
  EXPECT_THROW(net[1], IndexError);
  EXPECT_THROW(nn::Linear(0, 3), ShapeError);
  EXPECT_THROW(nn::Conv2d(3, 4, 3, {.groups = 2}), ShapeError);
  EXPECT_THROW(nn::Dropout(1.5), ValueError);
}

TEST(Module, EveryKindRuns) {
  const Tensor x = randn({2, 4, 8, 8});
  const auto shape_of = [&](const nn::Module& m) { return m(x).shape(); };
  EXPECT_EQ(
      shape_of(nn::ConvTranspose2d(4, 6, 3, {.stride = 2, .padding = 1, .output_padding = 1})),
      (Shape{2, 6, 16, 16}));
  EXPECT_EQ(shape_of(nn::Conv2d(4, 6, {1, 3}, {.dilation = 2})), (Shape{2, 6, 8, 4}));
  EXPECT_EQ(shape_of(nn::MaxPool2d(2)), (Shape{2, 4, 4, 4}));
  EXPECT_EQ(shape_of(nn::AvgPool2d(3, {.stride = 1, .padding = 1})), x.shape());
  EXPECT_EQ(shape_of(nn::AdaptiveAvgPool2d({1, 2})), (Shape{2, 4, 1, 2}));
  EXPECT_EQ(shape_of(nn::Flatten()), (Shape{2, 256}));
  EXPECT_EQ(shape_of(nn::Flatten(2)), (Shape{2, 4, 64}));
  EXPECT_EQ(shape_of(nn::LayerNorm({8, 8})), x.shape());
  for (const nn::AnyModule& m : std::initializer_list<nn::AnyModule>{
           nn::ReLU(), nn::LeakyReLU(0.2), nn::GELU(), nn::SiLU(), nn::Sigmoid(), nn::Tanh(),
           nn::Softplus(), nn::Identity()}) {
    EXPECT_EQ(shape_of(m), x.shape()) << m.str();
  }
  EXPECT_TRUE(nn::Identity()(x).same_as(x));
  const Tensor ids = Tensor::from<std::int64_t>({1, 0, 4}, {3});
  const nn::Embedding e(5, 7);
  EXPECT_EQ(e(ids).shape(), (Shape{3, 7}));
}

TEST(Module, BuildsInOtherDtypes) {
  const nn::Linear f64(3, 2, {.tensor = {.dtype = DType::f64}});
  EXPECT_EQ(f64.weight().dtype(), DType::f64);
  const nn::BatchNorm2d bn(3, {.tensor = {.dtype = DType::bf16}});
  EXPECT_EQ(bn.weight().dtype(), DType::f32);
}

}  // namespace
}  // namespace tandem
