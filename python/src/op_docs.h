// What the documentation of every operation says beyond its first lines: shapes, errors, source.
#pragma once
#include "python/src/tensor_object.h"

namespace tandem::python {

/// `doc` followed by the sections "Shapes:", "Errors:" and "Source:" of the operation `name`; `doc`
/// itself for what is no operation. The text lives as long as the process.
const char* with_sections(const char* name, const char* doc);
inline const char* with_sections(const char* name, std::nullptr_t) {
  return with_sections(name, "");
}

/// _op_info(): the op list with each op's text and traits; _documented_operations(): the names
/// with_sections() knows. For the documentation and the tests.
void bind_op_docs(py::module_& m);

}  // namespace tandem::python
