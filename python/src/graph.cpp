// compile(), declared graphs, and what they say of themselves.
#include <algorithm>
#include <map>

#include "core/clock.h"
#include "core/host_changes.h"
#include "core/inline_array.h"
#include "core/trace_guard.h"
#include "graph/builder.h"
#include "graph/compile.h"
#include "graph/passes.h"
#include "graph/tracer.h"
#include "python/src/call_watch.h"
#include "python/src/imported.h"
#include "python/src/places.h"
#include "python/src/python_function.h"
#include "python/src/tree.h"

namespace tandem::python {

using namespace py::literals;

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

/// A Python function with its captured programs.
class Compiled {
 public:
  Compiled(py::object f, py::object owner, graph::CompileOptions options)
      : function(std::move(f)),
        owner(std::move(owner)),
        looks(std::make_shared<Looks>()),
        core_(std::make_shared<graph::CompiledFunction>(std::move(options))) {}

  /// The same programs, held by another object of Python's.
  explicit Compiled(const Compiled& of)
      : function(of.function), owner(of.owner), looks(of.looks), is_view(true), core_(of.core_) {}
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() = default;

  /// `kwargs` may be null.
  py::object call(py::handle args, py::handle kwargs) {
    // What a step leaves of the processor's caches holds next to nothing of what is used here, and
    // each page costs more than what is done with it: no more is touched than must be.
    const py::object self = owner.is_none() ? owner : owner();
    graph::CompiledFunction::Statics statics{&typeid(Compiled)};
    InlineArray<Tensor, 4> tensors;
    graph::Watch own;  // of the arguments, and of the object whose method it is
    if (kwargs && PyDict_GET_SIZE(kwargs.ptr()) == 0) kwargs = {};
    if (kwargs || !self.is_none() || !flatten_tensors(args, tensors, statics.text)) {
      looks->identities->tick();
      Flat flat(*looks->identities);
      flatten(args, flat);
      if (kwargs) flatten(kwargs, flat);
      if (!self.is_none()) watch_object(self, flat);
      own = std::move(flat.watch);
      own.append(flat.classes);
      statics.text = std::move(flat.text);
      tensors.resize(flat.tensors.size());
      std::ranges::move(flat.tensors, tensors.begin());
    }
    // Held: another thread may replace them.
    const std::shared_ptr<const Places> places = looks->places;
    statics.watch = joined(own, places->look());
    InlineArray<const Tensor*, 4> pointers(tensors.size());
    std::ranges::transform(tensors, pointers.begin(), [](const Tensor& t) { return &t; });

    const auto trace = [&](std::span<const Tensor> in, graph::CompiledFunction::Host& host) {
      const GilAcquire gil;
      const NoCollector ends_of_objects;
      if (!host.costly.empty()) tell_cost(host.costly);
      std::size_t at = 0;
      const py::object a = rebuild(args, in, at);
      const py::object k = kwargs ? rebuild(kwargs, in, at) : py::dict();
      const std::vector<Flat> before = parts(a, k, self);
      const graph::Watch known = classes_of(args, kwargs, self);
      const auto now = Places::after(*looks->places);
      const py::object run = py::module_::import("tandem._capture").attr("trace");
      py::object r = call_python(run, py::make_tuple(function, a, k, self, now));
      check_unchanged(before, parts(a, k, self));
      now->note_changes();
      looks->places = now;
      // As the trace found it: what another thread changed meanwhile, it may not have read.
      statics.watch = joined(own, std::make_shared<const graph::Watch>(now->found()));
      host.reads = now->reads();
      for (const HostChange& c : graph::changes(known, classes_of(args, kwargs, self))) {
        host.changed.push_back(c.subject);
      }
      Flat result(*looks->identities);
      flatten(r, result);
      host.text = std::move(result.text);
      host.prototype = PythonObject(detached(r, result.tensors.size()));
      return std::move(result.tensors);
    };
    graph::CompiledFunction::Result result;
    {
      // Another thread may be in here, waiting for the GIL to trace.
      const GilRelease release;
      const auto start = timed ? Clock::now() : Clock::time_point();
      core_->call(pointers, statics, trace, result);
      if (timed) replay_ms = ms_since(start);
    }
    std::size_t at = 0;
    return rebuild(std::any_cast<const PythonObject&>(*result.prototype).get(), result.tensors, at);
  }

  /// Where another thread is capturing it holds the function's lock and wants the GIL.
  template <class F>
  auto ask(F&& f) const {
    const GilRelease release;
    return f(*core_);
  }
  std::uintptr_t identity() const { return reinterpret_cast<std::uintptr_t>(core_.get()); }

  /// What it looks at before a call.
  struct Looks {
    std::shared_ptr<Identities> identities = std::make_shared<Identities>();
    std::shared_ptr<const Places> places = std::make_shared<Places>(identities);
  };

  // Python's, for its garbage collector.
  py::object function;
  py::object owner;  // gives the object whose method it is, or None; or None
  std::shared_ptr<Looks> looks;
  const bool is_view = false;
  // For benchmarks: of the last call what C++ takes as well.
  bool timed = false;
  double replay_ms = 0;

 private:
  static graph::WatchPtr joined(const graph::Watch& own, graph::WatchPtr of_places) {
    if (own.parts.empty()) return of_places;
    auto both = std::make_shared<graph::Watch>(own);
    both->append(*of_places);
    return both;
  }

  void tell_cost(const std::string& what) const {
    py::module_::import("tandem._capture").attr("tell_cost")(function, what);
  }

  graph::Watch classes_of(py::handle args, py::handle kwargs, const py::object& self) {
    Flat flat(*looks->identities);
    flatten(args, flat);
    if (kwargs) flatten(kwargs, flat);
    if (!self.is_none()) watch_object(self, flat);
    return std::move(flat.classes);
  }

  // Every argument by itself, and the object whose method it is.
  std::vector<Flat> parts(const py::object& args, const py::object& kwargs,
                          const py::object& self) {
    std::vector<Flat> all;
    const auto part = [&]() -> Flat& {
      Flat& flat = all.emplace_back(*looks->identities);
      flat.with_caches = false;
      return flat;
    };
    for (const py::handle a : args) flatten(a, part());
    for (const auto& [name, a] : py::reinterpret_borrow<py::dict>(kwargs)) flatten(a, part());
    if (!self.is_none()) watch_object(self, part());
    return all;
  }

  // Replay gives results and writes into tensors; nothing else of what the function did.
  static void check_unchanged(const std::vector<Flat>& before, const std::vector<Flat>& after) {
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

  // Where two texts differ, with what stands around it.
  static std::string difference(const std::string& a, const std::string& b) {
    const auto at = static_cast<std::size_t>(
        std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
    const std::size_t from = at < 24 ? 0 : at - 24;
    const auto cut = [&](const std::string& s) {
      return from < s.size() ? s.substr(from, 64) : std::string();
    };
    return cut(a) + " and then " + cut(b);
  }

  // The result without its symbolic tensors, which would keep the capture alive: tensors that are
  // nothing but places.
  static py::object detached(const py::object& r, std::size_t tensors) {
    const std::vector<Tensor> places(tensors, Tensor::empty(TensorDesc(DType::u8, kCPU, {0})));
    std::size_t at = 0;
    return rebuild(r, places, at);
  }

  std::shared_ptr<graph::CompiledFunction> core_;
};

// Null before __init__, and while the object is being allocated, when the garbage collector may
// look at it already.
Compiled* compiled_of(PyObject* self) {
  auto* const instance = reinterpret_cast<py::detail::instance*>(self);
  if (!instance->simple_layout && !instance->nonsimple.values_and_holders) return nullptr;
  static const auto* const type = py::detail::get_type_info(typeid(Compiled));
  auto found = instance->get_value_and_holder(instance->simple_layout ? nullptr : type);
  return found.holder_constructed() ? found.value_ptr<Compiled>() : nullptr;
}

// Called past pybind11: with what else a step leaves in the processor's caches its way to a
// function takes as long as all that is done here.
PyObject* call_compiled(PyObject* self, PyObject* args, PyObject* kwargs) {
  const ErrorSite site(kCaller);
  try {
    Compiled* const c = compiled_of(self);
    if (!c) {
      throw py::type_error("[compile] __init__ comes before a call; got none; expected compile()");
    }
    return c->call(args, kwargs).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

void set_up_type(PyHeapTypeObject* heap_type) {
  PyTypeObject* type = &heap_type->ht_type;
  type->tp_call = call_compiled;
  // A function that knows the object it is an attribute of goes with it.
  type->tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    const Compiled* const c = compiled_of(self);
    if (!c) return 0;
    Py_VISIT(c->function.ptr());
    Py_VISIT(c->owner.ptr());
    if (c->is_view) return 0;  // what it looks at is another's to show
    if (const int stop = c->looks->places->visit(visit, arg)) return stop;
    return c->looks->identities->visit(visit, arg);
  };
  type->tp_clear = [](PyObject* self) {
    if (!compiled_of(self)) return 0;
    Compiled& c = *compiled_of(self);
    // Moved out first: what goes may come back here.
    const py::object f = std::exchange(c.function, py::none());
    const py::object o = std::exchange(c.owner, py::none());
    const auto l = std::exchange(c.looks, std::make_shared<Compiled::Looks>());
    return 0;
  };
}

graph::CompileOptions options_of(const std::vector<std::string>& without, bool fast,
                                 bool memory_plan, bool device_graph, bool check, bool verify,
                                 int max_signatures, int check_interval) {
  return {.without = without,
          .fast = fast,
          .memory_plan = memory_plan,
          .device_graph = device_graph,
          .check_capture = check,
          .check_interval = check_interval,
          .verify = verify,
          .max_signatures = max_signatures};
}

/// A graph, and the scopes of it that are open.
struct Declaration {
  graph::Graph graph;
  std::vector<std::unique_ptr<graph::CaptureScope>> open;
};

py::list pass_reports(const std::vector<graph::PassReport>& passes) {
  py::list l;
  for (const graph::PassReport& r : passes) {
    l.append(py::dict("name"_a = r.name, "exact"_a = r.exactness == Exactness::exact,
                      "nodes_before"_a = r.stats.nodes_before,
                      "nodes_after"_a = r.stats.nodes_after, "changed"_a = r.stats.changed,
                      "detail"_a = r.stats.detail, "ms"_a = r.stats.ms));
  }
  return l;
}

py::dict ledger_entry(const graph::LedgerEntry& e) {
  py::dict d;
  d["number"] = e.number;
  d["reason"] = e.reason;
  d["capture_ms"] = e.capture_ms;
  d["compile_ms"] = e.compile_ms;
  d["nodes_captured"] = e.nodes_captured;
  d["launches"] = e.launches;
  d["arena_bytes"] = e.arena_bytes;
  d["no_device_graph"] = e.no_device_graph;
  d["confirmed"] = e.confirmed;
  d["confirm_ms"] = e.confirm_ms;
  d["last_change"] = e.last_change;
  return d;
}

}  // namespace

void bind_graph(py::module_& m) {
  const auto without = "without"_a = std::vector<std::string>();
  const auto fast = "fast"_a = false;
  const auto memory_plan = "memory_plan"_a = true;
  const auto device_graph = "device_graph"_a = true;
  const auto check = "check_capture"_a = true;
  const auto verify = "verify"_a = false;
  const auto most = "max_signatures"_a = 16;
  // Rarer than from C++: a check costs ten times as much, and most of what it would find has been
  // looked at before the call.
  constexpr int kCheckInterval = 1024;
  m.attr("_CHECK_INTERVAL") = kCheckInterval;
  const auto interval = "check_interval"_a = kCheckInterval;
  using Core = graph::CompiledFunction;
  py::class_<Compiled>(m, "_Compiled", py::custom_type_setup(set_up_type))
      .def(py::init([](py::object f, py::object owner, const std::vector<std::string>& w, bool fa,
                       bool mp, bool dg, bool c, bool v, int ms, int ci) {
             return std::make_unique<Compiled>(std::move(f), std::move(owner),
                                               options_of(w, fa, mp, dg, c, v, ms, ci));
           }),
           "function"_a, "owner"_a, without, fast, memory_plan, device_graph, check, verify, most,
           interval)
      // A second constructor, for views. It has the other name that pybind11 knows: with two of one
      // name, errors could not say which argument of compile() is wrong.
      .def(
          "__setstate__",
          [](py::detail::value_and_holder& made, const Compiled& of) {
            made.value_ptr() = new Compiled(of);
          },
          "of"_a, py::detail::is_new_style_constructor())
      .def_property_readonly("_identity", &Compiled::identity)
      .def_readwrite("_timed", &Compiled::timed)
      .def_readonly("_replay_ms", &Compiled::replay_ms)
      .def(
          "ledger",
          [](const Compiled& c) {
            py::list l;
            for (const auto& e : c.ask([](Core& f) { return f.ledger(); })) {
              l.append(ledger_entry(e));
            }
            return l;
          },
          "Why each program was captured, and what that cost (times in milliseconds), the last 64 "
          "captures; `number` counts all. `confirmed` is how often one was recorded again, to find "
          "the same.")
      .def(
          "explain", [](const Compiled& c) { return c.ask([](Core& f) { return f.explain(); }); },
          "Passes, memory plan, launches, and why each program was captured.")
      .def(
          "dump", [](const Compiled& c) { return c.ask([](Core& f) { return f.dump(); }); },
          "The program of the last call as text.")
      .def(
          "dump_dot", [](const Compiled& c) { return c.ask([](Core& f) { return f.dump_dot(); }); },
          "The program of the last call as Graphviz.")
      .def(
          "clear", [](const Compiled& c) { c.ask([](Core& f) { f.clear(); }); },
          "Forgets all captured programs.")
      .def(
          "passes",
          [](const Compiled& c) { return pass_reports(c.ask([](Core& f) { return f.passes(); })); },
          "What each pass did to the program of the last call: name, exact (whether results stay "
          "equal bit for bit), nodes_before, nodes_after, changed and what that counts (detail), "
          "ms. RangeError before the first call.")
      .def(
          "captured_hash",
          [](const Compiled& c) { return c.ask([](Core& f) { return f.captured_hash(); }); },
          "Of the program of the last call as it was captured: equal for equal programs, whether "
          "captured or declared. RangeError before the first call.")
      .def("__len__", [](const Compiled& c) { return c.ask([](Core& f) { return f.size(); }); });
  py::class_<Places, std::shared_ptr<Places>>(m, "_Places")
      .def("add", &Places::add, "label"_a, "name"_a, "where"_a, "looked_at"_a = true)
      .def("note_read", &Places::note_read)
      .def("changed", &Places::changed);
  bind_call_watch(m);
  m.def("_class_version", &class_version);
  m.def("_is_symbolic", [](const Tensor& t) { return t.is_symbolic(); });
  m.def("_is_captured", [](const Tensor& t) { return t.impl()->storage->pinned(); });
  m.def("_is_capturing", [] { return trace_guards() != nullptr; });
  m.def("_writes_outside", [] {
    const auto* const t = dynamic_cast<const graph::Tracer*>(trace_guards());
    return t && t->writes_outside();
  });
  m.def("_note_host_change", [](std::string what, py::handle module, py::handle name) {
    Identities unused;  // a Module can have weak references
    note_host_change({module.is_none() ? 0 : subject_of(module, name, unused), std::move(what)});
  });

  py::class_<graph::Function>(m, "Function", py::is_final(),
                              "A compiled program with named arguments.")
      .def("_run", [](const graph::Function& f, const graph::Feeds& feeds) { return f.run(feeds); })
      .def("dump", &graph::Function::dump, "The program as text.")
      .def(
          "passes", [](const graph::Function& f) { return pass_reports(f.program().passes); },
          "What each pass did: dicts as Compiled.passes() gives them.")
      .def_property_readonly("hash", &graph::Function::hash,
                             "Equal for equal programs, declared or captured.");
  py::class_<Declaration>(m, "_Graph")
      .def(py::init<>())
      .def("variable",
           [](Declaration& g, const std::string& name, const Dims& shape, DType t, Device d,
              MemoryFormat layout) {
             checked_numel(shape, "variable");
             return g.graph.variable(name, {t, d, shape, strides_for(shape, layout)});
           })
      .def("enter", [](Declaration& g) { g.open.push_back(g.graph.scope()); })
      .def("exit",
           [](Declaration& g) {
             if (!g.open.empty()) g.open.pop_back();
           })
      .def("dump",
           [](Declaration& g, const std::vector<Tensor>& results) { return g.graph.dump(results); })
      .def("compile", [](Declaration& g, const std::vector<Tensor>& results,
                         const std::vector<std::string>& w, bool fa, bool mp, bool dg) {
        return g.graph.compile(results,
                               {.without = w, .fast = fa, .memory_plan = mp, .device_graph = dg});
      });
  m.def(
      "all_passes",
      [] {
        py::list l;
        for (const graph::Pass& p : graph::all_passes()) {
          l.append(py::dict("name"_a = p.name, "exact"_a = p.exactness == Exactness::exact,
                            "summary"_a = p.summary));
        }
        return l;
      },
      "The passes in the order they run: dicts of name, exact (whether results stay equal bit for\n"
      "bit; the others run with compile(fast=True)) and summary.");
  m.def(
      "pass_names",
      [] {
        std::vector<std::string> names;
        for (const graph::Pass& p : graph::all_passes()) names.emplace_back(p.name);
        return names;
      },
      "The passes that compile(without=…) can leave out.");
}

}  // namespace tandem::python
