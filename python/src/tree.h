// Arguments and results of compiled functions: tensors at the leaves of Python values.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "graph/watch.h"
#include "python/src/identities.h"

namespace tandem::python {

/// A Python value taken apart.
struct Flat {
  explicit Flat(Identities& identities) : identities(&identities) {}

  /// The leaves, in order: tensors in tuples, lists, dicts and dataclasses (and types derived from
  /// these); NumPy arrays become tensors.
  std::vector<Tensor> tensors;
  /// Everything a program is specialised on: structure, types, numbers, strings, the contents of
  /// sets and byte arrays. Other objects count by identity.
  std::string text;
  /// The attributes of those other objects, one level deep: numbers and strings by value, small
  /// containers by content, tensors by the memory they name, the rest by identity. Not spelled:
  /// NumPy arrays' values, containers of more than 64 elements, attributes of attributes.
  /// The attributes of an nn.Module tell of their changes themselves.
  graph::Watch watch;
  /// The classes of those objects, by numbers that change with their attributes; and of an
  /// nn.Module the containers in its attributes, which do not tell of their changes.
  graph::Watch classes;
  Identities* identities;
  bool with_caches = true;  // or without what objects keep to be faster
};

/// Takes `o` apart, appending to `flat`. Throws ValueError where containers nest more than 100
/// deep.
void flatten(py::handle o, Flat& flat);
/// Appends what `o` itself holds to flat.watch, as if it were an argument.
void watch_object(py::handle o, Flat& flat);
/// A part of what stands at a place a function reads: of a dict each item, by its key; of all else
/// what it is (key "").
struct Piece {
  std::string key, text;
  bool operator==(const Piece&) const = default;
};
/// Appends to flat.watch.text what `value` is, spelled as attributes are, and by identity if there
/// is much of it; without the pieces of these keys.
void watch_value(py::handle value, const std::set<std::string>& without, Flat& flat,
                 std::vector<Piece>* pieces = nullptr);
/// Whether that is nothing but which object it is, and of which class.
bool watched_by_identity(py::handle value);
/// `o`, which is no tensor itself, with its tensors, in the same order, replaced by tensors[at++].
/// Containers are new ones, of the same types. Throws TypeError for a type that cannot be copied.
py::object rebuild_container(py::handle o, std::span<const Tensor> tensors, std::size_t& at);
/// The same of anything. Apart, because most results of compiled functions are one tensor.
[[gnu::always_inline]] inline py::object rebuild(py::handle o, std::span<const Tensor> tensors,
                                                 std::size_t& at) {
  if (!is_tensor(o.ptr())) return rebuild_container(o, tensors, at);
  PyObject* const t = wrap(tensors[at++]);
  if (!t) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(t);
}

}  // namespace tandem::python
