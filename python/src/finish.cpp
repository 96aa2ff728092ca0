// What all bound functions and classes have in common: errors name the caller's line and say which
// argument does not fit, declared values may stand for tensors, and objects that were never made
// cannot be used.
#include <algorithm>
#include <unordered_map>

#include "python/src/tensor_object.h"

namespace tandem::python {

namespace {

using Call = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);
using CallWithTuple = PyObject* (*)(PyObject*, PyObject*, PyObject*);

// pybind11's, which is one for all functions; how it takes its arguments depends on the version.
PyCFunction dispatcher = nullptr;

template <class F>
F as(PyCFunction f) {
  return reinterpret_cast<F>(reinterpret_cast<void (*)()>(f));
}
template <class F>
PyCFunction as_method(F* f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

// Functions by what the dispatcher is given of them. Never torn down: they outlive the module.
auto& functions = *new std::unordered_map<PyObject*, py::object>();

// A value that stands for a tensor which is not there yet (graph.Expression): its class knows what
// a call with it means. In lists, too: concat([a, b]).
py::object declared_in(py::handle o, int depth = 0) {
  constexpr int kDeepest = 4;
  constexpr std::size_t kMostElements = 64;
  if (PyTuple_Check(o.ptr()) || PyList_Check(o.ptr())) {
    const auto elements = py::reinterpret_borrow<py::sequence>(o);
    for (std::size_t i = 0; depth < kDeepest && i < std::min(elements.size(), kMostElements); ++i) {
      if (py::object found = declared_in(elements[i], depth + 1)) return found;
    }
    return {};
  }
  return py::getattr(py::type::handle_of(o), "__tandem_function__", py::object());
}

// What a call gives that did not fit: what is declared by it, or null and an error with what the
// package says of it instead of pybind11's list. Only here are arguments looked at for
// declared values, so that calls of tensors pay nothing for them.
template <class F>
PyObject* refused(PyObject* self, F&& arguments) noexcept {
  if (!PyErr_ExceptionMatches(PyExc_TypeError)) return nullptr;
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  if (!trace) {  // else a function of Python's raised it, which was called in between
    try {
      const auto [args, kwargs] = arguments();
      py::object declared = declared_in(args);
      if (!declared) declared = declared_in(py::list(kwargs.attr("values")()));
      if (declared) {
        PyObject* made = PyObject_CallFunctionObjArgs(declared.ptr(), functions.at(self).ptr(),
                                                      args.ptr(), kwargs.ptr(), nullptr);
        Py_XDECREF(type);
        Py_XDECREF(value);
        return made;
      }
      if (type == PyExc_TypeError) {
        py::object text = py::module_::import("tandem._arguments")
                              .attr("explain")(py::str(py::handle(value)), args, kwargs);
        if (!text.is_none()) {
          Py_XDECREF(value);
          value = text.release().ptr();
        }
      }
    } catch (...) {
      PyErr_Clear();
    }
  }
  PyErr_Restore(type, value, trace);
  return nullptr;
}

PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t n, PyObject* names) {
  const ErrorSite site(kCaller);
  PyObject* r = as<Call>(dispatcher)(self, args, n, names);
  if (r) return r;
  return refused(self, [&] {
    py::list given;
    py::dict named;
    for (Py_ssize_t i = 0; i < n; ++i) given.append(py::handle(args[i]));
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); ++i) {
      named[PyTuple_GET_ITEM(names, i)] = py::handle(args[n + i]);
    }
    return std::pair(py::object(given), py::object(named));
  });
}

PyObject* call_with_tuple(PyObject* self, PyObject* args, PyObject* names) {
  const ErrorSite site(kCaller);
  PyObject* r = as<CallWithTuple>(dispatcher)(self, args, names);
  if (r) return r;
  return refused(self, [&] {
    return std::pair(py::reinterpret_borrow<py::object>(args),
                     names ? py::reinterpret_borrow<py::object>(names) : py::dict());
  });
}

PyMethodDef* definition(py::handle f) {
  if (f && PyInstanceMethod_Check(f.ptr())) f = PyInstanceMethod_GET_FUNCTION(f.ptr());
  if (!f || !PyCFunction_Check(f.ptr())) return nullptr;
  return reinterpret_cast<PyCFunctionObject*>(f.ptr())->m_ml;
}

void finish_function(py::handle f) {
  PyMethodDef* def = definition(f);
  if (!def || def->ml_meth != dispatcher) return;  // Python's own: __new__, for one
  if (PyInstanceMethod_Check(f.ptr())) f = PyInstanceMethod_GET_FUNCTION(f.ptr());
  functions[PyCFunction_GET_SELF(f.ptr())] = py::reinterpret_borrow<py::object>(f);
  def->ml_meth = def->ml_flags & METH_FASTCALL ? as_method(call) : as_method(call_with_tuple);
}

// pybind11 would hand out memory that nothing was written to.
void* refuse_unmade(std::size_t) {
  throw py::type_error("[__new__] the object was never made; expected a call of the class");
}

void finish_members(py::handle scope) {
  const py::dict members = scope.attr("__dict__");
  for (const auto& [name, member] : members) {
    if (PyModule_Check(member.ptr())) {
      finish_members(member);
    } else if (py::isinstance(member, reinterpret_cast<PyObject*>(&PyProperty_Type))) {
      for (const char* part : {"fget", "fset"}) finish_function(member.attr(part));
    } else if (PyType_Check(member.ptr())) {
      auto* type = reinterpret_cast<PyTypeObject*>(member.ptr());
      if (auto* info = py::detail::get_type_info(type)) info->operator_new = refuse_unmade;
      finish_members(member);
    } else {
      finish_function(member);
    }
  }
}

}  // namespace

void finish_bindings(py::module_& m) {
  dispatcher = definition(py::cpp_function([] {}))->ml_meth;
  finish_members(m);
}

}  // namespace tandem::python
