// The nets of the experiments, and the ones everybody measures with.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/layers.h"

namespace tandem::models {

/// How weights start. What frameworks took for granted differed, and the accuracies they published
/// differ with it.
enum class Init : std::uint8_t {
  fan_in_uniform,    // weights and biases uniform in +-1/sqrt(fan in), the layers' own default
  glorot_uniform,    // Glorot's rule, biases 0
  truncated_normal,  // standard deviation 0.1, biases 0.1 (the TensorFlow tutorials)
};

/// Overwrites the weights and biases of every Linear and Conv2d in `net`.
void initialise(const nn::Module& net, Init init, Generator* generator = nullptr);

/// What the study's frameworks did differently in the two plain nets below. The defaults are the
/// nets as described.
struct PlainNetOptions {
  enum class Dropout : std::uint8_t {
    after_relu,   // on the activations (as described)
    before_relu,  // on what goes into the fully connected layer's ReLU
    none,         // silently off
  };
  Init init = Init::fan_in_uniform;
  Dropout dropout = Dropout::after_relu;
  /// ReLU after instead of before each max-pool: the same values for a quarter of the work.
  bool relu_after_pool = false;
  MemoryFormat layout = MemoryFormat::contiguous;  // of the convolution weights
  TensorOptions tensor = {};
  Generator* generator = nullptr;  // of the initial values; the default one when null
};

/// MNIST net: [N, 1, 28, 28] -> [N, 10]. Twice conv 5x5 (32, 64), ReLU, max-pool 2; then 1024
/// units, ReLU, dropout 0.5; then 10. 3,274,634 parameters.
nn::Sequential lenet(const PlainNetOptions& o = {});

/// CIFAR-10 net: [N, 3, 32, 32] -> [N, 10]. Two groups (50, 100) of two conv 3x3 + ReLU, max-pool
/// 2, dropout 0.25; then 512 units, ReLU, dropout 0.5; then 10. 3,441,592 parameters.
nn::Sequential vgg_cifar(const PlainNetOptions& o = {});

/// Options of the residual nets.
struct ResNetOptions {
  std::vector<int> blocks = {2, 2, 2, 2};  // in each group; a group halves the size, but the first
  bool bottleneck = false;  // blocks of 1x1, 3x3, 1x1 (four times as wide at the end)
  std::int64_t classes = 1000;
  std::int64_t width = 64;  // channels of the first group
  std::int64_t channels = 3;
  /// For 32x32 images: a 3x3 convolution to begin with and no max-pool, instead of 7x7 with stride
  /// 2 and a max-pool.
  bool small_input = false;
  /// Scale of each block's last normalisation starts at 0, so that a block starts as the identity.
  bool zero_last = false;
  MemoryFormat layout = MemoryFormat::contiguous;
  TensorOptions tensor = {};
  Generator* generator = nullptr;
};

/// He et al., "Deep residual learning for image recognition", 2016; the stride of a bottleneck is
/// on its 3x3 convolution. Convolutions start Kaiming-normal (fan out). Names of parameters are
/// those of torchvision's models.
nn::Sequential resnet(const ResNetOptions& o = {});
/// The blocks of the net of 18, 34, 50 or 152 layers (table 1 there). ValueError for another
/// number.
ResNetOptions resnet_options(int layers);
/// 11,689,512 parameters with 1000 classes; 11,173,962 for 32x32 and 10 classes.
nn::Sequential resnet18(std::int64_t classes = 1000, bool small_input = false);
/// 25,557,032 parameters.
nn::Sequential resnet50(std::int64_t classes = 1000);

/// Options of vgg16.
struct Vgg16Options {
  std::int64_t classes = 1000;
  MemoryFormat layout = MemoryFormat::contiguous;
  TensorOptions tensor = {};
  Generator* generator = nullptr;
};
/// Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
/// 2015, configuration D: [N, 3, 224, 224] -> [N, classes]. 138,357,544 parameters.
nn::Sequential vgg16(const Vgg16Options& o = {});

/// A net with what must be known to feed it.
struct Model {
  std::string name;
  nn::Sequential net;
  Shape input;  // [C, H, W]
  std::int64_t classes;
};

/// Options of make_model.
struct ModelOptions {
  std::optional<std::int64_t> classes = {};  // ResNets and VGG16 only
  MemoryFormat layout = MemoryFormat::contiguous;
  TensorOptions tensor = {};
  Generator* generator = nullptr;
};

/// By name: "lenet", "vgg-cifar", "resnet18-cifar", "resnet18", "resnet34", "resnet50",
/// "resnet152", "vgg16". Throws ValueError for another name.
Model make_model(std::string_view name, const ModelOptions& o = {});
/// The names make_model knows.
std::vector<std::string_view> model_names();

}  // namespace tandem::models
