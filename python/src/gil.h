// Letting Python's global lock go around kernels, and taking it for callbacks.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <map>
#include <optional>

namespace tandem::python {

namespace py = pybind11;

/// The other threads that Python knows of, and how long each has run so far. With the GIL only.
class OtherThreads {
 public:
  OtherThreads();
  /// Whether none of them has done anything since. False where that cannot be told: on systems
  /// other than Linux it can only be told where there are none.
  bool have_rested() const;

 private:
  std::map<std::uint64_t, std::int64_t>
      nanoseconds_;  // of the processor's time, by Python's number
  bool known_ = true;
};

/// The GIL is let go around an operation unless that takes longer than the operation, or nobody
/// could take it. Inside of another one nothing happens.
///
/// The end of the program waits for the threads that are in here, if not for ever: what kernels use
/// ends soon after the interpreter. They stay here then, and so do those that want the GIL for a
/// callback: who comes to an interpreter that is gone is unwound, which neither C++ nor the objects
/// it holds of Python's are made for. (From Python 3.14 on such threads hang, too.)
class GilRelease {
 public:
  static constexpr std::int64_t kAlways = 1 << 13;  // elements from which it pays
  /// With the GIL only. Around what may wait for other threads, known to Python or not.
  GilRelease() : state_(let_go()) {}
  /// With the GIL only. Around work that waits for nobody: letting the GIL go and taking it back
  /// costs some 8 us where kernels have emptied the caches.
  struct Work {};
  explicit GilRelease(Work) {
    if (could_be_wanted()) state_ = let_go();
  }
  explicit GilRelease(std::int64_t elements) {
    if (elements >= kAlways && is_held() && could_be_wanted()) state_ = let_go();
  }
  ~GilRelease() {
    if (state_) take_back(state_);
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

  /// Whether this thread has the GIL.
  static bool is_held();

 private:
  // Whether there is another thread, or a device is in use: the driver's threads may call Python,
  // and kernels wait for them. A thread that Python does not know yet just waits.
  static bool could_be_wanted();
  static PyThreadState* let_go();
  static void take_back(PyThreadState* state) noexcept;

  PyThreadState* state_ = nullptr;
};

/// Runs `f` without the GIL where that pays.
template <class F>
auto without_gil(std::int64_t elements, F&& f) {
  const GilRelease release(elements);
  return f();
}

/// The GIL for a callback.
class GilAcquire {
 public:
  GilAcquire();
  ~GilAcquire();
  GilAcquire(const GilAcquire&) = delete;
  GilAcquire& operator=(const GilAcquire&) = delete;

 private:
  std::optional<py::gil_scoped_acquire> held_;
  int away_ = 0;  // as which the thread counts outside
};

/// f(*args) with nothing of C++'s in between that would be unwound at the end of the program.
py::object call_python(py::handle f, const py::tuple& args);

void bind_gil();

}  // namespace tandem::python
