// The op contract: what an op is (OpDef), and what a kernel is (Plan).
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/attrs.h"
#include "core/autocast.h"
#include "core/policy.h"
#include "core/tensor.h"

namespace tandem {

struct OpDef;
class Stream;

// ---------------------------------------------------------------------------------- kernels

/// How a result may differ from that of the same ops run by other plans.
enum class Exactness : std::uint8_t { exact, reassociating, approximate };
const char* name_of(Exactness e);

/// What a launch gets: addresses of inputs, outputs and the workspace, and the stream.
struct LaunchArgs {
  void* const* in;
  void* const* out;
  void* workspace;
  Stream* stream;
};

/// A kernel made ready for one set of descriptors. Immutable; may be launched from any thread.
class Plan : public RefCounted {
 public:
  /// Never allocates, synchronises, searches, or fails because of shapes.
  virtual void launch(const LaunchArgs& args) const = 0;

  std::size_t workspace_bytes = 0;
  /// How a result may differ if the kernel applies the op's epilogue (the `relu` among its
  /// attributes) before it stores it, from that of the ops one after the other. The same with and
  /// without the epilogue. Nothing: there is none, or nothing is gained by it.
  std::optional<Exactness> epilogue = {};
  std::string name;  // of the kernel: "onednn:brgconv_avx512", "cpu:elementwise"
};

/// A plan made of a function object: `make_plan("cpu:name", [=](const LaunchArgs& a) {…})`.
template <class F>
RefPtr<Plan> make_plan(std::string name, F f, std::size_t workspace_bytes = 0) {
  struct P final : Plan {
    explicit P(F g) : fn(std::move(g)) {}
    void launch(const LaunchArgs& a) const override { fn(a); }
    F fn;
  };
  auto p = make_ref<P>(std::move(f));
  p->name = std::move(name);
  p->workspace_bytes = workspace_bytes;
  return p;
}

/// What a plan is made for.
struct PlanRequest {
  const OpDef& op;
  std::span<const TensorDesc> in;
  std::span<const TensorDesc> out;
  const void* attr_data;
  Policy policy;
  template <class A>
  const A& attrs() const {  // A: the op's
    return *static_cast<const A*>(attr_data);
  }
};

/// What a kernel folder gives for each op. Throws TypeError for a dtype it lacks.
using PlanFn = RefPtr<Plan> (*)(const PlanRequest&);

// ---------------------------------------------------------------------------------- rules

/// Given to an op's shape rule: reads input descriptions, writes output descriptions.
class InferContext {
 public:
  InferContext(const OpDef& op, std::span<const TensorDesc* const> in, const void* attrs)
      : op_(op), in_(in), attrs_(attrs) {}

  int num_inputs() const { return static_cast<int>(in_.size()); }
  const TensorDesc& input(int i) const { return *in_[i]; }
  template <class A>
  const A& attrs() const {  // A: the op's
    return *static_cast<const A*>(attrs_);
  }

  /// Appends an output.
  void output(const TensorDesc& d) { outputs.push_back(d); }
  /// The one output is a view of input 0, `offset` elements in.
  void view(const TensorDesc& d, std::int64_t offset = 0) {
    outputs.push_back(d);
    view_offset = offset * static_cast<std::int64_t>(size_of(d.dtype));
  }
  /// Declares that the kernel writes input i in place.
  void mutates(int i) { mutated.push_back(i); }

  // Checks; each throws with the op's name, the rule, what it got and what it expected.
  void expect_inputs(int n) const { expect_inputs(n, n); }
  void expect_inputs(int least, int most) const;
  void expect_rank(int i, int rank) const;
  void expect_floating(int i) const;
  void expect_dtype(int i, DType t) const;
  void expect_same_dtype(int i, int j) const;
  void expect_shape(int i, const Shape& s, std::string_view rule) const;
  int axis(std::int64_t a, int rank) const;  // wraps a negative axis
  template <class E = ShapeError>
  [[noreturn]] void fail(std::string_view rule, std::string_view got = {},
                         std::string_view expected = {}) const {
    tandem::fail<E>(op_name(), rule, got, expected);
  }
  const OpDef& op() const { return op_; }
  const char* op_name() const;

  std::vector<TensorDesc> outputs;
  std::vector<int> mutated;
  std::int64_t view_offset = 0;  // bytes

 private:
  const OpDef& op_;
  std::span<const TensorDesc* const> in_;
  const void* attrs_;
};

/// An op resolved for one set of input descriptions: the unit the plan cache keeps, the tape
/// points to, and a node of the graph is made of.
struct PreparedOp final : public RefCounted {
  const OpDef* op = nullptr;
  AttrBox attrs;
  Policy policy;
  int threads = 1;  // num_threads() when it was planned: libraries fix theirs with the plan
  std::vector<TensorDesc> in, out;
  std::vector<std::size_t> out_bytes;
  std::vector<int> mutated;        // inputs the kernel writes
  std::int64_t view_offset = 0;    // bytes; view ops only
  std::uint32_t saves_inputs = 0;  // what the tape keeps of this call: see OpDef::saves
  RefPtr<Plan> plan;               // null for view ops
  std::uint64_t hash = 0;
};

/// Given to an op's gradient rule. Writes d(loss)/d(input i) with `set`.
class VjpContext {
 public:
  const PreparedOp& call;
  std::span<const Tensor> inputs, outputs;  // undefined where OpTraits did not ask for them
  std::span<Tensor> grads;                  // of the outputs; undefined means zero
  std::span<const std::uint8_t> needed;
  std::span<Tensor> result;
  /// Throws the reason why a tensor OpTraits asked to keep is not there any more.
  void (*explain_stale)(const void* owner, bool is_input, int i) = nullptr;
  const void* owner = nullptr;

  template <class A>
  const A& attrs() const {  // A: the op's
    return call.attrs.as<A>();
  }
  int num_inputs() const { return static_cast<int>(call.in.size()); }
  const TensorDesc& input_desc(int i) const { return call.in[i]; }
  const TensorDesc& output_desc(int i) const { return call.out[i]; }
  const Tensor& input(int i) const { return saved(inputs, i, true); }
  const Tensor& output(int i) const { return saved(outputs, i, false); }
  bool has_grad(int i) const { return grads[i].defined(); }
  /// Gradient of output i; a tensor of zeros if nothing flowed into it.
  const Tensor& grad(int i = 0);
  /// Whether input i wants a gradient; computing one that is not wanted is wasted work.
  bool needs(int i) const { return needed[i] != 0; }
  void set(int i, Tensor g) { result[i] = std::move(g); }

 private:
  const Tensor& saved(std::span<const Tensor> s, int i, bool is_input) const;
};

/// What a call costs: floating-point operations, and bytes read and written.
struct Cost {
  double flops = 0;
  double bytes = 0;
};

/// How the frame treats an op.
enum class OpKind : std::uint8_t {
  compute,      // any kernel
  elementwise,  // output element i depends on input elements i only (after broadcasting)
  view,         // no kernel: another description of input 0's memory
};

inline constexpr std::uint32_t kAll = ~0u;

/// What passes and autocast may assume of an op.
struct OpTraits {
  OpKind kind = OpKind::compute;
  /// Bit i: the gradient rule reads input (output) i. What is not asked for is not kept alive.
  std::uint32_t saves_inputs = 0;
  std::uint32_t saves_outputs = 0;
  /// Draws from a generator (input 0, which it mutates).
  bool random = false;
  /// Input i (bit i) may share its buffer with output 0 when the descriptions are equal.
  std::uint32_t inplace = 0;
  AutocastClass autocast = AutocastClass::none;
};

/// Everything about an op that is not a kernel.
struct OpDef {
  std::uint16_t id;  // OpId of ops/op_list.h
  const char* name;
  const AttrType* attrs = &attr_type_v<NoAttrs>;
  void (*infer)(InferContext&) = nullptr;
  void (*vjp)(VjpContext&) = nullptr;  // null: not differentiable
  OpTraits traits = {};
  double (*flops)(const PreparedOp&) = nullptr;  // null: none; of elementwise ops one per element
  double (*bytes)(const PreparedOp&) =
      nullptr;  // null: all of each input, output and mutated input
  /// Where what the gradient rule reads depends on the call (a scalar operand, say): the inputs to
  /// keep, at most those of traits.saves_inputs. Null: all of those.
  std::uint32_t (*saves)(const PreparedOp&) = nullptr;
  const char* doc = "";
};

/// Floating-point operations and bytes moved by one call.
Cost cost_of(const PreparedOp& call);

}  // namespace tandem
