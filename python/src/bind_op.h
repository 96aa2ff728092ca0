// How an operation is bound: as a function, as a method of Tensor or as both, with the GIL let go
// where that pays and the documentation completed.
#pragma once
#include <algorithm>

#include "ops/ops.h"
#include "python/src/op_docs.h"
#include "python/src/tensor_object.h"

namespace tandem::python {

using namespace py::literals;

/// Where bind_ops() puts functions; null outside of it.
inline py::module_* op_module = nullptr;

inline py::handle tensor_class() {
  return reinterpret_cast<PyObject*>(tensor_type);
}

// Of what a function is bound with, the documentation gets its sections.
template <class E>
const E& documented(const char*, const E& extra) {
  return extra;
}
inline const char* documented(const char* name, const char* doc) {
  return with_sections(name, doc);
}

// What an argument makes a call last, in elements.
inline std::int64_t weight(const Tensor& t) {
  return t.defined() ? t.numel() : 0;
}
inline std::int64_t weight(const std::optional<Tensor>& t) {
  return t ? weight(*t) : 0;
}
inline std::int64_t weight(const std::vector<Tensor>& list) {
  std::int64_t n = 0;
  for (const Tensor& t : list) n += weight(t);
  return n;
}
inline std::int64_t weight(const Dims& shape) {  // of what may be made
  std::int64_t n = 1;
  for (const std::int64_t s : shape) {
    n = std::min(n * std::clamp<std::int64_t>(s, 1, GilRelease::kAlways), GilRelease::kAlways);
  }
  return n;
}
template <class T>
std::int64_t weight(const T&) {
  return 0;
}

template <class T>
inline constexpr bool of_python = std::is_base_of_v<py::handle, std::remove_cvref_t<T>>;

// `f` without the GIL where that pays, unless it has to do with Python's objects itself.
template <class F, class R, class... A>
auto releasing(F&& f, R (*)(A...)) {
  if constexpr (of_python<R> || (of_python<A> || ...)) {
    return std::forward<F>(f);
  } else {
    return [f = std::forward<F>(f)](A... a) -> R {
      const GilRelease release((std::int64_t{0} + ... + weight(a)));
      return f(std::forward<A>(a)...);
    };
  }
}
template <class F>
auto releasing(F&& f) {
  return releasing(std::forward<F>(f),
                   static_cast<py::detail::function_signature_t<std::decay_t<F>>*>(nullptr));
}

template <class F, class... Extra>
void method(const char* name, F&& f, const Extra&... extra) {
  const py::handle c = tensor_class();
  c.attr(name) =
      py::cpp_function(releasing(std::forward<F>(f)), py::name(name), py::is_method(c),
                       py::sibling(py::getattr(c, name, py::none())), documented(name, extra)...);
}
template <class F>
void property(const char* name, F&& f, const char* doc) {
  const py::handle c = tensor_class();
  c.attr(name) = py::module_::import("builtins")
                     .attr("property")(py::cpp_function(std::forward<F>(f), py::is_method(c)),
                                       py::none(), py::none(), doc);
}
template <class G, class S>
void property(const char* name, G&& get, S&& set, const char* doc) {
  const py::handle c = tensor_class();
  c.attr(name) = py::module_::import("builtins")
                     .attr("property")(py::cpp_function(std::forward<G>(get), py::is_method(c)),
                                       py::cpp_function(std::forward<S>(set), py::is_method(c)),
                                       py::none(), doc);
}
template <class F, class... Extra>
void function(const char* name, F&& f, const Extra&... extra) {
  op_module->def(name, releasing(std::forward<F>(f)), documented(name, extra)...);
}
/// A function whose first argument is the tensor it could be a method of. The method has no name
/// for that argument.
template <class F, class... Extra>
void both(const char* name, const F& f, const char* doc, const Extra&... extra) {
  function(name, f, py::arg("x"), extra..., doc);
  method(name, f, extra..., doc);
}

/// Sizes that are given one by one: two or more. For others the call is another overload's.
inline Dims one_by_one(const py::args& sizes) {
  py::detail::make_caster<Dims> dims;
  if (sizes.size() < 2 || !dims.load(sizes, true)) throw py::reference_cast_error();
  return py::detail::cast_op<Dims&>(dims);
}

/// The method also takes the elements of its one sequence apart: x.reshape(2, -1).
template <class F>
void also_apart(const char* name, F f) {
  const py::handle c = tensor_class();
  c.attr(name) = py::cpp_function(
      [f](const Tensor& x, const py::args& sizes) { return f(x, one_by_one(sizes)); },
      py::name(name), py::is_method(c), py::sibling(c.attr(name)));
}

inline In at(const Tensor& t) {
  return {t, here()};
}

/// An argument that may be None, as C++ has it: an undefined tensor.
using Optional = std::optional<Tensor>;
inline Tensor of(const Optional& t) {
  return t.value_or(Tensor());
}

void bind_elementwise();
void bind_reductions();
void bind_creation();
void bind_shapes();
void bind_networks();
void bind_tensor();

}  // namespace tandem::python
