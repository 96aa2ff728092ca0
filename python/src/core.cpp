// Types, devices, errors, and what makes tensors out of Python's values.
#include "ops/ops.h"
#include "python/src/dlpack.h"
#include "python/src/python_value.h"
#include "python/src/tensor_object.h"

#include <frameobject.h>

#include <mutex>
#include <unordered_map>
#include <unordered_set>

namespace tandem::python {

// ------------------------------------------------------------------------------- locations

SrcLoc python_line() {
  // Never torn down: a location's file name must outlive everything.
  static auto& names = *new std::unordered_set<std::string>();
  static auto& mutex = *new std::mutex();
  const GilAcquire gil;
  PyFrameObject* frame = PyThreadState_GetFrame(PyThreadState_Get());
  // The package's own lines are not the user's, nor what runs it: python -m tandem.train.
  SrcLoc found = SrcLoc::foreign();
  while (frame) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    const char* file = PyUnicode_AsUTF8(code->co_filename);
    const std::string_view name = file ? file : "";
    const bool inside = name.starts_with("<frozen ") ||
                        (name.find("/tandem/") != name.npos && name.find("/tests/") == name.npos &&
                         py::module_::import("sys").attr("modules").contains("tandem") &&
                         name.starts_with(py::cast<std::string>(
                             py::module_::import("tandem").attr("__path__")[py::int_(0)])));
    if (!inside && file) {
      const std::lock_guard lock(mutex);
      found = {names.insert(std::string(name)).first->c_str(),
               static_cast<std::uint32_t>(PyFrame_GetLineNumber(frame))};
    }
    Py_DECREF(code);
    PyFrameObject* back = inside ? PyFrame_GetBack(frame) : nullptr;
    Py_DECREF(frame);
    frame = back;
  }
  return found;
}

// ---------------------------------------------------------------------------------- errors

namespace {

struct ErrorTypes {
  PyObject *error, *shape, *type, *device, *value, *index, *autograd, *capture, *data, *memory,
      *internal;
} errors;

PyObject* new_error(py::module_& m, const char* name, const char* doc, PyObject* also) {
  const py::object bases =
      also ? py::object(py::make_tuple(py::handle(errors.error), py::handle(also)))
           : py::reinterpret_borrow<py::object>(PyExc_Exception);
  PyObject* e =
      PyErr_NewExceptionWithDoc((std::string("tandem.") + name).c_str(), doc, bases.ptr(), nullptr);
  if (!e) throw py::error_already_set();
  m.attr(name) = py::handle(e);
  return e;
}

}  // namespace

void register_errors(py::module_& m) {
  errors.error = new_error(m, "Error", "Base of all of Tandem's errors.", nullptr);
  errors.shape =
      new_error(m, "ShapeError", "A shape, rank, axis or size does not fit.", PyExc_ValueError);
  errors.type = new_error(m, "DTypeError", "A dtype does not fit.", PyExc_TypeError);
  errors.device = new_error(m, "DeviceError", "A device is missing, or tensors are on several.",
                            PyExc_RuntimeError);
  errors.value = new_error(m, "RangeError", "An argument or a tensor's content is out of range.",
                           PyExc_ValueError);
  errors.index = new_error(m, "OutOfBoundsError", "An index, a label or an axis is out of range.",
                           PyExc_IndexError);
  errors.autograd =
      new_error(m, "AutogradError", "The tape cannot do what was asked.", PyExc_RuntimeError);
  errors.capture = new_error(m, "CaptureError", "A function cannot be captured as a program.",
                             PyExc_RuntimeError);
  errors.data =
      new_error(m, "DataError", "A file is missing, truncated or not what it says.", PyExc_OSError);
  errors.memory =
      new_error(m, "OutOfMemoryError", "There is no memory left for a tensor.", PyExc_MemoryError);
  errors.internal = new_error(m, "InternalError", "A defect of Tandem.", PyExc_RuntimeError);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error&) {
      set_python_error();
    }
  });
}

// What C++ advises to do, by its name here.
std::string in_python(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> names[] = {
      {"a static argument, or Guarded<T>", "or an argument of another kind"},
      {"NoGrad ", "tandem.no_grad() "},
      {"autograd::grad", "tandem.autograd.grad"},
  };
  for (const auto& [cpp, python] : names) {
    if (const auto at = text.find(cpp); at != std::string::npos)
      text.replace(at, cpp.size(), python);
  }
  return text;
}

// Functions that are no operations have not looked for the user's line.
std::string told(const Error& e) {
  std::string text = in_python(e.what());
  if (text.find(" (at ") == text.npos) {
    const ErrorSite site(kCaller);
    text += detail::where();
  }
  return text;
}

void set_python_error() noexcept {
  try {
    throw;
  } catch (py::error_already_set& e) {
    e.restore();
  } catch (const py::builtin_exception& e) {
    e.set_error();
  } catch (const ShapeError& e) {
    PyErr_SetString(errors.shape, told(e).c_str());
  } catch (const TypeError& e) {
    PyErr_SetString(errors.type, told(e).c_str());
  } catch (const DeviceError& e) {
    PyErr_SetString(errors.device, told(e).c_str());
  } catch (const ValueError& e) {
    PyErr_SetString(errors.value, told(e).c_str());
  } catch (const IndexError& e) {
    PyErr_SetString(errors.index, told(e).c_str());
  } catch (const AutogradError& e) {
    PyErr_SetString(errors.autograd, told(e).c_str());
  } catch (const CaptureError& e) {
    PyErr_SetString(errors.capture, told(e).c_str());
  } catch (const DataError& e) {
    PyErr_SetString(errors.data, told(e).c_str());
  } catch (const OutOfMemoryError& e) {
    PyErr_SetString(errors.memory, told(e).c_str());
  } catch (const InternalError& e) {
    PyErr_SetString(errors.internal, told(e).c_str());
  } catch (const Error& e) {
    PyErr_SetString(errors.error, told(e).c_str());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "an error of unknown type");
  }
}

// ---------------------------------------------------------------------------------- dtypes

namespace {

// The names of the Python array API standard (2024.12), and bfloat16.
constexpr const char* kDTypeNames[kNumDTypes] = {"float32", "float64", "float16", "bfloat16",
                                                 "int32",   "int64",   "uint8",   "bool"};
struct DTypeObject {
  DType t;
};
PyObject* dtype_objects[kNumDTypes];

}  // namespace

py::object dtype_object(DType t) {
  return py::reinterpret_borrow<py::object>(dtype_objects[static_cast<int>(t)]);
}

std::optional<DType> to_dtype(py::handle o) {
  for (int i = 0; i < kNumDTypes; ++i) {
    if (o.ptr() == dtype_objects[i]) return static_cast<DType>(i);
  }
  if (o.ptr() == reinterpret_cast<PyObject*>(&PyFloat_Type)) return DType::f64;
  if (o.ptr() == reinterpret_cast<PyObject*>(&PyLong_Type)) return DType::i64;
  if (o.ptr() == reinterpret_cast<PyObject*>(&PyBool_Type)) return DType::boolean;
  std::string name;
  if (py::isinstance<py::str>(o)) {
    name = py::cast<std::string>(o);
  } else if (py::hasattr(o, "__name__") && py::hasattr(o, "dtype")) {  // numpy.float32
    name = py::cast<std::string>(o.attr("__name__"));
  } else if (py::hasattr(o, "kind") && py::hasattr(o, "name")) {  // numpy.dtype("float32")
    name = py::cast<std::string>(o.attr("name"));
  }
  if (name == "bool_") name = "bool";
  for (int i = 0; i < kNumDTypes; ++i) {
    if (name == kDTypeNames[i] || name == name_of(static_cast<DType>(i))) {
      return static_cast<DType>(i);
    }
  }
  return {};
}

Device to_device(py::handle o) {
  if (py::isinstance<Device>(o)) return py::cast<Device>(o);
  if (py::isinstance<py::str>(o)) return Device::parse(py::cast<std::string>(o), here());
  fail<DeviceError>("device", "a device or its name is needed", py::cast<std::string>(py::repr(o)),
                    "'cpu', 'cuda', 'cuda:1'");
}

bool to_dims(py::handle o, Dims& dims) {
  PyObject* const p = o.ptr();
  if (is_tensor(p) && tensor_of(p).rank() > 0) return to_dims(o.attr("tolist")(), dims);
  const auto number = [](PyObject* n, std::int64_t& size) {
    if (!PyIndex_Check(n)) return false;
    size = PyNumber_AsSsize_t(n, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) {
      if (PyErr_ExceptionMatches(PyExc_OverflowError)) refuse_big_integer("shape", n);
      throw py::error_already_set();
    }
    return true;
  };
  // Arrays are numbers and sequences; those without axes have no length.
  Py_ssize_t n = PySequence_Check(p) && !PyUnicode_Check(p) ? PySequence_Size(p) : -1;
  if (PyErr_Occurred()) PyErr_Clear();
  if (n < 0) {
    dims.resize(1);
    return number(p, dims[0]);
  }
  dims.resize(static_cast<int>(std::min<Py_ssize_t>(n, std::numeric_limits<int>::max())));
  for (int i = 0; i < dims.size(); ++i) {
    const auto element = py::reinterpret_steal<py::object>(PySequence_GetItem(p, i));
    if (!element) throw py::error_already_set();
    if (!number(element.ptr(), dims[i])) return false;
  }
  return true;
}

Conversion to_conversion(py::handle o) {
  if (py::isinstance<MemoryFormat>(o)) return py::cast<MemoryFormat>(o);
  if (const auto t = to_dtype(o)) return *t;
  if (py::isinstance<Device>(o) || py::isinstance<py::str>(o)) return to_device(o);
  fail<TypeError>("to", "takes a dtype, a device or a memory format",
                  py::cast<std::string>(py::str(py::type::of(o))), "to(x.dtype), to(x.device)");
}

namespace {

void bind_types(py::module_& m) {
  py::class_<DTypeObject>(m, "dtype", "The type of a tensor's elements: tandem.float32 and so on.")
      .def_property_readonly(
          "name", [](const DTypeObject& d) { return kDTypeNames[int(d.t)]; },
          "As NumPy and docs/types.md call it: \"float32\".")
      .def_property_readonly(
          "itemsize", [](const DTypeObject& d) { return size_of(d.t); }, "Bytes an element takes.")
      .def_property_readonly(
          "is_floating_point", [](const DTypeObject& d) { return is_floating(d.t); },
          "Whether it is one of float64, float32, float16 and bfloat16.")
      .def("__repr__",
           [](const DTypeObject& d) { return std::string("tandem.") + kDTypeNames[int(d.t)]; })
      .def("__str__", [](const DTypeObject& d) { return kDTypeNames[int(d.t)]; })
      .def("__reduce__", [](const DTypeObject& d) { return kDTypeNames[int(d.t)]; });
  for (int i = 0; i < kNumDTypes; ++i) {
    py::object o = py::cast(DTypeObject{static_cast<DType>(i)});
    dtype_objects[i] = o.ptr();
    m.attr(kDTypeNames[i]) = o;
    o.release();
  }
  py::class_<Device>(m, "Device", "Where a tensor lies: Device('cpu'), Device('cuda:1').")
      .def(py::init([](py::handle o) { return to_device(o); }), py::arg("name"))
      .def_property_readonly(
          "type", [](const Device& d) { return d.is_cpu() ? "cpu" : "cuda"; },
          "\"cpu\" or \"cuda\".")
      .def_property_readonly(
          "index", [](const Device& d) { return int{d.index}; },
          "Which of the devices of this type, from 0.")
      .def("__str__", &Device::str)
      .def("__repr__", [](const Device& d) { return "tandem.Device('" + d.str() + "')"; })
      .def("__eq__",
           [](const Device& d, py::handle o) {
             return (py::isinstance<Device>(o) || py::isinstance<py::str>(o)) && d == to_device(o);
           })
      .def("__hash__", [](const Device& d) { return int(d.type) * 256 + d.index; })
      .def("__reduce__", [](const Device& d) {
        return py::make_tuple(py::type::of<Device>(), py::make_tuple(d.str()));
      });
  py::enum_<MemoryFormat>(m, "MemoryFormat", "Order of the elements of [N, C, H, W] in memory.")
      .value("contiguous", MemoryFormat::contiguous)
      .value("channels_last", MemoryFormat::channels_last)
      .value("preserve", MemoryFormat::preserve);
}

// ------------------------------------------------------------------------------ from Python

// Shape and leaves of nested lists; false where a leaf is no number.
bool flatten(py::handle o, int depth, Shape& shape, std::vector<Scalar>& leaves) {
  Scalar s;
  if (is_numpy_scalar(o.ptr())) return false;
  if (to_scalar(o.ptr(), s)) {
    if (depth < shape.size()) {
      fail<ShapeError>("tensor", "nested lists must have equal lengths", "a number among lists");
    }
    leaves.push_back(s);
    return true;
  }
  if (is_tensor(o.ptr()) && tensor_of(o.ptr()).rank() == 0) {
    leaves.push_back(tensor_of(o.ptr()).item_scalar(here()));
    return true;
  }
  if (!PyList_Check(o.ptr()) && !PyTuple_Check(o.ptr())) return false;
  const auto list = py::reinterpret_borrow<py::sequence>(o);
  const auto n = static_cast<std::int64_t>(list.size());
  if (leaves.empty() && depth == shape.size()) {
    shape.push_back(n);
  } else if (depth >= shape.size() || shape[depth] != n) {
    fail<ShapeError>("tensor", "nested lists must have equal lengths",
                     fmt::format("{} at depth {}", n, depth),
                     depth < shape.size() ? std::to_string(shape[depth]) : "a number");
  }
  for (const py::handle e : list) {
    if (!flatten(e, depth + 1, shape, leaves)) return false;
  }
  return true;
}

Tensor of_numbers(const Shape& shape, const std::vector<Scalar>& leaves, std::optional<DType> want,
                  Device device) {
  auto kind = leaves.empty() ? Scalar::Kind::real : Scalar::Kind::boolean;
  for (const Scalar& s : leaves) kind = std::max(kind, s.kind());
  const DType t = want                            ? *want
                  : kind == Scalar::Kind::real    ? DType::f32
                  : kind == Scalar::Kind::integer ? DType::i64
                                                  : DType::boolean;
  return visit_dtype(t, [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::unique_ptr<T[]> v(new T[leaves.size() + 1]);
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      if (!leaves[i].fits(t)) {
        fail<ValueError>("tensor", "the value does not fit into the type", leaves[i].str(),
                         name_of(t));
      }
      v[i] = leaves[i].to<T>();
    }
    return Tensor::from<T>(std::span<const T>(v.get(), leaves.size()), shape, device);
  });
}

// The memory of an object with Python's buffer protocol, shared.
class BufferOwner final : public MemoryOwner {
 public:
  explicit BufferOwner(py::handle o) {
    if (PyObject_GetBuffer(o.ptr(), &view, PyBUF_STRIDED_RO | PyBUF_FORMAT) != 0) {
      PyErr_Clear();  // NumPy's dates, for one
      view.obj = nullptr;
    }
    if (view.obj) ++imports()[view.obj];
  }
  ~BufferOwner() override {
    if (!Py_IsInitialized()) return;
    const GilAcquire gil;
    if (view.obj && --imports()[view.obj] == 0) imports().erase(view.obj);
    PyBuffer_Release(&view);
  }
  // Whether all references to the array, and to those it is a view of, are accounted for.
  bool is_forgotten() const override {
    const GilAcquire gil;
    auto array = py::reinterpret_borrow<py::object>(view.obj);
    Py_ssize_t known = imports()[view.obj] + 1;  // with ours
    while (array.ref_count() <= known) {
      array = py::getattr(array, "base", py::none());
      if (array.is_none()) return true;
      known = 2;  // the view's, and ours
    }
    return false;
  }
  Py_buffer view;

 private:
  static std::unordered_map<PyObject*, Py_ssize_t>& imports() {  // with the GIL only
    static auto& counts = *new std::unordered_map<PyObject*, Py_ssize_t>();
    return counts;
  }
};

std::optional<DType> dtype_of_buffer(const Py_buffer& v) {
  std::string_view f = v.format ? v.format : "B";
  if (!f.empty() && (f[0] == '@' || f[0] == '=' || f[0] == '<')) f.remove_prefix(1);
  if (f == "f") return DType::f32;
  if (f == "d") return DType::f64;
  if (f == "e") return DType::f16;
  if (f == "?") return DType::boolean;
  if (f == "B") return DType::u8;
  if ((f == "i" || f == "l" || f == "q") && v.itemsize == 4) return DType::i32;
  if ((f == "l" || f == "q") && v.itemsize == 8) return DType::i64;
  return {};
}

// Null where the memory cannot be shared: another byte order or type, negative strides, read only.
Tensor share_buffer(py::handle o) {
  auto owner = make_ref<BufferOwner>(o);
  const Py_buffer& v = owner->view;
  if (!v.obj) return {};
  const auto t = dtype_of_buffer(v);
  if (!t || v.readonly || v.ndim > kMaxRank) return {};
  Shape shape;
  for (int i = 0; i < v.ndim; ++i) shape.push_back(v.shape[i]);
  // Exporters may leave strides out of row-major memory though asked for them, as ctypes does.
  Strides strides = contiguous_strides(shape);
  std::int64_t bytes = v.itemsize;
  for (int i = 0; i < v.ndim; ++i) {
    if (v.strides) {
      if (v.strides[i] < 0 || v.strides[i] % v.itemsize != 0) return {};
      strides[i] = v.strides[i] / v.itemsize;
    }
    bytes += std::max<std::int64_t>(v.shape[i] - 1, 0) * strides[i] * v.itemsize;
  }
  if (reinterpret_cast<std::uintptr_t>(v.buf) % static_cast<std::size_t>(v.itemsize) != 0)
    return {};
  const TensorDesc d(*t, kCPU, shape, strides);
  return Tensor(make_ref<TensorImpl>(
      Storage::import(v.buf, static_cast<std::size_t>(bytes), kCPU, owner), d, 0));
}

}  // namespace

Tensor to_tensor(py::handle o, std::optional<DType> dtype, std::optional<Device> device,
                 std::optional<bool> copy) {
  const Device where = device.value_or(default_device());
  const auto finish = [&](Tensor t, bool fresh) {
    if (dtype && t.dtype() != *dtype) t = t.to(*dtype, here()), fresh = true;
    if (device && t.device() != *device) t = t.to(*device, here()), fresh = true;
    if (fresh && copy == false) {
      fail<ValueError>("asarray", "a copy is needed of this object",
                       py::cast<std::string>(py::str(py::type::of(o))), "copy=None or True");
    }
    return copy == true && !fresh ? t.clone(here()) : t;
  };
  if (is_tensor(o.ptr())) return finish(tensor_of(o.ptr()), false);
  Scalar s;
  // NumPy's numbers have dtypes, as its arrays have.
  const bool of_numpy = is_numpy_scalar(o.ptr());
  if (!of_numpy && to_scalar(o.ptr(), s)) return finish(of_numbers({}, {s}, dtype, where), true);
  if (PyList_Check(o.ptr()) || PyTuple_Check(o.ptr())) {
    Shape shape;
    std::vector<Scalar> leaves;
    if (flatten(o, 0, shape, leaves)) return finish(of_numbers(shape, leaves, dtype, where), true);
  } else if (!of_numpy && PyObject_CheckBuffer(o.ptr())) {
    if (Tensor t = share_buffer(o); t.defined()) return finish(t, false);
  } else if (py::hasattr(o, "__dlpack__")) {
    bool copied = false;
    Tensor t = from_dlpack(o, &copied);
    return finish(std::move(t), copied);
  }
  // Whatever else NumPy understands: other byte orders, read-only memory, lists of arrays.
  const py::object array =
      py::module_::import("numpy").attr("array")(o, py::arg("order") = "C", py::arg("copy") = true);
  Dims().resize(py::cast<int>(array.attr("ndim")));  // ShapeError for more axes than there may be
  py::object plain = array;
  if (!to_dtype(array.attr("dtype"))) {
    const auto kind = py::cast<std::string>(array.attr("dtype").attr("kind"));
    if (kind == "O" || kind == "U" || kind == "S" || kind == "c" || kind == "V" || kind == "M" ||
        kind == "m") {
      if (kind == "O" || py::cast<int>(array.attr("ndim")) == 0) {
        fail<TypeError>("tensor", "cannot be made into a tensor",
                        py::cast<std::string>(py::str(py::type::of(o))),
                        "numbers, lists of them, or an array");
      }
      fail<TypeError>("tensor", "there is no such dtype",
                      py::cast<std::string>(py::str(array.attr("dtype"))),
                      "numbers: float, int or bool");
    }
    if (kind == "u" && py::cast<bool>(array.attr("__gt__")(py::int_(INT64_MAX)).attr("any")())) {
      fail<ValueError>("tensor", "integers must fit 64 bits with a sign",
                       py::cast<std::string>(py::str(array.attr("max")())));
    }
    plain = array.attr("astype")(kind == "f" ? "float64" : kind == "b" ? "bool" : "int64");
  } else if (py::cast<std::string>(array.attr("dtype").attr("byteorder")) == ">") {
    plain = array.attr("astype")(array.attr("dtype").attr("newbyteorder")("="));
  }
  Tensor t = share_buffer(plain);
  if (!t.defined()) {
    fail<TypeError>("tensor", "cannot be made into a tensor",
                    py::cast<std::string>(py::str(py::type::of(o))));
  }
  if (!device) device = where;
  return finish(t, true);
}

void bind_core(py::module_& m) {
  bind_types(m);
  set_foreign_locator(python_line);

  m.def("_conversion", [](py::handle what) { return to_conversion(what); });
  m.def(
      "_tensor",
      [](py::handle o, std::optional<DType> dtype, std::optional<Device> device,
         std::optional<bool> copy) { return to_tensor(o, dtype, device, copy); },
      py::arg("data"), py::arg("dtype") = py::none(), py::arg("device") = py::none(),
      py::arg("copy") = py::none());
}

}  // namespace tandem::python
