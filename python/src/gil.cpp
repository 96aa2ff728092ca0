#include "python/src/gil.h"

#include <cxxabi.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "core/backend.h"
#include "python/src/fetch_ahead.h"

namespace tandem::python {
namespace {

using namespace py::literals;

// Threads that are working without the GIL, and what this one counts.
std::atomic<int> away{0};
thread_local int mine = 0;

[[noreturn]] void stay() {
  away -= mine;
  for (;;) pause();
}

// When there is no interpreter any more, and before what kernels use is gone.
void wait_for_kernels() {
  constexpr std::chrono::seconds kPatience(20);
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (away > 0 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

TANDEM_EVERY_CALL bool is_only_thread() {
  // Without Python's lock on the list: who is missed waits for the GIL, and does nothing meanwhile.
  const PyThreadState* const me = PyThreadState_Get();
  return !me->next && !me->prev;
}

TANDEM_EVERY_CALL bool GilRelease::could_be_wanted() {
  return !is_only_thread() || uses_devices();
}

bool GilRelease::is_held() {
  // After the interpreter's end PyGILState_Check() says so of every thread.
  return PyGILState_GetThisThreadState() && PyGILState_Check();
}

PyThreadState* GilRelease::let_go() {
  ++mine, ++away;
  return PyEval_SaveThread();
}

void GilRelease::take_back(PyThreadState* state) noexcept {
  try {
    PyEval_RestoreThread(state);
  } catch (abi::__forced_unwind&) {
    stay();
  }
  --mine, --away;
}

GilAcquire::GilAcquire() {
  // A thread that is not known any more would be made known to an interpreter that is gone.
  if (!Py_IsInitialized() && !GilRelease::is_held()) stay();
  try {
    held_.emplace();
  } catch (abi::__forced_unwind&) {
    stay();
  }
  away_ = std::exchange(mine, 0);
  away -= away_;
}

GilAcquire::~GilAcquire() {
  mine = away_;
  away += away_;
}

py::object call_python(py::handle f, const py::tuple& args) {
  PyObject* result = nullptr;
  try {
    result = PyObject_Call(f.ptr(), args.ptr(), nullptr);
  } catch (abi::__forced_unwind&) {
    stay();
  }
  if (!result) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

void bind_gil() {
  Py_AtExit(wait_for_kernels);
  // Other threads are not there in a child.
  py::module_::import("os").attr("register_at_fork")("after_in_child"_a =
                                                         py::cpp_function([] { away = mine; }));
}

}  // namespace tandem::python
