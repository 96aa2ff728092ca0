// Names of Python's modules that C++ uses.
#pragma once
#include <pybind11/pybind11.h>

namespace tandem::python {

/// An attribute of a module, looked up when it is first asked for. For static variables, which
/// cannot be made by the import itself: it may let the GIL go, and another thread that takes it
/// would wait for the variable with it.
class Imported {
 public:
  constexpr Imported(const char* module, const char* name) : module_(module), name_(name) {}
  pybind11::handle operator()() {
    if (!object_) {
      object_ = pybind11::object(pybind11::module_::import(module_).attr(name_)).release().ptr();
    }
    return object_;
  }

 private:
  const char *module_, *name_;
  PyObject* object_ = nullptr;
};

}  // namespace tandem::python
