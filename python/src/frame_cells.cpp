#include "python/src/frame_cells.h"

#include <frameobject.h>

// Which cells a running function has, Python tells nobody: code objects have the variables' names,
// and function objects, which cannot be found from a frame, the cells.
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000
#define Py_BUILD_CORE 1  // NOLINT: what these headers want
#include <internal/pycore_frame.h>
#endif

namespace tandem::python {
namespace {

#if PY_VERSION_HEX < 0x030E0000
struct Slots {
  PyObject** first;
  py::tuple names;
  Py_ssize_t outer;  // where the variables of the functions around begin, after all others
};

Slots slots_of(PyFrameObject* frame, const PyCodeObject* code) {
#if PY_VERSION_HEX >= 0x030B0000
  return {frame->f_frame->localsplus, py::reinterpret_borrow<py::tuple>(code->co_localsplusnames),
          code->co_nlocalsplus - code->co_nfreevars};
#else
  py::list names;
  for (PyObject* part : {code->co_varnames, code->co_cellvars, code->co_freevars}) {
    for (const py::handle name : py::reinterpret_borrow<py::tuple>(part)) names.append(name);
  }
  return {frame->f_localsplus, py::tuple(names),
          PyTuple_GET_SIZE(code->co_varnames) + PyTuple_GET_SIZE(code->co_cellvars)};
#endif
}
#endif

}  // namespace

py::object frame_cells([[maybe_unused]] PyFrameObject* frame) {
#if PY_VERSION_HEX < 0x030E0000
  const auto code =
      py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  const Slots slots = slots_of(frame, reinterpret_cast<PyCodeObject*>(code.ptr()));
  py::list own;
  py::dict outer;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(slots.names.ptr()); ++i) {
    PyObject* const held = slots.first[i];
    if (!held || !PyCell_Check(held)) continue;
    if (i < slots.outer) {
      own.append(py::handle(held));
    } else {
      outer[py::handle(PyTuple_GET_ITEM(slots.names.ptr(), i))] = py::handle(held);
    }
  }
  return py::make_tuple(own, outer);
#else
  return py::none();
#endif
}

}  // namespace tandem::python
