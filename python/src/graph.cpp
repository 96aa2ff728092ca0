// compile(), declared graphs, and what they say of themselves.
#include <algorithm>
#include <map>

#include "core/host_changes.h"
#include "core/trace_guard.h"
#include "graph/builder.h"
#include "graph/passes.h"
#include "graph/tracer.h"
#include "python/src/call_watch.h"
#include "python/src/compiled.h"

namespace tandem::python {

using namespace py::literals;

namespace {

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
  py::class_<Compiled>(m, "_Compiled", py::custom_type_setup(set_up_compiled_type))
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
      .def("_gaps", [](const Compiled& c) { return c.ask([](Core& f) { return f.gaps(); }); })
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
