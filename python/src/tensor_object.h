// The Python object of a Tensor, and conversions of arguments.
//
// tandem.Tensor is written against CPython's own interface rather than as a pybind11 class: making
// one takes a third of the time, and operators come in through type slots without an argument tuple
// in between. Everything else is pybind11, to which the casters below teach the type.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <variant>

#include "core/backend.h"
#include "core/tensor.h"
#include "python/src/gil.h"

namespace tandem::python {

struct TensorObject {
  PyObject ob_base;
  Tensor tensor;
  PyObject* weakrefs;
};

/// tandem.Tensor; null before make_tensor_type().
extern PyTypeObject* tensor_type;
void make_tensor_type(py::module_& m);

inline bool is_tensor(PyObject* o) {
  return Py_TYPE(o) == tensor_type || PyType_IsSubtype(Py_TYPE(o), tensor_type);
}
inline Tensor& tensor_of(PyObject* o) {
  return reinterpret_cast<TensorObject*>(o)->tensor;
}
/// A new reference; None of an undefined tensor. Null, with an exception set, without memory.
PyObject* wrap(Tensor t);

/// The line of Python that is being run.
SrcLoc python_line();
/// What operations called from Python pass as their line.
inline SrcLoc here() {
  return SrcLoc::foreign();
}

inline constexpr SrcLoc kCaller = SrcLoc::foreign();

/// py::call_guard<CallerSite>() of functions whose C++ takes no line, and would name its own.
struct CallerSite {
  const CallSite site{kCaller};
  const ErrorSite error{kCaller};
};

/// Sets the Python exception that stands for the C++ exception in flight.
void set_python_error() noexcept;
void register_errors(py::module_& m);

/// Python numbers (and NumPy's scalars) as a Scalar. False: it is none, no exception is set.
bool to_scalar(PyObject* o, Scalar& s);
/// OverflowError for an integer beyond 64 bits.
[[noreturn]] void refuse_big_integer(const char* op, PyObject* o);
/// NumPy's arrays and their like, but no scalars.
bool is_array(py::handle o);
/// A tensor of anything like an array: a number, nested lists, an object with DLPack or NumPy's
/// protocols. `copy`: true for always, false for never (ValueError where one is needed). Throws.
Tensor to_tensor(py::handle o, std::optional<DType> dtype = {}, std::optional<Device> device = {},
                 std::optional<bool> copy = {});

py::object dtype_object(DType t);
/// A dtype, its name, NumPy's, or Python's float, int or bool: float64, int64 or bool.
std::optional<DType> to_dtype(py::handle o);
/// A Device or its name. DeviceError otherwise.
Device to_device(py::handle o);
/// Sizes or axes: a whole number, or a sequence of them, NumPy arrays and tensors too. False for
/// anything else; OverflowError for a number beyond 64 bits, ShapeError for more than kMaxRank.
bool to_dims(py::handle o, Dims& dims);
/// What to() takes. TypeError, or DeviceError for the name of none.
using Conversion = std::variant<DType, Device, MemoryFormat>;
Conversion to_conversion(py::handle o);

/// Of a new tensor: float32 on the default device where nothing is said.
inline TensorOptions tensor_options(std::optional<DType> t, std::optional<Device> d) {
  return {.dtype = t.value_or(DType::f32), .device = d.value_or(default_device())};
}

/// One file of this folder each.
void bind_core(py::module_& m);
void bind_settings(py::module_& m);
void bind_tensor_methods(py::module_& m);
void bind_ops(py::module_& m);
void bind_autograd(py::module_& m);
void bind_graph(py::module_& m);
void bind_nn(py::module_& m);
void bind_optim(py::module_& m);
void bind_models(py::module_& m);
void bind_data(py::module_& m);
void bind_profiler(py::module_& m);
void bind_tradeoff(py::module_& m);
/// What all functions and classes of `m` have in common. To be called last.
void finish_bindings(py::module_& m);

}  // namespace tandem::python

namespace pybind11::detail {

template <>
struct type_caster<tandem::Tensor> {
  PYBIND11_TYPE_CASTER(tandem::Tensor, const_name("Tensor"));
  bool load(handle src, bool) {
    // None is std::optional<Tensor>'s: an undefined tensor is no argument.
    if (!tandem::python::is_tensor(src.ptr())) return false;
    value = tandem::python::tensor_of(src.ptr());
    return true;
  }
  static handle cast(tandem::Tensor t, return_value_policy, handle) {
    return tandem::python::wrap(std::move(t));
  }
};

template <>
struct type_caster<tandem::Scalar> {
  PYBIND11_TYPE_CASTER(tandem::Scalar, const_name("float"));
  bool load(handle src, bool) { return tandem::python::to_scalar(src.ptr(), value); }
  static handle cast(const tandem::Scalar& s, return_value_policy, handle) {
    using Kind = tandem::Scalar::Kind;
    switch (s.kind()) {
      case Kind::none: return none().release();
      case Kind::boolean: return bool_(s.to_int() != 0).release();
      case Kind::integer: return int_(s.to_int()).release();
      case Kind::real: return float_(s.to_double()).release();
    }
    return {};
  }
};

template <>
struct type_caster<tandem::DType> {
  PYBIND11_TYPE_CASTER(tandem::DType, const_name("dtype"));
  bool load(handle src, bool) {
    const auto t = tandem::python::to_dtype(src);
    if (t) value = *t;
    return t.has_value();
  }
  static handle cast(tandem::DType t, return_value_policy, handle) {
    return tandem::python::dtype_object(t).release();
  }
};

/// A string counts as the device of that name.
template <>
struct type_caster<tandem::Device> : type_caster_base<tandem::Device> {
  bool load(handle src, bool convert) {
    if (!PyUnicode_Check(src.ptr())) return type_caster_base::load(src, convert);
    named_ = tandem::python::to_device(src);
    value = &named_;
    return true;
  }

 private:
  tandem::Device named_;
};

/// An int counts as a list of one.
template <>
struct type_caster<tandem::Dims> {
  PYBIND11_TYPE_CASTER(tandem::Dims, const_name("int | Sequence[int]"));
  bool load(handle src, bool) { return tandem::python::to_dims(src, value); }
  static handle cast(const tandem::Dims& d, return_value_policy, handle) {
    tuple t(static_cast<std::size_t>(d.size()));
    for (int i = 0; i < d.size(); ++i) t[static_cast<std::size_t>(i)] = d[i];
    return t.release();
  }
};

}  // namespace pybind11::detail
