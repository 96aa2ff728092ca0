// The places a compiled function reads besides its arguments, and what stands there.
#pragma once
#include "python/src/gil.h"
#include "python/src/tree.h"

namespace tandem::python {

/// How what stands at a place is found. Kept: to ask what kind of object that is takes longer.
struct Found {
  enum class Way : std::uint8_t { itself, cell, item, class_attribute, attribute, slot };
  Way way;
  bool by_reference = false;  // a weak one
};

/// Of a function without defaults its class and its code are all there is to spell.
inline bool has_no_defaults(PyObject* function) {
  return !PyFunction_GET_DEFAULTS(function) && !PyFunction_GET_KW_DEFAULTS(function);
}

/// Variables of closures, globals, and attributes of what is found there: _reads.py tells of them
/// while the function is traced. A place that the function itself changes says something else after
/// each trace, and nothing of what a program depends on; it is not looked at any more. What
/// changes while another thread runs may be that thread's doing, and is looked at.
class Places {
 public:
  explicit Places(std::shared_ptr<Identities> identities) : identities_(std::move(identities)) {}
  /// For another trace: the same places, but for those that the last ones did not read. What stands
  /// there now is what the trace finds.
  static std::shared_ptr<Places> after(const Places& old);

  /// What people call a place, its name, and where that is looked up: a dict, a class, a cell, an
  /// object with slots, or a weak reference to an object with attributes. What stands there now is
  /// what the trace finds. `looked_at`: from now on before each call, too.
  void add(py::object label, py::object name, py::object where, bool looked_at);
  /// An attribute of a Module, which tells of its changes itself, is read.
  void note_read(py::object module, py::object name);
  /// What stands there now: the same as the last time if nothing changed.
  graph::WatchPtr look() const;
  /// The same of what the trace found.
  graph::Watch found() const;
  /// What the trace read.
  std::vector<Subject> reads() const;
  /// What people call the places of this trace that hold something else than it found.
  std::vector<py::object> changed() const;
  /// Takes note of them. What the function itself changes in two traces one after the other is left
  /// out from now on, until one does not change it: the first may have found what no other will.
  void note_changes();

  int visit(visitproc visit, void* arg) const;  // for Python's garbage collector

 private:
  struct Held {
    std::vector<py::object> references;  // to the value, its class, the code of a function
    std::vector<py::object> elements;
  };
  /// What a place held when it was last spelled, if nothing but another object there, or one of
  /// another class, could spell otherwise. These are all that most calls look at: they are small.
  /// `where` and `name` are the place's, which stays as long as they are. Of value and class weak
  /// references tell when they go (`alive_`, to be looked at first); the code is held.
  struct Seen {
    using Way = Found::Way;
    PyObject* where = nullptr;
    PyObject* name = nullptr;
    PyObject* value = nullptr;     // what was there, or null
    PyTypeObject* type = nullptr;  // and its class
    PyObject* code = nullptr;      // of a function
    std::unique_ptr<Held> held = std::make_unique<Held>();
    Py_ssize_t position = -1;  // in a dict, where it was; -1: not known
    Found found_by = {};
    bool at_once = false;      // nothing else is to be looked up
    bool by_elements = false;  // of a container, and not by which it is

    bool is_there() const {
      if (!at_once) return is_there_otherwise();
      PyObject *now = where, *key = nullptr;
      if (found_by.way == Way::cell) {
        now = PyCell_GET(where);
      } else if (found_by.way == Way::item) {
        Py_ssize_t i = position;
        if (!PyDict_Next(where, &i, &key, &now) || key != name) return is_there_otherwise();
      }
      return is_this(now);
    }
    bool is_this(PyObject* now) const {
      if (now != value) return false;
      return !now || (Py_TYPE(now) == type && (!code || has_code(now)));
    }
    bool has_code(PyObject* function) const {
      return PyFunction_GET_CODE(function) == code && has_no_defaults(function);
    }
    bool is_there_otherwise() const;
    /// Whether that can be said of the value; takes note of it. `gone` is called when one of those
    /// is no more: another may have its address then.
    bool note(PyObject* value, const py::object& gone);
  };

  struct Place {
    py::object label, name, where;
    bool looked_at = true;
    Found found_by = {};
    mutable Py_ssize_t position = -1;  // in a dict, where it was last; -1: not known
    std::set<std::string> without;     // keys of pieces
    bool changed = false;              // by the trace before
    int idle = 0;                      // traces that did not read it
    Subject subject = 0;
    std::string text;  // the label
    std::string mark;  // that no other place has, so that values are never mixed up
    std::vector<Piece> found;

    /// There was nothing, and what is there now the object keeps to be faster.
    bool is_new_cache() const;
  };
  graph::WatchPtr look_anew() const;
  std::vector<Piece> spelled(const Place& p) const;
  bool spell_all(Flat& flat, std::vector<Seen>& seen) const;
  static void begin(const Place& p, graph::Watch& watch) {
    watch.begin(p.subject, {p.text});
    watch.text += p.mark;
  }

  const OtherThreads others_;  // at the trace's beginning
  std::shared_ptr<Identities> identities_;
  std::vector<Place> places_;
  std::map<std::pair<PyObject*, PyObject*>, std::size_t> numbers_;  // by where and name
  std::vector<Subject> of_modules_;
  // As long as all that was seen is there and alive, `last_` is what look() finds. Null: that
  // cannot be said.
  mutable std::vector<Seen> seen_;
  // Calls that are looking: keys of dicts may run Python code, in which other calls look, too.
  mutable int looking_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  mutable py::object gone_;  // a function of Python's that says that it is not
  mutable graph::WatchPtr last_;
};

}  // namespace tandem::python
