// The nets of C++, by name and one by one.
#include "nn/models.h"

#include "python/src/choice.h"
#include "python/src/native.h"

namespace tandem::python {

using namespace py::literals;

namespace {

using T = std::optional<DType>;
using D = std::optional<Device>;
using models::Init;

Init init_of(const char* op, const std::string& text) {
  return choice<Init>(op, "init", text,
                      {{"fan_in_uniform", Init::fan_in_uniform},
                       {"glorot_uniform", Init::glorot_uniform},
                       {"truncated_normal", Init::truncated_normal}});
}

}  // namespace

void bind_models(py::module_& m) {
  const py::call_guard<CallerSite> site;
  const auto layout = "layout"_a = MemoryFormat::contiguous;
  const auto dtype = "dtype"_a = py::none();
  const auto device = "device"_a = py::none();
  const auto generator = "generator"_a = py::none();
  m.def(
      "_model",
      [](const std::string& name, std::optional<std::int64_t> classes, MemoryFormat layout, T t,
         D d, Generator* g) {
        auto model = models::make_model(
            name,
            {.classes = classes, .layout = layout, .tensor = tensor_options(t, d), .generator = g});
        py::dict r;
        r["net"] = native(model.net);
        r["input"] = model.input;
        r["classes"] = model.classes;
        return r;
      },
      "name"_a, "classes"_a = py::none(), layout, dtype, device, generator, site);
  m.def(
      "model_names",
      [] {
        std::vector<std::string> names;
        for (const auto n : models::model_names()) names.emplace_back(n);
        return names;
      },
      "The names that nn.make_model() takes.");
  const auto plain = [&](const char* name, nn::Sequential (*make)(const models::PlainNetOptions&)) {
    m.def(
        name,
        [make, op = name + 1](const std::string& init, const std::string& dropout,
                              bool relu_after_pool, MemoryFormat l, T t, D d, Generator* g) {
          using Dropout = models::PlainNetOptions::Dropout;
          return native(make({.init = init_of(op, init),
                              .dropout = choice<Dropout>(op, "dropout", dropout,
                                                         {{"after_relu", Dropout::after_relu},
                                                          {"before_relu", Dropout::before_relu},
                                                          {"none", Dropout::none}}),
                              .relu_after_pool = relu_after_pool,
                              .layout = l,
                              .tensor = tensor_options(t, d),
                              .generator = g}));
        },
        "init"_a, "dropout"_a, "relu_after_pool"_a, layout, dtype, device, generator, site);
  };
  plain("_lenet", models::lenet);
  plain("_vgg_cifar", models::vgg_cifar);
  m.def(
      "_resnet",
      [](const std::vector<int>& blocks, bool bottleneck, std::int64_t classes, std::int64_t width,
         std::int64_t channels, bool small_input, bool zero_last, MemoryFormat l, T t, D d,
         Generator* g) {
        return native(models::resnet({blocks, bottleneck, classes, width, channels, small_input,
                                      zero_last, l, tensor_options(t, d), g}));
      },
      "blocks"_a, "bottleneck"_a, "classes"_a, "width"_a, "channels"_a, "small_input"_a,
      "zero_last"_a, layout, dtype, device, generator, site);
  m.def(
      "_resnet_blocks",
      [](int layers) {
        const models::ResNetOptions o = models::resnet_options(layers);
        return std::pair(o.blocks, o.bottleneck);
      },
      "layers"_a);
  m.def(
      "_vgg16",
      [](std::int64_t classes, MemoryFormat l, T t, D d, Generator* g) {
        return native(models::vgg16({classes, l, tensor_options(t, d), g}));
      },
      "classes"_a, layout, dtype, device, generator, site);
  m.def(
      "_initialise",
      [](const std::vector<Native>& nets, const std::string& init, Generator* g) {
        const Init rule = init_of("initialise", init);
        for (const Native& n : nets) models::initialise(*n.module, rule, g);
      },
      "nets"_a, "init"_a, generator, site);
}

}  // namespace tandem::python
