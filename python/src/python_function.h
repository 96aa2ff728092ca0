// Python callables inside of C++ function objects, which may be copied and destroyed without the
// GIL.
#pragma once
#include <memory>

#include "python/src/tensor_object.h"

namespace tandem::python {

class PythonObject {
 public:
  PythonObject() = default;
  explicit PythonObject(py::object o)
      : object_(o.release().ptr(), [](PyObject* p) {
          if (!Py_IsInitialized()) return;  // the interpreter is gone, and its objects with it
          const GilAcquire gil;
          Py_XDECREF(p);
        }) {}
  py::handle get() const { return object_.get(); }

 private:
  std::shared_ptr<PyObject> object_;
};

/// Whether a list of tensors may have holes.
enum class Nones : std::uint8_t { refused, undefined };

/// What a function gave: one tensor, or a list or tuple of them.
inline std::vector<Tensor> tensors_of(const char* op, py::handle result,
                                      Nones nones = Nones::refused) {
  if (result.is_none()) return {};
  if (is_tensor(result.ptr())) return {tensor_of(result.ptr())};
  if (!PyList_Check(result.ptr()) && !PyTuple_Check(result.ptr())) {
    fail<TypeError>(op, "must return a tensor or a list of tensors",
                    py::cast<std::string>(py::str(py::type::of(result))));
  }
  std::vector<Tensor> r;
  for (const py::handle h : result) {
    if (is_tensor(h.ptr())) {
      r.push_back(tensor_of(h.ptr()));
    } else if (h.is_none() && nones == Nones::undefined) {
      r.emplace_back();
    } else {
      fail<TypeError>(op, "a tensor is needed", py::cast<std::string>(py::str(py::type::of(h))));
    }
  }
  return r;
}

}  // namespace tandem::python
