#include "python/src/compiled.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/inline_array.h"
#include "python/src/fetch_ahead.h"
#include "python/src/imported.h"
#include "python/src/python_function.h"
#include "python/src/tree.h"

namespace tandem::python {

namespace {

/// Python's collector waits while functions are captured: what the ends of objects compute would
/// become part of the program. With the GIL only.
class NoCollector {
 public:
  NoCollector() {
    if (users++ > 0) return;
    static Imported is_on("gc", "isenabled"), disable("gc", "disable");
    was_on = py::cast<bool>(is_on()());
    disable()();
  }
  ~NoCollector() {
    static Imported enable("gc", "enable");
    if (--users == 0 && was_on) enable()();
  }
  NoCollector(const NoCollector&) = delete;
  NoCollector& operator=(const NoCollector&) = delete;

 private:
  static inline int users = 0;
  static inline bool was_on = false;
};

// Tuples of nothing but tensors as flatten() spells them: made beforehand, for most calls have few.
struct Plain {
  std::array<char, 48> chars = {};
  std::size_t size = 0;

  constexpr void add(std::string_view s) {
    for (const char c : s) chars[size++] = c;
  }
  constexpr std::string_view text() const { return {chars.data(), size}; }
};
constexpr auto kPlain = [] {
  std::array<Plain, 17> all;
  for (std::size_t n = 0; n < all.size(); ++n) {
    all[n].add("tuple(");
    for (std::size_t i = 0; i < n; ++i) all[n].add("T,");
    all[n].add(")");
  }
  return all;
}();

graph::WatchPtr joined(const graph::Watch& own, const graph::Watch& of_places) {
  auto both = std::make_shared<graph::Watch>(own);
  both->append(of_places);
  return both;
}

// Where two texts differ, with what stands around it.
std::string difference(const std::string& a, const std::string& b) {
  const auto at = static_cast<std::size_t>(
      std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  const std::size_t from = at < 24 ? 0 : at - 24;
  const auto cut = [&](const std::string& s) {
    return from < s.size() ? s.substr(from, 64) : std::string();
  };
  return cut(a) + " and then " + cut(b);
}

// Replay gives results and writes into tensors; nothing else of what the function did.
void check_unchanged(const std::vector<Flat>& before, const std::vector<Flat>& after) {
  for (std::size_t i = 0; i < before.size(); ++i) {
    const Flat &was = before[i], &is = after[i];
    bool same = was.text == is.text && was.watch == is.watch;
    std::string got = difference(was.text + was.watch.text, is.text + is.watch.text);
    for (std::size_t k = 0; same && k < was.tensors.size(); ++k) {
      same = was.tensors[k].same_as(is.tensors[k]);
      got = fmt::format("another tensor as its tensor {}", k);
    }
    if (same) continue;
    fail<CaptureError>(
        "compile",
        fmt::format("the function changes argument {} (or the object whose method it is), which "
                    "replay would not",
                    i),
        got, "new values as results; tensors written in place (copy_)");
  }
}

// What comes now and at the next call, as far as can be told from here: of the interpreter what is
// on its way back, takes the references to the arguments, drops the last result and calls again.
[[gnu::always_inline]] inline void fetch_next(const CallArguments& given) {
  fetch_functions_ahead();
  constexpr std::size_t kSome = 128;
  // With what lies below the arguments: the variables of who calls.
  fetch_ahead(reinterpret_cast<std::uintptr_t>(given.all.data()) - kSome,
              kSome + given.all.size_bytes());
  for (const PyObject* a : given.all) fetch_ahead(a);
  fetch_ahead(given.called.ptr());
  fetch_ahead(&tensor_type->tp_dealloc);
  fetch_ahead(PyThreadState_Get(), kSome);
  fetch_ahead(reinterpret_cast<std::uintptr_t>(&PyObject_Vectorcall), kSome);
}

// The result without its symbolic tensors, which would keep the capture alive: tensors that are
// nothing but places.
py::object detached(const py::object& r, std::size_t tensors) {
  const std::vector<Tensor> places(tensors, Tensor::empty(TensorDesc(DType::u8, kCPU, {0})));
  std::size_t at = 0;
  return rebuild(r, places, at);
}

}  // namespace

py::tuple CallArguments::args() const {
  py::tuple t(by_position());
  for (std::size_t i = 0; i < t.size(); ++i) t[i] = py::handle(all[i]);
  return t;
}

py::dict CallArguments::kwargs() const {
  py::dict d;
  for (std::size_t i = by_position(), k = 0; i < all.size(); ++i, ++k) {
    d[py::handle(PyTuple_GET_ITEM(names.ptr(), static_cast<Py_ssize_t>(k)))] = py::handle(all[i]);
  }
  return d;
}

Compiled::Compiled(py::object function, py::object owner, graph::CompileOptions options)
    : function_(std::move(function)),
      owner_(std::move(owner)),
      looks_(std::make_shared<Looks>()),
      core_(std::make_shared<graph::CompiledFunction>(std::move(options))) {}

Compiled::Compiled(const Compiled& of)
    : function_(of.function_),
      owner_(of.owner_),
      looks_(of.looks_),
      is_view_(true),
      core_(of.core_) {}

Flat Compiled::taken_apart(const py::tuple& args, const py::dict& kwargs,
                           const py::object& self) const {
  Flat flat(*looks_->identities);
  flatten(args, flat);
  if (!kwargs.empty()) flatten(kwargs, flat);
  if (!self.is_none()) watch_object(self, flat);
  return flat;
}

// Every argument by itself, and the object whose method it is.
std::vector<Flat> Compiled::parts(const py::tuple& args, const py::dict& kwargs,
                                  const py::object& self) const {
  std::vector<Flat> all;
  const auto part = [&]() -> Flat& {
    Flat& flat = all.emplace_back(*looks_->identities);
    flat.with_caches = false;
    return flat;
  };
  for (const py::handle a : args) flatten(a, part());
  for (const auto& [name, a] : kwargs) flatten(a, part());
  if (!self.is_none()) watch_object(self, part());
  return all;
}

TANDEM_EVERY_CALL py::object Compiled::call(const CallArguments& given) {
  // What a step leaves of the processor's caches holds next to nothing of what is used here, and
  // each line of them and each page costs more than what is done with it: no more is touched than
  // must be.
  const py::object self = owner_.is_none() ? owner_ : owner_();
  const std::size_t n = given.all.size();
  if (!given.names && self.is_none() && n < kPlain.size() &&
      std::ranges::all_of(given.all, is_tensor)) {
    InlineArray<Tensor, 4> tensors(n);
    std::ranges::transform(given.all, tensors.begin(), tensor_of);
    return run(given, self, tensors, kPlain[n].text(), nullptr);
  }
  looks_->identities->tick();
  Flat flat = taken_apart(given.args(), given.kwargs(), self);
  flat.watch.append(flat.classes);
  return run(given, self, flat.tensors, flat.text,
             flat.watch.parts.empty() ? nullptr : &flat.watch);
}

TANDEM_EVERY_CALL py::object Compiled::run(const CallArguments& given, const py::object& self,
                                           std::span<const Tensor> tensors, std::string_view text,
                                           const graph::Watch* own) {
  // Held: another thread may replace them.
  const std::shared_ptr<const Places> places = looks_->places;
  graph::CompiledFunction::Statics statics{
      .type = &typeid(Compiled), .text = text, .watch = places->look()};
  if (own) statics.watch = joined(*own, *statics.watch);
  InlineArray<const Tensor*, 4> pointers(tensors.size());
  std::ranges::transform(tensors, pointers.begin(), [](const Tensor& t) { return &t; });

  const auto trace = [&](std::span<const Tensor> in, graph::CompiledFunction::Host& host) {
    const GilAcquire gil;
    const NoCollector ends_of_objects;
    if (!host.costly.empty()) {
      py::module_::import("tandem._capture").attr("tell_cost")(function_, host.costly);
    }
    const py::tuple args = given.args();
    const py::dict kwargs = given.kwargs();
    std::size_t at = 0;
    const py::tuple a = rebuild(args, in, at);
    const py::dict k = rebuild(kwargs, in, at);
    const std::vector<Flat> before = parts(a, k, self);
    const graph::Watch known = taken_apart(args, kwargs, self).classes;
    // Held: looking at what is there may run Python code, which may trace, too.
    const std::shared_ptr<const Places> last = looks_->places;
    const auto now = Places::after(*last);
    const py::object run = py::module_::import("tandem._capture").attr("trace");
    py::object r = call_python(run, py::make_tuple(function_, a, k, self, now));
    check_unchanged(before, parts(a, k, self));
    now->note_changes();
    looks_->places = now;
    // As the trace found it: what another thread changed meanwhile, it may not have read.
    statics.watch =
        own ? joined(*own, now->found()) : std::make_shared<const graph::Watch>(now->found());
    host.reads = now->reads();
    for (const HostChange& c : graph::changes(known, taken_apart(args, kwargs, self).classes)) {
      host.changed.push_back(c.subject);
    }
    Flat result(*looks_->identities);
    flatten(r, result);
    host.text = std::move(result.text);
    host.prototype = PythonObject(detached(r, result.tensors.size()));
    return std::move(result.tensors);
  };
  graph::CompiledFunction::Result result;
  {
    // Another thread may be in here, waiting for the GIL to trace: it is known to Python then.
    const GilRelease release{GilRelease::Work()};
    core_->call(pointers, statics, trace, result);
  }
  // Programs of fewer kernels leave the caches as they were, or run so long that it is no matter.
  constexpr std::size_t kFew = 8;
  if (result.launches > kFew) fetch_next(given);
  std::size_t at = 0;
  return rebuild(std::any_cast<const PythonObject&>(*result.prototype).get(), result.tensors, at);
}

int Compiled::visit(visitproc visit, void* arg) const {
  Py_VISIT(function_.ptr());
  Py_VISIT(owner_.ptr());
  if (is_view_) return 0;  // what it looks at is another's to show
  if (const int stop = looks_->places->visit(visit, arg)) return stop;
  return looks_->identities->visit(visit, arg);
}

void Compiled::clear() {
  // Moved out first: what goes may come back here.
  const py::object f = std::exchange(function_, py::none());
  const py::object o = std::exchange(owner_, py::none());
  const auto l = std::exchange(looks_, std::make_shared<Looks>());
}

// ------------------------------------------------------------------------------------ its type

namespace {

// What pybind11 makes, and for Python where to call it.
struct Instance {
  py::detail::instance made;
  vectorcallfunc vectorcall;
};

// Null before __init__, and while the object is being allocated, when the garbage collector may
// look at it already.
TANDEM_EVERY_CALL Compiled* compiled_of(PyObject* self) {
  py::detail::instance& made = reinterpret_cast<Instance*>(self)->made;
  if (made.simple_layout) {
    const bool is_made = made.simple_holder_constructed;
    return is_made ? static_cast<Compiled*>(made.simple_value_holder[0]) : nullptr;
  }
  if (!made.nonsimple.values_and_holders) return nullptr;
  auto found = made.get_value_and_holder(py::detail::get_type_info(typeid(Compiled)));
  return found.holder_constructed() ? found.value_ptr<Compiled>() : nullptr;
}

TANDEM_EVERY_CALL PyObject* call_object(PyObject* self, const CallArguments& given) {
  const ErrorSite site(kCaller);
  try {
    Compiled* const c = compiled_of(self);
    if (!c) {
      throw py::type_error("[compile] __init__ comes before a call; got none; expected compile()");
    }
    return c->call(given).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

// What tp_call is: of super().__call__(…), and of classes with a __call__ of their own.
PyObject* call_with_tuple(PyObject* self, PyObject* args, PyObject* kwargs) {
  std::vector<PyObject*> all;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); ++i) all.push_back(PyTuple_GET_ITEM(args, i));
  py::object names;
  if (kwargs && PyDict_GET_SIZE(kwargs) > 0) {
    names = py::reinterpret_steal<py::object>(PySequence_Tuple(kwargs));
    if (!names) return nullptr;
    for (const py::handle name : names) all.push_back(PyDict_GetItem(kwargs, name.ptr()));
  }
  return call_object(self, {all, names, self});
}

// Past pybind11, and without a tuple of arguments: with what else a step leaves in the processor's
// caches either takes as long as all that is done here.
TANDEM_EVERY_CALL PyObject* call_compiled(PyObject* self, PyObject* const* args, std::size_t n,
                                          PyObject* names) {
  const auto by_position = static_cast<std::size_t>(PyVectorcall_NARGS(n));
  const std::size_t named = names ? static_cast<std::size_t>(PyTuple_GET_SIZE(names)) : 0;
  const CallArguments given{{args, by_position + named}, named > 0 ? names : nullptr, self};
  // Before 3.12 a class that is given another __call__ keeps its flag.
  if (Py_TYPE(self)->tp_call != call_with_tuple) {
    const py::tuple positional = given.args();
    return Py_TYPE(self)->tp_call(self, positional.ptr(),
                                  named > 0 ? given.kwargs().ptr() : nullptr);
  }
  return call_object(self, given);
}

newfunc pybind11_new = nullptr;

PyObject* make(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  PyObject* const o = pybind11_new(type, args, kwargs);
  if (!o) return nullptr;
  reinterpret_cast<Instance*>(o)->vectorcall = call_compiled;
  // Before 3.12 derived classes do not inherit the flag.
  if (type->tp_call == call_with_tuple) type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
  return o;
}

}  // namespace

void set_up_compiled_type(PyHeapTypeObject* heap_type) {
  PyTypeObject* type = &heap_type->ht_type;
  type->tp_basicsize = sizeof(Instance);
  pybind11_new = type->tp_base->tp_new;
  type->tp_new = make;
  type->tp_vectorcall_offset = offsetof(Instance, vectorcall);
  type->tp_call = call_with_tuple;
  // A function that knows the object it is an attribute of goes with it.
  type->tp_flags |= Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL;
  type->tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    const Compiled* const c = compiled_of(self);
    return c ? c->visit(visit, arg) : 0;
  };
  type->tp_clear = [](PyObject* self) {
    if (Compiled* const c = compiled_of(self)) c->clear();
    return 0;
  };
}

}  // namespace tandem::python
