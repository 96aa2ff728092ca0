// Which object of Python's it is, in numbers that outlive the object.
#pragma once
#include <cstdint>
#include <unordered_map>

#include "core/host_changes.h"
#include "python/src/tensor_object.h"

namespace tandem::python {

/// What a weak reference or a proxy is one of, borrowed; None: it is gone. With the GIL only.
inline PyObject* referent(PyObject* ref) {
#if PY_VERSION_HEX >= 0x030D0000
  PyObject* o = nullptr;
  if (PyWeakref_GetRef(ref, &o) <= 0) return Py_None;
  Py_DECREF(o);  // never the last: somebody had it
  return o;
#else
  return PyWeakref_GET_OBJECT(ref);
#endif
}

/// A number that no other object has, now or later; 0 for an object that can have no weak
/// reference.
std::uint64_t serial_of(PyObject* o);

/// Numbers for objects that can have no weak reference, and so could die and leave their address to
/// another one unnoticed. Holds on to those that were named lately: one that comes back after long
/// has another number.
class Identities {
 public:
  std::uint64_t of(PyObject* o);
  /// One more look at what functions read begins.
  void tick();
  int visit(visitproc visit, void* arg) const;  // for Python's garbage collector

 private:
  struct Named {
    py::object object;
    std::uint64_t number, last;
  };
  std::unordered_map<PyObject*, Named> named_;
  std::uint64_t clock_ = 0;
};

/// An attribute of an object, as what may change.
Subject subject_of(py::handle o, py::handle name, Identities& identities);
/// A number that changes when an attribute of the class, or of one it derives from, is set.
std::uint64_t class_version(py::handle type);

}  // namespace tandem::python
