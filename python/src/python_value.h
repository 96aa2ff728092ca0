// What kinds of value compiled functions take apart and put together.
#pragma once
#include <vector>

#include "python/src/tensor_object.h"

namespace tandem::python {

bool is_dataclass(py::handle o);
/// Of the package's Modules.
bool is_module(py::handle o);
/// The fields a dataclass' instance has: neither ClassVar nor InitVar, nor one never assigned.
std::vector<py::object> fields_of(py::handle o);
/// How a number, text, bytes or a range is written; null for what is none. repr() of a value of a
/// type derived from one of the built-in ones may hide its value.
reprfunc plain_repr(PyObject* p);
bool is_numpy_scalar(PyObject* p);
/// The dict that a types.MappingProxyType stands for; null for another mapping, and for all else.
PyObject* proxied_dict(PyObject* p);
/// Whether what an object of this class keeps under a name is made again where it is missing:
/// functools.cached_property, and what a library keeps for itself.
bool is_cache(PyTypeObject* type, py::handle name);

}  // namespace tandem::python
