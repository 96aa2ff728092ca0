#include "python/src/frame_cells.h"

#include <frameobject.h>

// Which cells a running function has, Python tells nobody: code objects have the variables' names,
// and function objects, which cannot be found from a frame, the cells.
#if PY_VERSION_HEX < 0x030E0000
#define Py_BUILD_CORE 1  // NOLINT: what these headers want
#include <internal/pycore_frame.h>
#endif

namespace tandem::python {

py::object frame_cells([[maybe_unused]] PyFrameObject* frame) {
#if PY_VERSION_HEX < 0x030E0000
  const auto code_object =
      py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  const auto* const code = reinterpret_cast<PyCodeObject*>(code_object.ptr());
  const Py_ssize_t first_outer = code->co_nlocalsplus - code->co_nfreevars;
  const char* const kinds = PyBytes_AS_STRING(code->co_localspluskinds);
  py::list own;
  py::dict outer;
  for (Py_ssize_t i = 0; i < code->co_nlocalsplus; ++i) {
    constexpr int kIsCell = 0x40;  // CO_FAST_CELL
    PyObject* const held = frame->f_frame->localsplus[i];
    if (!held || !PyCell_Check(held)) continue;
    if (i >= first_outer) {
      outer[py::handle(PyTuple_GET_ITEM(code->co_localsplusnames, i))] = py::handle(held);
    } else if ((kinds[i] & kIsCell) != 0) {
      own.append(py::handle(held));
    }
  }
  return py::make_tuple(own, outer);
#else
  return py::none();
#endif
}

}  // namespace tandem::python
