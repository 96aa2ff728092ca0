// Letting Python's global lock go around kernels, and taking it for callbacks.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>

namespace tandem::python {

namespace py = pybind11;

/// The GIL is let go around an operation unless that takes longer than the operation. Inside of
/// another one nothing happens.
///
/// The end of the program waits for the threads that are in here, if not for ever: what kernels use
/// ends soon after the interpreter. They stay here from then on. So they do where they come too
/// late: to come back to an interpreter that is gone is to be unwound, which neither C++ nor the
/// objects it holds of Python's are made for. (From Python 3.14 on it lets such threads hang, too.)
class GilRelease {
 public:
  static constexpr std::int64_t kAlways = 1 << 13;  // elements from which it pays
  /// With the GIL only.
  GilRelease() : state_(let_go()) {}
  explicit GilRelease(std::int64_t elements) {
    if (elements >= kAlways && PyGILState_Check()) state_ = let_go();
  }
  ~GilRelease() {
    if (state_) take_back(state_);
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
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

void bind_gil();

}  // namespace tandem::python
