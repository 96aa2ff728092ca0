// Compiled functions of Python's.
#pragma once
#include "graph/compile.h"
#include "python/src/places.h"

namespace tandem::python {

/// The arguments of a call as Python hands them on (PEP 590): those by position, then those that
/// `names`, a tuple or null, names; and the object that was called.
struct CallArguments {
  std::span<PyObject* const> all;
  py::handle names, called;

  std::size_t by_position() const {
    return all.size() - (names ? static_cast<std::size_t>(PyTuple_GET_SIZE(names.ptr())) : 0);
  }
  py::tuple args() const;
  py::dict kwargs() const;
};

/// A Python function with its captured programs.
class Compiled {
 public:
  /// `owner`: gives the object whose method it is, or None; or None.
  Compiled(py::object function, py::object owner, graph::CompileOptions options);
  /// The same programs, held by another object of Python's.
  explicit Compiled(const Compiled& of);
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() = default;

  py::object call(const CallArguments& given);

  /// Where another thread is capturing it holds the function's lock and wants the GIL.
  template <class F>
  auto ask(F&& f) const {
    const GilRelease release;
    return f(*core_);
  }
  std::uintptr_t identity() const { return reinterpret_cast<std::uintptr_t>(core_.get()); }

  // Python's, for its garbage collector.
  int visit(visitproc visit, void* arg) const;
  void clear();

 private:
  /// What it looks at before a call.
  struct Looks {
    std::shared_ptr<Identities> identities = std::make_shared<Identities>();
    std::shared_ptr<const Places> places = std::make_shared<Places>(identities);
  };

  // `text` and `own` are what its arguments are beside `tensors`, and the object whose method it
  // is.
  py::object run(const CallArguments& given, const py::object& self,
                 std::span<const Tensor> tensors, std::string_view text, const graph::Watch* own);
  // The arguments, and the object whose method it is.
  Flat taken_apart(const py::tuple& args, const py::dict& kwargs, const py::object& self) const;
  std::vector<Flat> parts(const py::tuple& args, const py::dict& kwargs,
                          const py::object& self) const;

  py::object function_;
  py::object owner_;
  std::shared_ptr<Looks> looks_;
  const bool is_view_ = false;
  std::shared_ptr<graph::CompiledFunction> core_;
};

/// How Python calls it and collects it: for the type that pybind11 makes.
void set_up_compiled_type(PyHeapTypeObject* type);

}  // namespace tandem::python
