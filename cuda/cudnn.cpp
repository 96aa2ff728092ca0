#include "cuda/cudnn.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>

// Neither is used, and both take long to compile.
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#define NV_CUDNN_FRONTEND_DISABLE_LOGGING
#include <cudnn_frontend.h>

#include "cuda/cudnn_rules.h"
#include "cuda/elementwise.h"
#include "cuda/norm.h"
#include "cuda/runtime.h"
#include "cuda/search.h"
#include "cuda/table.h"
#include "ops/op_list.h"

namespace tandem::cuda {

namespace fe = cudnn_frontend;
using namespace cudnn;

namespace {

// ---------------------------------------------------------------------------------- errors

/// "conv2d f32[2, 3, 8, 8] cuda:0, f32[4, 3, 3, 3] cuda:0 -> f32[2, 4, 6, 6] cuda:0"
std::string text_of(const PlanRequest& r) {
  std::string s = r.op.name;
  const char* separator = " ";
  for (const TensorDesc& d : r.in) s += std::exchange(separator, ", ") + d.str();
  separator = " -> ";
  for (const TensorDesc& d : r.out) s += std::exchange(separator, ", ") + d.str();
  return s;
}

[[noreturn]] void failed(const char* call, std::string_view what, const std::string& got) {
  fail<DeviceError>("cudnn", fmt::format("{} ({}) failed", call, what), got);
}

void check(cudnnStatus_t s, const char* call, std::string_view what) {
  if (s == CUDNN_STATUS_SUCCESS) [[likely]]
    return;
  char more[512] = "";
  cudnnGetLastErrorString(more, sizeof more);
  failed(call, what, fmt::format("{} {}", cudnnGetErrorString(s), more));
}

void check(fe::error_t e, const char* call, std::string_view what) {
  if (e.is_good()) [[likely]]
    return;
  failed(call, what, fmt::format("error {}: {}", static_cast<int>(e.get_code()), e.get_message()));
}

// ---------------------------------------------------------------------------------- handles

/// Two threads must not use one handle at a time, so each has its own; those of threads that ended
/// go to others. They are never destroyed: at exit the driver may be gone before.
class Handles {
 public:
  ~Handles() {
    const std::lock_guard lock(spare().mutex);
    for (std::size_t d = 0; d < mine_.size(); ++d) {
      if (mine_[d]) spare().handles[d].push_back(mine_[d]);
    }
  }

  /// That of a device, which is current.
  cudnnHandle_t of(int device) {
    cudnnHandle_t& h = mine_[static_cast<std::size_t>(device)];
    if (!h) [[unlikely]]
      h = get(device);
    return h;
  }

 private:
  struct Spare {
    std::mutex mutex;
    std::array<std::vector<cudnnHandle_t>, kMaxDevices> handles;
  };
  static Spare& spare() {
    static auto* const s = new Spare;
    return *s;
  }
  static cudnnHandle_t get(int device) {
    {
      const std::lock_guard lock(spare().mutex);
      auto& some = spare().handles[static_cast<std::size_t>(device)];
      if (!some.empty()) {
        cudnnHandle_t h = some.back();
        some.pop_back();
        return h;
      }
    }
    const RelaxedCapture relaxed;
    cudnnHandle_t h = nullptr;
    check(cudnnCreate(&h), "cudnnCreate", cudnn_version());
    return h;
  }

  std::array<cudnnHandle_t, kMaxDevices> mine_{};
};

thread_local Handles handles;

cudnnHandle_t handle_for(const CudaStream& stream) {
  cudnnHandle_t h = handles.of(stream.device());
  cudaStream_t now = nullptr;
  check(cudnnGetStream(h, &now), "cudnnGetStream", "a launch");
  if (now != stream.handle()) {
    check(cudnnSetStream(h, stream.handle()), "cudnnSetStream", "a launch");
  }
  return h;
}

/// kZeroBytes of zeros on a device.
void* zeros(int device) {
  static std::array<std::once_flag, kMaxDevices> once;
  static std::array<void*, kMaxDevices> memory;
  const auto d = static_cast<std::size_t>(device);
  std::call_once(once[d], [&] {
    const RelaxedCapture relaxed;
    const DeviceScope scope(device);
    CudaStream stream(device);
    void* p = nullptr;
    tandem::cuda::check(cudaMalloc(&p, kZeroBytes), "cudaMalloc", "zeros for cuDNN");
    tandem::cuda::check(cudaMemsetAsync(p, 0, kZeroBytes, stream.handle()), "cudaMemsetAsync");
    tandem::cuda::check(cudaStreamSynchronize(stream.handle()), "cudaStreamSynchronize");
    memory[d] = p;
  });
  return memory[d];
}

// ---------------------------------------------------------------------------------- graphs

using Value = std::shared_ptr<fe::graph::Tensor_attributes>;

fe::DataType_t type_of(DType t) {
  switch (t) {
    case DType::f16: return fe::DataType_t::HALF;
    case DType::bf16: return fe::DataType_t::BFLOAT16;
    default: return fe::DataType_t::FLOAT;
  }
}

/// A graph of operations, and the engines found for it. Operand i has the uid i + 1.
class Graph : public fe::graph::Graph {
 public:
  explicit Graph(const std::vector<Operand>& operands) : operands_(operands) {
    // What no operand's type fixes is f32.
    set_io_data_type(fe::DataType_t::FLOAT);
    set_intermediate_data_type(fe::DataType_t::FLOAT);
    set_compute_data_type(fe::DataType_t::FLOAT);
  }

  Value input(int i) { return tensor(describe(fe::graph::Tensor_attributes(), i)); }
  void result(const Value& t, int i) { describe(*t, i).set_output(true); }
  /// t + operand `other`, and the ReLU of t, where t is what operand i, a result, is made of.
  Value add(const Value& t, int other, int i) {
    between(t, i);
    return pointwise(t, input(other), mode(fe::PointwiseMode_t::ADD));
  }
  Value relu(const Value& t, int i) {
    between(t, i);
    return pointwise(t, mode(fe::PointwiseMode_t::RELU_FWD));
  }
  /// relu(x scale + shift) of operands x, `scale` and the one after that, of x's type.
  Value scaled_relu(int x, int scale) {
    Value t = pointwise(input(x), input(scale), mode(fe::PointwiseMode_t::MUL));
    t = relu(add(t, scale + 1, x), x);
    describe_type(t, x);
    return t;
  }
  /// The gradient t, laid out as operand i, behind a ReLU whose result operand `y` is.
  Value relu_grad(const Value& t, int y, int i) {
    Value g = pointwise(t, input(y), mode(fe::PointwiseMode_t::RELU_BWD));
    between(g, i);
    return g;
  }

  std::size_t engines() const { return plans.execution_plans.size(); }
  std::uint32_t notes(std::size_t i) const {
    std::uint32_t bits = 0;
    for (const auto n : plans.numeric_notes[i]) {
      switch (n) {
        case fe::NumericalNote_t::TENSOR_CORE: bits |= kTensorCores; break;
        case fe::NumericalNote_t::DOWN_CONVERT_INPUTS: bits |= kRoundsInputs; break;
        case fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION: bits |= kRoundsSums; break;
        case fe::NumericalNote_t::NONDETERMINISTIC: bits |= kNondeterministic; break;
        case fe::NumericalNote_t::WINOGRAD_TILE_6x6:
        case fe::NumericalNote_t::WINOGRAD_TILE_13x13: bits |= kCoarseWinograd; break;
        default: break;
      }
    }
    for (const auto n : plans.behavior_notes[i]) {
      if (n == fe::BehaviorNote_t::RUNTIME_COMPILATION) bits |= kCompiled;
    }
    return bits;
  }
  std::string engine(std::size_t i) const {
    std::string name;
    return get_plan_name_at_index(static_cast<std::int64_t>(i), name).is_good() ? name : "engine";
  }
  /// Makes an engine ready: the workspace it needs; -1 if it cannot be made.
  std::int64_t make_ready(std::size_t i) {
    const auto at = static_cast<std::int64_t>(i);
    std::int64_t bytes = 0;
    if (build_plan_at_index(at).is_bad()) return -1;
    return get_workspace_size_plan_at_index(at, bytes).is_good() ? bytes : -1;
  }
  /// Lets go of all other engines: a list of them takes a megabyte. This one becomes the first.
  void keep_only(std::size_t i) {
    // "Barred" is what cudnn-frontend calls those that are not; nothing here bars any.
    const fe::EngineConfigList all = plans.get_barred_engine_configs();
    if (all.size() != engines()) fail<InternalError>("cudnn", "engines were barred");
    fe::graph::Execution_plan_list one;
    one.set_tag(get_operation_graph()->getTag());
    one.enqueue_engine_configs({all[i]});
    check(one.query_properties(), "query_properties", engine(i));
    one.execution_plans[0] = plans.execution_plans[i];
    one.candidate = 0;
    plans = std::move(one);
  }

 private:
  /// Between two operations: laid out as operand i.
  void between(const Value& t, int i) {
    const TensorDesc& d = at(i);
    t->set_dim(d.shape.vec()).set_stride(d.strides.vec());
  }
  /// As operand i is stored.
  void describe_type(const Value& t, int i) { t->set_data_type(type_of(at(i).dtype)); }
  static fe::graph::Pointwise_attributes mode(fe::PointwiseMode_t m) {
    return fe::graph::Pointwise_attributes().set_mode(m);
  }
  const TensorDesc& at(int i) const { return operands_[static_cast<std::size_t>(i)].packed; }
  fe::graph::Tensor_attributes& describe(fe::graph::Tensor_attributes&& t, int i) {
    return describe(t, i);
  }
  fe::graph::Tensor_attributes& describe(fe::graph::Tensor_attributes& t, int i) {
    const TensorDesc& d = at(i);
    return t.set_uid(i + 1)
        .set_dim(d.shape.vec())
        .set_stride(d.strides.vec())
        .set_data_type(type_of(d.dtype))
        .set_alignment(kPointerAlignment);
  }

  const std::vector<Operand>& operands_;
};

template <class Attributes>
Attributes window(const ConvCase& c) {
  Attributes a;
  a.set_stride(c.stride.vec()).set_padding(c.padding.vec()).set_dilation(c.dilation.vec());
  return a;
}

void build(Graph& g, const ConvCase& c) {
  const Value a = c.scale >= 0 ? g.scaled_relu(0, c.scale) : g.input(0), b = g.input(1);
  Value t;
  switch (c.pass) {
    case ConvPass::forward:
      t = g.conv_fprop(a, b, window<fe::graph::Conv_fprop_attributes>(c));
      break;
    case ConvPass::grad_input:
      t = g.conv_dgrad(a, b, window<fe::graph::Conv_dgrad_attributes>(c));
      break;
    case ConvPass::grad_weight:
      t = g.conv_wgrad(b, a, window<fe::graph::Conv_wgrad_attributes>(c));
      break;
  }
  if (c.bias >= 0) t = g.add(t, c.bias, 2);
  if (c.relu) t = g.relu(t, 2);
  if (c.sums >= 0) {
    const auto sums = g.genstats(t, fe::graph::Genstats_attributes());
    for (int i = 0; i < 2; ++i) g.result(sums[static_cast<std::size_t>(i)], c.sums + i);
  }
  g.result(t, 2);
}

void build(Graph& g, const NormCase& c) {
  if (c.grad) {
    const Value x = g.input(1), w = g.input(2);
    Value gy = g.input(0);
    if (c.relu) gy = g.relu_grad(gy, 8, 5);
    if (c.residual >= 0) g.result(gy, c.residual);
    const auto results = g.batchnorm_backward(
        gy, x, w,
        fe::graph::Batchnorm_backward_attributes().set_saved_mean_and_inv_variance(g.input(3),
                                                                                   g.input(4)));
    for (int i = 0; i < 3; ++i) g.result(results[static_cast<std::size_t>(i)], 5 + i);
    return;
  }
  const Value x = g.input(0), w = g.input(1), b = g.input(2);
  const auto number = [&](float v) { return g.tensor(v, fe::graph::ScalarType::RUNTIME_PARAM); };
  Value eps = number(c.eps);
  fe::graph::Batchnorm_attributes attributes;
  attributes.set_epsilon(eps);
  if (c.running) {
    Value mean = g.input(6), var = g.input(7), momentum = number(c.momentum);
    attributes.set_previous_running_stats(mean, var, momentum);
  }
  auto results = g.batchnorm(x, w, b, attributes);
  if (c.residual >= 0) results[0] = g.add(results[0], c.residual, 3);
  if (c.relu) results[0] = g.relu(results[0], 3);
  for (int i = 0; i < 3; ++i) g.result(results[static_cast<std::size_t>(i)], 3 + i);
  if (c.running) {
    for (int i = 3; i < 5; ++i) g.result(results[static_cast<std::size_t>(i)], 5 + i);
  }
}

/// Asks the heuristics for engines: those they think best first, then those that always work.
void find_engines(Graph& g) {
  for (const auto mode : {fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}) {
    // That one list is empty is no error: the other may not be.
    (void)g.create_execution_plans({mode});
  }
}

// ---------------------------------------------------------------------------------- plans

class CudnnPlan final : public Plan {
 public:
  void launch(const LaunchArgs& a) const override {
    CudaStream& stream = stream_of(a);
    std::array<void*, kMost> p;
    std::uintptr_t low_bits = 0;
    for (std::size_t i = 0; i < bound.size(); ++i) {
      p[i] = address(bound[i], a);
      low_bits |= reinterpret_cast<std::uintptr_t>(p[i]);
    }
    if (low_bits % kPointerAlignment != 0) [[unlikely]] {
      return own->launch(a);
    }
    for (std::size_t i = 0; i < bound.size(); ++i) {
      const Bound& b = bound[i];
      if (b.copied && b.from == Operand::From::input) b.copy.run(a, p[i], a.in[b.index]);
    }
    if (factors) {
      factors->launch({a.in + factors_in, &p[factors_out], nullptr, a.stream});
    }
    cudnnHandle_t handle = handle_for(stream);
    {
      // Not all engines can be launched by two threads at once.
      const std::lock_guard lock(mutex);
      check(graph->execute_plan_at_index(handle, p.data(), static_cast<int>(bound.size()),
                                         static_cast<char*>(a.workspace) + workspace_at, engine),
            "cudnnBackendExecute", what);
    }
    for (std::size_t i = 0; i < bound.size(); ++i) {
      const Bound& b = bound[i];
      if (b.copied && b.from == Operand::From::output) b.copy.run(a, a.out[b.index], p[i]);
    }
  }

  static constexpr std::size_t kMost = 11;
  struct Bound {
    Operand::From from;
    int index;
    bool copied;
    std::size_t at;  // in the workspace
    StridedCopy copy;
  };
  std::vector<Operand> operands;
  std::vector<Bound> bound;
  std::unique_ptr<Graph> graph;
  std::int64_t engine = -1;
  std::size_t workspace_at = 0;
  void* zero = nullptr;
  /// Makes operands `factors_out` and the next from the inputs that begin at `factors_in`.
  RefPtr<Plan> factors;
  std::size_t factors_in = 0, factors_out = 0;
  /// For tensors that begin at an odd place.
  RefPtr<Plan> own;
  std::string what;
  mutable std::mutex mutex;

 private:
  void* address(const Bound& b, const LaunchArgs& a) const {
    if (b.copied) return static_cast<char*>(a.workspace) + b.at;
    switch (b.from) {
      case Operand::From::input: return a.in[b.index];
      case Operand::From::output: return a.out[b.index];
      case Operand::From::zeros: break;
      case Operand::From::workspace: break;  // as if copied
    }
    return zero;
  }
};

struct Candidate {
  std::size_t engine, workspace;
};

/// Engines that may be taken, `most` of them, the best first. One that needs too much memory only
/// if there is no other.
std::vector<Candidate> candidates(Graph& g, std::size_t most, std::size_t limit,
                                  const auto& allowed) {
  std::vector<Candidate> found, large;
  for (std::size_t i = 0; i < g.engines() && found.size() < most; ++i) {
    if (!allowed(g.notes(i))) continue;
    const std::int64_t bytes = g.make_ready(i);
    if (bytes < 0) continue;
    const Candidate c{i, static_cast<std::size_t>(bytes)};
    (c.workspace <= limit ? found : large).push_back(c);
  }
  if (!found.empty() || large.empty()) return found;
  return {*std::min_element(large.begin(), large.end(), [](const Candidate& a, const Candidate& b) {
    return a.workspace < b.workspace;
  })};
}

/// Null if cuDNN has no engine for it that may be taken.
template <class Case>
RefPtr<Plan> plan_case(const PlanRequest& r, const Case& c) {
  std::size_t search = r.policy.search;
  const int device = r.in[0].device.index;
  const DeviceScope scope(device);
  CudaStream& stream = current_stream(device);
  constexpr bool norm = std::is_same_v<Case, NormCase>;
  const bool wanted = search > 0;
  // Recorded, the candidates would only become part of the graph.
  if (stream.capturing) search = 0;
  // All engines for normalisation are compiled.
  const bool may_compile = norm || search > 0;
  auto plan = make_ref<CudnnPlan>();
  plan->what = text_of(r);
  plan->operands = c.operands;
  plan->graph = std::make_unique<Graph>(plan->operands);
  Graph& g = *plan->graph;
  std::size_t operand_bytes = 0;
  for (const Operand& o : plan->operands) operand_bytes += o.packed.bytes();
  std::vector<Candidate> all;
  {
    const RelaxedCapture relaxed;
    build(g, c);
    if (g.validate().is_bad() || g.build_operation_graph(handle_for(stream)).is_bad()) return {};
    find_engines(g);
    all = candidates(
        g, std::max<std::size_t>(search, 1), workspace_limit(operand_bytes),
        [&](std::uint32_t notes) { return engine_allowed(notes, c.dtype, r.policy, may_compile); });
    if (all.empty()) return {};
    check(g.prepare_variant_pack_template(), "prepare_variant_pack_template", plan->what);
  }

  for (const Operand& o : plan->operands) {
    CudnnPlan::Bound b{o.from, o.index, o.copied, 0, {}};
    if (o.copied) {
      b.at = reserve(plan->workspace_at, o.packed.bytes());
      if (o.from == Operand::From::input) b.copy = StridedCopy(o.packed, o.desc);
      if (o.from == Operand::From::output) b.copy = StridedCopy(o.desc, o.packed);
    }
    if (o.from == Operand::From::zeros) plan->zero = zeros(device);
    plan->bound.push_back(std::move(b));
  }
  if constexpr (std::is_same_v<Case, ConvCase>) {
    if (c.scale >= 0) {
      const auto& a = r.attrs<ConvAttrs>();
      plan->factors_in = a.norm_at(r.in.size());
      plan->factors_out = static_cast<std::size_t>(c.scale);
      plan->factors = plan_norm_factors(c.dtype, r.in.subspan(plan->factors_in), a.eps);
    }
  }
  Policy policy = r.policy;
  policy.vendor = false;
  plan->own = kernel(r.op.id)({r.op, r.in, r.out, r.attr_data, policy});
  const auto workspace = [&](std::size_t engine) {
    return std::max(plan->workspace_at + engine, plan->own->workspace_bytes);
  };

  // Where a search is wanted but cannot be had, a convolution takes what cuDNN's heuristics think
  // best, and a batch norm our kernel.
  std::size_t chosen = norm && wanted ? all.size() : 0;
  if (search > 0) {
    for (const Candidate& one : all) {
      plan->workspace_bytes = std::max(plan->workspace_bytes, workspace(one.workspace));
    }
    std::vector<bool> broken(all.size());
    const auto run = [&](std::size_t way, const LaunchArgs& args) {
      if (way < all.size() && !broken[way]) {
        plan->engine = static_cast<std::int64_t>(all[way].engine);
        try {
          return plan->launch(args);
        } catch (const DeviceError&) {
          broken[way] = true;
        }
      }
      plan->own->launch(args);
    };
    try {
      chosen = fastest(r, stream, all.size() + 1, plan->workspace_bytes, run);
    } catch (const OutOfMemoryError&) {
    }
    if (chosen < all.size() && broken[chosen]) return plan->own;
  }
  if (chosen == all.size()) return plan->own;
  g.keep_only(all[chosen].engine);
  plan->engine = 0;
  plan->workspace_bytes = workspace(all[chosen].workspace);
  plan->name = "cudnn:" + g.engine(0);
  // With an epilogue other engines are asked, which do not round in between and may lose a NaN.
  plan->epilogue = Exactness::approximate;
  return plan;
}

std::optional<ConvPass> conv_pass(const PlanRequest& r) {
  if (r.op.id == id_of(OpId::conv2d_)) return ConvPass::forward;
  if (r.op.id == id_of(OpId::conv2d_grad_input_)) return ConvPass::grad_input;
  if (r.op.id == id_of(OpId::conv2d_grad_weight_)) return ConvPass::grad_weight;
  return {};
}

/// Calls f with the call's ConvCase or NormCase, if it is for cuDNN; with two, if it can be said in
/// two ways. Ends when f says so.
template <class F>
void with_case(const PlanRequest& r, F f) {
  if (const auto pass = conv_pass(r)) {
    for (const bool spare_sums : {false, true}) {
      const auto c = conv_case(r, *pass, spare_sums);
      if (c && f(*c)) return;
    }
  } else if (r.op.id == id_of(OpId::batch_norm_train_) ||
             r.op.id == id_of(OpId::batch_norm_grad_)) {
    if (const auto c = norm_case(r, r.op.id == id_of(OpId::batch_norm_grad_))) f(*c);
  }
}

}  // namespace

std::string cudnn_version() {
  const std::size_t v = cudnnGetVersion();
  return fmt::format("cuDNN {}.{}.{}", v / 10000, v / 100 % 100, v % 100);
}

RefPtr<Plan> cudnn_plan(const PlanRequest& r) {
  RefPtr<Plan> plan;
  with_case(r, [&]<class Case>(const Case& c) {
    plan = plan_case(r, c);
    return plan.get() != nullptr;
  });
  return plan;
}

std::vector<CudnnEngine> cudnn_engines(const PlanRequest& r, const CudnnDevice& device) {
  // As cuDNN itself writes down a device. What is the same for all is taken from Hopper.
  const std::string json = fmt::format(
      R"({{"cudaDeviceId":0,"deviceName":"","deviceVer":{},"driverVer":13000,"isTccDriver":0,)"
      R"("l2CacheSize":{},"maxBlockSize":[1024,1024,64],"maxCtasPerSM":32,)"
      R"("maxGridSize":[2147483647,65535,65535],"maxRegistersPerSM":65536,)"
      R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":{},)"
      R"("maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"memClockRateKHz":2619000,)"
      R"("multiProcessorCount":{},"pciDeviceId":0,"regsPerBlock":65536,)"
      R"("reservedSharedMemoryPerBlock":1024,"smClockRateKHz":1980000,"supportCoopLaunch":1,)"
      R"("totalGlobalMem":{},"warpSize":32}})",
      device.major * 100 + device.minor * 10, device.l2, device.shared_per_block,
      device.multiprocessors, device.memory);
  const std::string what = text_of(r);
  const auto properties = std::make_shared<fe::DeviceProperties>();
  check(properties->deserialize({json.begin(), json.end()}), "deserialize", what);
  std::vector<CudnnEngine> engines;
  with_case(r, [&]<class Case>(const Case& c) {
    Graph g(c.operands);
    build(g, c);
    g.set_device_properties(properties);
    check(g.validate(), "validate", what);
    check(g.build_operation_graph(), "build_operation_graph", what);
    find_engines(g);
    for (std::size_t i = 0; i < g.engines(); ++i) {
      const std::uint32_t notes = g.notes(i);
      const bool allowed = engine_allowed(notes, c.dtype, r.policy, std::is_same_v<Case, NormCase>);
      engines.push_back({g.engine(i), notes, allowed, allowed ? g.make_ready(i) : -1});
    }
    return !engines.empty();
  });
  return engines;
}

}  // namespace tandem::cuda
