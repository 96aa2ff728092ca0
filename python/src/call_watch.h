// Tells somebody of the Python functions that this thread calls.
#pragma once
#include "python/src/tensor_object.h"

namespace tandem::python {

/// _CallWatch(enter, leave, of_libraries): inside of `with`, enter(frame) is called before and
/// leave(frame, result) after each function of Python's that this thread runs, unless
/// of_libraries[its file]. A profiler that is at work goes on. _frame_cells(frame): see
/// frame_cells.h.
void bind_call_watch(py::module_& m);

}  // namespace tandem::python
