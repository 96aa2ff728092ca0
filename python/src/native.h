// A layer or a net of C++ as the package's own classes hold it.
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

}  // namespace tandem::python
