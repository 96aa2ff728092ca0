#include "python/src/gil.h"

#include <cxxabi.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace tandem::python {
namespace {

using namespace py::literals;

// Threads without the GIL, each as often as it let it go. Changes with the GIL held.
std::atomic<int> away{0};
thread_local int mine = 0;

// The one that ends the program, once it does.
std::atomic<std::thread::id> last_thread{};

bool is_late() {
  const std::thread::id last = last_thread.load();
  return last != std::thread::id() && last != std::this_thread::get_id();
}

[[noreturn]] void stay() {
  away -= mine;
  for (;;) pause();
}

void end_program() {
  constexpr std::chrono::seconds kPatience(20);
  last_thread = std::this_thread::get_id();
  const py::gil_scoped_release release;  // for their callbacks
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (away > mine && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

PyThreadState* GilRelease::let_go() {
  if (mine == 0 && is_late()) {
    PyEval_SaveThread();
    stay();
  }
  ++mine, ++away;
  return PyEval_SaveThread();
}

void GilRelease::take_back(PyThreadState* state) noexcept {
  // Only the outermost: further in, the locks of what is being done are held.
  if (mine == 1 && is_late()) stay();
  try {
    PyEval_RestoreThread(state);
  } catch (abi::__forced_unwind&) {
    stay();
  }
  --mine, --away;
}

void bind_gil() {
  py::module_::import("atexit").attr("register")(py::cpp_function(end_program));
  // Other threads are not there in a child.
  py::module_::import("os").attr("register_at_fork")("after_in_child"_a =
                                                         py::cpp_function([] { away = mine; }));
}

}  // namespace tandem::python
