#include "python/src/places.h"

#include <algorithm>

namespace tandem::python {
namespace {

// Without running code of Python's.
py::object value_at(py::handle where, py::handle name) {
  PyObject *w = where.ptr(), *n = name.ptr(), *found = nullptr;
  if (PyCell_Check(w)) {
    found = PyCell_GET(w);
  } else if (PyDict_Check(w)) {
    found = PyDict_GetItem(w, n);
  } else if (PyType_Check(w)) {
    found = _PyType_Lookup(reinterpret_cast<PyTypeObject*>(w), n);
  } else {  // a slot
    auto value = py::reinterpret_steal<py::object>(PyObject_GenericGetAttr(w, n));
    PyErr_Clear();
    return value ? value : py::none();
  }
  return found ? py::reinterpret_borrow<py::object>(found) : py::none();
}

}  // namespace

Places::Places(py::handle triples, const Places& old) {
  for (const py::handle t : triples) {
    const auto part = [&](int i) {
      return py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(t.ptr(), i));
    };
    Place p{part(0), part(1), part(2), {}, false};
    for (const Place& o : old.places_) {
      if (o.where.is(p.where) && o.name.equal(p.name)) p = o;
    }
    places_.push_back(std::move(p));
  }
}

void Places::watch(Flat& flat) const {
  for (const Place& p : places_) watch_value(value_at(p.where, p.name), p.without, flat);
}

Places::Spelled Places::spelled(std::vector<py::object>& kept) const {
  Spelled all;
  for (const Place& p : places_) {
    Flat one;
    watch_value(value_at(p.where, p.name), {}, one, &all.emplace_back());
    for (py::object& o : one.kept) kept.push_back(std::move(o));
  }
  return all;
}

void Places::note_changes(const Spelled& before, const Spelled& after, bool at_once) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (before[i] == after[i]) continue;
    Place& place = places_[i];
    const auto leave_out = [&](const std::vector<Piece>& some, const std::vector<Piece>& others) {
      for (const Piece& p : some) {
        if (std::find(others.begin(), others.end(), p) != others.end()) continue;
        place.without.insert(p.key);
      }
    };
    if (place.changed || at_once) {
      leave_out(before[i], after[i]);
      leave_out(after[i], before[i]);
    }
    place.changed = true;
  }
}

std::string Places::joined(const Spelled& then) const {
  std::string text;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    for (const Piece& p : then[i]) {
      if (!places_[i].without.contains(p.key)) text += p.text;
    }
  }
  return text;
}

int Places::visit(visitproc visit, void* arg) const {
  for (const Place& p : places_) Py_VISIT(p.where.ptr());
  return 0;
}

}  // namespace tandem::python
