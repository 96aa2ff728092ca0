#include "graph/tracer.h"

#include <algorithm>
#include <utility>

#include "core/grad_meta.h"
#include "ops/elementwise.h"
#include "ops/op_list.h"
#include "ops/view.h"

namespace tandem::graph {

CaptureScope::CaptureScope(Tracer& t) : scope_(&t), saved_(trace_guards()) {
  set_trace_guards(&t);
}
CaptureScope::~CaptureScope() {
  set_trace_guards(saved_);
}

void Tracer::check_open() const {
  if (!open_) {
    fail<CaptureError>("capture",
                       "a value of a captured program was used after its capture ended; only what "
                       "the function returns can be used outside");
  }
}

// --------------------------------------------------------------------------------- values

std::size_t Tracer::new_buffer(ValueId v, const TensorDesc& d, bool external) {
  Buffer b;
  b.current = v;
  b.desc = d;
  b.external = external;
  buffers_.push_back(std::move(b));
  return buffers_.size() - 1;
}

ValueId Tracer::new_value(const TensorDesc& d, std::size_t buffer) {
  const ValueId v = program_.add_value(d);
  value_buffer_.push_back(static_cast<std::int32_t>(buffer));
  return v;
}

Tensor Tracer::symbolic(const TensorDesc& d, ValueId v, RefPtr<Storage> storage,
                        std::int64_t offset) {
  if (!storage) {
    storage = Storage::symbolic(d.bytes(), d.device, RefPtr<RefCounted>(this));
  }
  RefPtr<TensorImpl> impl(new TensorImpl(std::move(storage), d, offset));
  impl->trace_value = v;
  impl->trace_version =
      buffers_[static_cast<std::size_t>(value_buffer_[static_cast<std::size_t>(v)])].version;
  return Tensor(std::move(impl));
}

std::size_t Tracer::buffer_of(const Tensor& t) {
  const Storage& s = *t.impl()->storage;
  if (s.is_symbolic()) {
    if (s.trace().get() != static_cast<RefCounted*>(this)) {
      fail<CaptureError>("capture", "a value of another captured program was used in this one",
                         t.desc().str());
    }
    return static_cast<std::size_t>(value_buffer_[static_cast<std::size_t>(t.impl()->trace_value)]);
  }
  if (auto it = concrete_.find(&s); it != concrete_.end()) return it->second;
  // A tensor from outside: by reference, so the program sees what it holds at each run.
  const std::size_t b = new_buffer(-1, t.desc(), true);
  const ValueId v = new_value(t.desc(), b);
  buffers_[b].current = v;
  buffers_[b].offset = t.impl()->offset;
  buffers_[b].concrete = t.impl()->storage;
  program_.states.push_back({v, Pinned<Storage>(t.impl()->storage.get()), t.impl()->offset});
  concrete_[&s] = b;
  return b;
}

ValueId Tracer::as_strided(Buffer& b, const TensorDesc& d, std::int64_t offset) {
  const auto elem = static_cast<std::int64_t>(size_of(d.dtype));
  const AsStridedAttrs attrs{d.shape, d.strides, (offset - b.offset) / elem};
  const TensorDesc* in = &b.desc;
  Node n;
  n.call = RefPtr<const PreparedOp>(&dispatch::prepare(op::as_strided, {&in, 1}, attrs));
  n.inputs = {b.current};
  n.origin = static_cast<std::int32_t>(program_.nodes.size());
  const auto buffer = static_cast<std::size_t>(value_buffer_[static_cast<std::size_t>(b.current)]);
  const ValueId v = new_value(d, buffer);
  n.outputs = {v};
  program_.nodes.push_back(std::move(n));
  return v;
}

ValueId Tracer::value_of(const Tensor& t) {
  const std::size_t bi = buffer_of(t);
  Buffer& b = buffers_[bi];
  TensorImpl* m = t.impl();
  if (m->storage->is_symbolic()) {
    if (m->trace_version != b.version) {
      // Another view of its memory was written meanwhile: look at the newest content.
      m->trace_value = as_strided(b, m->desc, m->offset);
      m->trace_version = b.version;
    }
    return m->trace_value;
  }
  if (b.desc == m->desc && b.offset == m->offset) return b.current;
  return as_strided(b, m->desc, m->offset);
}

void Tracer::written(const Tensor& t, ValueId v, const char* op, const SrcLoc& loc) {
  TensorImpl* m = t.impl();
  Buffer& b = buffers_[static_cast<std::size_t>(value_buffer_[static_cast<std::size_t>(v)])];
  b.current = v;
  b.desc = m->desc;
  b.offset = m->offset;
  ++b.version;
  if (m->storage->is_symbolic()) {
    m->trace_value = v;
    m->trace_version = b.version;
  }
  // The tape compares versions of whichever storage it saved.
  const auto bump = [&](const RefPtr<Storage>& s) {
    if (!s->is_symbolic()) versions_before_.try_emplace(s.get(), s, s->version());
    s->bump_version(op, loc);
  };
  bump(m->storage);
  for (const auto& s : {b.alias, b.concrete}) {
    if (s && !(s == m->storage)) bump(s);
  }
}

// ------------------------------------------------------------------------------ interception

Node& Tracer::add_node(const PreparedOp& op, Inputs in, const SrcLoc& loc) {
  check_open();
  Node n;
  n.call = RefPtr<const PreparedOp>(&op);
  n.inputs.reserve(in.size());
  for (const Tensor* t : in) n.inputs.push_back(value_of(*t));
  n.source = CallSource::of(loc);
  n.origin = static_cast<std::int32_t>(program_.nodes.size());
  program_.nodes.push_back(std::move(n));
  return program_.nodes.back();
}

// Between operations of a declared program others run at once. They must not read what the program
// is going to write. (Nobody reads the state of a generator.)
void Tracer::check_write(const OpDef& op, const Tensor& t) const {
  if (t.is_symbolic() || trace_guards() == this || op.traits.random) return;
  fail<CaptureError>(op.name,
                     "a declared program writes a tensor from outside, and what reads it next "
                     "would run before that",
                     t.desc().str(), "auto s = graph.scope() around the declaration");
}

Outputs Tracer::call(const PreparedOp& op, Inputs in, const SrcLoc& loc) {
  for (int i : op.mutated) check_write(*op.op, *in[static_cast<std::size_t>(i)]);
  Node& n = add_node(op, in, loc);
  Outputs out;
  if (op.op->traits.kind == OpKind::view) {
    const std::size_t bi = buffer_of(*in[0]);
    const ValueId v = new_value(op.out[0], bi);
    TensorImpl* base = in[0]->impl();
    RefPtr<Storage> storage = base->storage;
    storage->mark_viewed();
    if (!storage->is_symbolic()) {
      Buffer& b = buffers_[bi];
      if (!b.alias) {
        b.alias = Storage::symbolic(storage->bytes(), storage->device(), RefPtr<RefCounted>(this),
                                    storage);
      }
      storage = b.alias;
    }
    storage->mark_viewed();
    n.outputs = {v};
    out.push_back(symbolic(op.out[0], v, std::move(storage), base->offset + op.view_offset));
    return out;
  }
  for (const TensorDesc& d : op.out) {
    const std::size_t b = new_buffer(-1, d, false);
    const ValueId v = new_value(d, b);
    buffers_[b].current = v;
    n.outputs.push_back(v);
    out.push_back(symbolic(d, v, nullptr, 0));
  }
  for (int i : op.mutated) {
    const Tensor& t = *in[static_cast<std::size_t>(i)];
    const ValueId v = new_value(t.desc(), buffer_of(t));
    n.outputs.push_back(v);
    written(t, v, op.op->name, n.source.loc);
  }
  return out;
}

void Tracer::call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) {
  check_write(*op.op, *in[0]);
  Node& n = add_node(op, in, loc);
  n.inplace = true;
  const ValueId v = new_value(op.out[0], buffer_of(*in[0]));
  n.outputs = {v};
  written(*in[0], v, op.op->name, n.source.loc);
}

Tensor Tracer::constant(Tensor t) {
  check_open();
  const std::size_t b = new_buffer(-1, t.desc(), false);
  const ValueId v = new_value(t.desc(), b);
  buffers_[b].current = v;
  const Tensor in = symbolic(t.desc(), v, nullptr, 0);
  program_.constants.push_back({v, std::move(t)});
  // The program works on a copy: it may write into it, or return it, and the constant must be the
  // same at every run. Where it does neither, constant folding takes the copy away.
  const CopyAttrs attrs{MemoryFormat::contiguous};
  const TensorDesc* d = &in.desc();
  const RefPtr<const PreparedOp> p(&dispatch::prepare(op::copy, {&d, 1}, attrs));
  const Tensor* arg = &in;
  return call(*p, {&arg, 1}, SrcLoc())[0];
}

Tensor Tracer::input(const TensorDesc& desc, std::string name) {
  check_open();
  const std::size_t b = new_buffer(-1, desc, true);
  const ValueId v = new_value(desc, b);
  buffers_[b].current = v;
  program_.inputs.push_back(v);
  program_.input_names.push_back(std::move(name));
  Tensor t = symbolic(desc, v, nullptr, 0);
  arguments_.push_back(t.impl());
  return t;
}

// ------------------------------------------------------------------------ the host's side

void Tracer::guard(std::string what, std::function<bool()> holds) {
  program_.guards.push_back({std::move(what), std::move(holds)});
}

Tracer::Slot& Tracer::slot_of(const Tensor& leaf, bool& is_new) {
  for (Slot& s : slots_) {
    if (s.leaf.same_as(leaf)) {
      is_new = false;
      return s;
    }
  }
  is_new = true;
  if (std::find(arguments_.begin(), arguments_.end(), leaf.impl()) != arguments_.end()) {
    fail<CaptureError>("compile", "a captured function cannot use the .grad of an argument",
                       leaf.desc().str(), "autograd::grad, or a parameter from outside");
  }
  slots_.push_back({.leaf = leaf, .now = {}, .seen = {}});
  return slots_.back();
}

Tensor Tracer::read_grad(const Tensor& leaf) {
  const Tensor outside = ensure_grad_meta(leaf).grad;
  if (!open_) return outside;
  bool is_new;
  Slot& s = slot_of(leaf, is_new);
  if (!is_new) return s.now;
  if (leaf.is_symbolic()) {  // made inside: nothing else reads or writes it
    return s.now = outside;
  }
  if (!outside.defined()) {
    s.absent = true;
    program_.grads_absent.emplace_back(leaf.impl());
    return {};
  }
  const TensorDesc d = outside.desc();
  const std::size_t b = new_buffer(-1, d, true);
  const ValueId v = new_value(d, b);
  buffers_[b].current = v;
  program_.grad_reads.push_back({v, Pinned<TensorImpl>(leaf.impl())});
  s.seen = symbolic(d, v, nullptr, 0);
  return s.now = s.seen;
}

void Tracer::write_grad(const Tensor& leaf, const Tensor& g) {
  // The program's executor looks for it there.
  GradMeta& m = ensure_grad_meta(leaf);
  if (!open_) {
    m.grad = g;
    return;
  }
  bool is_new;
  slot_of(leaf, is_new).now = g;
}

// -------------------------------------------------------------------------------- the end

bool Tracer::writes_outside() const {
  const auto written = [](const Slot& s) {
    return !s.leaf.is_symbolic() && !s.unchanged() &&
           (s.now.defined() || ensure_grad_meta(s.leaf).grad.defined());
  };
  return !versions_before_.empty() || std::ranges::any_of(slots_, written);
}

Program Tracer::snapshot(std::span<const Tensor> results) {
  check_open();
  std::vector<ValueId> outputs;
  for (const Tensor& t : results) {
    if (!t.defined()) fail<CaptureError>("compile", "a result is an undefined tensor");
    outputs.push_back(value_of(t));  // may add a view
  }
  // References to a leaf that this program itself holds: a slot found empty pins its leaf.
  const auto pins = [&](const Tensor& leaf) {
    return static_cast<std::uint32_t>(
        std::count_if(program_.grads_absent.begin(), program_.grads_absent.end(),
                      [&](const auto& p) { return p.get() == leaf.impl(); }));
  };
  std::vector<GradWrite> writes;
  std::vector<const RefCounted*> gone;
  for (const Slot& s : slots_) {
    // Gone with the function (a leaf that checkpointing made, say): nobody can ask for it.
    if (s.leaf.impl()->use_count() == 1 + pins(s.leaf)) {
      gone.push_back(s.leaf.impl());
      continue;
    }
    const Tensor& grad = s.now;
    if (s.unchanged()) continue;
    if (s.leaf.is_symbolic()) {
      fail<CaptureError>("compile",
                         "a captured function cannot accumulate into the .grad of a tensor it made",
                         s.leaf.desc().str(), "autograd::grad, or a parameter from outside");
    }
    writes.push_back({grad.defined() ? value_of(grad) : -1, Pinned<TensorImpl>(s.leaf.impl())});
  }
  Program p = program_;
  const auto drop = [&](auto& list, auto leaf_of) {
    std::erase_if(list, [&](const auto& x) {
      return std::find(gone.begin(), gone.end(), leaf_of(x)) != gone.end();
    });
  };
  const auto pinned = [](const Pinned<TensorImpl>& x) { return x.get(); };
  const auto origin = [](const hooks::Origin& x) { return x.of; };
  drop(p.grads_absent, pinned);
  for (GradientFlow& f : p.gradients) {
    drop(f.outer, origin);
    drop(f.wanted, origin);
  }
  p.outputs = std::move(outputs);
  p.grad_writes = std::move(writes);
  for (const Buffer& b : buffers_) {
    if (b.external && b.version > 0) p.effects.push_back(b.current);
  }
  p.relink();
  return p;
}

void Tracer::gradients_taken(std::span<const Tensor> outputs, std::span<const Tensor> targets) {
  GradientFlow flow;
  flow.reaches.resize(arguments_.size());
  flow.wants.resize(arguments_.size());
  const auto note = [&](const hooks::Origin& x, std::vector<std::uint8_t>& of_arguments,
                        std::vector<hooks::Origin>& others) {
    if (!x.of || x.captured) return;
    const auto a = std::find(arguments_.begin(), arguments_.end(), x.of);
    if (a != arguments_.end()) {
      of_arguments[static_cast<std::size_t>(a - arguments_.begin())] = 1;
      return;
    }
    if (x.leaf() && x.leaf()->storage->is_symbolic()) return;
    others.push_back(x);
  };
  for (const Tensor& t : outputs) {
    if (!t.defined()) continue;  // an error that others find
    hooks::visit_history(t, [&](const hooks::Origin& x) {
      note(x, flow.reaches, flow.outer);
      if (targets.empty() && x.leaf()) note(x, flow.wants, flow.wanted);
    });
  }
  for (const Tensor& t : targets) {
    if (t.defined()) note(hooks::origin_of(t), flow.wants, flow.wanted);
  }
  program_.gradients.push_back(std::move(flow));
}

void Tracer::refused(const std::string& what) {
  if (refusal_.empty()) refusal_ = what;
}

Program Tracer::finish(std::span<const Tensor> results) {
  if (!refusal_.empty()) {
    const std::string why = std::exchange(refusal_, {});
    fail<CaptureError>("compile", "the function caught an error of its capture and went on", why,
                       "a function without what caused it");
  }
  Program p = snapshot(results);
  abandon();
  return p;
}

void Tracer::abandon() noexcept {
  if (!open_) return;
  open_ = false;
  slots_.clear();
  // Nothing outside has been written yet. The run that follows a capture notes its own writes; if
  // none follows, a tape made before must not find its tensors changed.
  for (auto& [s, before] : versions_before_) before.first->restore_version(before.second);
  versions_before_.clear();
  buffers_.clear();  // symbolic stand-ins point back here
  concrete_.clear();
}

}  // namespace tandem::graph
