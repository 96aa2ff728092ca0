// compile(), declared graphs, and what they say of themselves.
#include <map>

#include "core/trace_guard.h"
#include "graph/builder.h"
#include "graph/compile.h"
#include "graph/passes.h"
#include "python/src/call_watch.h"
#include "python/src/places.h"
#include "python/src/python_function.h"
#include "python/src/tree.h"

namespace tandem::python {

using namespace py::literals;

namespace {

/// A Python function with its captured programs.
class Compiled {
 public:
  Compiled(py::object f, py::object owner, graph::CompileOptions options)
      : function(std::move(f)),
        owner(std::move(owner)),
        core_(std::make_shared<graph::CompiledFunction>(std::move(options))) {}

  py::object call(const py::args& args, const py::kwargs& kwargs) {
    identities->tick();
    Flat flat(*identities);
    flatten(args, flat);
    if (kwargs.size() > 0) flatten(kwargs, flat);
    const py::object self = owner.is_none() ? owner : owner();
    if (!self.is_none()) watch_object(self, flat);
    const std::size_t classes = flat.watch.size();
    if (watches_classes) flat.watch += flat.classes;
    std::size_t own = flat.watch.size();
    // Held: another thread may replace them.
    const std::shared_ptr<const Places> known_places = places;
    known_places->watch(flat);
    std::vector<const Tensor*> pointers;
    pointers.reserve(flat.tensors.size());
    for (const Tensor& t : flat.tensors) pointers.push_back(&t);
    graph::CompiledFunction::Statics statics{&typeid(Compiled), std::move(flat.text),
                                             std::move(flat.watch)};

    const auto trace = [&](std::span<const Tensor> in, graph::CompiledFunction::Host& host) {
      const py::gil_scoped_acquire gil;
      std::size_t at = 0;
      const py::object a = rebuild(args, in, at);
      const py::object k = rebuild(kwargs, in, at);
      const std::vector<Flat> before = parts(a, k, self);
      const std::string known = classes_of(args, kwargs, self);
      const auto now = Places::after(*places);
      py::object r =
          py::module_::import("tandem._capture").attr("trace")(function, a, k, self, py::cast(now));
      check_unchanged(before, parts(a, k, self));
      now->note_changes();
      places = now;
      // As the trace found it: what another thread changed meanwhile, it may not have read.
      statics.watch.replace(own, std::string::npos, now->found());
      // What the function itself sets in a class is not looked at, either.
      if (watches_classes && classes_of(args, kwargs, self) != known) {
        watches_classes = false;
        statics.watch.erase(classes, own - classes);
        own = classes;
      }
      Flat result(*identities);
      flatten(r, result);
      host.text = std::move(result.text);
      host.prototype = PythonObject(detached(r, result.tensors.size()));
      return std::move(result.tensors);
    };
    graph::CompiledFunction::Result result;
    {
      // Another thread may be in here, waiting for the GIL to trace.
      const py::gil_scoped_release release;
      core_->call(pointers, statics, trace, result);
    }
    std::size_t at = 0;
    const std::vector<Tensor> made(result.tensors.begin(), result.tensors.end());
    return rebuild(std::any_cast<const PythonObject&>(*result.prototype).get(), made, at);
  }

  /// Where another thread is capturing it holds the function's lock and wants the GIL.
  template <class F>
  auto ask(F&& f) const {
    const py::gil_scoped_release release;
    return f(*core_);
  }

  // Python's, for its garbage collector.
  py::object function;
  py::object owner;  // gives the object whose method it is, or None; or None
  std::shared_ptr<Identities> identities = std::make_shared<Identities>();
  std::shared_ptr<const Places> places = std::make_shared<Places>(identities);
  bool watches_classes = true;  // Flat::classes

 private:
  std::string classes_of(const py::object& args, const py::object& kwargs, const py::object& self) {
    Flat flat(*identities);
    flatten(args, flat);
    flatten(kwargs, flat);
    if (!self.is_none()) watch_object(self, flat);
    return std::move(flat.classes);
  }

  // Every argument by itself, and the object whose method it is.
  std::vector<Flat> parts(const py::object& args, const py::object& kwargs,
                          const py::object& self) {
    std::vector<Flat> all;
    for (const py::handle a : args) flatten(a, all.emplace_back(*identities));
    for (const auto& [name, a] : py::reinterpret_borrow<py::dict>(kwargs)) {
      flatten(a, all.emplace_back(*identities));
    }
    if (!self.is_none()) watch_object(self, all.emplace_back(*identities));
    return all;
  }

  // Replay gives results and writes into tensors; nothing else of what the function did.
  static void check_unchanged(const std::vector<Flat>& before, const std::vector<Flat>& after) {
    for (std::size_t i = 0; i < before.size(); ++i) {
      const Flat &was = before[i], &is = after[i];
      bool same = was.text == is.text && was.watch == is.watch;
      std::string got = difference(was.text + was.watch, is.text + is.watch);
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

// A function that knows the object it is an attribute of goes with it.
void collect_garbage(PyHeapTypeObject* heap_type) {
  PyTypeObject* type = &heap_type->ht_type;
  type->tp_flags |= Py_TPFLAGS_HAVE_GC;
  const auto constructed = [](PyObject* self) {
    return reinterpret_cast<py::detail::instance*>(self)
        ->get_value_and_holder()
        .holder_constructed();
  };
  static const auto is_constructed = +constructed;
  type->tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    if (!is_constructed(self)) return 0;
    const auto& c = py::cast<Compiled&>(py::handle(self));
    Py_VISIT(c.function.ptr());
    Py_VISIT(c.owner.ptr());
    if (const int stop = c.places->visit(visit, arg)) return stop;
    return c.identities->visit(visit, arg);
  };
  type->tp_clear = [](PyObject* self) {
    if (!is_constructed(self)) return 0;
    auto& c = py::cast<Compiled&>(py::handle(self));
    // Moved out first: what goes may come back here.
    const py::object f = std::exchange(c.function, py::none());
    const py::object o = std::exchange(c.owner, py::none());
    const auto i = std::exchange(c.identities, std::make_shared<Identities>());
    const auto p = std::exchange(c.places, std::make_shared<Places>(c.identities));
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
  const auto interval = "check_interval"_a = 128;
  using Core = graph::CompiledFunction;
  py::class_<Compiled>(m, "_Compiled", py::custom_type_setup(collect_garbage))
      .def(py::init([](py::object f, py::object owner, const std::vector<std::string>& w, bool fa,
                       bool mp, bool dg, bool c, bool v, int ms, int ci) {
             return std::make_unique<Compiled>(std::move(f), std::move(owner),
                                               options_of(w, fa, mp, dg, c, v, ms, ci));
           }),
           "function"_a, "owner"_a, without, fast, memory_plan, device_graph, check, verify, most,
           interval)
      .def("__call__", &Compiled::call)
      .def("ledger",
           [](const Compiled& c) {
             py::list l;
             for (const auto& e : c.ask([](Core& f) { return f.ledger(); })) {
               l.append(ledger_entry(e));
             }
             return l;
           })
      .def("explain", [](const Compiled& c) { return c.ask([](Core& f) { return f.explain(); }); })
      .def("dump", [](const Compiled& c) { return c.ask([](Core& f) { return f.dump(); }); })
      .def("dump_dot",
           [](const Compiled& c) { return c.ask([](Core& f) { return f.dump_dot(); }); })
      .def("clear", [](const Compiled& c) { c.ask([](Core& f) { f.clear(); }); })
      .def("captured_hash",
           [](const Compiled& c) { return c.ask([](Core& f) { return f.captured_hash(); }); })
      .def("passes",
           [](const Compiled& c) {
             return pass_reports(c.ask([](Core& f) { return f.program().passes; }));
           })
      .def("__len__", [](const Compiled& c) { return c.ask([](Core& f) { return f.size(); }); });
  py::class_<Places, std::shared_ptr<Places>>(m, "_Places")
      .def("add", &Places::add, "label"_a, "name"_a, "where"_a, "looked_at"_a = true)
      .def("changed", &Places::changed);
  bind_call_watch(m);
  m.def("_class_version", &class_version);
  m.def("_is_symbolic", [](const Tensor& t) { return t.is_symbolic(); });
  m.def("_is_captured", [](const Tensor& t) { return t.impl()->storage->pinned(); });
  m.def("_is_capturing", [] { return trace_guards() != nullptr; });
  m.def("_note_host_change", [] { note_host_change(); });

  py::class_<graph::Function>(m, "Function", "A compiled program with named arguments.")
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
      .def("exit", [](Declaration& g) { g.open.pop_back(); })
      .def("dump",
           [](Declaration& g, const std::vector<Tensor>& results) { return g.graph.dump(results); })
      .def("compile", [](Declaration& g, const std::vector<Tensor>& results,
                         const std::vector<std::string>& w, bool fa, bool mp, bool dg) {
        return g.graph.compile(results, options_of(w, fa, mp, dg, true, false, 16, 128));
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
