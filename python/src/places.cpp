#include "python/src/places.h"

#include <fmt/format.h>

#include <algorithm>

#include "python/src/fetch_ahead.h"
#include "python/src/python_value.h"

namespace tandem::python {
namespace {

const std::vector<Piece> kNothing = {{"", "nothing"}};

Found way_to(py::handle where, py::handle name) {
  using Way = Found::Way;
  PyObject* w = where.ptr();
  if (PyWeakref_Check(w)) {
    w = referent(w);
  } else if (PyFunction_Check(w)) {
    return {.way = Way::itself};
  } else if (PyCell_Check(w)) {
    return {.way = Way::cell};
  } else if (PyDict_Check(w)) {
    return {.way = Way::item};
  } else if (PyType_Check(w)) {
    return {.way = Way::class_attribute};
  }
  PyObject* const of_class = _PyType_Lookup(Py_TYPE(w), name.ptr());
  const bool is_slot = of_class && Py_TYPE(of_class) == &PyMemberDescr_Type;
  const bool has_dict = Py_TYPE(w)->tp_dictoffset != 0;
  return {.way = !is_slot && has_dict ? Way::attribute : Way::slot,
          .by_reference = PyWeakref_Check(where.ptr()) != 0};
}

// For PyDict_Next(), which needs no hash and no search: -1 if there is no such key. `last`: where
// it was before.
Py_ssize_t position_in(PyObject* dict, PyObject* name, Py_ssize_t last) {
  PyObject* key = nullptr;
  Py_ssize_t at = last, next = last;
  if (at >= 0 && PyDict_Next(dict, &next, &key, nullptr) && key == name) return at;
  for (at = next = 0; PyDict_Next(dict, &next, &key, nullptr); at = next) {
    if (key == name) return at;
  }
  return -1;
}

// Null if there is nothing.
TANDEM_EVERY_CALL py::object value_at(py::handle where, py::handle name, Found found) {
  PyObject *w = where.ptr(), *n = name.ptr();
  if (found.by_reference) w = referent(w);
  if (w == Py_None) return {};
  const auto borrowed = [](PyObject* o) { return py::reinterpret_borrow<py::object>(o); };
  switch (found.way) {
    case Found::Way::itself: return borrowed(w);
    case Found::Way::cell: return borrowed(PyCell_GET(w));
    case Found::Way::item: return borrowed(PyDict_GetItem(w, n));
    case Found::Way::class_attribute:
      return borrowed(_PyType_Lookup(reinterpret_cast<PyTypeObject*>(w), n));
    case Found::Way::attribute:
      // A property, say, goes before what the object holds.
      if (PyObject* const p = _PyType_Lookup(Py_TYPE(w), n); p && Py_TYPE(p)->tp_descr_set) {
        return borrowed(p);
      }
      if (const auto d = py::reinterpret_steal<py::object>(PyObject_GenericGetDict(w, nullptr))) {
        return borrowed(PyDict_GetItem(d.ptr(), n));
      }
      PyErr_Clear();
      [[fallthrough]];
    case Found::Way::slot: break;
  }
  auto value = py::reinterpret_steal<py::object>(PyObject_GenericGetAttr(w, n));
  PyErr_Clear();
  return value;
}

bool is_immutable(PyObject* o) {
  const PyTypeObject* t = Py_TYPE(o);
  return o == Py_None || t == &PyBool_Type || t == &PyLong_Type || t == &PyFloat_Type ||
         t == &PyUnicode_Type;
}

// Calls f(element) for the elements of a list or a tuple, and the keys and values of a dict, until
// one is refused. False: it was, or the value is nothing of the kind.
template <class F>
bool each_element(PyObject* o, F&& f) {
  if (PyDict_CheckExact(o)) {
    PyObject *k = nullptr, *v = nullptr;
    for (Py_ssize_t i = 0; PyDict_Next(o, &i, &k, &v);) {
      if (!f(k) || !f(v)) return false;
    }
    return true;
  }
  if (!PyList_CheckExact(o) && !PyTuple_CheckExact(o)) return false;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o); ++i) {
    if (!f(PySequence_Fast_GET_ITEM(o, i))) return false;
  }
  return true;
}

// A weak reference where there can be one, else one that the garbage collector is told of.
py::object reference_to(PyObject* o, const py::object& gone = {}) {
  auto ref = py::reinterpret_steal<py::object>(PyWeakref_NewRef(o, gone.ptr()));
  if (ref) return ref;
  PyErr_Clear();
  return py::reinterpret_borrow<py::object>(o);
}

bool is_plain_function(PyObject* o) {
  return PyFunction_Check(o) && has_no_defaults(o);
}

// Where all of them are numbers and text, which stay as they are, or count by identity: references
// to them, to the classes of the latter, and to the code of functions.
bool note_elements(PyObject* o, std::vector<py::object>& elements) {
  constexpr std::size_t kMost = 256;
  const bool all = each_element(o, [&](PyObject* e) {
    if (elements.size() >= kMost) return false;
    if (is_immutable(e)) {
      elements.push_back(py::reinterpret_borrow<py::object>(e));
      return true;
    }
    if (!watched_by_identity(e) && !is_plain_function(e)) return false;
    elements.push_back(reference_to(e));
    elements.push_back(py::weakref(py::type::of(e)));
    if (PyFunction_Check(e)) {
      elements.push_back(py::reinterpret_borrow<py::object>(PyFunction_GET_CODE(e)));
    }
    return true;
  });
  if (!all) elements.clear();
  return all;
}

bool are_the_elements(PyObject* o, const std::vector<py::object>& elements) {
  auto at = elements.begin();
  const auto next_is = [&](PyObject* e) {
    if (at == elements.end()) return false;
    PyObject* const was = (at++)->ptr();
    return was == e || (PyWeakref_CheckRef(was) && e != Py_None && referent(was) == e);
  };
  const bool same = each_element(o, [&](PyObject* e) {
    if (!next_is(e)) return false;
    if (is_immutable(e)) return true;
    if (!next_is(reinterpret_cast<PyObject*>(Py_TYPE(e)))) return false;
    return !PyFunction_Check(e) || (is_plain_function(e) && next_is(PyFunction_GET_CODE(e)));
  });
  return same && at == elements.end();
}

// Counts while it is there.
class Looking {
 public:
  explicit Looking(int& count) : count_(count) { ++count_; }
  ~Looking() { --count_; }
  Looking(const Looking&) = delete;
  Looking& operator=(const Looking&) = delete;

 private:
  int& count_;
};

}  // namespace

TANDEM_EVERY_CALL bool Places::Seen::is_there_otherwise() const {
  const py::object now = value_at(where, name, found_by);
  if (!by_elements) return is_this(now.ptr());
  return now && Py_TYPE(now.ptr()) == type && are_the_elements(now.ptr(), held->elements);
}

bool Places::Seen::note(PyObject* now, const py::object& gone) {
  const auto keep = [&](PyObject* o) {
    held->references.push_back(py::reinterpret_borrow<py::object>(o));
  };
  if (now) {
    type = Py_TYPE(now);
    if (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
      held->references.push_back(reference_to(reinterpret_cast<PyObject*>(type), gone));
    }
    by_elements = note_elements(now, held->elements);
  }
  const bool in_a_dict = found_by.way == Way::item && position >= 0;
  at_once = (found_by.way == Way::cell || found_by.way == Way::itself || in_a_dict) &&
            !found_by.by_reference && !by_elements;
  if (!now || by_elements) return true;
  const bool stays = is_immutable(now);
  if (!stays && !is_plain_function(now) && !watched_by_identity(now)) return false;
  value = now;
  if (stays) {
    keep(now);
  } else {
    held->references.push_back(reference_to(now, gone));
  }
  if (PyFunction_Check(now)) {
    code = PyFunction_GET_CODE(now);
    keep(code);
  }
  return true;
}

std::shared_ptr<Places> Places::after(const Places& old) {
  // Programs for other arguments may read them.
  constexpr int kMostIdle = 16;
  auto p = std::make_shared<Places>(old.identities_);
  for (const Place& place : old.places_) {
    const bool gone = PyWeakref_Check(place.where.ptr()) && referent(place.where.ptr()) == Py_None;
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
  last_ = nullptr;
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
  p.text = py::cast<std::string>(p.label);
  p.mark = fmt::format("|{}:", ++numbers);
  const auto owner = [&]() -> py::handle {
    PyObject* const w = p.where.ptr();
    PyObject* const o = PyWeakref_Check(w) ? referent(w) : w;
    return o;
  };
  p.subject = subject_of(owner(), p.name, *identities_);
  p.found_by = way_to(p.where, p.name);
  p.found = spelled(p);
}

std::vector<Piece> Places::spelled(const Place& p) const {
  std::vector<Piece> pieces;
  Flat one(*identities_);
  const py::object value = value_at(p.where, p.name, p.found_by);
  if (!value) return kNothing;
  watch_value(value, {}, one, &pieces);
  return pieces;
}

TANDEM_EVERY_CALL graph::WatchPtr Places::look() const {
  const Looking looking(looking_);
  const auto is_there = [](const Seen& s) { return s.is_there(); };
  if (last_ && *alive_ && std::all_of(seen_.begin(), seen_.end(), is_there)) return last_;
  return look_anew();
}

graph::WatchPtr Places::look_anew() const {
  // What another call is looking at stays as it is.
  const bool alone = looking_ == 1;
  if (alone) {
    last_ = nullptr;
    *alive_ = true;
  }
  if (!gone_) gone_ = py::cpp_function([alive = alive_](py::handle) { *alive = false; });
  identities_->tick();
  Flat flat(*identities_);
  std::vector<Seen> seen;
  const bool all = spell_all(flat, seen);
  auto now = std::make_shared<const graph::Watch>(std::move(flat.watch));
  if (alone && all) {
    // What was seen before goes when nobody can come upon it any more.
    seen_.swap(seen);
    last_ = now;
  }
  return now;
}

bool Places::spell_all(Flat& flat, std::vector<Seen>& seen) const {
  bool all = true;
  for (const Place& p : places_) {
    if (!p.looked_at) continue;
    begin(p, flat.watch);
    const py::object value = value_at(p.where, p.name, p.found_by);
    if (value) {
      watch_value(value, p.without, flat);
    } else if (!p.without.contains("")) {
      flat.watch.text += "nothing";
    }
    if (all && value && p.found_by.way == Found::Way::item && !p.found_by.by_reference) {
      p.position = position_in(p.where.ptr(), p.name.ptr(), p.position);
    }
    Seen& s = seen.emplace_back(Seen{.where = p.where.ptr(),
                                     .name = p.name.ptr(),
                                     .position = p.position,
                                     .found_by = p.found_by});
    all = s.note(value.ptr(), gone_) && all;
  }
  return all;
}

graph::Watch Places::found() const {
  graph::Watch watch;
  for (const Place& place : places_) {
    if (!place.looked_at) continue;
    begin(place, watch);
    for (const Piece& p : place.found) {
      if (!place.without.contains(p.key)) watch.text += p.text;
    }
  }
  return watch;
}

void Places::note_read(py::object module, py::object name) {
  of_modules_.push_back(subject_of(module, name, *identities_));
}

std::vector<Subject> Places::reads() const {
  std::vector<Subject> all = of_modules_;
  for (const Place& p : places_) {
    if (p.looked_at && p.idle == 0) all.push_back(p.subject);
  }
  return all;
}

bool Places::Place::is_new_cache() const {
  PyObject* const w = found_by.by_reference ? referent(where.ptr()) : nullptr;
  return w && found == kNothing && is_cache(Py_TYPE(w), name);
}

std::vector<py::object> Places::changed() const {
  std::vector<py::object> labels;
  for (const Place& p : places_) {
    if (p.idle != 0 || spelled(p) == p.found || p.is_new_cache()) continue;
    labels.push_back(others_.have_rested() ? p.label
                                           : py::str(p.text + ", or another thread does"));
  }
  return labels;
}

void Places::note_changes() {
  for (Place& place : places_) {
    const std::vector<Piece> now = spelled(place);
    if (now == place.found) {
      place.changed = false;
      if (place.idle == 0 && !place.without.empty()) {
        place.without.clear();
        last_ = nullptr;
      }
      continue;
    }
    if (!others_.have_rested()) continue;
    if (!std::exchange(place.changed, true)) continue;
    const auto leave_out = [&](const std::vector<Piece>& some, const std::vector<Piece>& others) {
      for (const Piece& p : some) {
        if (std::find(others.begin(), others.end(), p) == others.end()) {
          place.without.insert(p.key);
        }
      }
    };
    leave_out(place.found, now);
    leave_out(now, place.found);
    last_ = nullptr;  // it was spelled with them
  }
}

int Places::visit(visitproc visit, void* arg) const {
  for (const Place& p : places_) Py_VISIT(p.where.ptr());
  for (const Seen& s : seen_) {
    for (const py::object& o : s.held->elements) Py_VISIT(o.ptr());
    for (const py::object& o : s.held->references) {
      // Of weak references that go with the rest of a cycle the collector tells nobody.
      if (!PyWeakref_CheckRef(o.ptr())) Py_VISIT(o.ptr());
    }
  }
  return 0;
}

}  // namespace tandem::python
