#include "python/src/frame_cells.h"

#include <frameobject.h>

#include <utility>

// Which cells a running function has, Python tells nobody: code objects have the variables' names,
// and function objects, which cannot be found from a frame, the cells.
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000
#define Py_BUILD_CORE 1  // NOLINT: what these headers want
#include <internal/pycore_frame.h>
#endif

namespace tandem::python {
namespace {

#if PY_VERSION_HEX < 0x030E0000
enum class Kind : std::uint8_t { other, own, outer };

// Calls tell(kind, name, what the slot holds) for each variable.
template <class F>
void each_variable(PyFrameObject* frame, const PyCodeObject* code, F&& tell) {
#if PY_VERSION_HEX >= 0x030B0000
  const Py_ssize_t outer = code->co_nlocalsplus - code->co_nfreevars;
  const char* const kinds = PyBytes_AS_STRING(code->co_localspluskinds);
  for (Py_ssize_t i = 0; i < code->co_nlocalsplus; ++i) {
    constexpr int kIsCell = 0x40;  // CO_FAST_CELL
    const Kind kind = i >= outer                  ? Kind::outer
                      : (kinds[i] & kIsCell) != 0 ? Kind::own
                                                  : Kind::other;
    tell(kind, PyTuple_GET_ITEM(code->co_localsplusnames, i), frame->f_frame->localsplus[i]);
  }
#else
  PyObject** slot = frame->f_localsplus + code->co_nlocals;
  for (const auto& [kind, names] :
       {std::pair(Kind::own, code->co_cellvars), std::pair(Kind::outer, code->co_freevars)}) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
      tell(kind, PyTuple_GET_ITEM(names, i), *slot++);
    }
  }
#endif
}
#endif

}  // namespace

py::object frame_cells([[maybe_unused]] PyFrameObject* frame) {
#if PY_VERSION_HEX < 0x030E0000
  const auto code =
      py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  py::list own;
  py::dict outer;
  const auto take = [&](Kind kind, PyObject* name, PyObject* held) {
    if (kind == Kind::other || !held || !PyCell_Check(held)) return;
    if (kind == Kind::own) {
      own.append(py::handle(held));
    } else {
      outer[py::handle(name)] = py::handle(held);
    }
  };
  each_variable(frame, reinterpret_cast<PyCodeObject*>(code.ptr()), take);
  return py::make_tuple(own, outer);
#else
  return py::none();
#endif
}

}  // namespace tandem::python
