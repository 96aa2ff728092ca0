#include "python/src/imported.h"
#include "python/src/python_value.h"
#include "python/src/tree.h"

namespace tandem::python {
namespace {

[[noreturn]] void refuse_copy(py::handle o) {
  fail<TypeError>("compile", "a value of this type cannot be copied with other tensors in it",
                  py::cast<std::string>(py::str(py::type::of(o))),
                  "a tuple, list, dict, dataclass or named tuple");
}

py::object copied(py::handle o) {
  static Imported copy("copy", "copy");
  py::object c = copy()(o);
  if (c.is(o) || !py::type::of(c).is(py::type::of(o))) refuse_copy(o);
  return c;
}

// A tuple of a type of its own, whose constructor may want something else than the elements.
py::object tuple_like(py::handle o, const py::list& elements) {
  try {
    const py::handle tuple(reinterpret_cast<PyObject*>(&PyTuple_Type));
    py::object c = tuple.attr("__new__")(py::type::of(o), elements);
    if (py::hasattr(o, "__dict__")) c.attr("__dict__").attr("update")(o.attr("__dict__"));
    return c;
  } catch (const py::error_already_set&) {
    refuse_copy(o);
  }
}

}  // namespace

// flatten() saw the value first, so that it nests no deeper than is good.
py::object rebuild_container(py::handle o, std::span<const Tensor> tensors, std::size_t& at) {
  PyObject* p = o.ptr();
  if (PyTuple_Check(p) || PyList_Check(p)) {
    py::list l;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(p); ++i) {
      l.append(rebuild(PySequence_Fast_GET_ITEM(p, i), tensors, at));
    }
    if (PyList_CheckExact(p)) return l;
    if (PyTuple_CheckExact(p)) return py::tuple(l);
    if (PyTuple_Check(p)) return tuple_like(o, l);
    py::object c = copied(o);
    const auto n = static_cast<Py_ssize_t>(l.size());
    if (PyList_SetSlice(c.ptr(), 0, PyList_GET_SIZE(c.ptr()), nullptr) != 0 ||
        PyList_SetSlice(c.ptr(), 0, 0, l.ptr()) != 0 || PyList_GET_SIZE(c.ptr()) != n) {
      throw py::error_already_set();
    }
    return c;
  }
  if (PyDict_Check(p)) {
    py::object c = PyDict_CheckExact(p) ? py::object(py::dict()) : copied(o);
    for (const auto& [k, v] : py::reinterpret_borrow<py::dict>(o)) {
      const py::object mine = rebuild(v, tensors, at);
      if (PyDict_SetItem(c.ptr(), k.ptr(), mine.ptr()) != 0) throw py::error_already_set();
    }
    return c;
  }
  if (PySet_Check(p) || PyByteArray_Check(p)) return copied(o);
  if (plain_repr(p) || PyAnySet_Check(p) || o.is_none() || is_numpy_scalar(p)) {
    return py::reinterpret_borrow<py::object>(o);
  }
  if (is_array(o)) return py::cast(tensors[at++]);
  if (is_dataclass(o) && !is_module(o)) {
    py::object c = copied(o);
    for (const py::object& name : fields_of(o)) {
      const py::object value = rebuild(o.attr(name), tensors, at);
      if (PyObject_GenericSetAttr(c.ptr(), name.ptr(), value.ptr()) != 0) {
        throw py::error_already_set();
      }
    }
    return c;
  }
  return py::reinterpret_borrow<py::object>(o);
}

}  // namespace tandem::python
