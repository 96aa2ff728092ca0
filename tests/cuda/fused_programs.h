// Fused programs for tests, taken down while ordinary functions run.
#pragma once
#include <algorithm>
#include <functional>
#include <random>
#include <utility>

#include "core/dispatch.h"
#include "ops/fused.h"
#include "ops/ops.h"

namespace tandem::fused_tests {

/// A program, what it reads, and what the separate ops gave.
struct Recorded {
  FusedProgram program;
  std::vector<Tensor> inputs;
  std::vector<Tensor> results;

  std::vector<DType> types() const {
    std::vector<DType> t;
    for (const Tensor& x : inputs) t.push_back(x.dtype());
    return t;
  }
  FusedAttrs attrs() const { return {program.encode()}; }
  /// Runs it as one kernel.
  std::vector<Tensor> run() const {
    std::vector<const Tensor*> in;
    for (const Tensor& x : inputs) in.push_back(&x);
    const Outputs out = dispatch::call(op::fused_elementwise, in, attrs(), SrcLoc::current());
    return {out.begin(), out.end()};
  }
};

/// Runs `f`, whose ops are all elementwise, and takes them down as one program that gives what `f`
/// returned.
inline Recorded record(const std::function<std::vector<Tensor>()>& f) {
  struct Observer final : Interceptor {
    Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
      Outputs out = dispatch::execute(op, in, loc);
      FusedStep step = fused_step(op);
      for (std::size_t k = 0; k < in.size(); ++k) {
        const auto is = [&](const Tensor& t) { return t.same_as(*in[k]); };
        const auto made = std::find_if(values.begin(), values.end(), is);
        if (made != values.end()) {
          step.operands[k] = ~static_cast<int>(made - values.begin());
          continue;
        }
        auto known = std::find_if(r.inputs.begin(), r.inputs.end(), is);
        if (known == r.inputs.end()) known = r.inputs.insert(known, *in[k]);
        step.operands[k] = static_cast<int>(known - r.inputs.begin());
      }
      r.program.steps.push_back(std::move(step));
      values.push_back(out[0]);
      return out;
    }
    void call_inplace(const PreparedOp& op, Inputs, const SrcLoc&) override {
      fail<InternalError>(op.op->name, "not in these programs");
    }

    Recorded r;
    std::vector<Tensor> values;  // of the steps
  };
  Observer o;
  {
    const NoGrad no_grad;
    const dispatch::InterceptorScope scope(&o);
    o.r.results = f();
  }
  o.r.program.shape = o.r.results.at(0).shape();
  for (const Tensor& t : o.r.results) {
    const auto step = std::find_if(o.values.begin(), o.values.end(),
                                   [&](const Tensor& v) { return v.same_as(t); });
    o.r.program.outputs.push_back(static_cast<int>(step - o.values.begin()));
    o.r.program.strides.push_back(t.desc().strides);
  }
  return std::move(o.r);
}

using Values = std::vector<Tensor>;
struct NamedOp {
  int tensors;  // how many it takes
  const char* name;
  std::function<Tensor(const Values&)> run;  // of two tensors of a type, one of bools, one i32
};

/// Every elementwise op, binary ones also with a number on either side.
inline const std::vector<NamedOp>& every_op() {
#define UNARY(op)                                    \
  {                                                  \
    1, #op, [](const Values& v) { return op(v[0]); } \
  }
#define BINARY(op)                                         \
  {                                                        \
    2, #op, [](const Values& v) { return op(v[0], v[1]); } \
  }
#define MIXED(op)                                                             \
  {2, #op, [](const Values& v) { return op(v[0], v[1]); }},                   \
      {2, #op " of mixed", [](const Values& v) { return op(v[0], v[3]); }}, { \
    1, #op " number", [](const Values& v) { return op(v[0], 3); }             \
  }
  static const std::vector<NamedOp> ops = {
      UNARY(neg),
      UNARY(abs),
      UNARY(sign),
      UNARY(floor),
      UNARY(ceil),
      UNARY(round),
      UNARY(square),
      UNARY(reciprocal),
      UNARY(exp),
      UNARY(log),
      UNARY(log1p),
      UNARY(sqrt),
      UNARY(rsqrt),
      UNARY(sin),
      UNARY(cos),
      UNARY(acos),
      UNARY(asin),
      UNARY(atan),
      UNARY(erf),
      UNARY(tanh),
      UNARY(sigmoid),
      UNARY(relu),
      UNARY(leaky_relu),
      UNARY(gelu),
      UNARY(silu),
      UNARY(softplus),
      UNARY(logical_not),
      UNARY(isnan),
      UNARY(copy),
      MIXED(add),
      MIXED(sub),
      MIXED(mul),
      MIXED(div),
      MIXED(pow),
      MIXED(floor_divide),
      MIXED(remainder),
      MIXED(maximum),
      MIXED(minimum),
      MIXED(eq),
      MIXED(ne),
      MIXED(lt),
      MIXED(le),
      MIXED(gt),
      MIXED(ge),
      BINARY(logical_and),
      BINARY(logical_or),
      BINARY(tanh_grad),
      BINARY(sigmoid_grad),
      BINARY(relu_grad),
      BINARY(gelu_grad),
      BINARY(silu_grad),
      BINARY(softplus_grad),
      {1, "number sub", [](const Values& v) { return sub(2, v[0]); }},
      {1, "number div", [](const Values& v) { return div(1.5, v[0]); }},
      {1, "number pow", [](const Values& v) { return pow(2, v[0]); }},
      {1, "number floor_divide", [](const Values& v) { return floor_divide(7, v[0]); }},
      {1, "number remainder", [](const Values& v) { return remainder(7, v[0]); }},
      {1, "clamp", [](const Values& v) { return clamp(v[0], 0, 2); }},
      {1, "clamp above", [](const Values& v) { return clamp(v[0], {}, 1); }},
      {2, "clamp_grad", [](const Values& v) { return clamp_grad(v[0], v[1], -1, {}); }},
      {2, "leaky_relu_grad", [](const Values& v) { return leaky_relu_grad(v[0], v[1], 0.1); }},
      {3, "where", [](const Values& v) { return where(v[2], v[0], v[1]); }},
      {3, "where of mixed", [](const Values& v) { return where(v[2], v[0], v[3]); }},
  };
#undef UNARY
#undef BINARY
#undef MIXED
  return ops;
}

/// Up to `steps` steps over tensors of that shape and of shapes that broadcast to it, in all types;
/// some inputs have gaps, other orders of memory, or begin where no pack may.
inline std::function<Values()> random_program(std::uint64_t seed, const Shape& shape, int steps) {
  auto rng = std::make_shared<std::mt19937_64>(seed);
  const auto pick = [rng](std::size_t n) { return static_cast<std::size_t>((*rng)() % n); };
  Values inputs;
  const int count = 2 + static_cast<int>(pick(5));
  for (int i = 0; i < count; ++i) {
    constexpr DType types[] = {DType::f32, DType::f32, DType::f16, DType::bf16,   DType::f64,
                               DType::i32, DType::i64, DType::u8,  DType::boolean};
    const DType t = types[pick(std::size(types))];
    Shape s = shape;
    const std::size_t kind = i == 0 ? 0 : pick(6);
    if (kind == 1) {
      for (auto& d : s) d = pick(2) != 0 ? 1 : d;
    }
    if (kind == 2) s = Shape{};
    std::vector<double> v(static_cast<std::size_t>(numel(s)) + 1);
    for (double& x : v)
      x = t == DType::u8 || t == DType::boolean ? static_cast<double>(pick(2))
                                                : static_cast<double>(pick(1000)) / 128 - 4;
    Tensor x = Tensor::from<double>(v, {static_cast<std::int64_t>(v.size())}).to(t);
    x = x.slice(0, kind == 3 ? 1 : 0, numel(s) + (kind == 3 ? 1 : 0)).reshape(s);
    if (kind == 4 && s.size() >= 2) {
      Dims order;
      for (int d = s.size() - 1; d >= 0; --d) order.push_back(d);
      x = copy(x.permute(order), MemoryFormat::contiguous).permute(order);
    }
    inputs.push_back(x);
  }
  const auto seed2 = (*rng)();
  return [=] {
    std::mt19937_64 r(seed2);
    const auto choose = [&](std::size_t n) { return static_cast<std::size_t>(r() % n); };
    Values pool = inputs;
    // All results have the whole shape.
    const auto whole = [&]() -> const Tensor& {
      for (;;) {
        const Tensor& t = pool[choose(pool.size())];
        if (t.shape() == shape) return t;
      }
    };
    const auto any = [&] { return pool[choose(pool.size())]; };
    for (int made = 0; made < steps;) {
      const NamedOp& op = every_op()[choose(every_op().size())];
      Tensor a = whole(), b = any(), c = any();
      if (op.tensors > 1 && choose(2) != 0) std::swap(a, b);
      if (op.tensors == 3 && c.dtype() != DType::boolean) continue;
      try {
        if (choose(8) != 0) {
          pool.push_back(op.run({a, b, c, b}));
        } else {
          // From floating to integral not every value can go.
          const auto t = static_cast<DType>(choose(is_floating(a.dtype()) ? 4 : kNumDTypes));
          if (!(a.shape() == shape) || t == a.dtype()) continue;
          pool.push_back(cast(a, t));
        }
        ++made;
      } catch (const TypeError&) {
      }
    }
    Values out(pool.end() - 1, pool.end());
    for (std::size_t k = choose(4); k > 0; --k) {
      const Tensor& t = pool[inputs.size() + choose(pool.size() - inputs.size())];
      const auto is = [&](const Tensor& o) { return o.same_as(t); };
      if (std::none_of(out.begin(), out.end(), is)) out.push_back(t);
    }
    return out;
  };
}

}  // namespace tandem::fused_tests
