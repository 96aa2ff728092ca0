// Layers, nets and optimisers of C++ as the package's own classes see them.
#pragma once
#include <memory>
#include <utility>

#include "nn/module.h"
#include "python/src/tensor_object.h"

namespace tandem::python {

/// Whichever it is.
struct Native {
  std::shared_ptr<const nn::Module> module;
};
template <class M>
Native native(M m) {
  return {std::make_shared<M>(std::move(m))};
}

/// The live tensors by name.
inline py::dict named(const StateDict& s) {
  py::dict d;
  for (const auto& [name, t] : s) d[py::str(name)] = t;
  return d;
}
/// Of a dict whose values are anything like an array.
inline StateDict state_of(const py::dict& d) {
  StateDict s;
  for (const auto& [k, v] : d) s.emplace_back(py::cast<std::string>(k), to_tensor(v));
  return s;
}

}  // namespace tandem::python
