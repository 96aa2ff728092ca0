// What an operation costs the host beside its arithmetic: tensors of a few elements, one thread.
#include <algorithm>
#include <vector>

#include "benchmarks/bench_main.h"
#include "core/allocator.h"
#include "core/plan_cache.h"
#include "core/profiler.h"

namespace {

using namespace tandem;

// The counter is the time of one operation.
void per_op(benchmark::State& state, double ops_per_iteration) {
  state.counters["per_op"] =
      benchmark::Counter(ops_per_iteration, benchmark::Counter::kIsIterationInvariantRate |
                                                benchmark::Counter::kInvert);
}

void add_without_tape(benchmark::State& state) {
  const Tensor a = rand({state.range(0)}), b = rand({state.range(0)});
  CatchUp catch_up(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(a + b);
    catch_up();
  }
  per_op(state, 1);
}
BENCHMARK(add_without_tape)->Arg(1)->Arg(4)->Arg(16)->Arg(64)->Arg(1 << 20);

// The kernel alone, as a program without a framework would launch it.
void add_bare_launch(benchmark::State& state) {
  const Tensor a = rand({state.range(0)}), b = rand({state.range(0)}), c = zeros({state.range(0)});
  const TensorDesc* descs[] = {&a.desc(), &b.desc()};
  const RefPtr<const PreparedOp> op(&dispatch::prepare(op::add, descs, {}));
  void *in[] = {a.raw_data(), b.raw_data()}, *out[] = {c.raw_data()};
  Stream& stream = backend(a.device()).stream(a.device().index);
  CatchUp catch_up(state);
  for (auto _ : state) {
    op->plan->launch({in, out, nullptr, &stream});
    benchmark::ClobberMemory();
    catch_up();
  }
  per_op(state, 1);
}
BENCHMARK(add_bare_launch)->Arg(4)->Arg(1 << 20);

void add_scalar_without_tape(benchmark::State& state) {
  const Tensor a = rand({state.range(0)});
  for (auto _ : state) benchmark::DoNotOptimize(a + 1.5);
  per_op(state, 1);
}
BENCHMARK(add_scalar_without_tape)->Arg(4);

void add_in_place(benchmark::State& state) {
  Tensor a = rand({state.range(0)});
  const Tensor b = rand({state.range(0)});
  for (auto _ : state) a.add_(b);
  per_op(state, 1);
}
BENCHMARK(add_in_place)->Arg(4);

void add_with_tape(benchmark::State& state) {
  Tensor a = rand({state.range(0)}), b = rand({state.range(0)});
  a.set_requires_grad();
  CatchUp catch_up(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(a + b);
    catch_up();
  }
  per_op(state, 1);
}
BENCHMARK(add_with_tape)->Arg(1)->Arg(4)->Arg(16)->Arg(64)->Arg(1 << 20);

// A chain of adds and its backward pass; the time is per add, backward included.
void chain_forward_backward(benchmark::State& state) {
  const int length = static_cast<int>(state.range(0));
  Tensor a = rand({4}), b = rand({4});
  a.set_requires_grad();
  const Tensor seed = ones({4});
  for (auto _ : state) {
    Tensor y = a;
    for (int i = 0; i < length; ++i) y = y + b;
    y.backward(seed);
    a.set_grad({});
  }
  per_op(state, length);
}
BENCHMARK(chain_forward_backward)->Arg(16)->Arg(256);

// The same chain, compiled. Without the fuse pass every add stays a launch of its own; the two
// alternating tensors keep common subexpressions from being found.
void replay(benchmark::State& state, CompileOptions options) {
  const int length = static_cast<int>(state.range(0));
  const Tensor a = rand({4}), b = rand({4}), c = rand({4});
  auto f = compile(
      [length](const Tensor& x, const Tensor& y, const Tensor& z) {
        Tensor r = x;
        for (int i = 0; i < length; ++i) r = r + (i % 2 ? y : z);
        return r;
      },
      std::move(options));
  f(a, b, c);
  const std::uint64_t before = profiler::launches();
  for (auto _ : state) benchmark::DoNotOptimize(f(a, b, c));
  state.counters["launches"] = benchmark::Counter(
      static_cast<double>(profiler::launches() - before), benchmark::Counter::kAvgIterations);
  per_op(state, length);
}
void replay_unfused(benchmark::State& state) {
  replay(state, {.without = {"fuse"}});
}
void replay_bare(benchmark::State& state) {
  replay(state, {.without = {"fold", "cse", "dce", "fuse", "inplace"}, .memory_plan = false});
}
void replay_fused(benchmark::State& state) {
  replay(state, {});
}
BENCHMARK(replay_unfused)->Arg(1)->Arg(16)->Arg(64)->Arg(512);
BENCHMARK(replay_bare)->Arg(64);
BENCHMARK(replay_fused)->Arg(64);

// From the end of a replay to the start of the next in a loop: what a compiled training step of E1
// costs beside its replay, once the kernels have emptied the caches. python_overhead.py measures
// the same from Python.
void between_replays_of_e1(benchmark::State& state) {
  const nn::Sequential net = models::lenet();
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const Tensor x = rand({64, 1, 28, 28}), y = randint(0, 10, {64});
  auto step = compile(
      [&](const Tensor& x, const Tensor& y) {
        opt.zero_grad();
        Tensor loss = nn::cross_entropy(net(x), y);
        loss.backward();
        opt.step();
        return loss;
      },
      {.check_capture = false});
  step(x, y);
  step.core().gaps();
  for (auto _ : state) step(x, y);
  std::vector<double> us = step.core().gaps();
  std::ranges::nth_element(us, us.begin() + static_cast<std::ptrdiff_t>(us.size() / 2));
  state.counters["gap_us"] = us.at(us.size() / 2);
}
BENCHMARK(between_replays_of_e1)->Iterations(41)->Unit(benchmark::kMillisecond);

void view_op(benchmark::State& state) {
  const Tensor a = rand({8, 4});
  for (auto _ : state) benchmark::DoNotOptimize(a.reshape({4, 8}));
  per_op(state, 1);
}
BENCHMARK(view_op);

void view_op_with_tape(benchmark::State& state) {
  Tensor a = rand({8, 4});
  a.set_requires_grad();
  for (auto _ : state) benchmark::DoNotOptimize(a.reshape({4, 8}));
  per_op(state, 1);
}
BENCHMARK(view_op_with_tape);

void plan_cache_lookup(benchmark::State& state) {
  const Tensor a = rand({4}), b = rand({4});
  const TensorDesc* descs[] = {&a.desc(), &b.desc()};
  for (auto _ : state) {
    benchmark::DoNotOptimize(&dispatch::prepare(op::matmul, descs, {}));
  }
  per_op(state, 1);
}
BENCHMARK(plan_cache_lookup);

void plan_cache_lookup_attributes(benchmark::State& state) {
  const Tensor x = rand({2, 3, 8, 8}), w = rand({4, 3, 3, 3});
  ConvAttrs attrs;
  attrs.stride = attrs.padding = attrs.dilation = {1, 1};
  const TensorDesc* descs[] = {&x.desc(), &w.desc()};
  for (auto _ : state) {
    benchmark::DoNotOptimize(&dispatch::prepare(op::conv2d, descs, attrs));
  }
  per_op(state, 1);
}
BENCHMARK(plan_cache_lookup_attributes);

void allocator(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  Allocator& a = cpu_allocator();
  for (auto _ : state) {
    void* p = a.allocate(bytes);
    benchmark::DoNotOptimize(p);
    a.deallocate(p, bytes);
  }
  per_op(state, 1);
}
BENCHMARK(allocator)->Arg(16)->Arg(4096)->Arg(1 << 22);

void empty_tensor(benchmark::State& state) {
  const TensorDesc d(DType::f32, kCPU, {4});
  for (auto _ : state) benchmark::DoNotOptimize(Tensor::empty(d));
  per_op(state, 1);
}
BENCHMARK(empty_tensor);

}  // namespace

int main(int argc, char** argv) {
  // Anything else would measure the threads.
  set_num_threads(1);
  return run_benchmarks(argc, argv);
}
