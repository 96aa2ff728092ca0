#include "cpu/elementwise.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "core/parallel.h"
#include "cpu/strided_tiles.h"
#include "ops/elementwise.h"

namespace tandem::cpu {

namespace {

// A scalar parameter or operand in the compute type, in the first bytes.
struct alignas(16) Constant {
  std::byte bytes[16] = {};
};

template <std::size_t N>
Constant constants(const std::array<Scalar, N>& s, DType t) {
  static_assert(N <= 2);
  Constant c;
  visit_dtype(t, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (std::size_t i = 0; i < N; ++i) {
      const T v = s[i].template to<T>();
      std::memcpy(c.bytes + i * sizeof(T), &v, sizeof(T));
    }
  });
  return c;
}

enum class InstrKind : std::uint8_t { compute, gather, scatter };

// One entry of the program. `src` and `dst` index the table of addresses a tile has.
struct Instr {
  InstrKind kind = InstrKind::compute;
  std::uint8_t arity = 1;
  std::uint8_t splat = 0;  // operands that are one element
  bool once = false;       // all of them are: compute one element, which is a splat again
  TileFn fn = nullptr;
  int src[3] = {};
  int dst = 0;
  Constant params;
};

// ----------------------------------------------------------------------------------- the plans

// The common case, kept free of anything else: one step, operands in the order of the output.
struct DirectPlan final : Plan {
  TileFn fn;
  unsigned splat = 0;
  int arity = 0;
  int arg[3] = {-1, -1, -1};  // index of the input, or -1: the constant
  bool dst_is_output = true;
  int dst = 0;
  std::int64_t n = 0;
  std::size_t step[3] = {}, dst_step = 0;  // bytes per element; 0 for a splat
  Constant constant, params;

  void launch(const LaunchArgs& a) const override {
    const void* in[3];
    for (int i = 0; i < arity; ++i) {
      in[i] = arg[i] >= 0 ? a.in[arg[i]] : static_cast<const void*>(&constant);
    }
    void* out = dst_is_output ? a.out[dst] : a.in[dst];
    if (n <= kElementwiseGrain) {
      fn(in, splat, out, n, &params);
      return;
    }
    parallel_for(n, kElementwiseGrain, [&](std::int64_t b, std::int64_t e) {
      const void* from[3];
      for (int i = 0; i < arity; ++i) {
        from[i] = static_cast<const char*>(in[i]) + static_cast<std::size_t>(b) * step[i];
      }
      fn(from, splat, static_cast<char*>(out) + static_cast<std::size_t>(b) * dst_step, e - b,
         &params);
    });
  }
};

constexpr std::size_t kArenaBytes = 24 * 1024;  // of the 32 KiB or more that L1 has
constexpr int kMaxAddresses = 256;

struct TiledPlan final : Plan {
  LoopNest nest;
  std::vector<TensorArg> args;          // addresses 0 … args.size()
  std::vector<StridedAccess> accesses;  // of args
  std::vector<Constant> constant;       // addresses after those
  int slots = 0;                        // addresses after those
  std::size_t slot_bytes = 0;
  std::int64_t tile = 0;
  std::vector<Instr> instrs;

  void launch(const LaunchArgs& a) const override {
    parallel_for(nest.units(), nest.grain(), [&](std::int64_t b, std::int64_t e) { run(a, b, e); });
  }

  void run(const LaunchArgs& a, std::int64_t begin, std::int64_t end) const {
    alignas(64) std::byte arena[kArenaBytes];
    char* base[kMaxFusedInputs + kMaxFusedOutputs];
    void* at[kMaxAddresses];
    const int n_args = static_cast<int>(args.size());
    for (int i = 0; i < n_args; ++i) {
      const TensorArg& t = args[static_cast<std::size_t>(i)];
      base[i] = static_cast<char*>(t.from_outputs ? a.out[t.index] : a.in[t.index]);
    }
    int next = n_args;
    for (const Constant& c : constant) at[next++] = const_cast<std::byte*>(c.bytes);
    for (int i = 0; i < slots; ++i) at[next++] = arena + static_cast<std::size_t>(i) * slot_bytes;

    Cursor cursor(nest, begin);
    while (cursor.unit < end) {
      const std::int64_t n = cursor.tile(nest, tile, end);
      for (int i = 0; i < n_args; ++i) {
        at[i] = base[i] + accesses[static_cast<std::size_t>(i)].offset(nest, cursor);
      }
      for (const Instr& k : instrs) {
        switch (k.kind) {
          case InstrKind::compute: {
            const void* in[3] = {at[k.src[0]], at[k.src[1]], at[k.src[2]]};
            k.fn(in, k.splat, at[k.dst], k.once ? 1 : n, &k.params);
            break;
          }
          case InstrKind::gather:
            gather(nest, accesses[static_cast<std::size_t>(k.src[0])], cursor, n, base[k.src[0]],
                   at[k.dst]);
            break;
          case InstrKind::scatter:
            scatter(nest, accesses[static_cast<std::size_t>(k.dst)], cursor, n, at[k.src[0]],
                    base[k.dst]);
            break;
        }
      }
      cursor.advance(nest, n);
    }
  }
};

// --------------------------------------------------------------------------------- the compiler

// Turns a spec into instructions over virtual registers, then gives the registers addresses.
class Compiler {
 public:
  explicit Compiler(const ElementwiseSpec& spec) : spec_(spec) {
    for (const TensorArg& t : spec.inputs) args_.push_back(t);
    for (const auto& o : spec.outputs) args_.push_back(o.to);
    // Loops follow the memory of the first output.
    std::vector<const TensorDesc*> order{&spec.outputs[0].to.desc};
    for (const TensorArg& t : args_) order.push_back(&t.desc);
    nest_ = LoopNest(order[0]->shape, {order.data(), order.size()});
    for (const TensorArg& t : args_) {
      accesses_.emplace_back(nest_, order[0]->shape, t.desc);
    }
    nest_.choose_tiling(accesses_);
    for (StridedAccess& a : accesses_) a.choose(nest_);
  }

  RefPtr<Plan> build() {
    for (const FusedStep& s : spec_.steps) results_.push_back(step(s));
    const std::size_t last_read = last_memory_read();
    for (std::size_t i = 0; i < spec_.outputs.size(); ++i) store(i, last_read);
    if (RefPtr<Plan> direct = build_direct()) return direct;
    return build_tiled();
  }

 private:
  enum class RegKind : std::uint8_t { memory, constant, temp };
  struct Reg {
    RegKind kind;
    DType dtype;
    bool splat;
    int index;  // of args_, constants_, or (after assign_slots) the slot
  };

  int new_reg(RegKind kind, DType t, bool splat, int index) {
    regs_.push_back({kind, t, splat, index});
    return static_cast<int>(regs_.size()) - 1;
  }
  Reg& reg(int r) { return regs_[static_cast<std::size_t>(r)]; }
  StridedAccess& access(int arg) { return accesses_[static_cast<std::size_t>(arg)]; }

  int input(int k) {
    if (auto it = inputs_.find(k); it != inputs_.end()) return it->second;
    const DType t = args_[static_cast<std::size_t>(k)].desc.dtype;
    int r = new_reg(RegKind::memory, t, access(k).is_splat(), k);
    if (access(k).mode == AccessMode::strided) {
      const int buffer = new_reg(RegKind::temp, t, false, 0);
      Instr g;
      g.kind = InstrKind::gather;
      emit(g, {r}, buffer);
      r = buffer;
    }
    inputs_[k] = r;
    return r;
  }
  int value(int operand) {
    return operand >= 0 ? input(operand) : results_[static_cast<std::size_t>(~operand)];
  }
  DType type_of(int operand) const {
    return operand >= 0 ? spec_.inputs[static_cast<std::size_t>(operand)].desc.dtype
                        : spec_.steps[static_cast<std::size_t>(~operand)].dtype;
  }

  int constant(const Constant& c, DType t) {
    constants_.push_back(c);
    return new_reg(RegKind::constant, t, true, static_cast<int>(constants_.size()) - 1);
  }

  void emit(Instr k, std::initializer_list<int> src, int dst) {
    int i = 0;
    for (int s : src) k.src[i++] = s;
    k.arity = static_cast<std::uint8_t>(i);
    for (; i < 3; ++i) k.src[i] = k.src[0];
    k.dst = dst;
    instrs_.push_back(k);
  }

  int run_unary(TileFn fn, int src, DType t) {
    Instr k;
    k.fn = fn;
    k.once = reg(src).splat;
    const int dst = new_reg(RegKind::temp, t, k.once, 0);
    emit(k, {src}, dst);
    return dst;
  }

  int convert(int r, DType t) {
    if (reg(r).dtype == t) return r;
    const auto key = std::pair(r, t);
    if (auto it = converted_.find(key); it != converted_.end()) return it->second;
    return converted_[key] = run_unary(convert_tile(reg(r).dtype, t), r, t);
  }

  int spread(int r) {
    if (!reg(r).splat) return r;
    Instr k;
    k.fn = fill_tile(size_of(reg(r).dtype));
    const int dst = new_reg(RegKind::temp, reg(r).dtype, false, 0);
    emit(k, {r}, dst);
    return dst;
  }

  int step(const FusedStep& s) {
    if (s.op == OpId::full_) {  // a constant; what `fill` and `full` are made of
      return constant(constants(std::array{s.params[0]}, s.dtype), s.dtype);
    }
    if (s.op == OpId::cast_ || s.op == OpId::copy_) {
      const int from = value(s.operands[0]);
      const int r = convert(from, s.dtype);
      // With several outputs, one may be written over this input before it is stored to another.
      const bool early = r == from && reg(r).kind == RegKind::memory && spec_.outputs.size() > 1;
      return early ? run_unary(convert_tile(s.dtype, s.dtype), r, s.dtype) : r;
    }

    const ElementwiseRule rule = elementwise_rule(s.op);
    DType types[3];
    for (std::size_t i = 0; i < s.operands.size(); ++i) types[i] = type_of(s.operands[i]);
    const StepTypes t = step_types(s, {types, s.operands.size()});

    Instr k;
    k.fn = op_tile(s.op, t.compute);
    if (!k.fn) {
      fail<TypeError>(all_ops()[static_cast<std::size_t>(s.op)]->name,
                      "no CPU kernel for this type", name_of(t.promoted));
    }
    int src[3];
    int n = 0;
    for (int o : s.operands) {
      const bool condition = rule.types == TypeRule::select && n == 0;
      src[n++] = condition ? value(o) : convert(convert(value(o), t.promoted), t.compute);
    }
    if (t.scalar) {
      src[n++] = constant(constants(std::array{s.params[0]}, t.compute), t.compute);
      if (s.reversed) std::swap(src[0], src[1]);
    } else {
      k.params = constants(step_params(s, t.compute), t.compute);
    }
    unsigned splat = 0;
    for (int i = 0; i < n; ++i) splat |= static_cast<unsigned>(reg(src[i]).splat) << i;
    k.once = splat == (1u << n) - 1;
    if (k.once) splat = 0;
    // What the tile function cannot take as one element is spread out for it.
    for (int i = 0; i < n && !(splat_support(n) >> splat & 1); ++i) {
      if (splat >> i & 1) {
        src[i] = spread(src[i]);
        splat &= ~(1u << i);
      }
    }
    k.splat = static_cast<std::uint8_t>(splat);
    const DType result = rule.types == TypeRule::test ? DType::boolean : t.compute;
    const int dst = new_reg(RegKind::temp, result, k.once, 0);
    if (n == 1) emit(k, {src[0]}, dst);
    if (n == 2) emit(k, {src[0], src[1]}, dst);
    if (n == 3) emit(k, {src[0], src[1], src[2]}, dst);
    return convert(dst, s.dtype);
  }

  // An output may have the memory of an input (in-place use), so nothing may be written before the
  // last input was read. The splats are no danger: no output looks like them.
  std::size_t last_memory_read() {
    std::size_t last = 0;
    for (std::size_t i = 0; i < instrs_.size(); ++i) {
      for (int s = 0; s < instrs_[i].arity; ++s) {
        const Reg& r = reg(instrs_[i].src[s]);
        if (r.kind == RegKind::memory && !r.splat) last = i;
      }
    }
    return last;
  }

  void store(std::size_t output, std::size_t last_read) {
    int r = value(spec_.outputs[output].value);
    const int arg = static_cast<int>(spec_.inputs.size() + output);
    const int memory = new_reg(RegKind::memory, reg(r).dtype, false, arg);
    if (access(arg).mode == AccessMode::strided) {
      Instr k;
      k.kind = InstrKind::scatter;
      emit(k, {spread(r)}, memory);
      return;
    }
    // Let the instruction that makes the value write it there, and its later readers read it there.
    if (reg(r).kind == RegKind::temp && !reg(r).splat) {
      for (std::size_t i = last_read; i < instrs_.size(); ++i) {
        if (instrs_[i].dst == r && instrs_[i].kind == InstrKind::compute) {
          reg(r).kind = RegKind::memory;
          reg(r).index = arg;
          return;
        }
      }
    }
    Instr k;
    k.fn =
        reg(r).splat ? fill_tile(size_of(reg(r).dtype)) : convert_tile(reg(r).dtype, reg(r).dtype);
    emit(k, {r}, memory);
  }

  // ------------------------------------------------------------------------------ to plans

  bool in_order(const Reg& r) {
    return r.kind == RegKind::memory && access(r.index).mode == AccessMode::linear;
  }

  RefPtr<Plan> build_direct() {
    if (instrs_.size() != 1 || instrs_[0].kind != InstrKind::compute || instrs_[0].once) {
      return nullptr;
    }
    const Instr& k = instrs_[0];
    if (!in_order(reg(k.dst))) return nullptr;
    auto p = make_ref<DirectPlan>();
    p->fn = k.fn;
    p->splat = k.splat;
    p->arity = k.arity;
    for (int i = 0; i < k.arity; ++i) {
      const Reg& r = reg(k.src[i]);
      if (r.kind == RegKind::constant) {
        p->constant = constants_[static_cast<std::size_t>(r.index)];
      } else if (in_order(r) ||
                 (r.kind == RegKind::memory && access(r.index).mode == AccessMode::whole_splat)) {
        p->arg[i] = args_[static_cast<std::size_t>(r.index)].index;
        p->step[i] = r.splat ? 0 : size_of(r.dtype);
      } else {
        return nullptr;
      }
    }
    const TensorArg& dst = args_[static_cast<std::size_t>(reg(k.dst).index)];
    p->dst = dst.index;
    p->dst_is_output = dst.from_outputs;
    p->dst_step = size_of(dst.desc.dtype);
    p->n = nest_.total;
    p->params = k.params;
    p->name = spec_.kernel;
    return p;
  }

  /// Gives every temporary a slot; one is free again after the last reader of what it held.
  int assign_slots() {
    std::vector<std::size_t> last(regs_.size(), 0);
    for (std::size_t i = 0; i < instrs_.size(); ++i) {
      for (int s = 0; s < instrs_[i].arity; ++s) {
        last[static_cast<std::size_t>(instrs_[i].src[s])] = i;
      }
    }
    std::vector<int> free;
    int slots = 0;
    for (std::size_t i = 0; i < instrs_.size(); ++i) {
      Reg& d = reg(instrs_[i].dst);
      if (d.kind == RegKind::temp) {
        if (free.empty()) free.push_back(slots++);
        d.index = free.back();
        free.pop_back();
      }
      for (int s = 0; s < instrs_[i].arity; ++s) {
        const int r = instrs_[i].src[s];
        const bool again = s > 0 && (r == instrs_[i].src[0] || (s == 2 && r == instrs_[i].src[1]));
        if (reg(r).kind == RegKind::temp && last[static_cast<std::size_t>(r)] == i && !again) {
          free.push_back(reg(r).index);
        }
      }
    }
    return slots;
  }

  RefPtr<Plan> build_tiled() {
    auto p = make_ref<TiledPlan>();
    p->slots = assign_slots();
    std::size_t widest = 1;
    for (const Reg& r : regs_) {
      if (r.kind == RegKind::temp) widest = std::max(widest, size_of(r.dtype));
    }
    const auto n_args = static_cast<int>(args_.size());
    const auto n_constants = static_cast<int>(constants_.size());
    // Without buffers a tile may be as long as it likes.
    p->tile = std::int64_t{1} << 40;
    if (p->slots > 0) {
      const std::size_t room = kArenaBytes / static_cast<std::size_t>(p->slots) / widest;
      p->tile = static_cast<std::int64_t>(std::min<std::size_t>(room, 2048) / 32 * 32);
      p->slot_bytes = static_cast<std::size_t>(p->tile) * widest;
    }
    if (p->tile == 0 || n_args + n_constants + p->slots > kMaxAddresses ||
        n_args > kMaxFusedInputs + kMaxFusedOutputs) {
      fail<InternalError>(spec_.op, "too many values for one elementwise program");
    }
    const auto address = [&](int r) {
      const Reg& x = reg(r);
      if (x.kind == RegKind::memory) return x.index;
      if (x.kind == RegKind::constant) return n_args + x.index;
      return n_args + n_constants + x.index;
    };
    for (Instr& k : instrs_) {
      for (int& s : k.src) s = address(s);
      k.dst = address(k.dst);
    }
    nest_.fit_block(p->tile);
    p->nest = nest_;
    p->args = args_;
    p->accesses = accesses_;
    p->constant = constants_;
    p->instrs = instrs_;
    p->name = spec_.kernel;
    return p;
  }

  const ElementwiseSpec& spec_;
  std::vector<TensorArg> args_;  // inputs, then outputs
  LoopNest nest_;
  std::vector<StridedAccess> accesses_;
  std::vector<Reg> regs_;
  std::vector<Constant> constants_;
  std::vector<Instr> instrs_;
  std::map<int, int> inputs_;                       // input -> register
  std::map<std::pair<int, DType>, int> converted_;  // (register, type) -> register
  std::vector<int> results_;                        // of the steps
};

}  // namespace

RefPtr<Plan> make_elementwise_plan(const ElementwiseSpec& spec) {
  if (spec.outputs[0].to.desc.numel() == 0) return make_plan(spec.kernel, [](const LaunchArgs&) {});
  return Compiler(spec).build();
}

RefPtr<Plan> plan_elementwise(const PlanRequest& r) {
  ElementwiseSpec spec;
  spec.op = r.op.name;
  const int n = static_cast<int>(r.in.size());
  for (int i = 0; i < n; ++i) spec.inputs.push_back({r.in[static_cast<std::size_t>(i)], i, false});
  spec.steps.push_back(fused_step(static_cast<OpId>(r.op.id), r.attr_data, r.out[0].dtype, n));
  spec.outputs.push_back({{r.out[0], 0, true}, ~0});
  return make_elementwise_plan(spec);
}

}  // namespace tandem::cpu
