// Variables that functions share, of a function of Python's that is running.
#pragma once
#include "python/src/tensor_object.h"

namespace tandem::python {

/// (own, outer): the cells of the variables that functions within this one use, made by the call;
/// and by name those of the functions around it. None where Python does not let them be seen
/// (from 3.14 on).
py::object frame_cells(PyFrameObject* frame);

}  // namespace tandem::python
