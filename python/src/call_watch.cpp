#include "python/src/call_watch.h"

#include "python/src/frame_cells.h"
#include "python/src/identities.h"

namespace tandem::python {

using namespace py::literals;

namespace {

class CallWatch {
 public:
  CallWatch(py::object enter, py::object leave, py::object of_libraries)
      : enter_(std::move(enter)),
        leave_(std::move(leave)),
        of_libraries_(std::move(of_libraries)) {}

  static py::object begin(const py::object& self) {
    auto& w = py::cast<CallWatch&>(self);
    const PyThreadState* t = PyThreadState_Get();
    w.outer_ = t->c_profilefunc;
    w.outer_object_ = py::reinterpret_borrow<py::object>(t->c_profileobj);
    PyEval_SetProfile(on_event, self.ptr());
    return self;
  }
  void tell_of(const py::object& frame, const std::string& what, const py::object& result) {
    if (what == "call") enter_(frame);
    if (what == "return") leave_(frame, result);
  }
  void end() {
    const PyThreadState* t = PyThreadState_Get();
    const auto* const object = py::detail::get_type_info(typeid(CallWatch));
    went_on = t->c_profilefunc == on_event ||
              (t->c_profileobj && object && Py_TYPE(t->c_profileobj) == object->type);
    PyEval_SetProfile(outer_, outer_object_.ptr());
  }

  bool went_on = true;  // to the end, and no other profiler came

 private:
  static int on_event(PyObject* self, PyFrameObject* frame, int what, PyObject* result) {
    auto& w = py::cast<CallWatch&>(py::handle(self));
    if (what == PyTrace_CALL || what == PyTrace_RETURN) {
      // A function may be left by an exception, which goes on.
      PyObject *type, *value, *trace;
      PyErr_Fetch(&type, &value, &trace);
      const bool ok = w.tell(frame, what, result);
      if (!ok && !type) return -1;
      if (!ok) PyErr_Clear();
      PyErr_Restore(type, value, trace);
    }
    return w.outer_ ? w.outer_(w.outer_object_.ptr(), frame, what, result) : 0;
  }

  bool tell(PyFrameObject* frame, int what, PyObject* result) {
    const auto code =
        py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
    PyObject* const file = reinterpret_cast<PyCodeObject*>(code.ptr())->co_filename;
    // One that it does not have yet it works out.
    const auto known =
        py::reinterpret_steal<py::object>(PyObject_GetItem(of_libraries_.ptr(), file));
    if (!known) return false;
    if (known.ptr() == Py_True) return true;
    PyObject* const f = reinterpret_cast<PyObject*>(frame);
    const auto done = py::reinterpret_steal<py::object>(
        what == PyTrace_CALL
            ? PyObject_CallFunctionObjArgs(enter_.ptr(), f, nullptr)
            : PyObject_CallFunctionObjArgs(leave_.ptr(), f, result ? result : Py_None, nullptr));
    return static_cast<bool>(done);
  }

  py::object enter_, leave_, of_libraries_;
  Py_tracefunc outer_ = nullptr;
  py::object outer_object_;
};

}  // namespace

void bind_call_watch(py::module_& m) {
  py::class_<CallWatch>(m, "_CallWatch")
      .def(py::init<py::object, py::object, py::object>(), "enter"_a, "leave"_a, "of_libraries"_a)
      // A function of the user's may take the profiler off and put it back.
      .def("__call__", [](CallWatch& w, const py::object& frame, const std::string& what,
                          const py::object& r) { w.tell_of(frame, what, r); })
      .def("__enter__", &CallWatch::begin)
      .def_readonly("went_on", &CallWatch::went_on)
      .def("__exit__", [](CallWatch& w, const py::args&) { w.end(); });
  // Of a weak reference or proxy; None: it is gone.
  m.def("_referent",
        [](py::handle ref) { return py::reinterpret_borrow<py::object>(referent(ref.ptr())); });
  m.def("_frame_cells", [](py::handle frame) {
    return frame_cells(reinterpret_cast<PyFrameObject*>(frame.ptr()));
  });
}

}  // namespace tandem::python
