#include "python/src/tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "python/src/imported.h"
#include "python/src/python_value.h"

namespace tandem::python {
namespace {

constexpr int kDeepest = 100;
constexpr Py_ssize_t kMostWatched = 64;
constexpr Py_ssize_t kMostText = 4096;
constexpr int kMostOfVariable = 256;  // elements, those of containers within it included

std::string number_text(std::uint64_t n) {
  char digits[24] = "#";
  return {digits, std::to_chars(digits + 1, std::end(digits), n).ptr};
}

std::string text_of_name(py::handle name) {
  if (const char* s = PyUnicode_Check(name.ptr()) ? PyUnicode_AsUTF8(name.ptr()) : nullptr)
    return s;
  PyErr_Clear();  // half a surrogate pair
  return py::cast<std::string>(py::reinterpret_steal<py::object>(PyObject_ASCII(name.ptr())));
}

class Flattener {
 public:
  explicit Flattener(Flat& flat) : flat_(flat) {}

  void value(py::handle o) {
    PyObject* p = o.ptr();
    if (is_tensor(p)) return tensor(tensor_of(p));
    if (o.is_none()) return put("N");
    if (watching_ && proxied_dict(p)) {
      const Deeper deeper(*this);
      return value(proxied_dict(p));
    }
    if (is_container(p)) {
      // What an attribute holds is shown to a limit: it is spelled at every call.
      if (watching_ && length_of(p) > kMostWatched) return identity(o);
      const Deeper deeper(*this);
      return container(o);
    }
    if (const reprfunc repr = plain_repr(p)) {
      // It is spelled at every call.
      if (watching_ && (PyUnicode_Check(p) || PyBytes_Check(p)) && PyObject_Size(p) > kMostText) {
        return identity(o);
      }
      if (exact(p)) {
        put(Py_TYPE(p)->tp_name);
      } else {
        type(o);
      }
      // In hexadecimal, of which Python writes any number of digits.
      PyObject* const text = PyLong_CheckExact(p) ? PyNumber_ToBase(p, 16) : repr(p);
      if (!text) throw py::error_already_set();
      put(py::cast<std::string>(py::reinterpret_steal<py::object>(text)));
      return exact(p) ? void() : attributes(o);
    }
    if (py::isinstance<Device>(o)) return put(py::cast<Device&>(o).str());
    if (PySlice_Check(p)) {
      const Deeper deeper(*this);
      for (const char* part : {"start", "stop", "step"}) element(o.attr(part), ':');
      return;
    }
    if (is_numpy_scalar(p)) {
      type(o);
      return put(py::cast<std::string>(py::repr(o.attr("dtype"))) +
                 py::cast<std::string>(py::repr(o.attr("tobytes")())));
    }
    if (PyMethod_Check(p)) {  // another object whenever it is asked for
      put("method ");
      identity(PyMethod_GET_FUNCTION(p));
      put(" of ");
      identity(PyMethod_GET_SELF(p));
      return attributes(PyMethod_GET_SELF(p));
    }
    if (!watching_ && is_array(o)) {
      flat_.tensors.push_back(to_tensor(o));
      return put("A");
    }
    if (!watching_ && is_dataclass(o) && !is_module(o)) {
      const Deeper deeper(*this);
      type(o);
      put("(");
      for (const py::object& name : fields_of(o)) {
        put(py::cast<std::string>(name) + ":");
        element(o.attr(name), ',');
      }
      put(")");
      return attributes(o);
    }
    identity(o);
    if (watching_ && has_hidden_elements(p)) hidden_elements(o);
    attributes(o);
  }

  void hidden_elements(py::handle o) {
    const py::list elements(py::reinterpret_borrow<py::object>(o));
    const Deeper deeper(*this);
    if (static_cast<Py_ssize_t>(elements.size()) > kMostWatched) return;
    for (const py::handle e : elements) element(e, ',');
  }

  // What `o` holds beside what value() spells; `all`: all it holds.
  void attributes(py::handle o, bool all = false) {
    PyObject* p = o.ptr();
    if (watching_ || PyType_Check(p) || PyFunction_Check(p) || PyCFunction_Check(p) ||
        PyModule_Check(p)) {
      return;
    }
    static Imported slots("copyreg", "_slotnames");
    // Which notes them in the class, and so changes it.
    const auto slot_names = py::reinterpret_borrow<py::list>(slots()(py::type::of(o)));
    if (const py::handle t = py::type::of(o); PyType_HasFeature(Py_TYPE(p), Py_TPFLAGS_HEAPTYPE)) {
      flat_.classes.begin(subject_of(t, {}, *flat_.identities), {"class ", Py_TYPE(p)->tp_name});
      flat_.classes.text += number_text(class_version(py::type::of(o)));
    }
    if (is_module(o)) return containers_of(o);
    std::vector<py::object> fields;
    if (!all && is_dataclass(o)) fields = fields_of(o);
    const auto is_field = [&](py::handle name) {
      for (const py::object& f : fields) {
        if (f.equal(name)) return true;
      }
      return false;
    };
    watching_ = true;
    const auto attribute = [&](py::handle name, py::handle value) {
      // Tensors of a capture in progress, which nothing outside can use.
      if (is_tensor(value.ptr()) && tensor_of(value.ptr()).is_symbolic()) return;
      if (!flat_.with_caches && is_cache(Py_TYPE(p), name)) return;
      begin(flat_.watch, o, name);
      element(value, ';');
    };
    if (Py_TYPE(p)->tp_dictoffset != 0) {
      const auto d = py::reinterpret_steal<py::object>(PyObject_GenericGetDict(p, nullptr));
      if (!d) PyErr_Clear();
      if (d && PyDict_Check(d.ptr())) {
        const auto copy = py::reinterpret_steal<py::dict>(PyDict_Copy(d.ptr()));
        for (const auto& [name, value] : copy) {
          if (!is_field(name)) attribute(name, value);
        }
      }
    }
    for (const py::handle name : slot_names) {
      if (is_field(name) || !py::hasattr(o, name)) continue;
      attribute(name, py::object(o.attr(name)));
    }
    if (has_hidden_elements(p) || (all && is_container(p))) {
      begin(flat_.watch, o, {});
      value(o);
    }
    watching_ = false;
  }

  // A Module tells of attributes that are set, not of what changes within one.
  void containers_of(py::handle module) {
    const py::object d = py::getattr(module, "__dict__", py::none());
    if (!PyDict_Check(d.ptr())) return;
    // Beside the classes: what forward() notes there is reported, and no error.
    std::swap(flat_.watch, flat_.classes);
    watching_ = true;
    const auto copy = py::reinterpret_steal<py::dict>(PyDict_Copy(d.ptr()));
    for (const auto& [name, value] : copy) {
      PyObject* const v = value.ptr();
      if (!PyDict_Check(v) && !PyList_Check(v) && !PyAnySet_Check(v)) continue;
      if (text_of_name(name).starts_with('_')) continue;  // its own tables
      begin(flat_.watch, module, name);
      // What forward() itself changes is forgiven here; where the same is read it is looked at
      // piece by piece (places.h).
      flat_.watch.parts.back().subject ^= 2;
      element(value, ';');
    }
    watching_ = false;
    std::swap(flat_.watch, flat_.classes);
  }

  // As the value of an attribute; by identity if there is much of it.
  void watched(py::handle o, const std::set<std::string>& without, std::vector<Piece>* pieces) {
    PyObject* p = o.ptr();
    std::string& text = flat_.watch.text;
    const std::size_t before = text.size();
    const auto piece = [&](const std::string& key, auto&& write) {
      if (without.contains(key)) return;
      const std::size_t from = text.size();
      write();
      if (pieces) pieces->push_back({key, text.substr(from)});
    };
    watching_ = true;
    elements_left_ = kMostOfVariable;
    const bool spelled = is_spelled(p);
    try {
      if (PyDict_CheckExact(p)) {
        piece("", [&] { put("dict;"); });
        const auto copy = py::reinterpret_steal<py::dict>(PyDict_Copy(p));
        for (const auto& [k, v] : copy) {
          const std::string name = this->spelled(k) + ":";
          piece(name, [&, v = v] {
            put(name);
            element(v, ',');
          });
        }
      } else if (spelled) {
        piece("", [&] { element(o, ';'); });
      }
    } catch (const TooMuch&) {
      text.resize(before);
      if (pieces) pieces->clear();
    }
    // Of the others, nets and optimisers mostly, quickly: this runs before every call.
    if (text.size() == before) {
      piece("", [&] {
        number(o);
        if (PyFunction_Check(p)) return function(p);
        if (PyType_HasFeature(Py_TYPE(p), Py_TPFLAGS_HEAPTYPE) != 0) number(py::type::of(o));
      });
    }
    elements_left_ = -1;
    watching_ = false;
  }

  static bool is_spelled(PyObject* p) {
    return p == Py_None || is_tensor(p) || is_container(p) || plain_repr(p) || PyMethod_Check(p) ||
           proxied_dict(p) || is_numpy_scalar(p) || has_hidden_elements(p);
  }

 private:
  struct TooMuch {};

  struct Deeper {
    explicit Deeper(Flattener& f) : f(f) {
      if (++f.depth_ > kDeepest) {
        --f.depth_;
        if (f.elements_left_ >= 0) throw TooMuch();
        fail("compile", fmt::format("values nest at most {} deep", kDeepest),
             "a deeper one, or a container that holds itself", "a flatter value");
      }
    }
    ~Deeper() { --f.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Flattener& f;
  };

  static bool is_container(PyObject* p) {
    return PyTuple_Check(p) || PyList_Check(p) || PyDict_Check(p) || PyAnySet_Check(p);
  }
  static Py_ssize_t length_of(PyObject* p) {
    return PyDict_Check(p)     ? PyDict_Size(p)
           : PyAnySet_Check(p) ? PySet_Size(p)
                               : PySequence_Fast_GET_SIZE(p);
  }
  // Mutable containers of Python's library that are none of the built-in types.
  static bool has_hidden_elements(PyObject* p) {
    static Imported deque("collections", "deque"), array("array", "array");
    const auto derived = [&](Imported& t) {
      return PyType_IsSubtype(Py_TYPE(p), reinterpret_cast<PyTypeObject*>(t().ptr())) != 0;
    };
    return derived(deque) || derived(array);
  }
  static bool exact(PyObject* p) {
    const PyTypeObject* t = Py_TYPE(p);
    for (const PyTypeObject* x :
         {&PyBool_Type, &PyLong_Type, &PyFloat_Type, &PyComplex_Type, &PyUnicode_Type,
          &PyBytes_Type, &PyByteArray_Type, &PyRange_Type, &PyTuple_Type, &PyList_Type,
          &PyDict_Type, &PySet_Type, &PyFrozenSet_Type}) {
      if (t == x) return true;
    }
    return false;
  }

  void put(std::string_view s) { (watching_ ? flat_.watch.text : flat_.text) += s; }
  // A part of an attribute; without a name, of all that the object is.
  void begin(graph::Watch& watch, py::handle o, py::handle name) {
    const char* const type = Py_TYPE(o.ptr())->tp_name;
    const Subject subject = subject_of(o, name, *flat_.identities);
    if (name) {
      watch.begin(subject, {type, ".", text_of_name(name)});
    } else {
      watch.begin(subject, {type});
    }
  }
  void element(py::handle o, char end) {
    if (elements_left_ >= 0 && elements_left_-- == 0) throw TooMuch();
    value(o);
    put({&end, 1});
  }

  void tensor(const Tensor& t) {
    if (!watching_) {
      flat_.tensors.push_back(t);
      return put("T");
    }
    if (t.is_symbolic()) return put("S");
    put(fmt::format("{}+{}:{}{}", static_cast<const void*>(t.impl()->storage.get()),
                    t.impl()->offset, t.desc().str(), t.requires_grad() ? "!" : ""));
  }

  // A type's name is not enough: two classes may have the same.
  void type(py::handle o) {
    const py::handle t = py::type::of(o);
    put(py::cast<std::string>(t.attr("__qualname__")));
    number(t);
  }
  void identity(py::handle o) {
    type(o);
    number(o);
    if (PyFunction_Check(o.ptr())) function(o.ptr());
  }
  // What a function object may be given anew.
  void function(PyObject* f) {
    number(PyFunction_GET_CODE(f));
    for (PyObject* defaults : {PyFunction_GET_DEFAULTS(f), PyFunction_GET_KW_DEFAULTS(f)}) {
      if (defaults) element(defaults, ';');
    }
  }
  void number(py::handle o) {
    const std::uint64_t n = serial_of(o.ptr());
    put(number_text(n != 0 ? n : flat_.identities->of(o.ptr())));
  }

  void container(py::handle o) {
    PyObject* p = o.ptr();
    if (exact(p)) {
      put(Py_TYPE(p)->tp_name);
    } else {
      type(o);
    }
    put("(");
    if (PyODict_Check(p)) {  // whose order is its own
      const py::handle kind(reinterpret_cast<PyObject*>(&PyODict_Type));
      for (const py::handle item : py::list(kind.attr("items")(o))) {
        key(PyTuple_GET_ITEM(item.ptr(), 0));
        put(":");
        element(PyTuple_GET_ITEM(item.ptr(), 1), ',');
      }
    } else if (PyDict_Check(p)) {
      for (const auto& [k, v] : py::reinterpret_borrow<py::dict>(o)) {
        key(k);
        put(":");
        element(v, ',');
      }
    } else if (PyAnySet_Check(p)) {
      members(o);
    } else {
      // By index, past what a type of its own makes of iteration.
      const Py_ssize_t n = PySequence_Fast_GET_SIZE(p);
      for (Py_ssize_t i = 0; i < n && i < PySequence_Fast_GET_SIZE(p); ++i) {
        element(py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(p, i)), ',');
      }
    }
    put(")");
    if (!exact(p)) attributes(o);
  }

  // Elements that are no leaves: keys, and members of sets.
  std::string spelled(py::handle o) {
    Flat own(*flat_.identities);
    Flattener f(own);
    f.watching_ = true;
    f.depth_ = depth_;
    f.value(o);
    return std::move(own.watch.text);
  }
  void key(py::handle o) { put(spelled(o)); }
  void members(py::handle o) {
    std::vector<std::string> all;
    for (const py::handle m : o) all.push_back(spelled(m));
    std::sort(all.begin(), all.end());
    for (const std::string& m : all) put(m + ",");
  }

  Flat& flat_;
  int depth_ = 0;
  bool watching_ = false;
  int elements_left_ = -1;  // -1: as many as there are
};

}  // namespace

void flatten(py::handle o, Flat& flat) {
  Flattener(flat).value(o);
}

void watch_object(py::handle o, Flat& flat) {
  Flattener(flat).attributes(o, true);
}

void watch_value(py::handle value, const std::set<std::string>& without, Flat& flat,
                 std::vector<Piece>* pieces) {
  Flattener(flat).watched(value, without, pieces);
}

bool watched_by_identity(py::handle value) {
  PyObject* p = value.ptr();
  return !Flattener::is_spelled(p) && !PyFunction_Check(p);
}

}  // namespace tandem::python
