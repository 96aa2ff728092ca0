// Whole training steps of the experiments, eager and compiled, and what capturing and compiling one
// costs. `tandem-tradeoff` compares the modes with interleaved runs; the figures here are absolute.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>

#include "benchmarks/tradeoff/workload.h"
#include "core/parallel.h"
#include "graph/compile.h"

namespace {

using namespace tandem;

std::vector<Tensor> call(graph::CompiledFunction& f, const tradeoff::Subject& s,
                         const std::vector<Tensor>& batch) {
  std::vector<const Tensor*> args;
  for (const Tensor& t : batch) args.push_back(&t);
  graph::CompiledFunction::Result r;
  f.call(
      args, {},
      [&](std::span<const Tensor> in, graph::CompiledFunction::Host&) { return s.step(in); }, r);
  return {r.tensors.begin(), r.tensors.end()};
}

void step(benchmark::State& state, const tradeoff::WorkloadOptions& o, bool compiled) {
  const tradeoff::Workload w = tradeoff::make_workload(o);
  manual_seed(0);
  const tradeoff::Subject s = w.make();
  graph::CompiledFunction f;
  std::size_t k = 0;
  const auto one = [&] {
    const auto& batch = w.batches[k++ % w.batches.size()];
    benchmark::DoNotOptimize(compiled ? call(f, s, batch) : s.step(batch));
  };
  for (int i = 0; i < 3; ++i) one();
  for (auto _ : state) one();
  state.counters["images/s"] = benchmark::Counter(static_cast<double>(w.batches[0][0].dim(0)),
                                                  benchmark::Counter::kIsIterationInvariantRate);
}

// What the first call of a compiled step costs beside the step itself. Cold: no kernel has been
// chosen or made ready before.
void capture_and_compile(benchmark::State& state, const std::string& recipe, bool cold) {
  const tradeoff::Workload w = tradeoff::make_workload({.recipe = recipe});
  manual_seed(0);
  const tradeoff::Subject s = w.make();
  s.step(w.batches[0]);
  double capture = 0, compile = 0;
  graph::MemoryPlan plan;
  for (auto _ : state) {
    if (cold) dispatch::clear_plan_cache();
    graph::CompiledFunction f;
    call(f, s, w.batches[0]);
    const graph::LedgerEntry l = f.ledger().at(0);
    state.SetIterationTime((l.capture_ms + l.compile_ms) / 1e3);
    capture += l.capture_ms;
    compile += l.compile_ms;
    plan = f.program().executor->memory_plan();
  }
  const auto mean = [](double ms) {
    return benchmark::Counter(ms, benchmark::Counter::kAvgIterations);
  };
  state.counters["capture_ms"] = mean(capture);
  state.counters["compile_ms"] = mean(compile);
  state.counters["arena_bytes"] = static_cast<double>(plan.arena);
  state.counters["arena_bound"] = static_cast<double>(plan.lower_bound);
}

}  // namespace

int main(int argc, char** argv) {
  if (const char* n = std::getenv("TANDEM_THREADS")) tandem::set_num_threads(std::atoi(n));
  for (const char* recipe : {"lenet", "vgg", "resnet18"}) {
    for (const auto layout : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
      for (const bool compiled : {false, true}) {
        const tradeoff::WorkloadOptions o{.recipe = recipe, .layout = layout};
        const std::string name =
            std::string(recipe) +
            (layout == MemoryFormat::channels_last ? "/channels_last/" : "/nchw/") +
            (compiled ? "compiled" : "eager");
        benchmark::RegisterBenchmark(name.c_str(),
                                     [=](benchmark::State& s) { step(s, o, compiled); })
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
    for (const bool cold : {false, true}) {
      const std::string name =
          std::string("capture_and_compile/") + recipe + (cold ? "/cold" : "/warm");
      benchmark::RegisterBenchmark(
          name.c_str(), [=](benchmark::State& s) { capture_and_compile(s, recipe, cold); })
          ->UseManualTime()
          ->Iterations(cold ? 10 : 20)
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
