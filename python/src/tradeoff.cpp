// The experiment of benchmarks/tradeoff, for nets by name and for steps written in Python.
#include <optional>

#include "benchmarks/tradeoff/report.h"
#include "benchmarks/tradeoff/workload.h"
#include "python/src/python_function.h"

namespace tandem::python {

using namespace py::literals;

namespace {

/// A workload of Python's: `make()` gives (step, state), `step(*batch)` tensors.
tradeoff::Workload workload_of(std::string name, py::object make,
                               std::vector<std::vector<Tensor>> batches) {
  tradeoff::Workload w;
  w.name = std::move(name);
  w.batches = std::move(batches);
  w.make = [make = PythonObject(std::move(make))] {
    const GilAcquire gil;
    const auto made = py::cast<py::tuple>(call_python(make.get(), py::tuple()));
    tradeoff::Subject s;
    for (const auto& [k, v] : py::cast<py::dict>(made[1])) {
      s.state.emplace_back(py::cast<std::string>(k), py::cast<Tensor>(v));
    }
    s.step = [step = PythonObject(made[0])](std::span<const Tensor> in) {
      const GilAcquire held;
      py::tuple args(in.size());
      for (std::size_t i = 0; i < in.size(); ++i) args[i] = in[i];
      return tensors_of("tradeoff", call_python(step.get(), args));
    };
    return s;
  };
  return w;
}

/// (JSON, text). Signals are looked at between rounds: what their handler throws ends it.
py::tuple run(const tradeoff::Workload& w, tradeoff::LadderOptions o, const py::object& on_forecast,
              const py::object& on_progress, const py::object& stop) {
  if (!on_forecast.is_none()) {
    o.on_forecast = [&](const tradeoff::LadderResult& r) {
      const GilAcquire gil;
      call_python(on_forecast, py::make_tuple(tradeoff::forecast_text(r)));
    };
  }
  o.on_progress = [&](const std::string& what, double part) {
    const GilAcquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!on_progress.is_none()) call_python(on_progress, py::make_tuple(what, part));
  };
  if (!stop.is_none()) {
    o.stop = [&] {
      const GilAcquire gil;
      return py::cast<bool>(call_python(stop, py::tuple()));
    };
  }
  std::string json, text;
  {
    const GilRelease release;
    const tradeoff::LadderResult r = tradeoff::run_ladder(w, o);
    const tradeoff::Summary s = tradeoff::summarise(r);
    nlohmann::json j = tradeoff::to_json(r, s);
    j["machine"] = tradeoff::machine_json();
    json = j.dump();
    text = tradeoff::text(r, s);
  }
  return py::make_tuple(json, text);
}

py::tuple triple(const tradeoff::Interval& i) {
  return py::make_tuple(i.median, i.low, i.high);
}

}  // namespace

void bind_tradeoff(py::module_& m) {
  py::module_ t = m.def_submodule("_tradeoff");
  t.def("recipes", [] {
    py::list list;
    for (const tradeoff::Recipe& r : tradeoff::recipes()) {
      list.append(py::dict("name"_a = r.name, "batch_size"_a = r.batch, "optimizer"_a = r.optimiser,
                           "lr"_a = r.lr, "momentum"_a = r.momentum,
                           "weight_decay"_a = r.weight_decay));
    }
    return list;
  });
  t.def("machine_text", &tradeoff::machine_text);
  t.def("machine_json", [] { return tradeoff::machine_json().dump(); });
  t.def(
      "median_interval",
      [](const std::vector<double>& x) { return triple(tradeoff::median_interval(x)); },
      "samples"_a,
      "(median, low, high): the median of samples with its interval of at least 95 % confidence, "
      "from\n"
      "order statistics, which assumes no distribution. Of fewer than six samples it is their "
      "whole\n"
      "range, and too narrow. RangeError without samples. Source: Conover, \"Practical "
      "nonparametric\n"
      "statistics\", 1999, 3.2.");
  const auto paired = [&](const char* name, auto f, const char* doc) {
    t.def(
        name,
        [f](const std::vector<double>& a, const std::vector<double>& b) { return triple(f(a, b)); },
        "a"_a, "b"_a, doc);
  };
  paired(
      "paired_ratio", tradeoff::paired_ratio,
      "median_interval() of a[i] / b[i] over rounds i: what drifts from round to round meets both\n"
      "sides of a round and drops out. RangeError unless both have one length.");
  paired("paired_difference", tradeoff::paired_difference,
         "median_interval() of a[i] - b[i] over rounds i. RangeError unless both have one length.");
  t.def(
      "run",
      [](const std::optional<std::string>& recipe, py::object make, const std::string& name,
         std::vector<std::vector<Tensor>> batches, int random_batches, std::int64_t batch_size,
         MemoryFormat layout, DType dtype, int steps, double seconds, std::uint64_t seed,
         bool leave_out, bool inexact, int verify_steps, int instrumented_steps, int least_rounds,
         int most_rounds, const py::object& on_forecast, const py::object& on_progress,
         const py::object& stop) {
        tradeoff::LadderOptions o;
        o.seed = seed;
        o.verify_steps = verify_steps;
        o.instrumented_steps = instrumented_steps;
        o.seconds = seconds;
        o.steps = steps;
        o.least_rounds = least_rounds;
        o.most_rounds = most_rounds;
        o.inexact = inexact;
        o.leave_out = leave_out;
        const tradeoff::Workload w = recipe
                                         ? tradeoff::make_workload({.recipe = *recipe,
                                                                    .batch = batch_size,
                                                                    .layout = layout,
                                                                    .dtype = dtype,
                                                                    .seed = seed,
                                                                    .batches = random_batches})
                                         : workload_of(name, std::move(make), std::move(batches));
        return run(w, std::move(o), on_forecast, on_progress, stop);
      },
      py::kw_only(), "recipe"_a, "make"_a, "name"_a, "batches"_a, "random_batches"_a,
      "batch_size"_a, "layout"_a, "dtype"_a, "steps"_a, "seconds"_a, "seed"_a, "leave_out"_a,
      "inexact"_a, "verify_steps"_a, "instrumented_steps"_a, "least_rounds"_a, "most_rounds"_a,
      "on_forecast"_a, "on_progress"_a, "stop"_a);
}

}  // namespace tandem::python
