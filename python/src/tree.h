// Arguments and results of compiled functions: tensors at the leaves of Python values.
#pragma once
#include "python/src/tensor_object.h"

namespace tandem::python {

/// Appends the tensors in `o` (dicts, lists, tuples, dataclasses; NumPy arrays become tensors) to
/// `tensors`, and to `text` everything a program is specialised on: structure, numbers, strings.
/// Other objects count by identity and are appended to `objects`.
void flatten(py::handle o, std::vector<Tensor>& tensors, std::string& text,
             std::vector<py::object>& objects);
/// `o` with its tensors, in the same order, replaced by tensors[at++].
py::object rebuild(py::handle o, std::span<const Tensor> tensors, std::size_t& at);

}  // namespace tandem::python
