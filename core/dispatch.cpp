#include "core/dispatch.h"

#include <algorithm>
#include <cmath>

#include "core/backend.h"
#include "core/grad_meta.h"
#include "core/inline_array.h"
#include "core/plan_cache.h"
#include "core/profiler.h"
#include "core/thread_state.h"

namespace tandem::dispatch {

using detail::thread_state;

namespace {

const PreparedOp& prepare_inputs(const OpDef& op, Inputs in, AttrRef attrs, const SrcLoc& loc) {
  InlineArray<const TensorDesc*, 8> descs(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!in[i]->defined()) [[unlikely]]
      tandem::detail::refuse_undefined(op.name, i, in.size(), loc);
    descs[i] = &in[i]->desc();
  }
  return prepare(op, {descs.data(), in.size()}, attrs);
}

bool wants_grad(Inputs in) {
  for (const Tensor* t : in) {
    if (t->impl()->grad_meta && grad_meta(*t)->requires_grad) return true;
  }
  return false;
}

// The capture a call belongs to.
Interceptor* find_interceptor(Inputs in) {
  return thread_state.interceptor ? thread_state.interceptor : declaring_interceptor(in);
}

void launch(const PreparedOp& op, Inputs in, void* const* out) {
  InlineArray<void*, 8> ptrs(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) ptrs[i] = in[i]->raw_data();
  const Device d = in.empty() ? op.out[0].device : in[0]->device();
  Backend& b = backend(d);
  const std::size_t ws_bytes = op.plan->workspace_bytes;
  RefPtr<Storage> ws = ws_bytes ? Storage::allocate(ws_bytes, d) : nullptr;
  profiler::launch(op, {ptrs.data(), out, ws ? ws->data() : nullptr, &b.stream(d.index)});
}

void note_mutations(const PreparedOp& op, Inputs in, const SrcLoc& loc) {
  for (int i : op.mutated) {
    in[i]->impl()->storage->bump_version(op.op->name, CallSite::blame(loc));
  }
}

}  // namespace

Interceptor* declaring_interceptor(Inputs in) {
  for (const Tensor* t : in) {
    const Storage& s = *t->impl()->storage;
    if (s.is_symbolic()) return dynamic_cast<Interceptor*>(s.trace().get());
  }
  return nullptr;
}

const PreparedOp& prepare(const OpDef& op, std::span<const TensorDesc* const> in, AttrRef attrs) {
  return detail::PlanCache::local().get(op, in, attrs);
}

void check_finite(const PreparedOp& op, std::span<const Tensor> made) {
  for (std::size_t k = 0; k < made.size(); ++k) {
    if (!is_floating(made[k].dtype())) continue;
    const auto v = made[k].to_vector<double>();
    const auto bad =
        std::find_if_not(v.begin(), v.end(), [](double x) { return std::isfinite(x); });
    if (bad == v.end()) continue;
    const std::string what =
        k < op.out.size() ? fmt::format("output {}", k)
                          : fmt::format("input {} after the call", op.mutated[k - op.out.size()]);
    const bool hidden = tandem::detail::function_or(op.op->name) != op.op->name;
    fail(op.op->name, "anomaly mode: the result must be finite",
         fmt::format("{} at element {} of {}{}", *bad, bad - v.begin(), what,
                     hidden ? fmt::format(" of {}", op.op->name) : std::string()));
  }
}

Outputs execute(const PreparedOp& op, Inputs in, const SrcLoc& loc) {
  Outputs out;
  if (op.op->traits.kind == OpKind::view) {
    TensorImpl* base = in[0]->impl();
    base->storage->mark_viewed();
    out.push_back(Tensor(RefPtr<TensorImpl>(
        new TensorImpl(base->storage, op.out[0], base->offset + op.view_offset))));
    return out;
  }
  void* ptrs[4];
  for (std::size_t i = 0; i < op.out.size(); ++i) {
    const TensorDesc& d = op.out[i];
    out.push_back(Tensor(
        RefPtr<TensorImpl>(new TensorImpl(Storage::allocate(op.out_bytes[i], d.device), d, 0))));
    ptrs[i] = out[static_cast<int>(i)].impl()->storage->data();
  }
  launch(op, in, ptrs);
  note_mutations(op, in, loc);
  if (thread_state.anomaly) [[unlikely]] {
    std::vector<Tensor> made(out.begin(), out.end());
    for (int i : op.mutated) made.push_back(*in[static_cast<std::size_t>(i)]);
    check_finite(op, made);
  }
  return out;
}

void execute_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) {
  void* dst = in[0]->raw_data();
  launch(op, in, &dst);
  in[0]->impl()->storage->bump_version(op.op->name, CallSite::blame(loc));
  if (thread_state.anomaly) [[unlikely]]
    check_finite(op, {in[0], 1});
}

namespace {

/// What `op` wants an input cast to; the input's own type if that will do.
DType autocast_type(const OpDef& op, DType t) {
  if (!is_floating(t) || t == DType::f64) return t;
  return op.traits.autocast == AutocastClass::low ? thread_state.autocast.dtype : DType::f32;
}

Outputs call_autocast(const OpDef& op, Inputs in, AttrRef attrs, const SrcLoc& loc) {
  // An op that mixes f64 with other types is left to the promotion rules.
  bool wide = false;
  for (const Tensor* t : in) wide = wide || (t->defined() && t->dtype() == DType::f64);
  InlineArray<Tensor, 8> casts(in.size());
  InlineArray<const Tensor*, 8> now(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    now[i] = in[i];
    if (wide || !in[i]->defined()) continue;
    const DType t = autocast_type(op, in[i]->dtype());
    if (t == in[i]->dtype()) continue;
    casts[i] = in[i]->to(t, loc);
    now[i] = &casts[i];
  }
  const Autocast off(DType::bf16, false);
  return call(op, {now.data(), now.size()}, attrs, loc);
}

}  // namespace

Outputs call(const OpDef& op, Inputs in, AttrRef attrs, const SrcLoc& loc) {
  if (thread_state.autocast.on && op.traits.autocast != AutocastClass::none) [[unlikely]] {
    return call_autocast(op, in, attrs, loc);
  }
  const ErrorSite at(loc);
  const PreparedOp& p = prepare_inputs(op, in, attrs, loc);
  const bool tape = thread_state.grad_enabled && op.vjp && wants_grad(in);
  if (!p.mutated.empty() && thread_state.grad_enabled && wants_grad(in)) {
    hooks::check_mutation(p, in);
  }
  Interceptor* i = find_interceptor(in);
  if (!i) [[likely]] {
    Outputs out = execute(p, in, loc);
    if (tape) hooks::record(p, in, out, loc);
    return out;
  }
  // An interceptor may prepare other ops, which may evict this one from the cache.
  const RefPtr<const PreparedOp> keep(&p);
  Outputs out = i->call(*keep, in, loc);
  if (tape) hooks::record(*keep, in, out, loc);
  return out;
}

void call_inplace(const OpDef& op, std::initializer_list<const Tensor*> inputs, AttrRef attrs,
                  const SrcLoc& loc) {
  const ErrorSite at(loc);
  const Inputs in(inputs.begin(), inputs.size());
  const PreparedOp& p = prepare_inputs(op, in, attrs, loc);
  if (p.out.size() != 1 || !(p.out[0] == in[0]->desc()) || !p.mutated.empty() ||
      op.traits.kind != OpKind::elementwise) {
    fail<InternalError>(op.name, "cannot run in place",
                        p.out.empty() ? "no output" : p.out[0].str(), in[0]->desc().str());
  }
  const bool tape = thread_state.grad_enabled && wants_grad(in);
  const RefPtr<const PreparedOp> keep(&p);
  Interceptor* i = find_interceptor(in);
  if (tape && i && i->records() && !in[0]->is_symbolic()) {
    // The tensor outlives the capture; its history would not.
    fail<CaptureError>(op.name,
                       "a captured program cannot write a value that wants a gradient into a "
                       "tensor from outside",
                       in[0]->desc().str(), "NoGrad around the write, or detach() of the value");
  }
  // The tape must see the inputs as they were before the write.
  if (tape) hooks::record_inplace(p, in, loc);
  if (!i) {
    execute_inplace(p, in, loc);
  } else {
    i->call_inplace(*keep, in, loc);
  }
}

}  // namespace tandem::dispatch
