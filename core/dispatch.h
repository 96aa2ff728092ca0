// The one door. Every operation of either mode goes through dispatch::call.
#pragma once
#include <span>

#include "core/function_ref.h"
#include "core/op.h"

namespace tandem {

/// Up to four outputs inline (no op has more).
class Outputs {
 public:
  void push_back(Tensor t) { t_[n_++] = std::move(t); }  // at most four
  int size() const { return n_; }
  Tensor& operator[](int i) { return t_[i]; }
  const Tensor& operator[](int i) const { return t_[i]; }
  Tensor* begin() { return t_; }
  Tensor* end() { return t_ + n_; }
  const Tensor* begin() const { return t_; }
  const Tensor* end() const { return t_ + n_; }

 private:
  int n_ = 0;
  Tensor t_[4];
};

using Inputs = std::span<const Tensor* const>;

/// Sees every operation of this thread: a capture in progress records instead of launching;
/// an observer launches and looks.
class Interceptor {
 public:
  virtual ~Interceptor() = default;
  virtual Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) = 0;  // its results
  /// `dst = op(dst, …)`: output 0 is written over input 0.
  virtual void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) = 0;
  /// It writes programs down rather than running them.
  virtual bool records() const { return false; }
  /// Host values became a tensor while the program ran.
  virtual Tensor constant(Tensor t) { return t; }
};

namespace dispatch {

/// Runs (or records) `op`: infer -> plan -> allocate -> launch -> tape. Inputs must be defined.
Outputs call(const OpDef& op, Inputs in, AttrRef attrs, const SrcLoc& loc);

/// The same for inputs that are listed.
inline Outputs call(const OpDef& op, std::initializer_list<const Tensor*> in, AttrRef attrs,
                    const SrcLoc& loc) {
  return call(op, Inputs(in.begin(), in.size()), attrs, loc);
}

/// Runs `op` with output 0 written into input 0, whose description must equal the output's.
void call_inplace(const OpDef& op, std::initializer_list<const Tensor*> in, AttrRef attrs,
                  const SrcLoc& loc);

/// The resolved op, from the plan cache. The reference is good until this thread's next prepare.
const PreparedOp& prepare(const OpDef& op, std::span<const TensorDesc* const> in, AttrRef attrs);

/// Allocates outputs and launches; no tape, no interception. What an Interceptor that observes,
/// and the graph's reference interpreter, call.
Outputs execute(const PreparedOp& op, Inputs in, const SrcLoc& loc);
void execute_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc);

/// This thread's interceptor, or null.
Interceptor* interceptor();
/// The one a call with these inputs meets where this thread has none: that of a program being
/// declared (graph::Graph), when an input is one of its values; else null.
Interceptor* declaring_interceptor(Inputs in);

/// Makes `i` this thread's interceptor until the end of the scope; null: none.
class InterceptorScope {
 public:
  explicit InterceptorScope(Interceptor* i);
  ~InterceptorScope();
  InterceptorScope(const InterceptorScope&) = delete;
  InterceptorScope& operator=(const InterceptorScope&) = delete;

 private:
  Interceptor* saved_;
};

/// What the plan cache that all threads share holds, and how often it did not have what was asked
/// for.
struct PlanCacheStats {
  std::uint64_t entries = 0, misses = 0;
};
PlanCacheStats plan_cache_stats();
/// Drops every plan no program holds.
void clear_plan_cache();

/// After every operation this thread runs, eager or of a compiled program, throw ValueError naming
/// op and line if an output has a NaN or Inf.
bool anomaly_mode();
void set_anomaly_mode(bool on);
/// That check, of what a call of `op` made: its outputs, then the inputs it wrote.
void check_finite(const PreparedOp& op, std::span<const Tensor> made);

}  // namespace dispatch

/// Whether this thread's operations are put on the tape.
bool grad_enabled();
void set_grad_enabled(bool on);

/// Whether ops of this thread are put on the tape, until the end of the scope.
class GradMode {
 public:
  explicit GradMode(bool on) : saved_(grad_enabled()) { set_grad_enabled(on); }
  ~GradMode() { set_grad_enabled(saved_); }
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool saved_;
};

/// No op of this thread is put on the tape until the end of the scope.
struct NoGrad : GradMode {
  NoGrad() : GradMode(false) {}
};

/// Ops are put on the tape again, inside of a NoGrad scope.
struct EnableGrad : GradMode {
  EnableGrad() : GradMode(true) {}
};

namespace hooks {
// Defined in autograd/: the dispatcher calls them, and core need not know the tape.

/// Puts a call on the tape. Called after it ran, when an input wants a gradient.
void record(const PreparedOp& op, Inputs in, Outputs& out, const SrcLoc& loc);
/// The same for a call that writes its output over input 0; called before it runs.
/// AutogradError where the tape could not follow the write.
void record_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc);
/// AutogradError if the tape could not follow what `op` writes into its inputs.
void check_mutation(const PreparedOp& op, Inputs in);
/// For tensors whose history is not on the tape: a backward pass that would have to go on from
/// there throws AutogradError(`message`). `refuse_history` makes that the history of `t`.
RefPtr<RefCounted> make_refusal(std::string message);
void refuse_history(const RefPtr<RefCounted>& refusal, Tensor& t);
/// A tensor as the tape knows it: output `index` of an operation, or a leaf (-1).
struct Origin {
  const RefCounted* of = nullptr;  // null: wants no gradient
  int index = -1;
  bool refused = false;   // a refusal: what it was made from is not known
  bool captured = false;  // an operation that a capture recorded
  // Tells it from another one that has the address now: the number of a node, a leaf's memory.
  std::uint64_t id = 0;
  TensorImpl* leaf() const {  // null if it is none
    return of && index < 0 ? static_cast<TensorImpl*>(const_cast<RefCounted*>(of)) : nullptr;
  }
  friend bool operator==(const Origin& a, const Origin& b) {
    return a.of == b.of && a.index == b.index && a.id == b.id;
  }
};
Origin origin_of(const Tensor& t);
/// Every tensor the gradient of `t` would reach, `t` first, some of them repeatedly.
void visit_history(const Tensor& t, FunctionRef<void(const Origin&)> see);
/// Gradient hooks are registered on `t`.
bool has_grad_hooks(const Tensor& t);
}  // namespace hooks

}  // namespace tandem
