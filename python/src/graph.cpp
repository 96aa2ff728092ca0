// compile(), declared graphs, and what they say of themselves.
#include "graph/builder.h"
#include "graph/compile.h"
#include "graph/passes.h"
#include "python/src/python_function.h"
#include "python/src/tree.h"

namespace tandem::python {

using namespace py::literals;

namespace {

/// A Python function with its captured programs.
class Compiled {
 public:
  Compiled(py::object f, graph::CompileOptions options)
      : f_(std::move(f)), core_(std::make_shared<graph::CompiledFunction>(std::move(options))) {}

  py::object call(const py::args& args, const py::kwargs& kwargs) {
    std::vector<Tensor> tensors;
    std::vector<py::object> objects;
    graph::CompiledFunction::Statics statics{&typeid(Compiled)};
    flatten(args, tensors, statics.text, objects);
    if (kwargs.size() > 0) flatten(kwargs, tensors, statics.text, objects);
    // A signature names other objects by their address, which must not become another object's.
    for (py::object& o : objects) {
      if (!kept_.contains(o.ptr())) kept_.emplace(o.ptr(), PythonObject(o));
    }
    std::vector<const Tensor*> pointers;
    pointers.reserve(tensors.size());
    for (const Tensor& t : tensors) pointers.push_back(&t);

    const auto trace = [&](std::span<const Tensor> in, graph::CompiledFunction::Host& host) {
      const py::gil_scoped_acquire gil;
      std::size_t at = 0;
      const py::object a = rebuild(args, in, at);
      const py::object k = rebuild(kwargs, in, at);
      py::object r = py::module_::import("tandem.graph").attr("_trace")(f_.get(), a, k);
      std::vector<Tensor> out;
      std::vector<py::object> others;
      flatten(r, out, host.text, others);
      host.prototype = PythonObject(detached(r));
      return out;
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

  graph::CompiledFunction& core() const { return *core_; }
  const py::object& function() const { return f_.get(); }

 private:
  // The result without its symbolic tensors, which would keep the capture alive: tensors that are
  // nothing but places.
  static py::object detached(const py::object& r) {
    std::vector<Tensor> old;
    std::vector<py::object> others;
    std::string text;
    flatten(r, old, text, others);
    const std::vector<Tensor> places(old.size(), Tensor::empty(TensorDesc(DType::u8, kCPU, {0})));
    std::size_t at = 0;
    return rebuild(r, places, at);
  }

  PythonObject f_;
  std::shared_ptr<graph::CompiledFunction> core_;
  std::map<PyObject*, PythonObject> kept_;
};

graph::CompileOptions options_of(const std::vector<std::string>& without, bool fast,
                                 bool memory_plan, bool device_graph, bool check, bool verify,
                                 int max_signatures) {
  return {.without = without,
          .fast = fast,
          .memory_plan = memory_plan,
          .device_graph = device_graph,
          .check_capture = check,
          .verify = verify,
          .max_signatures = max_signatures};
}

py::dict ledger_entry(const graph::LedgerEntry& e) {
  py::dict d;
  d["reason"] = e.reason;
  d["capture_ms"] = e.capture_ms;
  d["compile_ms"] = e.compile_ms;
  d["nodes_captured"] = e.nodes_captured;
  d["launches"] = e.launches;
  d["arena_bytes"] = e.arena_bytes;
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
  py::class_<Compiled>(m, "_Compiled")
      .def(py::init([](py::object f, const std::vector<std::string>& w, bool fa, bool mp, bool dg,
                       bool c, bool v, int ms) {
             return std::make_unique<Compiled>(std::move(f), options_of(w, fa, mp, dg, c, v, ms));
           }),
           "function"_a, without, fast, memory_plan, device_graph, check, verify, most)
      .def("__call__", &Compiled::call)
      .def("ledger",
           [](const Compiled& c) {
             py::list l;
             for (const auto& e : c.core().ledger()) l.append(ledger_entry(e));
             return l;
           })
      .def("explain", [](const Compiled& c) { return c.core().explain(); })
      .def("dump", [](const Compiled& c) { return c.core().dump(); })
      .def("dump_dot", [](const Compiled& c) { return c.core().dump_dot(); })
      .def("clear", [](const Compiled& c) { c.core().clear(); })
      .def("hash", [](const Compiled& c) { return c.core().program().captured_hash; })
      .def("__len__", [](const Compiled& c) { return c.core().size(); });

  py::class_<graph::Function>(m, "Function", "A compiled program with named arguments.")
      .def("_run", [](const graph::Function& f, const graph::Feeds& feeds) { return f.run(feeds); })
      .def("dump", &graph::Function::dump, "The program as text.")
      .def_property_readonly("hash", &graph::Function::hash,
                             "Equal for equal programs, declared or captured.");
  py::class_<graph::Graph>(m, "_Graph")
      .def(py::init<>())
      .def("variable",
           [](graph::Graph& g, const std::string& name, const Dims& shape, DType t, Device d) {
             return g.variable(name, shape, {t, d});
           })
      .def("compile", [](graph::Graph& g, const std::vector<Tensor>& results,
                         const std::vector<std::string>& w, bool fa, bool mp, bool dg) {
        return g.compile(results, options_of(w, fa, mp, dg, true, false, 16));
      });
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
