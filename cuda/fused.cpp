#include "cuda/fused.h"

#include <algorithm>
#include <cstring>

#include "core/workspace.h"
#include "cuda/fused_device.h"
#include "cuda/jit.h"
#include "cuda/loops.h"
#include "cuda/runtime.h"
#include "ops/elementwise.h"

namespace tandem::cuda {

RefPtr<Plan> plan_elementwise(const PlanRequest& r);

// ----------------------------------------------------------------------------------- the source

namespace {

const char* type_name(DType t) {
  constexpr const char* names[kNumDTypes] = {"float", "double",    "Half",          "BFloat16",
                                             "int",   "long long", "unsigned char", "bool"};
  return names[static_cast<int>(t)];
}

/// Whether core/functors.h has the op in a compute type.
bool has_functor(OpId op, DType compute) {
  const ElementwiseRule rule = elementwise_rule(op);
  if (compute == DType::boolean) return rule.bools && rule.types != TypeRule::floating;
  return rule.types != TypeRule::floating || is_floating(compute);
}

class Writer {
 public:
  Writer(const FusedProgram& p, std::span<const DType> inputs, const FusedLayout& l,
         FusedSource& out)
      : p_(p), inputs_(inputs), l_(l), out_(out) {
    used_.resize(inputs.size());
    for (const FusedStep& s : p.steps) {
      for (int o : s.operands) {
        if (o >= 0) used_[static_cast<std::size_t>(o)] = true;
      }
    }
  }

  void write(const std::string& entry) {
    // The steps come first: they say how many numbers there are.
    const std::string steps = write_steps();
    const std::size_t tensors = inputs_.size() + p_.outputs.size();
    const auto rank = static_cast<std::size_t>(l_.rank);
    if (out_.numbers.empty()) out_.numbers.push_back(0);
    out_.args_bytes =
        align_up(8 * tensors + 8 * out_.numbers.size() + 4 * (3 + 3 * rank + tensors * rank), 8);
    out_.text = fmt::format(
        "#include \"cuda/fused_device.h\"\n\n"
        "namespace tandem::cuda::{0}_ {{\n\n"
        "// {1}\n"
        "using Args = FusedArgs<{2}, {3}, {4}>;\n"
        "static_assert(sizeof(Args) == {5});\n\n{6}\n{7}\n"
        "}}  // namespace tandem::cuda::{0}_\n\n"
        "#ifdef __CUDACC__\n"
        "extern \"C\" __global__ void __launch_bounds__(tandem::cuda::kFusedThreads)\n"
        "{0}(const __grid_constant__ tandem::cuda::{0}_::Args a) {{\n"
        "  tandem::cuda::{0}_::run(a, blockIdx.x, threadIdx.x);\n"
        "}}\n"
        "#else\n"
        "extern \"C\" void {0}(const tandem::cuda::{0}_::Args& a, unsigned block, unsigned thread) "
        "{{\n"
        "  tandem::cuda::{0}_::run(a, block, thread);\n"
        "}}\n"
        "#endif\n",
        entry, shape_of_program(), tensors, l_.rank, out_.numbers.size(), out_.args_bytes, steps,
        write_run());
  }

 private:
  // The program without its numbers: kernels that differ in those only are one.
  std::string shape_of_program() const {
    std::string s;
    for (std::size_t i = 0; i < p_.steps.size(); ++i) {
      s += fmt::format("{}r{} = {}", i ? "; " : "", i, op_name(p_.steps[i]));
    }
    return s;
  }
  static const char* op_name(const FusedStep& s) {
    return all_ops()[static_cast<std::size_t>(s.op)]->name;
  }

  DType type_of(int operand) const {
    return operand >= 0 ? inputs_[static_cast<std::size_t>(operand)]
                        : p_.steps[static_cast<std::size_t>(~operand)].dtype;
  }
  static std::string name_of_operand(int o) {
    return o >= 0 ? fmt::format("i{}", o) : fmt::format("r{}", ~o);
  }
  /// Passed as an argument, not written into the source: a compiler that knows the number may
  /// compute with it in another way than the kernels of the separate ops.
  std::string number(const Scalar& s, DType t) {
    std::uint64_t bits = 0;
    visit_dtype(t, [&](auto tag) {
      const auto v = s.to<typename decltype(tag)::type>();
      std::memcpy(&bits, &v, sizeof v);
    });
    out_.numbers.push_back(bits);
    return fmt::format("a.number<{}>({})", type_name(t), out_.numbers.size() - 1);
  }
  static std::string converted(const std::string& x, DType from, DType to) {
    return from == to ? x : fmt::format("convert<{}>({})", type_name(to), x);
  }

  std::string write_step(std::size_t i) {
    const FusedStep& s = p_.steps[i];
    if (s.op == OpId::cast_ || s.op == OpId::copy_) {
      const int o = s.operands[0];
      return converted(name_of_operand(o), type_of(o), s.dtype);
    }
    const ElementwiseRule rule = elementwise_rule(s.op);
    DType types[3];
    for (std::size_t k = 0; k < s.operands.size(); ++k) types[k] = type_of(s.operands[k]);
    const StepTypes t = step_types(s, {types, s.operands.size()});
    if (!has_functor(s.op, t.compute)) {
      fail<TypeError>(op_name(s), "no CUDA kernel for this type", tandem::name_of(t.promoted));
    }
    std::vector<std::string> args;
    for (std::size_t k = 0; k < s.operands.size(); ++k) {
      const std::string x = name_of_operand(s.operands[k]);
      const bool condition = rule.types == TypeRule::select && k == 0;
      args.push_back(
          condition ? x : converted(converted(x, types[k], t.promoted), t.promoted, t.compute));
    }
    std::string params = fmt::format("static_cast<const {}*>(nullptr)", type_name(t.compute));
    if (t.scalar) {
      args.insert(s.reversed ? args.begin() : args.end(), number(s.params[0], t.compute));
    } else if (s.params[0].defined() || s.params[1].defined()) {
      const auto p = step_params(s, t.compute);
      steps_ += fmt::format("  const {} p{}[2] = {{{}, {}}};\n", type_name(t.compute), i,
                            number(p[0], t.compute), number(p[1], t.compute));
      params = fmt::format("p{}", i);
    }
    const DType result = rule.types == TypeRule::test ? DType::boolean : t.compute;
    return converted(fmt::format("functor::{}::apply<{}>({}, {})", op_name(s), type_name(t.compute),
                                 fmt::join(args, ", "), params),
                     result, s.dtype);
  }

  // One element: its inputs and outputs as they are stored.
  std::string write_steps() {
    for (std::size_t i = 0; i < p_.steps.size(); ++i) {
      const std::string value = write_step(i);
      steps_ += fmt::format("  const {} r{} = {};\n", type_name(p_.steps[i].dtype), i, value);
    }
    std::string head = "TANDEM_HD inline void steps([[maybe_unused]] const Args& a";
    for (std::size_t k = 0; k < inputs_.size(); ++k) {
      if (used_[k]) head += fmt::format(", {} i{}", type_name(inputs_[k]), k);
    }
    for (std::size_t k = 0; k < p_.outputs.size(); ++k) {
      head += fmt::format(", {}& o{}", type_name(output_type(k)), k);
      steps_ += fmt::format("  o{} = r{};\n", k, p_.outputs[k]);
    }
    return head + ") {\n" + steps_ + "}\n";
  }

  DType output_type(std::size_t k) const {
    return p_.steps[static_cast<std::size_t>(p_.outputs[k])].dtype;
  }
  bool is_same(std::size_t tensor) const { return l_.pack == 1 || l_.same[tensor]; }

  // All units of a thread are loaded before the first result is stored: many loads are in flight,
  // and an output may be an input's memory.
  std::string write_run() const {
    const std::size_t n = inputs_.size();
    const int w = l_.pack, u = l_.unroll;
    std::string s = fmt::format(
        "TANDEM_HD inline void run(const Args& a, unsigned block, unsigned thread) {{\n"
        "  unsigned unit[{0}], at[{0}][{1}];\n",
        u, n + p_.outputs.size());
    for (std::size_t k = 0; k < n; ++k) {
      if (!used_[k]) continue;
      s += is_same(k) ? fmt::format("  {} i{}[{}];\n", type_name(inputs_[k]), k, u)
                      : fmt::format("  Pack<{}, {}> i{}[{}];\n", type_name(inputs_[k]), w, k, u);
    }
    const std::string loop = fmt::format("  for (int u = 0; u < {}; ++u) {{\n", u);
    s += loop + fmt::format(
                    "    unit[u] = (block * {} + u) * kFusedThreads + thread;\n"
                    "    if (unit[u] < a.units) {{\n"
                    "      a.offsets(unit[u], at[u]);\n",
                    u);
    for (std::size_t k = 0; k < n; ++k) {
      if (!used_[k]) continue;
      const std::string p =
          fmt::format("a.tensor<const {}>({}) + at[u][{}]", type_name(inputs_[k]), k, k);
      s += is_same(k)
               ? fmt::format("      i{}[u] = *({});\n", k, p)
               : fmt::format("      i{}[u] = load_pack<{}>({}, a.left(unit[u], {}), a.aligned);\n",
                             k, w, p, w);
    }
    s += "    }\n  }\n" + loop + "    if (unit[u] < a.units) {\n";
    std::string call;
    for (std::size_t k = 0; k < n; ++k) {
      if (used_[k]) call += fmt::format(", i{}[u]{}", k, is_same(k) ? "" : ".v[j]");
    }
    for (std::size_t k = 0; k < p_.outputs.size(); ++k) {
      s += fmt::format("      Pack<{}, {}> o{};\n", type_name(output_type(k)), w, k);
      call += fmt::format(", o{}.v[j]", k);
    }
    s += fmt::format("      for (int j = 0; j < {}; ++j) steps(a{});\n", w, call);
    for (std::size_t k = 0; k < p_.outputs.size(); ++k) {
      s += fmt::format(
          "      store_pack(a.tensor<{}>({}) + at[u][{}], o{}, a.left(unit[u], {}), a.aligned);\n",
          type_name(output_type(k)), n + k, n + k, k, w);
    }
    return s + "    }\n  }\n}\n";
  }

  const FusedProgram& p_;
  std::span<const DType> inputs_;
  const FusedLayout& l_;
  FusedSource& out_;
  std::vector<bool> used_;
  std::string steps_;
};

}  // namespace

FusedSource fused_source(const FusedProgram& program, std::span<const DType> inputs,
                         const FusedLayout& layout, const std::string& entry) {
  FusedSource out;
  Writer(program, inputs, layout, out).write(entry);
  return out;
}

// ------------------------------------------------------------------------------------- the plans

namespace {

constexpr int kTensors = kMaxFusedInputs + kMaxFusedOutputs;
using FusedAxes = Axes<kTensors>;

// The widest pack that all tensors can be walked by: 16 bytes of the largest elements at most, of
// small ones no more than 8.
int pack_for(const FusedAxes& axes, std::span<const TensorDesc* const> tensors, int outputs) {
  std::size_t widest = 1;
  for (const TensorDesc* d : tensors) widest = std::max(widest, size_of(d->dtype));
  const int last = axes.rank() - 1, n = static_cast<int>(tensors.size());
  if (last < 0) return 1;
  for (int w = std::min(8, static_cast<int>(16 / widest)); w > 1; w /= 2) {
    bool fits = last == 0 || axes.size[last] % w == 0;
    for (int k = 0; fits && k < n; ++k) {
      const std::int64_t inner = axes.stride[k][last];
      fits = inner == 1 || (inner == 0 && k < n - outputs);
      for (int d = 0; fits && inner == 1 && d < last; ++d) fits = axes.stride[k][d] % w == 0;
    }
    if (fits) return w;
  }
  return 1;
}

// How many units a thread takes: a few 16-byte loads in flight, not too many registers, and enough
// blocks for all multiprocessors.
int unroll_for(const FusedLayout& l, int inputs, std::int64_t units, int device) {
  int packs = 0;
  for (int k = 0; k < inputs; ++k) packs += l.same[static_cast<std::size_t>(k)] ? 0 : 1;
  const int most = packs <= 1 ? 4 : packs == 2 ? 2 : 1;
  const std::int64_t busy = std::int64_t{device_info(device).multiprocessors} * 8 * kFusedThreads;
  return units >= busy * most ? most : 1;
}

class ArgsWriter {
 public:
  explicit ArgsWriter(std::size_t bytes) : words_(bytes / 8) {}
  void put(std::uint64_t v) { append(&v, 8); }
  void put(unsigned v) { append(&v, 4); }
  std::vector<std::uint64_t> take() { return std::move(words_); }

 private:
  void append(const void* p, std::size_t n) {
    std::memcpy(reinterpret_cast<char*>(words_.data()) + at_, p, n);
    at_ += n;
  }
  std::vector<std::uint64_t> words_;
  std::size_t at_ = 0;
};

struct FusedPlan final : Plan {
  struct Part {
    std::vector<std::uint64_t> args;   // FusedArgs, the addresses missing
    std::vector<std::int64_t> offset;  // of each tensor, in bytes
    unsigned blocks;
  };
  std::size_t inputs = 0, tensors = 0, aligned_at = 0;  // aligned_at: FusedArgs::aligned, in bytes
  std::vector<std::uintptr_t> alignment;                // of a pack, minus 1
  std::vector<Part> parts;
  const JitKernel* kernel = nullptr;

  void launch(const LaunchArgs& a) const override {
    for (const Part& part : parts) {
      std::uint64_t words[kMaxFusedWords];
      std::copy(part.args.begin(), part.args.end(), words);
      unsigned aligned = 1;
      for (std::size_t k = 0; k < tensors; ++k) {
        void* p = k < inputs ? a.in[k] : a.out[k - inputs];
        const auto at =
            reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(part.offset[k]);
        words[k] = at;
        if (at & alignment[k]) aligned = 0;  // a view may begin anywhere
      }
      std::memcpy(reinterpret_cast<char*>(words) + aligned_at, &aligned, sizeof aligned);
      kernel->launch(a, part.blocks, kFusedThreads, {words, part.args.size()});
    }
  }

  static constexpr std::size_t kMaxFusedWords =
      kTensors + 2 * kMaxFusedSteps + (3 + 3 * kMaxRank + kTensors * kMaxRank + 1) / 2;
};

/// Where no kernel can be compiled at run time: the separate ops, their results in the workspace.
RefPtr<Plan> plan_unfused(const PlanRequest& r, const FusedProgram& program) {
  struct Step {
    RefPtr<Plan> plan;
    std::vector<int> operands;
    std::size_t at, workspace_at;
  };
  std::size_t bytes = 0;
  std::vector<Step> steps;
  std::vector<TensorDesc> results;
  std::vector<std::pair<RefPtr<Plan>, int>> stores;
  for (const FusedStep& s : program.steps) {
    std::vector<TensorDesc> in;
    std::vector<const TensorDesc*> refs;
    for (int o : s.operands) {
      in.push_back(o >= 0 ? r.in[static_cast<std::size_t>(o)]
                          : results[static_cast<std::size_t>(~o)]);
    }
    Shape shape = in[0].shape;
    for (const TensorDesc& d : in) shape = broadcast_shapes(shape, d.shape, r.op.name);
    for (const TensorDesc& d : in) refs.push_back(&d);
    const TensorDesc out(s.dtype, r.out[0].device, shape, elementwise_strides(shape, refs));
    results.push_back(out);
    const OpDef& op = *all_ops()[static_cast<std::size_t>(s.op)];
    const auto make = [&](const auto& attrs) {
      return plan_elementwise({op, in, {&results.back(), 1}, &attrs, r.policy});
    };
    RefPtr<Plan> plan;
    switch (s.op) {
      case OpId::clamp_:
      case OpId::clamp_grad_: plan = make(ClampAttrs{s.params[0], s.params[1]}); break;
      case OpId::leaky_relu_:
      case OpId::leaky_relu_grad_: plan = make(LeakyReluAttrs{s.params[0].to_double()}); break;
      default: plan = make(BinaryAttrs{s.params[0], s.reversed});
    }
    const std::size_t at = reserve(bytes, out.bytes());
    steps.push_back({plan, s.operands, at, reserve(bytes, plan->workspace_bytes)});
  }
  // Only now may anything be written over the inputs.
  for (std::size_t i = 0; i < r.out.size(); ++i) {
    const int from = program.outputs[i];
    const CopyAttrs attrs;
    stores.emplace_back(plan_elementwise({op::copy,
                                          {&results[static_cast<std::size_t>(from)], 1},
                                          {&r.out[i], 1},
                                          &attrs,
                                          r.policy}),
                        from);
  }
  return make_plan(
      "cuda:unfused_elementwise",
      [steps, stores](const LaunchArgs& a) {
        char* base = static_cast<char*>(a.workspace);
        const auto result = [&](int i) { return base + steps[static_cast<std::size_t>(i)].at; };
        for (const Step& s : steps) {
          void* in[3] = {};
          for (std::size_t k = 0; k < s.operands.size(); ++k) {
            const int o = s.operands[k];
            in[k] = o >= 0 ? a.in[o] : result(~o);
          }
          void* out[1] = {base + s.at};
          s.plan->launch({in, out, base + s.workspace_at, a.stream});
        }
        for (std::size_t i = 0; i < stores.size(); ++i) {
          void* in[1] = {result(stores[i].second)};
          stores[i].first->launch({in, a.out + i, nullptr, a.stream});
        }
      },
      bytes);
}

}  // namespace

RefPtr<Plan> plan_fused_elementwise(const PlanRequest& r) {
  const FusedProgram program = FusedProgram::decode(r.attrs<FusedAttrs>().code);
  const std::int64_t count = r.out[0].numel();
  if (count == 0) return make_plan("cuda:fused_elementwise", [](const LaunchArgs&) {});
  if (jit_missing()) return plan_unfused(r, program);

  std::vector<const TensorDesc*> tensors;
  std::vector<DType> types;
  for (const TensorDesc& d : r.in) tensors.push_back(&d), types.push_back(d.dtype);
  for (const TensorDesc& d : r.out) tensors.push_back(&d);
  const int n = static_cast<int>(tensors.size()), outputs = static_cast<int>(r.out.size());
  // Loops follow the memory of the first output.
  const FusedAxes whole = axes_of<kTensors>(r.out[0], tensors);

  FusedLayout layout;
  layout.pack = pack_for(whole, tensors, outputs);
  const int device = r.out[0].device.index;
  for (int k = 0; k < n; ++k) {
    layout.same.push_back(layout.pack > 1 && whole.stride[k][whole.rank() - 1] == 0);
  }
  layout.unroll = unroll_for(layout, n - outputs, count / layout.pack, device);

  auto plan = make_ref<FusedPlan>();
  plan->name = "cuda:fused_elementwise";
  plan->inputs = r.in.size();
  plan->tensors = tensors.size();
  const auto pieces = pieces_of(whole);
  for (const auto& p : pieces) layout.rank = std::max(layout.rank, p.axes.rank());
  const FusedSource source = fused_source(program, types, layout, "tandem_fused");
  plan->aligned_at = 8 * (tensors.size() + source.numbers.size()) + 8;
  for (int k = 0; k < n; ++k) {
    const bool packs = !layout.same[static_cast<std::size_t>(k)];
    plan->alignment.push_back(packs ? size_of(tensors[static_cast<std::size_t>(k)]->dtype) *
                                              static_cast<std::size_t>(layout.pack) -
                                          1
                                    : 0);
  }
  for (const auto& p : pieces) {
    // In units; axes that are not there have one.
    const int rank = p.axes.rank(), lead = layout.rank - rank;
    const auto pack = static_cast<std::int64_t>(layout.pack);
    const std::int64_t units = (p.axes.count + pack - 1) / pack;
    ArgsWriter w(source.args_bytes);
    for (int k = 0; k < n; ++k) w.put(std::uint64_t{0});
    for (const std::uint64_t v : source.numbers) w.put(v);
    w.put(static_cast<unsigned>(units));
    w.put(static_cast<unsigned>(p.axes.count));
    w.put(0u);
    for (int d = 0; d < layout.rank; ++d) {
      const std::int64_t size = d < lead ? 1 : p.axes.size[d - lead];
      const Divisor by =
          divisor(static_cast<unsigned>(d == layout.rank - 1 ? (size + pack - 1) / pack : size));
      w.put(by.by), w.put(by.factor), w.put(by.shift);
    }
    FusedPlan::Part part;
    for (int k = 0; k < n; ++k) {
      for (int d = 0; d < layout.rank; ++d) {
        const std::int64_t s = d < lead ? 0 : p.axes.stride[k][d - lead];
        w.put(static_cast<unsigned>(d == layout.rank - 1 ? s * pack : s));
      }
      part.offset.push_back(p.base[k] * static_cast<std::int64_t>(
                                            size_of(tensors[static_cast<std::size_t>(k)]->dtype)));
    }
    part.args = w.take();
    const std::int64_t per_block = std::int64_t{kFusedThreads} * layout.unroll;
    part.blocks = static_cast<unsigned>((units + per_block - 1) / per_block);
    plan->parts.push_back(std::move(part));
  }
  plan->kernel = &jit_kernel(source.text, "tandem_fused", device);
  return plan;
}

}  // namespace tandem::cuda
