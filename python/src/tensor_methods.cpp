// What a tensor has beside operations: properties, conversions, pickling.
#include <cstring>

#include "python/src/bind_op.h"
#include "python/src/dlpack.h"
#include "python/src/indexing.h"

namespace tandem::python {

namespace {

py::object to_list(const Tensor& t) {
  if (t.rank() == 0) {
    const Scalar s = t.item_scalar(here());
    return py::reinterpret_steal<py::object>(
        py::detail::type_caster<Scalar>::cast(s, py::return_value_policy::move, {}));
  }
  const auto build = [&](auto&& self, const std::vector<Scalar>& v, int axis,
                         std::size_t& at) -> py::object {
    if (axis == t.rank()) {
      return py::reinterpret_steal<py::object>(
          py::detail::type_caster<Scalar>::cast(v[at++], py::return_value_policy::move, {}));
    }
    py::list l;
    for (std::int64_t i = 0; i < t.dim(axis); ++i) l.append(self(self, v, axis + 1, at));
    return l;
  };
  std::vector<Scalar> v;
  v.reserve(static_cast<std::size_t>(t.numel()));
  if (is_floating(t.dtype())) {
    for (double x : t.to_vector<double>(here())) v.emplace_back(x);
  } else if (t.dtype() == DType::boolean) {
    for (std::int64_t x : t.to_vector<std::int64_t>(here())) v.emplace_back(x != 0);
  } else {
    for (std::int64_t x : t.to_vector<std::int64_t>(here())) v.emplace_back(x);
  }
  std::size_t at = 0;
  return build(build, v, 0, at);
}

}  // namespace

void bind_tensor() {
  property(
      "shape", [](const Tensor& t) { return t.shape(); }, "Sizes of the axes: a tuple.");
  property(
      "strides", [](const Tensor& t) { return t.strides(); }, "Steps along the axes, in elements.");
  property(
      "ndim", [](const Tensor& t) { return t.rank(); }, "Number of axes.");
  property(
      "size", [](const Tensor& t) { return t.numel(); }, "Number of elements.");
  property(
      "dtype", [](const Tensor& t) { return t.dtype(); }, "Type of the elements.");
  property(
      "device", [](const Tensor& t) { return t.device(); }, "Where the tensor lies.");
  property(
      "T",
      [](const Tensor& t) {
        if (t.rank() != 2) {
          fail<ShapeError>("T", "takes a matrix", t.desc().str(),
                           ".mT for the last two axes, .transpose() for all in reverse");
        }
        return t.t(here());
      },
      "The two axes of a matrix exchanged: a view. ShapeError for other ranks.");
  property(
      "mT", [](const Tensor& t) { return t.t(here()); }, "The last two axes exchanged: a view.");
  property(
      "is_leaf", [](const Tensor& t) { return t.is_leaf(); },
      "Not a result that the tape knows the history of.");
  property(
      "is_symbolic", [](const Tensor& t) { return t.is_symbolic(); },
      "A value of a program being captured, without numbers yet.");
  property(
      "requires_grad", [](const Tensor& t) { return t.requires_grad(); },
      [](Tensor t, bool on) { t.set_requires_grad(on, here()); },
      "Whether gradients flow to it. DTypeError unless floating.");
  property(
      "grad", [](const Tensor& t) { return t.grad(); },
      [](Tensor t, const Optional& g) { t.set_grad(of(g), here()); },
      "The gradient backward() accumulated, or None.");
  method(
      "requires_grad_",
      [](py::object self, bool on) {
        tensor_of(self.ptr()).set_requires_grad(on, here());
        return self;
      },
      "on"_a = true, "Marks it as wanting a gradient, and returns it.");
  method(
      "backward",
      [](const Tensor& t, const Optional& gradient, bool retain, bool create) {
        const Tensor seed = of(gradient);
        const GilRelease release(GilRelease::kAlways);
        t.backward(seed, retain, create, here());
      },
      "gradient"_a = py::none(), "retain_graph"_a = false, "create_graph"_a = false,
      "Accumulates the gradient of this value into the .grad of every leaf it depends on;\n"
      "`gradient` is 1 by default for one element.");
  method(
      "detach", [](const Tensor& t) { return t.detach(); },
      "The same memory, cut off from the tape.");
  method(
      "is_contiguous", [](const Tensor& t) { return t.is_contiguous(); },
      "Row-major without gaps.");
  method(
      "is_channels_last", [](const Tensor& t) { return t.is_channels_last(); },
      "[N, C, H, W] whose channels vary fastest in memory.");
  method(
      "contiguous", [](const Tensor& t) { return t.contiguous(here()); },
      "Row-major: itself, or a copy.");
  method(
      "clone", [](const Tensor& t) { return t.clone(here()); }, "A copy of its own memory.");
  method(
      "to",
      [](const Tensor& t, py::handle what, std::optional<DType> dtype,
         std::optional<Device> device) {
        Tensor r = t;
        if (!what.is_none()) {
          const Conversion c = to_conversion(what);
          if (const auto* f = std::get_if<MemoryFormat>(&c)) r = r.to(*f, here());
          if (const auto* d = std::get_if<DType>(&c)) dtype = *d;
          if (const auto* d = std::get_if<Device>(&c)) device = *d;
        }
        if (dtype) r = without_gil(r.numel(), [&] { return r.to(*dtype, here()); });
        if (device) {
          const GilRelease release;
          r = r.to(*device, here());
        }
        return r;
      },
      "what"_a = py::none(), "dtype"_a = py::none(), "device"_a = py::none(),
      "In another dtype, on another device, in another memory format; itself if it is already.");
  method(
      "astype", [](const Tensor& t, DType d) { return t.to(d, here()); }, "dtype"_a,
      "In another dtype; floating to integral truncates.");
  method(
      "item", [](const Tensor& t) { return t.item_scalar(here()); },
      "The value of a one-element tensor as a Python number. ShapeError otherwise;\n"
      "CaptureError inside a capture.");
  method("tolist", to_list, "The values as nested lists of Python numbers.");
  method(
      "copy_",
      [](py::object self, py::handle src) {
        const Tensor s = to_tensor(src);
        Tensor& t = tensor_of(self.ptr());
        without_gil(t.numel(), [&] { t.copy_(s, here()); });
        return self;
      },
      "src"_a, "Writes src, broadcast and converted, into this tensor.");
  method(
      "fill_",
      [](py::object self, Scalar v) {
        Tensor& t = tensor_of(self.ptr());
        without_gil(t.numel(), [&] { t.fill_(v, here()); });
        return self;
      },
      "value"_a, "Writes one value to every element.");
  method(
      "zero_",
      [](py::object self) {
        tensor_of(self.ptr()).zero_(here());
        return self;
      },
      "Writes 0 to every element.");
  // Another tensor for whoever holds this object: of a layer that is made again.
  method("_become", [](py::handle self, const Tensor& other) { tensor_of(self.ptr()) = other; });
  method("__repr__",
         [](const Tensor& t) { return t.str() + (t.requires_grad() ? ", requires_grad" : ""); });
  method("__getitem__", get_item, "key"_a);
  method("__setitem__", set_item, "key"_a, "value"_a);
  method(
      "__dlpack__",
      [](const Tensor& t, py::object, py::object max_version,
         std::optional<std::pair<int, int>> device, std::optional<bool> copy) {
        t.expect_values("__dlpack__");
        if (t.requires_grad()) {
          fail<AutogradError>("__dlpack__", "the tape does not follow into other libraries",
                              t.desc().str(), ".detach()");
        }
        const int major = max_version.is_none() ? 0 : py::cast<int>(max_version[py::int_(0)]);
        if (!device || *device == dlpack_device(t.device())) {
          return to_dlpack(t, major, copy.value_or(false));
        }
        if (*device != dlpack_device(kCPU) || copy == false) {
          fail<DeviceError>("__dlpack__", "the tensor is elsewhere", t.device().str(),
                            "its own device, or a copy on the CPU");
        }
        return to_dlpack(t.to(kCPU, here()), major);
      },
      py::kw_only(), "stream"_a = py::none(), "max_version"_a = py::none(),
      "dl_device"_a = py::none(), "copy"_a = py::none());
  method("__dlpack_device__", [](const Tensor& t) { return dlpack_device(t.device()); });
  method("_same", [](const Tensor& a, const Tensor& b) { return a.same_as(b); });
  method("_data_ptr",
         [](const Tensor& t) { return reinterpret_cast<std::uintptr_t>(t.raw_data()); });
  // For pickle: the bytes of a row-major tensor of any type, and back.
  function("_to_bytes", [](const Tensor& t) {
    t.expect_values("pickle");
    return py::bytes(static_cast<const char*>(t.raw_data()),
                     static_cast<std::size_t>(t.numel()) * size_of(t.dtype()));
  });
  function("_from_bytes", [](const Tensor& raw, const Dims& shape, DType t) {
    const auto bytes = static_cast<std::size_t>(checked_numel(shape, "load")) * size_of(t);
    if (raw.dtype() != DType::u8 || static_cast<std::size_t>(raw.numel()) != bytes) {
      fail<ValueError>("load", "a tensor's bytes must fit its shape", std::to_string(raw.numel()),
                       std::to_string(bytes));
    }
    Tensor r = Tensor::empty(TensorDesc(t, kCPU, shape));
    if (bytes > 0) std::memcpy(r.raw_data(), raw.raw_data(), bytes);
    return r;
  });
  function(
      "from_dlpack", [](py::handle o) { return from_dlpack(o); }, "x"_a,
      "A tensor over the memory of an array of another library.");
}

}  // namespace tandem::python
