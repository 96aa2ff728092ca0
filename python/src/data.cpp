// Data sets and the loader.
#include "data/data.h"

#include "data/synthetic.h"
#include "python/src/tensor_object.h"

namespace tandem::python {

using namespace py::literals;

namespace {

/// A loader and the epoch it is in.
struct Epoch {
  data::DataLoader* loader;
  std::optional<data::DataLoader::Iterator> at;
  bool started = false;
};

data::AugmentOptions::Flip flip_of(const std::string& s) {
  using Flip = data::AugmentOptions::Flip;
  if (s == "none") return Flip::none;
  if (s == "random") return Flip::random;
  if (s == "alternating") return Flip::alternating;
  fail<ValueError>("DataLoader", "no such flip", s, "'none', 'random' or 'alternating'");
}

}  // namespace

void bind_data(py::module_& m) {
  const auto get = [](const data::Dataset& d, const std::vector<std::int64_t>& indices) {
    Shape shape = {static_cast<std::int64_t>(indices.size())};
    for (std::int64_t s : d.image_shape()) shape.push_back(s);
    std::vector<float> x(static_cast<std::size_t>(numel(shape)));
    std::vector<std::int64_t> y(indices.size());
    d.get(indices, x.data(), y.data());
    return std::pair(Tensor::from(x, shape, kCPU),
                     Tensor::from(y, {static_cast<std::int64_t>(y.size())}, kCPU));
  };
  py::class_<data::Dataset, std::shared_ptr<data::Dataset>>(
      m, "ImageDataset",
      "Labelled images that load_dataset() and byte_images() give; a data set of (image float32\n"
      "[C, H, W] in [0, 1], label int64) pairs. Read by the loader without Python.")
      .def_property_readonly("name", &data::Dataset::name, "As load_dataset() knows it.")
      .def("__len__", &data::Dataset::size)
      .def_property_readonly("image_shape", &data::Dataset::image_shape, "(C, H, W) of an image.")
      .def_property_readonly("classes", &data::Dataset::classes, "Labels are in [0, classes).")
      .def_property_readonly("synthetic", &data::Dataset::synthetic,
                             "Generated rather than read from files of real samples.")
      .def("get", get, "indices"_a, "(images float32 [N, C, H, W] in [0, 1], labels int64 [N]).")
      .def(
          "__getitem__",
          [get](const data::Dataset& d, std::int64_t index) {
            const std::int64_t n = d.size(), at = index < 0 ? index + n : index;
            if (at < 0 || at >= n) {
              fail<IndexError>("ImageDataset", "there is no such sample", std::to_string(index),
                               fmt::format("below {}", n));
            }
            const auto [x, y] = get(d, {at});
            return std::pair(x.select(0, 0), y.select(0, 0));
          },
          "index"_a)
      .def("__repr__", [](const data::Dataset& d) {
        return fmt::format("<tandem.ImageDataset '{}': {} images {}, {} classes>", d.name(),
                           d.size(), d.image_shape().str(), d.classes());
      });
  m.def(
      "load_dataset",
      [](const std::string& name, const std::string& dir) {
        const auto p = data::load_dataset(name, dir);
        return std::pair(std::const_pointer_cast<data::Dataset>(p.train),
                         std::const_pointer_cast<data::Dataset>(p.test));
      },
      "name"_a, "root"_a = "",
      "(train, test) of \"mnist\", \"fashion\", \"cifar10\" (files in `root`),\n"
      "\"synthetic-digits\" or \"synthetic-cifar\". DataError when files are missing or wrong.");
  m.def(
      "dataset_names",
      [] {
        std::vector<std::string> r;
        for (const auto n : data::dataset_names()) r.emplace_back(n);
        return r;
      },
      "The names that load_dataset() takes.");
  m.def(
      "byte_images",
      [](const std::string& name, const Tensor& images, const Tensor& labels,
         std::int64_t classes) {
        if (images.rank() != 4) {
          fail<ShapeError>("byte_images", "images must be [N, C, H, W]", images.shape().str());
        }
        if (images.dtype() != DType::u8) {
          fail<TypeError>("byte_images", "images must be bytes", name_of(images.dtype()), "uint8");
        }
        if (is_floating(labels.dtype()) || labels.rank() != 1) {
          fail<TypeError>("byte_images", "labels must be integers [N]", labels.desc().str());
        }
        // They are kept as bytes.
        const std::int64_t most = std::min<std::int64_t>(classes, 256);
        for (std::int64_t label : labels.to_vector<std::int64_t>(here())) {
          if (label < 0 || label >= most) {
            fail<IndexError>("byte_images", "a label is out of range", std::to_string(label),
                             fmt::format("[0, {})", most));
          }
        }
        return std::const_pointer_cast<data::Dataset>(
            std::shared_ptr<const data::Dataset>(std::make_shared<data::ByteImages>(
                name, Shape{images.dim(1), images.dim(2), images.dim(3)}, classes,
                images.to_vector<std::uint8_t>(here()), labels.to_vector<std::uint8_t>(here()))));
      },
      "name"_a, "images"_a, "labels"_a, "classes"_a,
      "A data set of images uint8 [N, C, H, W] and labels [N] kept in memory.");

  py::class_<Epoch>(m, "_Epoch")
      .def(
          "__iter__", [](Epoch& e) -> Epoch& { return e; }, py::return_value_policy::reference)
      .def("__next__", [](Epoch& e) {
        {
          const py::gil_scoped_release release;
          if (!e.started) {
            e.at.emplace(e.loader->begin());
            e.started = true;
          } else if (e.at) {
            ++*e.at;
          }
        }
        if (!e.at || *e.at == std::default_sentinel) {
          e.at.reset();
          throw py::stop_iteration();
        }
        // Given away: what Python drops must not be held here until the next batch.
        return std::pair(std::move((*e.at)->x), std::move((*e.at)->y));
      });
  py::class_<data::DataLoader>(m, "_ImageLoader")
      .def(py::init([](std::shared_ptr<data::Dataset> d, std::int64_t batch, bool shuffle,
                       std::uint64_t seed, bool drop_last, int workers, int prefetch,
                       MemoryFormat layout, DType t, std::vector<float> mean,
                       std::vector<float> std, const std::string& flip, std::int64_t translate,
                       std::optional<Device> device) {
             return data::DataLoader(d,
                                     {.batch_size = batch,
                                      .shuffle = shuffle,
                                      .seed = seed,
                                      .drop_last = drop_last,
                                      .num_workers = workers,
                                      .prefetch = prefetch,
                                      .layout = layout,
                                      .dtype = t,
                                      .device = device.value_or(default_device()),
                                      .mean = std::move(mean),
                                      .std = std::move(std),
                                      .augment = {.flip = flip_of(flip), .translate = translate}});
           }),
           "dataset"_a.none(false), "batch_size"_a = 64, "shuffle"_a = true, "seed"_a = 0,
           "drop_last"_a = false, "num_workers"_a = 1, "prefetch"_a = 4,
           "layout"_a = MemoryFormat::contiguous, "dtype"_a = dtype_object(DType::f32),
           "mean"_a = std::vector<float>(), "std"_a = std::vector<float>(), "flip"_a = "none",
           "translate"_a = 0, "device"_a = py::none())
      .def(
          "__iter__",
          [](data::DataLoader& l) {
            return Epoch{&l, {}, false};
          },
          py::keep_alive<0, 1>())
      .def("__len__", &data::DataLoader::size)
      .def_property_readonly(
          "device", [](const data::DataLoader& l) { return l.options().device; },
          "Where the batches are.")
      .def("set_epoch", &data::DataLoader::set_epoch, "epoch"_a, "The number of the next epoch.")
      .def("order", &data::DataLoader::order, "epoch"_a, "The samples of an epoch in order.");
}

}  // namespace tandem::python
