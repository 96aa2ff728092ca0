// Whole training steps of the experiments, eager and compiled, and what capturing and compiling one
// costs. `tandem-tradeoff` compares the modes with interleaved runs; the figures here are absolute.
//
// The repetitions of a step are blocks of one training run that goes on, after a second of warm-up:
// as benchmarks/peers/measure.py times other frameworks (see benchmarks/beside_torch.py).
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "benchmarks/tradeoff/report.h"
#include "benchmarks/tradeoff/workload.h"
#include "core/clock.h"
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

// A net in training.
class Training {
 public:
  Training(std::string name, const tradeoff::WorkloadOptions& o, bool compiled)
      : name_(std::move(name)), workload_(tradeoff::make_workload(o)), compiled_(compiled) {
    manual_seed(0);
    subject_ = workload_.make();
    const auto t0 = Clock::now();
    for (int i = 0; i < 3 || ms_since(t0) < 1000; ++i) step();
  }

  void step() {
    const auto& batch = workload_.batches[next_++ % workload_.batches.size()];
    benchmark::DoNotOptimize(compiled_ ? call(f_, subject_, batch) : subject_.step(batch));
  }

  const std::string& name() const { return name_; }
  std::int64_t batch_size() const { return workload_.batches[0][0].dim(0); }

 private:
  std::string name_;
  tradeoff::Workload workload_;
  tradeoff::Subject subject_;
  graph::CompiledFunction f_;
  bool compiled_;
  std::size_t next_ = 0;
};

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
  benchmark::AddCustomContext("tandem", tandem::tradeoff::machine_text());
  // Of the benchmark that is running; the next one makes its own.
  std::unique_ptr<Training> training;
  for (const char* recipe : {"lenet", "vgg-cifar", "resnet18-cifar"}) {
    for (const auto layout : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
      for (const bool compiled : {false, true}) {
        const tradeoff::WorkloadOptions o{.recipe = recipe, .layout = layout};
        const std::string name =
            std::string(recipe) +
            (layout == MemoryFormat::channels_last ? "/channels_last/" : "/nchw/") +
            (compiled ? "compiled" : "eager");
        benchmark::RegisterBenchmark(name.c_str(),
                                     [=, &training](benchmark::State& s) {
                                       if (!training || training->name() != name) {
                                         training = nullptr;
                                         training = std::make_unique<Training>(name, o, compiled);
                                       }
                                       for (auto _ : s) training->step();
                                       s.counters["images/s"] = benchmark::Counter(
                                           static_cast<double>(training->batch_size()),
                                           benchmark::Counter::kIsIterationInvariantRate);
                                     })
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
