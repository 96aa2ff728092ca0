#include "python/src/places.h"

#include <fmt/format.h>

#include <algorithm>

namespace tandem::python {
namespace {

// Without running code of Python's.
py::object value_at(py::handle where, py::handle name) {
  PyObject *w = where.ptr(), *n = name.ptr(), *found = nullptr;
  py::object attributes;
  if (PyWeakref_Check(w)) {
    w = PyWeakref_GetObject(w);
    if (w == Py_None) return py::none();
    if (Py_TYPE(w)->tp_dictoffset != 0) {
      attributes = py::reinterpret_steal<py::object>(PyObject_GenericGetDict(w, nullptr));
      if (!attributes) PyErr_Clear();
      if (attributes) w = attributes.ptr();
    }
  }
  if (PyFunction_Check(w)) return py::reinterpret_borrow<py::object>(w);
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

std::shared_ptr<Places> Places::after(const Places& old) {
  // Programs for other arguments may read them.
  constexpr int kMostIdle = 16;
  auto p = std::make_shared<Places>(old.identities_);
  for (const Place& place : old.places_) {
    const bool gone =
        PyWeakref_Check(place.where.ptr()) && PyWeakref_GetObject(place.where.ptr()) == Py_None;
    if (gone || place.idle >= kMostIdle) continue;
    p->numbers_[{place.where.ptr(), place.name.ptr()}] = p->places_.size();
    Place& mine = p->places_.emplace_back(place);
    ++mine.idle;
    mine.found = p->spelled(mine);
  }
  return p;
}

void Places::add(py::object label, py::object name, py::object where, bool looked_at) {
  PyUnicode_InternInPlace(&name.ptr());
  const auto [it, is_new] = numbers_.try_emplace({where.ptr(), name.ptr()}, places_.size());
  if (!is_new) {
    places_[it->second].idle = 0;
    places_[it->second].looked_at |= looked_at;
    return;
  }
  Place& p = places_.emplace_back();
  p.label = std::move(label), p.name = std::move(name), p.where = std::move(where);
  p.looked_at = looked_at;
  static std::uint64_t numbers = 0;  // with the GIL only
  p.mark = fmt::format("|{}:", ++numbers);
  p.found = spelled(p);
}

std::vector<Piece> Places::spelled(const Place& p) const {
  std::vector<Piece> pieces;
  Flat one(*identities_);
  watch_value(value_at(p.where, p.name), {}, one, &pieces);
  return pieces;
}

void Places::watch(Flat& flat) const {
  for (const Place& p : places_) {
    if (!p.looked_at) continue;
    flat.watch += p.mark;
    watch_value(value_at(p.where, p.name), p.without, flat);
  }
}

std::string Places::found() const {
  std::string text;
  for (const Place& place : places_) {
    if (!place.looked_at) continue;
    text += place.mark;
    for (const Piece& p : place.found) {
      if (!place.without.contains(p.key)) text += p.text;
    }
  }
  return text;
}

std::vector<py::object> Places::changed() const {
  std::vector<py::object> labels;
  for (const Place& p : places_) {
    if (p.idle == 0 && spelled(p) != p.found) labels.push_back(p.label);
  }
  return labels;
}

void Places::note_changes() {
  for (Place& place : places_) {
    const std::vector<Piece> now = spelled(place);
    const bool before = std::exchange(place.changed, now != place.found);
    if (!before || !place.changed) continue;
    const auto leave_out = [&](const std::vector<Piece>& some, const std::vector<Piece>& others) {
      for (const Piece& p : some) {
        if (std::find(others.begin(), others.end(), p) == others.end()) {
          place.without.insert(p.key);
        }
      }
    };
    leave_out(place.found, now);
    leave_out(now, place.found);
  }
}

int Places::visit(visitproc visit, void* arg) const {
  for (const Place& p : places_) Py_VISIT(p.where.ptr());
  return 0;
}

}  // namespace tandem::python
