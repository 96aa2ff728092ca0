#include "python/src/gil.h"

#include <cxxabi.h>
#include <time.h>  // NOLINT: POSIX's
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

OtherThreads::OtherThreads() {
  const PyThreadState* const me = PyThreadState_Get();
  PyInterpreterState* const all = PyInterpreterState_Get();
  for (PyThreadState* t = PyInterpreterState_ThreadHead(all); t; t = PyThreadState_Next(t)) {
    if (t == me) continue;
#if defined(__linux__)
    // The clock that pthread_getcpuclockid() gives, which must not be asked for a thread that ended
    // behind Python's back: clock_gettime() just fails then.
    constexpr clockid_t kOfAThread = 4, kTimeItRan = 2;
    const clockid_t clock =
        ~static_cast<clockid_t>(t->native_thread_id) * 8 + (kOfAThread | kTimeItRan);
    timespec time = {};
    known_ = known_ && clock_gettime(clock, &time) == 0;
    nanoseconds_[PyThreadState_GetID(t)] = std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
#else
    known_ = false;
#endif
  }
}

bool OtherThreads::have_rested() const {
  const OtherThreads now;
  return known_ && now.known_ && now.nanoseconds_ == nanoseconds_;
}

TANDEM_EVERY_CALL bool GilRelease::could_be_wanted() {
  // Without Python's lock on the list: a thread that is missed waits until the kernel is done.
  const PyThreadState* const me = PyThreadState_Get();
  return me->next || me->prev || uses_devices();
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
