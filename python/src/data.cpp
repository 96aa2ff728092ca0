// Data sets, their readers, augmentation and the loader.
#include "data/data.h"

#include <pybind11/stl/filesystem.h>

#include <cstring>

#include "python/src/choice.h"
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

data::AugmentOptions augment_options(const char* op, const std::string& flip,
                                     std::int64_t translate, const std::string& border) {
  using O = data::AugmentOptions;
  return {.flip = choice<O::Flip>(op, "flip", flip,
                                  {{"none", O::Flip::none},
                                   {"random", O::Flip::random},
                                   {"alternating", O::Flip::alternating}}),
          .translate = translate,
          .border = choice<O::Border>(
              op, "border", border, {{"zero", O::Border::zero}, {"reflect", O::Border::reflect}})};
}

/// An augmenter, and what it takes.
struct Augmenter {
  data::Augmenter change;
  Shape image;

  Tensor apply(const Tensor& x, std::int64_t epoch, std::int64_t index) {
    if (!(x.shape() == image)) {
      fail<ShapeError>("Augmenter", "it was made for images of another shape", x.shape().str(),
                       image.str());
    }
    if (!is_floating(x.dtype())) {
      fail<TypeError>("Augmenter", "an image is floating", name_of(x.dtype()), "float32");
    }
    if (epoch < 0 || index < 0) {
      fail<ValueError>("Augmenter", "epoch and index are not negative",
                       fmt::format("{} and {}", epoch, index), "0 or more");
    }
    const Tensor r = x.detach().to(kCPU, here()).to(DType::f32, here()).contiguous(here());
    const Tensor own = r.clone(here());
    change.apply(own.data<float>(), epoch, index);
    return own;
  }
};

using Sets = std::shared_ptr<data::Dataset>;
Sets shown(data::DatasetPtr d) {
  return std::const_pointer_cast<data::Dataset>(std::move(d));
}
std::pair<Sets, Sets> shown(data::DatasetPair p) {
  return {shown(std::move(p.train)), shown(std::move(p.test))};
}

Tensor copied(const void* from, std::size_t bytes, DType t, const Shape& shape) {
  Tensor r = Tensor::empty(TensorDesc(t, kCPU, shape));
  if (bytes > 0) std::memcpy(r.raw_data(), from, bytes);
  return r;
}

/// The data sets there are for Python keep bytes.
const data::ByteImages& bytes_of(const data::Dataset& d) {
  const auto* bytes = dynamic_cast<const data::ByteImages*>(&d);
  if (!bytes) fail<TypeError>("ImageDataset", "it keeps no bytes", d.name(), "get(indices)");
  return *bytes;
}

Shape batch_shape(std::int64_t n, const Shape& image) {
  Shape shape = {n};
  for (const std::int64_t s : image) shape.push_back(s);
  return shape;
}

void bind_readers(py::module_& m) {
  // Reading and drawing images takes seconds.
  const py::call_guard<GilRelease> apart;
  m.def(
      "load_dataset",
      [](const std::string& name, const std::filesystem::path& dir) {
        return shown(data::load_dataset(name, dir));
      },
      "name"_a, "root"_a = "", apart,
      "(train, test) of \"mnist\", \"fashion\", \"cifar10\" (files in `root`),\n"
      "\"synthetic-digits\" or \"synthetic-cifar\". DataError when files are missing or wrong.");
  m.def(
      "load_mnist",
      [](const std::filesystem::path& dir, const std::string& name) {
        return shown(data::load_mnist(dir, name));
      },
      "root"_a, "name"_a = "mnist", apart,
      "(train, test) of {train,t10k}-{images,labels} in `root` or one of its usual subfolders, "
      "plain\n"
      "or gzipped; `name` is for people to read. DataError when a file is missing, is not of "
      "28x28\n"
      "images with as many labels, or a label is not 0 to 9.");
  m.def(
      "load_cifar10",
      [](const std::filesystem::path& dir) { return shown(data::load_cifar10(dir)); }, "root"_a,
      apart,
      "(train, test) of data_batch_1.bin … data_batch_5.bin and test_batch.bin (CIFAR-10's binary\n"
      "version) in `root` or its subfolder cifar-10-batches-bin, plain or gzipped. DataError when "
      "a\n"
      "file is missing, no whole number of records, or holds a label that is not 0 to 9.");
  m.def(
      "read_idx",
      [](const std::filesystem::path& path, std::uint64_t max_bytes) {
        const data::IdxArray a = data::read_idx(path, {.max_bytes = max_bytes});
        return copied(a.bytes.data(), a.bytes.size(), a.dtype, a.shape);
      },
      "path"_a, "max_bytes"_a = data::IdxLimits{}.max_bytes, apart,
      "The tensor that a plain or gzipped IDX file holds (MNIST's format): uint8, int32, float32 "
      "or\n"
      "float64. DataError unless the file is exactly what its header declares, and for elements "
      "of\n"
      "more than `max_bytes` bytes, before memory is taken. Source: yann.lecun.com/exdb/mnist.");
  m.def(
      "synthetic_digits",
      [](std::int64_t size, std::uint64_t seed) {
        return shown(data::synthetic_digits(size, seed));
      },
      "size"_a, "seed"_a, apart,
      "`size` generated grey images [1, 28, 28] of the ten digits: strokes of random shape, place "
      "and\n"
      "brightness over noise. The same on every machine for the same (size, seed). RangeError for "
      "a\n"
      "size below 1.");
  m.def(
      "synthetic_cifar",
      [](std::int64_t size, std::uint64_t seed) {
        return shown(data::synthetic_cifar(size, seed));
      },
      "size"_a, "seed"_a, apart,
      "`size` generated colour images [3, 32, 32] of ten kinds of shapes with random colours,\n"
      "textures, places, sizes and angles. The same on every machine for the same (size, seed).\n"
      "RangeError for a size below 1.");
}

}  // namespace

void bind_data(py::module_& m) {
  const auto get = [](const data::Dataset& d, const std::vector<std::int64_t>& indices) {
    const Shape shape = batch_shape(static_cast<std::int64_t>(indices.size()), d.image_shape());
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
      .def(
          "pixels",
          [](const data::Dataset& d) {
            const auto p = bytes_of(d).pixels();
            return copied(p.data(), p.size(), DType::u8, batch_shape(d.size(), d.image_shape()));
          },
          "All images as they are kept, uint8 [N, C, H, W]: a copy.")
      .def(
          "labels",
          [](const data::Dataset& d) {
            const auto l = bytes_of(d).labels();
            return copied(l.data(), l.size(), DType::u8, {d.size()}).to(DType::i64, here());
          },
          "All labels, int64 [N]: a copy.")
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
  bind_readers(m);
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
      [](const std::string& name, const Tensor& images, const Tensor& labels, std::int64_t classes,
         bool synthetic) {
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
        return shown(std::make_shared<data::ByteImages>(
            name, Shape{images.dim(1), images.dim(2), images.dim(3)}, classes,
            images.to_vector<std::uint8_t>(here()), labels.to_vector<std::uint8_t>(here()),
            synthetic));
      },
      "name"_a, "images"_a, "labels"_a, "classes"_a, "synthetic"_a = false,
      "A data set of images uint8 [N, C, H, W] and labels [N] kept in memory; `synthetic`: "
      "generated\n"
      "rather than real samples.");
  py::class_<Augmenter>(m, "Augmenter",
                        "Random changes to images float32 `image_shape` (C, H, W), as DataLoader "
                        "makes them: flipped\n"
                        "left-right (`flip`: \"none\", \"random\" with probability 1/2, or "
                        "\"alternating\" in every second\n"
                        "epoch) and moved by up to `translate` pixels along each axis; `border` is "
                        "what is moved in:\n"
                        "\"zero\" or \"reflect\". What happens depends on (seed, epoch, index) "
                        "alone. ShapeError for other\n"
                        "shapes, RangeError for options that do not fit them.")
      .def(py::init([](const Dims& image_shape, const std::string& flip, std::int64_t translate,
                       const std::string& border, std::uint64_t seed) {
             if (image_shape.size() != 3) {
               fail<ShapeError>("Augmenter", "an image has three axes", image_shape.str(),
                                "(C, H, W)");
             }
             return Augmenter{
                 {augment_options("Augmenter", flip, translate, border), image_shape, seed},
                 image_shape};
           }),
           "image_shape"_a, "flip"_a = "none", "translate"_a = 0, "border"_a = "zero", "seed"_a = 0)
      .def("apply", &Augmenter::apply, "image"_a, "epoch"_a, "index"_a,
           "The changed image as a new tensor float32 on the CPU, of sample `index` in `epoch`.");

  py::class_<Epoch>(m, "_Epoch")
      .def(
          "__iter__", [](Epoch& e) -> Epoch& { return e; }, py::return_value_policy::reference)
      .def("__next__", [](Epoch& e) {
        {
          const GilRelease release;
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
                       const std::string& border, std::optional<Device> device) {
             return data::DataLoader(
                 d, {.batch_size = batch,
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
                     .augment = augment_options("DataLoader", flip, translate, border)});
           }),
           "dataset"_a.none(false), "batch_size"_a = 64, "shuffle"_a = true, "seed"_a = 0,
           "drop_last"_a = false, "num_workers"_a = 1, "prefetch"_a = 4,
           "layout"_a = MemoryFormat::contiguous, "dtype"_a = dtype_object(DType::f32),
           "mean"_a = std::vector<float>(), "std"_a = std::vector<float>(), "flip"_a = "none",
           "translate"_a = 0, "border"_a = "zero", "device"_a = py::none())
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
      .def_property_readonly("epoch", &data::DataLoader::epoch, "The number of the next epoch.")
      .def("set_epoch", &data::DataLoader::set_epoch, "epoch"_a, "The number of the next epoch.")
      .def("order", &data::DataLoader::order, "epoch"_a, "The samples of an epoch in order.");
}

}  // namespace tandem::python
