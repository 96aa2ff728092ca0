#include "nn/models.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "core/error.h"
#include "nn/init.h"
#include "ops/ops.h"

namespace tandem::models {

using nn::Sequential;

void initialise(const nn::Module& net, Init init, Generator* generator) {
  const auto set = [&](const Tensor& weight, const Tensor& bias) {
    switch (init) {
      case Init::fan_in_uniform: {
        const double bound = 1.0 / std::sqrt(nn::init::fans(weight).in);
        nn::init::uniform(weight, -bound, bound, generator);
        if (bias.defined()) nn::init::uniform(bias, -bound, bound, generator);
        break;
      }
      case Init::glorot_uniform:
        nn::init::xavier_uniform(weight, 1, generator);
        if (bias.defined()) nn::init::constant(bias, 0);
        break;
      case Init::truncated_normal:
        nn::init::truncated_normal(weight, 0, 0.1, generator);
        if (bias.defined()) nn::init::constant(bias, 0.1);
        break;
    }
  };
  net.apply([&](const nn::Module& m) {
    if (auto* l = dynamic_cast<const nn::Linear*>(&m)) set(l->weight(), l->bias());
    if (auto* c = dynamic_cast<const nn::Conv2d*>(&m)) set(c->weight(), c->bias());
  });
}

// ------------------------------------------------------------------------------- plain nets

namespace {

void relu_and_pool(const Sequential& net, bool relu_after_pool) {
  if (relu_after_pool) {
    net.add(nn::MaxPool2d(2)).add(nn::ReLU());
  } else {
    net.add(nn::ReLU()).add(nn::MaxPool2d(2));
  }
}

/// in -> hidden, ReLU and dropout in the order asked for, -> 10.
void classifier(const Sequential& net, std::int64_t in, std::int64_t hidden,
                const PlainNetOptions& o) {
  using Place = PlainNetOptions::Dropout;
  const nn::LinearOptions linear{.tensor = o.tensor, .generator = o.generator};
  net.add(nn::Flatten()).add(nn::Linear(in, hidden, linear));
  if (o.dropout == Place::before_relu) net.add(nn::Dropout(0.5));
  net.add(nn::ReLU());
  if (o.dropout == Place::after_relu) net.add(nn::Dropout(0.5));
  net.add(nn::Linear(hidden, 10, linear));
}

void finish(const Sequential& net, const PlainNetOptions& o) {
  if (o.init != Init::fan_in_uniform) initialise(net, o.init, o.generator);
  net.to(o.layout);
}

}  // namespace

Sequential lenet(const PlainNetOptions& o) {
  const nn::ConvOptions conv{.padding = 2, .tensor = o.tensor, .generator = o.generator};
  Sequential net;
  net.add(nn::Conv2d(1, 32, 5, conv));
  relu_and_pool(net, o.relu_after_pool);
  net.add(nn::Conv2d(32, 64, 5, conv));
  relu_and_pool(net, o.relu_after_pool);
  classifier(net, 64 * 7 * 7, 1024, o);
  finish(net, o);
  return net;
}

Sequential vgg_cifar(const PlainNetOptions& o) {
  const nn::ConvOptions conv{.padding = 1, .tensor = o.tensor, .generator = o.generator};
  const bool dropout = o.dropout != PlainNetOptions::Dropout::none;
  Sequential net;
  std::int64_t in = 3;
  for (const std::int64_t out : {50, 100}) {
    net.add(nn::Conv2d(in, out, 3, conv)).add(nn::ReLU()).add(nn::Conv2d(out, out, 3, conv));
    relu_and_pool(net, o.relu_after_pool);
    if (dropout) net.add(nn::Dropout(0.25));
    in = out;
  }
  classifier(net, 100 * 8 * 8, 512, o);
  finish(net, o);
  return net;
}

// ------------------------------------------------------------------------------- ResNet

namespace {

/// relu(f(x) + shortcut(x)), f being convolutions with normalisation, ReLU between them.
class ResidualBlock final : public nn::Module {
 public:
  ResidualBlock(std::int64_t in, std::int64_t width, std::int64_t stride, const ResNetOptions& o) {
    const std::int64_t out = o.bottleneck ? 4 * width : width;
    if (o.bottleneck) {
      add(in, width, 1, 1, o);
      add(width, width, 3, stride, o);
      add(width, out, 1, 1, o);
    } else {
      add(in, width, 3, stride, o);
      add(width, out, 3, 1, o);
    }
    if (o.zero_last) nn::init::constant(layers_.back().second.weight(), 0);
    if (stride != 1 || in != out) {
      shortcut_ =
          register_module("downsample", Sequential(convolution(in, out, 1, stride, o),
                                                   nn::BatchNorm2d(out, {.tensor = o.tensor})));
    }
  }

  Tensor forward(const Tensor& x) const override {
    Tensor t = x;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      t = layers_[i].second(layers_[i].first(t));
      if (i + 1 < layers_.size()) t = relu(t);
    }
    return relu(t + shortcut_(x));
  }
  std::string describe() const override { return "ResidualBlock"; }

  static nn::Conv2d convolution(std::int64_t in, std::int64_t out, std::int64_t kernel,
                                std::int64_t stride, const ResNetOptions& o) {
    nn::Conv2d conv(in, out, kernel,
                    {.stride = stride,
                     .padding = kernel / 2,
                     .bias = false,
                     .tensor = o.tensor,
                     .generator = o.generator});
    nn::init::kaiming_normal(conv.weight(), {.fan = nn::init::Fan::out}, o.generator);
    return conv;
  }

 private:
  void add(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
           const ResNetOptions& o) {
    const std::string n = std::to_string(layers_.size() + 1);
    // One after the other: arguments of one call would be made, and registered, in any order.
    const auto conv = register_module("conv" + n, convolution(in, out, kernel, stride, o));
    const auto norm = register_module("bn" + n, nn::BatchNorm2d(out, {.tensor = o.tensor}));
    layers_.emplace_back(conv, norm);
  }

  std::vector<std::pair<nn::Conv2d, nn::BatchNorm2d>> layers_;
  Sequential shortcut_;  // empty: the identity
};

}  // namespace

Sequential resnet(const ResNetOptions& o) {
  if (o.blocks.empty()) fail("resnet", "there must be a group of blocks", "none", "1 or more");
  for (const int n : o.blocks) {
    if (n < 1) fail("resnet", "a group has at least one block", std::to_string(n), "1 or more");
  }
  Sequential net;
  net.add("conv1", o.small_input ? ResidualBlock::convolution(o.channels, o.width, 3, 1, o)
                                 : ResidualBlock::convolution(o.channels, o.width, 7, 2, o));
  net.add("bn1", nn::BatchNorm2d(o.width, {.tensor = o.tensor})).add("relu", nn::ReLU());
  if (!o.small_input) net.add("maxpool", nn::MaxPool2d(3, {.stride = 2, .padding = 1}));
  std::int64_t in = o.width, width = o.width;
  for (std::size_t g = 0; g < o.blocks.size(); ++g, width *= 2) {
    Sequential group;
    for (int b = 0; b < o.blocks[g]; ++b) {
      group.add(ResidualBlock(in, width, b == 0 && g > 0 ? 2 : 1, o));
      in = o.bottleneck ? 4 * width : width;
    }
    net.add("layer" + std::to_string(g + 1), group);
  }
  net.add("avgpool", nn::AdaptiveAvgPool2d(1)).add("flatten", nn::Flatten());
  net.add("fc", nn::Linear(in, o.classes, {.tensor = o.tensor, .generator = o.generator}));
  net.to(o.layout);
  return net;
}

ResNetOptions resnet_options(int layers) {
  switch (layers) {
    case 18: return {.blocks = {2, 2, 2, 2}};
    case 34: return {.blocks = {3, 4, 6, 3}};
    case 50: return {.blocks = {3, 4, 6, 3}, .bottleneck = true};
    case 152: return {.blocks = {3, 8, 36, 3}, .bottleneck = true};
    default:
      fail("resnet", "there is no net of as many layers", std::to_string(layers),
           "18, 34, 50 or 152");
  }
}

Sequential resnet18(std::int64_t classes, bool small_input) {
  ResNetOptions o = resnet_options(18);
  o.classes = classes;
  o.small_input = small_input;
  return resnet(o);
}

Sequential resnet50(std::int64_t classes) {
  ResNetOptions o = resnet_options(50);
  o.classes = classes;
  return resnet(o);
}

// ------------------------------------------------------------------------------- VGG16

Sequential vgg16(const Vgg16Options& o) {
  const nn::ConvOptions conv{.padding = 1, .tensor = o.tensor, .generator = o.generator};
  const nn::LinearOptions linear{.tensor = o.tensor, .generator = o.generator};
  Sequential features;
  std::int64_t in = 3;
  for (const auto& [convolutions, out] :
       {std::pair{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}}) {
    for (int i = 0; i < convolutions; ++i, in = out) {
      nn::Conv2d layer(in, out, 3, conv);
      nn::init::kaiming_normal(layer.weight(), {.fan = nn::init::Fan::out}, o.generator);
      nn::init::constant(layer.bias(), 0);
      features.add(layer).add(nn::ReLU());
    }
    features.add(nn::MaxPool2d(2));
  }
  Sequential classifier;
  in = 512 * 7 * 7;
  for (int i = 0; i < 2; ++i, in = 4096) {
    classifier.add(nn::Linear(in, 4096, linear)).add(nn::ReLU()).add(nn::Dropout(0.5));
  }
  classifier.add(nn::Linear(4096, o.classes, linear));
  Sequential net;
  net.add("features", features).add("flatten", nn::Flatten()).add("classifier", classifier);
  net.to(o.layout);
  return net;
}

// ------------------------------------------------------------------------------- by name

namespace {

struct Entry {
  std::string_view name;
  Shape input;
  std::int64_t classes;
  bool any_classes;
  Sequential (*make)(std::int64_t classes, const ModelOptions& o);
};

PlainNetOptions plain(const ModelOptions& o) {
  return {.layout = o.layout, .tensor = o.tensor, .generator = o.generator};
}

template <int kLayers, bool kSmall = false>
Sequential make_resnet(std::int64_t classes, const ModelOptions& o) {
  ResNetOptions r = resnet_options(kLayers);
  r.classes = classes;
  r.small_input = kSmall;
  r.layout = o.layout;
  r.tensor = o.tensor;
  r.generator = o.generator;
  return resnet(r);
}

const std::vector<Entry>& registry() {
  static const std::vector<Entry> entries = {
      {"lenet", {1, 28, 28}, 10, false, [](auto, auto& o) { return lenet(plain(o)); }},
      {"vgg-cifar", {3, 32, 32}, 10, false, [](auto, auto& o) { return vgg_cifar(plain(o)); }},
      {"resnet18-cifar", {3, 32, 32}, 10, true, make_resnet<18, true>},
      {"resnet18", {3, 224, 224}, 1000, true, make_resnet<18>},
      {"resnet34", {3, 224, 224}, 1000, true, make_resnet<34>},
      {"resnet50", {3, 224, 224}, 1000, true, make_resnet<50>},
      {"resnet152", {3, 224, 224}, 1000, true, make_resnet<152>},
      {"vgg16",
       {3, 224, 224},
       1000,
       true,
       [](std::int64_t classes, const ModelOptions& o) {
         return vgg16({.classes = classes,
                       .layout = o.layout,
                       .tensor = o.tensor,
                       .generator = o.generator});
       }},
  };
  return entries;
}

}  // namespace

std::vector<std::string_view> model_names() {
  std::vector<std::string_view> v;
  for (const Entry& e : registry()) v.push_back(e.name);
  return v;
}

Model make_model(std::string_view name, const ModelOptions& o) {
  for (const Entry& e : registry()) {
    if (e.name != name) continue;
    const std::int64_t classes = o.classes.value_or(e.classes);
    if (classes != e.classes && !e.any_classes) {
      fail("make_model", std::string(name) + " has a fixed number of classes",
           std::to_string(classes), std::to_string(e.classes));
    }
    return {std::string(name), e.make(classes, o), e.input, classes};
  }
  fail("make_model", "no model of this name", name,
       fmt::format("{}", fmt::join(model_names(), ", ")));
}

}  // namespace tandem::models
