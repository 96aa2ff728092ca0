#include "python/src/tree.h"

#include <fmt/format.h>

namespace tandem::python {
namespace {

bool is_dataclass(py::handle o) {
  return !PyType_Check(o.ptr()) && py::hasattr(py::type::of(o), "__dataclass_fields__");
}
std::string type_name(py::handle o) {
  const py::handle t = py::type::of(o);
  return py::cast<std::string>(t.attr("__module__")) + "." +
         py::cast<std::string>(t.attr("__qualname__"));
}

}  // namespace

void flatten(py::handle o, std::vector<Tensor>& tensors, std::string& text,
             std::vector<py::object>& objects) {
  PyObject* p = o.ptr();
  if (is_tensor(p)) {
    tensors.push_back(tensor_of(p));
    text += 'T';
  } else if (o.is_none()) {
    text += 'N';
  } else if (PyTuple_Check(p) || PyList_Check(p)) {
    const auto s = py::reinterpret_borrow<py::sequence>(o);
    text += PyList_Check(p) ? "list(" : PyTuple_CheckExact(p) ? "(" : type_name(o) + "(";
    for (const py::handle e : s) {
      flatten(e, tensors, text, objects);
      text += ',';
    }
    text += ')';
  } else if (PyDict_Check(p)) {
    text += "dict(";
    for (const auto& [k, v] : py::reinterpret_borrow<py::dict>(o)) {
      text += py::cast<std::string>(py::repr(k)) + ':';
      flatten(v, tensors, text, objects);
      text += ',';
    }
    text += ')';
  } else if (PyBool_Check(p) || PyLong_Check(p) || PyFloat_Check(p) || PyUnicode_Check(p) ||
             PyBytes_Check(p)) {
    text += Py_TYPE(p)->tp_name;
    text += py::cast<std::string>(py::repr(o));
  } else if (is_array(o)) {
    tensors.push_back(to_tensor(o));
    text += 'A';
  } else if (is_dataclass(o)) {
    text += type_name(o) + "(";
    for (const auto& [name, field] : py::dict(py::type::of(o).attr("__dataclass_fields__"))) {
      text += py::cast<std::string>(name) + ':';
      flatten(o.attr(name), tensors, text, objects);
      text += ',';
    }
    text += ')';
  } else {
    text += fmt::format("{}@{}", type_name(o), static_cast<const void*>(p));
    objects.push_back(py::reinterpret_borrow<py::object>(o));
  }
}

py::object rebuild(py::handle o, std::span<const Tensor> tensors, std::size_t& at) {
  PyObject* p = o.ptr();
  if (is_tensor(p) || is_array(o)) return py::cast(tensors[at++]);
  if (PyTuple_Check(p) || PyList_Check(p)) {
    py::list l;
    for (const py::handle e : py::reinterpret_borrow<py::sequence>(o)) {
      l.append(rebuild(e, tensors, at));
    }
    if (PyList_Check(p)) return l;
    if (PyTuple_CheckExact(p)) return py::tuple(l);
    return py::type::of(o)(*py::tuple(l));  // a named tuple
  }
  if (PyDict_Check(p)) {
    py::dict d;
    for (const auto& [k, v] : py::reinterpret_borrow<py::dict>(o)) d[k] = rebuild(v, tensors, at);
    return d;
  }
  if (is_dataclass(o)) {
    py::object copy = py::module_::import("copy").attr("copy")(o);
    const py::object set = py::module_::import("builtins").attr("object").attr("__setattr__");
    for (const auto& [name, field] : py::dict(py::type::of(o).attr("__dataclass_fields__"))) {
      set(copy, name, rebuild(o.attr(name), tensors, at));
    }
    return copy;
  }
  return py::reinterpret_borrow<py::object>(o);
}

}  // namespace tandem::python
