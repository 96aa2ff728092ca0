#include "python/src/identities.h"

#include <atomic>
#include <utility>
#include <vector>

#include "core/splitmix64.h"

namespace tandem::python {
namespace {

std::uint64_t next_serial() {  // with the GIL only
  static std::uint64_t last = 0;
  return ++last;
}

}  // namespace

std::uint64_t serial_of(PyObject* o) {
  struct Known {
    py::object ref;
    std::uint64_t serial;
  };
  // With the GIL only. Never destroyed: the interpreter may be gone by then.
  static auto& known = *new std::unordered_map<PyObject*, Known>();
  static std::size_t prune_at = 1024;
  const auto alive = [](PyObject* p, const Known& k) { return referent(k.ref.ptr()) == p; };
  if (const auto it = known.find(o); it != known.end() && alive(o, it->second)) {
    return it->second.serial;
  }
  PyObject* ref = PyWeakref_NewRef(o, nullptr);
  if (!ref) {
    PyErr_Clear();
    return 0;
  }
  if (known.size() >= prune_at) {
    std::erase_if(known, [&](const auto& e) { return !alive(e.first, e.second); });
    prune_at = 2 * known.size() + 1024;
  }
  const std::uint64_t number = next_serial();
  known[o] = {py::reinterpret_steal<py::object>(ref), number};
  return number;
}

Subject subject_of(py::handle o, py::handle name, Identities& identities) {
  std::uint64_t state = serial_of(o.ptr());
  if (state == 0) state = identities.of(o.ptr());
  if (name) {
    const Py_hash_t h = PyObject_Hash(name.ptr());  // of a str, which keeps it
    if (h == -1) PyErr_Clear();
    state = splitmix64(state) ^ static_cast<std::uint64_t>(h);
  }
  return splitmix64(state) | 1;
}

std::uint64_t Identities::of(PyObject* o) {
  const auto [it, is_new] = named_.try_emplace(o);
  if (is_new) it->second = {py::reinterpret_borrow<py::object>(o), next_serial(), clock_};
  it->second.last = clock_;
  return it->second.number;
}

void Identities::tick() {
  constexpr std::uint64_t kLately = 64;
  if (++clock_ % kLately != 0) return;
  std::vector<py::object> gone;  // whose ends may run code that comes back here
  std::erase_if(named_, [&](auto& e) {
    if (e.second.last + kLately >= clock_) return false;
    gone.push_back(std::move(e.second.object));
    return true;
  });
}

int Identities::visit(visitproc visit, void* arg) const {
  for (const auto& [p, n] : named_) Py_VISIT(n.object.ptr());
  return 0;
}

// Another number when an attribute of the class, or of those it derives from, was set: Python
// takes a class's number away then, and gives it one when something is looked up in it. From 3.13
// on it has a thousand for each class; without one, every look finds another.
std::uint64_t class_version(py::handle type) {
  auto* const t = reinterpret_cast<PyTypeObject*>(type.ptr());
  if (const std::uint64_t n = t->tp_version_tag) return n;
  static PyObject* const nothing = PyUnicode_InternFromString("_tandem_looks_");
  _PyType_Lookup(t, nothing);
  if (const std::uint64_t n = t->tp_version_tag) return n;
  static std::atomic<std::uint64_t> looks{0};
  return (std::uint64_t{1} << 32) + ++looks;
}

}  // namespace tandem::python
