// Memory shared with NumPy, PyTorch, JAX and CuPy by DLPack (https://dmlc.github.io/dlpack, 1.0 and
// the older, unversioned form).
#pragma once
#include "python/src/tensor_object.h"

namespace tandem::python {

/// A tensor over the memory of an object that has __dlpack__, or with a copy of it where that may
/// not be written to. Throws TypeError, DeviceError, ValueError.
Tensor from_dlpack(py::handle o, bool* was_copied = nullptr);
/// What Tensor.__dlpack__ gives: a capsule that keeps the tensor alive. The version is what the
/// consumer can read; 0: the older form. With `copy` memory of its own.
py::capsule to_dlpack(const Tensor& t, int max_major_version, bool copy = false);
/// DLPack's numbers for a device: type, index.
std::pair<int, int> dlpack_device(const Device& d);

}  // namespace tandem::python
