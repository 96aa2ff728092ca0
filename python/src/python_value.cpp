#include "python/src/python_value.h"

#include "python/src/imported.h"

namespace tandem::python {

bool is_dataclass(py::handle o) {
  return !PyType_Check(o.ptr()) && py::hasattr(py::type::of(o), "__dataclass_fields__");
}

bool is_module(py::handle o) {
  static Imported type("tandem.nn.module", "Module");
  return PyType_IsSubtype(Py_TYPE(o.ptr()), reinterpret_cast<PyTypeObject*>(type().ptr())) != 0;
}

std::vector<py::object> fields_of(py::handle o) {
  std::vector<py::object> names;
  static Imported fields("dataclasses", "fields");
  for (const py::handle f : fields()(o)) {
    py::object name = f.attr("name");
    if (py::hasattr(o, name)) names.push_back(std::move(name));
  }
  return names;
}

reprfunc plain_repr(PyObject* p) {
  if (PyBool_Check(p)) return PyBool_Type.tp_repr;
  if (PyLong_Check(p)) return PyLong_Type.tp_repr;
  if (PyFloat_Check(p)) return PyFloat_Type.tp_repr;
  if (PyComplex_Check(p)) return PyComplex_Type.tp_repr;
  if (PyUnicode_Check(p)) return PyUnicode_Type.tp_repr;
  if (PyBytes_Check(p)) return PyBytes_Type.tp_repr;
  if (PyByteArray_Check(p)) return PyByteArray_Type.tp_repr;
  if (PyRange_Check(p)) return PyRange_Type.tp_repr;
  return nullptr;
}

bool is_numpy_scalar(PyObject* p) {
  return PyObject_CheckBuffer(p) && PyObject_HasAttrString(p, "dtype") &&
         PyObject_HasAttrString(p, "tobytes") && Py_TYPE(p)->tp_hash != PyObject_HashNotImplemented;
}

PyObject* proxied_dict(PyObject* p) {
  if (Py_TYPE(p) != &PyDictProxy_Type) return nullptr;
  PyObject* held = nullptr;  // what the collector is told of
  const auto take = [](PyObject* o, void* to) { return *static_cast<PyObject**>(to) = o, 1; };
  PyDictProxy_Type.tp_traverse(p, take, &held);
  return held && PyDict_CheckExact(held) ? held : nullptr;
}

bool is_cache(PyTypeObject* type, py::handle name) {
  static Imported is("tandem._values", "is_cache");
  return py::cast<bool>(is()(py::handle(reinterpret_cast<PyObject*>(type)), name));
}

}  // namespace tandem::python
