// Throughput of the kernels at the shapes of E1 (batch 64) and E2 (batch 64), all threads, and of
// kernels that only move memory beside a plain copy of 256 MiB.
// GFLOP/s and GB/s come from the ops' own cost rules: arithmetic, and bytes read and written once.
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "benchmarks/bench_main.h"

namespace {

using namespace tandem;

// Calls of public functions, made once; what they dispatch says what they cost.
struct Case {
  std::string name;
  std::function<std::function<Tensor()>()> make;  // random inputs, then the call to time
  double copied_gb_s = 0;                         // what to compare with; 0: nothing
};

class Observer final : public Interceptor {
 public:
  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    const Cost c = cost_of(op);
    cost.flops += c.flops;
    cost.bytes += c.bytes;
    if (op.plan) kernels += (kernels.empty() ? "" : " ") + op.plan->name;
    return dispatch::execute(op, in, loc);
  }
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    dispatch::execute_inplace(op, in, loc);
  }
  Cost cost;
  std::string kernels;
};

void run(benchmark::State& state, const Case& c) {
  const NoGrad off;
  const std::function<Tensor()> call = c.make();
  Observer seen;
  {
    const dispatch::InterceptorScope scope(&seen);
    call();
  }
  DeviceTimer timer;
  double seconds = 0;
  for (auto _ : state) {
    const double s = timer.seconds([&] { benchmark::DoNotOptimize(call()); });
    state.SetIterationTime(s);
    seconds += s;
  }
  const auto rate = [](double per_iteration) {
    return benchmark::Counter(per_iteration * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  };
  if (seen.cost.flops > 0) state.counters["GFLOP/s"] = rate(seen.cost.flops);
  state.counters["GB/s"] = rate(seen.cost.bytes);
  if (c.copied_gb_s > 0 && seconds > 0) {
    state.counters["of_copy"] =
        seen.cost.bytes * 1e-9 * static_cast<double>(state.iterations()) / seconds / c.copied_gb_s;
  }
  state.SetLabel(seen.kernels);
}

struct Form {
  MemoryFormat layout = MemoryFormat::contiguous;
  DType dtype = DType::f32;
  std::string suffix() const {
    return std::string(layout == MemoryFormat::channels_last ? "/channels_last" : "/nchw") +
           (dtype == DType::bf16 ? "/bf16" : "");
  }
  Tensor random(const Shape& s) const {
    const Tensor t = rand(s).to(dtype);
    return s.size() == 4 ? t.to(layout) : t;
  }
};

// Forward and both gradients of a convolution with a stride of 1 that keeps the size.
void add_conv(std::vector<Case>& cases, const std::string& name, const Form& f, std::int64_t c,
              std::int64_t size, std::int64_t o, std::int64_t k) {
  constexpr std::int64_t n = 64;
  Conv2dOptions options;
  options.padding = {k / 2, k / 2};
  const Shape xs = {n, c, size, size}, ws = {o, c, k, k}, ys = {n, o, size, size};
  cases.push_back({name + "/forward" + f.suffix(), [=] {
                     const Tensor x = f.random(xs), w = f.random(ws), b = f.random({o});
                     return [=] { return conv2d(x, w, b, options); };
                   }});
  if (c > 3) {  // the first layer's input wants no gradient
    cases.push_back({name + "/grad_input" + f.suffix(), [=] {
                       const Tensor gy = f.random(ys), w = f.random(ws);
                       return [=] { return conv2d_grad_input(gy, w, xs, options); };
                     }});
  }
  cases.push_back({name + "/grad_weight" + f.suffix(), [=] {
                     const Tensor x = f.random(xs), gy = f.random(ys);
                     return [=] { return conv2d_grad_weight(x, gy, ws, options, f.layout); };
                   }});
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const Form nchw, nhwc{MemoryFormat::channels_last},
      bf16{MemoryFormat::channels_last, DType::bf16};
  for (const Form& f : {nchw, nhwc, bf16}) {
    add_conv(cases, "e1/conv1_1x28_32_5x5", f, 1, 28, 32, 5);
    add_conv(cases, "e1/conv2_32x14_64_5x5", f, 32, 14, 64, 5);
    add_conv(cases, "e2/conv1_3x32_50_3x3", f, 3, 32, 50, 3);
    add_conv(cases, "e2/conv2_50x32_50_3x3", f, 50, 32, 50, 3);
    add_conv(cases, "e2/conv4_100x16_100_3x3", f, 100, 16, 100, 3);
  }
  const auto add = [&](std::string name, auto make) {
    cases.push_back({std::move(name), std::move(make)});
  };
  const auto add_linear = [&](const std::string& name, std::int64_t in, std::int64_t out) {
    add(name + "/forward", [=] {
      const Tensor x = rand({64, in}), w = rand({out, in}), b = rand({out});
      return [=] { return linear(x, w, b); };
    });
    add(name + "/grad_input", [=] {
      const Tensor gy = rand({64, out}), w = rand({out, in});
      return [=] { return matmul(gy, w); };
    });
    add(name + "/grad_weight", [=] {
      const Tensor gy = rand({64, out}).t(), x = rand({64, in});
      return [=] { return matmul(gy, x); };
    });
  };
  add_linear("e1/linear_3136_1024", 3136, 1024);
  add_linear("e2/linear_6400_512", 6400, 512);
  for (const std::int64_t n : {512, 2048}) {
    add(fmt::format("matmul_{}", n), [=] {
      const Tensor a = rand({n, n}), b = rand({n, n});
      return [=] { return matmul(a, b); };
    });
  }
  for (const Form& f : {nchw, nhwc}) {
    const Shape image = {64, 32, 28, 28};
    Pool2dOptions pool;
    pool.kernel = {2, 2};
    add("e1/max_pool_32x28" + f.suffix(), [=] {
      const Tensor x = f.random(image);
      return [=] { return max_pool2d(x, pool); };
    });
    add("e1/relu_32x28" + f.suffix(), [=] {
      const Tensor x = f.random(image);
      return [=] { return relu(x); };
    });
    add("resnet/batch_norm_64x32" + f.suffix(), [=] {
      const Tensor x = f.random({32, 64, 32, 32}), w = rand({64}), b = rand({64});
      Tensor mean = zeros({64}), var = ones({64});
      return [=]() mutable { return batch_norm(x, w, b, mean, var, true); };
    });
  }
  const Shape big = {1 << 22};
  add("add_4M", [=] {
    const Tensor a = rand(big), b = rand(big);
    return [=] { return a + b; };
  });
  add("gelu_4M", [=] {
    const Tensor a = rand(big);
    return [=] { return gelu(a); };
  });
  add("sum_4M", [=] {
    const Tensor a = rand(big);
    return [=] { return a.sum(); };
  });
  add("dropout_4M", [=] {
    const Tensor a = rand(big);
    return [=] { return dropout(a, 0.5); };
  });
  add("transpose_2048", [] {
    const Tensor a = rand({2048, 2048}).t();
    return [=] { return a.contiguous(); };
  });
  add("cross_entropy_64x10", [] {
    const Tensor x = rand({64, 10}), y = randint(0, 10, {64});
    return [=] { return cross_entropy(x, y); };
  });
  return cases;
}

// GB/s, read and written, of the device's own copy of as many bytes.
double copy_rate(std::int64_t bytes) {
  const Device d = default_device();
  Backend& b = backend(d);
  const Tensor from = zeros({bytes}, {.dtype = DType::u8}), to = zeros_like(from);
  DeviceTimer timer;
  double best = 1e30;
  for (int i = 0; i < 10; ++i) {
    best = std::min(best, timer.seconds([&] {
      b.copy_async(to.raw_data(), d, from.raw_data(), d, static_cast<std::size_t>(bytes),
                   b.stream(d.index));
    }));
  }
  return 2e-9 * static_cast<double>(bytes) / best;
}

// Kernels that should be as fast as memory is, with one operand of 256 MiB each.
std::vector<Case> memory_cases() {
  constexpr std::int64_t bytes = std::int64_t{256} << 20;
  const double copied = copy_rate(bytes);
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, DType t, auto op) {
    cases.push_back(
        {"memory/" + name + "/" + std::string(name_of(t)),
         [=] {
           const std::int64_t n = bytes / static_cast<std::int64_t>(size_of(t));
           const Tensor x = rand({n / 4096, 4096}).to(t), y = rand({n / 4096, 4096}).to(t);
           return [=] { return op(x, y); };
         },
         copied});
  };
  for (const DType t : {DType::f32, DType::bf16}) {
    add("clone", t, [](const Tensor& x, const Tensor&) { return x.clone(); });
    add("relu", t, [](const Tensor& x, const Tensor&) { return relu(x); });
    add("add", t, [](const Tensor& x, const Tensor& y) { return x + y; });
    add("sum", t, [](const Tensor& x, const Tensor&) { return x.sum(); });
    add("sum_rows", t, [](const Tensor& x, const Tensor&) { return sum(x, {-1}); });
    add("sum_columns", t, [](const Tensor& x, const Tensor&) { return sum(x, {0}); });
    add("softmax", t, [](const Tensor& x, const Tensor&) { return softmax(x); });
    const DType other = t == DType::f32 ? DType::bf16 : DType::f32;
    add("cast", t, [=](const Tensor& x, const Tensor&) { return x.to(other); });
    // Images of 64 channels, 64 by 64.
    const auto add_image = [&](const std::string& name, auto make) {
      cases.push_back(
          {"memory/" + name + "/" + std::string(name_of(t)),
           [=] {
             const std::int64_t n = bytes / static_cast<std::int64_t>(size_of(t));
             return make(Form{MemoryFormat::channels_last, t}.random({n >> 18, 64, 64, 64}));
           },
           copied});
    };
    // Its cost counts x once; statistics and result take two passes over it.
    add_image("batch_norm", [](const Tensor& x) {
      Tensor mean = zeros({64}), var = ones({64});
      return [=]() mutable { return batch_norm(x, {}, {}, mean, var, true); };
    });
    add_image("batch_norm_eval", [](const Tensor& x) {
      Tensor mean = zeros({64}), var = ones({64});
      return [=]() mutable { return batch_norm(x, {}, {}, mean, var, false); };
    });
    add_image("max_pool", [](const Tensor& x) {
      return [=] { return max_pool2d(x, {.kernel = {2, 2}}); };
    });
    add_image("avg_pool", [](const Tensor& x) {
      return [=] { return avg_pool2d(x, {.kernel = {2, 2}}); };
    });
  }
  return cases;
}

// One update of all of E1's parameters.
void optimiser_step(benchmark::State& state, const char* kind) {
  const models::Model m = models::make_model("lenet");
  for (const Tensor& p : m.net.parameters()) Tensor(p).set_grad(rand(p.shape()));
  const auto run = [&](const optim::Optimizer& o) {
    DeviceTimer timer;
    for (auto _ : state) state.SetIterationTime(timer.seconds([&] { o.step(); }));
  };
  double streams;  // tensors of the parameters' size that are read or written
  if (kind == std::string("adam")) {
    run(optim::Adam(m.net.parameters(), {.lr = 1e-3}));
    streams = 7;
  } else {
    run(optim::SGD(m.net.parameters(), {.lr = 1e-2, .momentum = 0.9}));
    streams = 5;
  }
  state.counters["GB/s"] =
      benchmark::Counter(streams * 4e-9 * static_cast<double>(m.net.parameter_count()),
                         benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK_CAPTURE(optimiser_step, adam_e1, "adam")->UseManualTime();
BENCHMARK_CAPTURE(optimiser_step, sgd_momentum_e1, "sgd")->UseManualTime();

}  // namespace

int main(int argc, char** argv) {
  if (const char* n = std::getenv("TANDEM_THREADS")) tandem::set_num_threads(std::atoi(n));
  std::vector<Case> cases;
  return tandem::run_benchmarks(argc, argv, [&] {
    cases = all_cases();
    for (Case& c : memory_cases()) cases.push_back(std::move(c));
    for (const Case& c : cases) {
      benchmark::RegisterBenchmark(c.name.c_str(), [&c](benchmark::State& s) {
        run(s, c);
      })->UseManualTime();
    }
  });
}
