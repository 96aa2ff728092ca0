// x[key] and x[key] = value with NumPy's rules.
#pragma once
#include "python/src/tensor_object.h"

namespace tandem::python {

/// Integers, slices, ... and None give a view; a bool mask or integer arrays give a copy. With
/// negative steps, a copy. OutOfBoundsError, CaptureError for a mask inside a capture.
Tensor get_item(const Tensor& x, const py::object& key);
void set_item(Tensor x, const py::object& key, const py::object& value);

}  // namespace tandem::python
