#include "graph/program.h"

#include <algorithm>
#include <unordered_map>

#include "ops/fused.h"

namespace tandem::graph {

void Program::relink() {
  for (Value& v : values) v.node = -1;
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    for (std::size_t i = 0; i < nodes[n].outputs.size(); ++i) {
      Value& v = values[static_cast<std::size_t>(nodes[n].outputs[i])];
      v.node = static_cast<std::int32_t>(n);
      v.output = static_cast<std::int32_t>(i);
    }
  }
}

std::vector<ValueId> Program::results() const {
  std::vector<ValueId> r = outputs;
  for (const auto& w : grad_writes) {
    if (w.value >= 0) r.push_back(w.value);
  }
  r.insert(r.end(), effects.begin(), effects.end());
  return r;
}

Buffers buffers_of(const Program& p, bool reuse) {
  using Kind = Buffers::Kind;
  const std::size_t n = p.values.size();
  Buffers b;
  b.root.resize(n);
  b.offset.assign(n, 0);
  b.mutated.assign(n, 0);
  b.kind.assign(n, Kind::temporary);
  for (std::size_t i = 0; i < n; ++i) b.root[i] = static_cast<ValueId>(i);
  const auto share = [&](ValueId out, ValueId in, std::int64_t offset) {
    const auto o = static_cast<std::size_t>(out), i = static_cast<std::size_t>(in);
    b.root[o] = b.root[i];
    b.offset[o] = b.offset[i] + offset;
  };
  for (const Node& node : p.nodes) {
    const PreparedOp& c = *node.call;
    if (c.op->traits.kind == OpKind::view) {
      share(node.outputs[0], node.inputs[0], c.view_offset);
      continue;
    }
    if (node.inplace) {
      share(node.outputs[0], node.inputs[0], 0);
      b.mutated[static_cast<std::size_t>(b.root[static_cast<std::size_t>(node.inputs[0])])] = 1;
    } else if (reuse && node.reuse >= 0) {
      share(node.outputs[0], node.inputs[static_cast<std::size_t>(node.reuse)], 0);
    }
    for (std::size_t k = 0; k < c.mutated.size(); ++k) {
      const ValueId in = node.inputs[static_cast<std::size_t>(c.mutated[k])];
      share(node.outputs[c.out.size() + k], in, 0);
      b.mutated[static_cast<std::size_t>(b.root[static_cast<std::size_t>(in)])] = 1;
    }
  }
  const auto mark = [&](ValueId v, Kind k) {
    Kind& kind = b.kind[static_cast<std::size_t>(b.root[static_cast<std::size_t>(v)])];
    if (kind == Kind::temporary) kind = k;
  };
  for (ValueId v : p.inputs) mark(v, Kind::input);
  for (const auto& s : p.states) mark(s.value, Kind::state);
  for (const auto& c : p.constants) mark(c.value, Kind::constant);
  for (const auto& g : p.grad_reads) mark(g.value, Kind::grad_read);
  for (ValueId v : p.outputs) mark(v, Kind::output);
  for (const auto& w : p.grad_writes) {
    if (w.value >= 0) mark(w.value, Kind::output);
  }
  return b;
}

std::vector<int> use_counts(const Program& p) {
  std::vector<int> n(p.values.size(), 0);
  for (const Node& node : p.nodes) {
    for (ValueId v : node.inputs) ++n[static_cast<std::size_t>(v)];
  }
  return n;
}

// ------------------------------------------------------------------------------------ verifier

namespace {

[[noreturn]] void broken(const char* after, std::string_view rule, std::string_view got = {}) {
  fail<InternalError>(fmt::format("verify after {}", after), rule, got);
}

std::string label(const Program& p, std::size_t n) {
  return fmt::format("node {} ({})", n, p.nodes[n].op().name);
}

}  // namespace

void verify(const Program& p, const char* after) {
  const std::size_t n = p.values.size();
  const auto exists = [n](ValueId v) { return v >= 0 && static_cast<std::size_t>(v) < n; };
  const auto value = [&p](ValueId v) -> const Value& {
    return p.values[static_cast<std::size_t>(v)];
  };

  // First what everything else relies on: that all ids exist, and are defined before use.
  std::vector<std::uint8_t> defined(n, 0);
  const auto define = [&](ValueId v, const std::string& by) {
    if (!exists(v)) broken(after, "value out of range", by);
    if (defined[static_cast<std::size_t>(v)]++) broken(after, "a value is defined twice", by);
  };
  const auto is_defined = [&](ValueId v) {
    return exists(v) && defined[static_cast<std::size_t>(v)];
  };
  for (ValueId v : p.inputs) define(v, "input");
  for (const auto& s : p.states) define(s.value, "state");
  for (const auto& c : p.constants) {
    define(c.value, "constant");
    if (!(c.tensor.desc() == value(c.value).desc)) {
      broken(after, "a constant does not match its description");
    }
  }
  for (const auto& g : p.grad_reads) define(g.value, "gradient");
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    const Node& node = p.nodes[i];
    const PreparedOp& c = *node.call;
    if (node.inputs.size() != c.in.size()) broken(after, "wrong number of inputs", label(p, i));
    if (node.outputs.size() != c.out.size() + c.mutated.size()) {
      broken(after, "wrong number of outputs", label(p, i));
    }
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const ValueId v = node.inputs[k];
      if (!is_defined(v)) broken(after, "a value is used before it is defined", label(p, i));
      if (!(value(v).desc == c.in[k])) broken(after, "an input does not match its op", label(p, i));
    }
    if (node.reuse >= 0 && (static_cast<std::size_t>(node.reuse) >= node.inputs.size() ||
                            !(c.in[static_cast<std::size_t>(node.reuse)] == c.out[0]))) {
      broken(after, "a reused buffer does not fit", label(p, i));
    }
    for (std::size_t k = 0; k < node.outputs.size(); ++k) {
      define(node.outputs[k], label(p, i));
      const TensorDesc& want =
          k < c.out.size() ? c.out[k] : c.in[static_cast<std::size_t>(c.mutated[k - c.out.size()])];
      if (!(value(node.outputs[k]).desc == want)) {
        broken(after, "an output does not match its op", label(p, i));
      }
    }
  }
  for (ValueId v : p.results()) {
    if (!is_defined(v)) broken(after, "a result is not defined");
  }

  // Then who writes over what. The value each buffer holds now, as the id of the last write; a
  // value remembers which write it saw when it was made.
  const Buffers b = buffers_of(p, true);
  std::vector<std::int32_t> writes(n, 0), seen(n, 0);
  const auto last_write = [&](ValueId v) -> std::int32_t& {
    return writes[static_cast<std::size_t>(b.root[static_cast<std::size_t>(v)])];
  };
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    const Node& node = p.nodes[i];
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (seen[static_cast<std::size_t>(node.inputs[k])] != last_write(node.inputs[k])) {
        broken(after, "a value is read after its buffer was written over",
               fmt::format("{} input {}", label(p, i), k));
      }
    }
    if (node.inplace) ++last_write(node.inputs[0]);
    for (int m : node.call->mutated) ++last_write(node.inputs[static_cast<std::size_t>(m)]);
    if (node.reuse >= 0) ++last_write(node.inputs[static_cast<std::size_t>(node.reuse)]);
    for (ValueId v : node.outputs) seen[static_cast<std::size_t>(v)] = last_write(v);
  }
  for (ValueId v : p.results()) {
    if (seen[static_cast<std::size_t>(v)] != last_write(v)) {
      broken(after, "a result was written over before the end");
    }
  }
}

// ---------------------------------------------------------------------------------------- hash

std::uint64_t hash(const Program& p) {
  using detail::mix;
  std::vector<std::uint64_t> number(p.values.size(), 0);
  std::uint64_t next = 1;
  std::uint64_t h = 0x7a6e6d;
  const auto desc = [&](const TensorDesc& d) {
    h = mix(h, static_cast<std::uint64_t>(d.dtype) |
                   static_cast<std::uint64_t>(d.device.type) << 8 |
                   static_cast<std::uint64_t>(d.device.index) << 16);
    h = detail::hash_field(detail::hash_field(h, d.shape), d.strides);
  };
  for (ValueId v : p.inputs) {
    number[static_cast<std::size_t>(v)] = next++;
    desc(p.values[static_cast<std::size_t>(v)].desc);
  }
  std::unordered_map<ValueId, const Tensor*> constants;
  for (const auto& c : p.constants) constants[c.value] = &c.tensor;
  const auto use = [&](ValueId v) {
    std::uint64_t& id = number[static_cast<std::size_t>(v)];
    if (id == 0) {  // a state, constant or gradient: numbered where it is first used
      id = next++;
      desc(p.values[static_cast<std::size_t>(v)].desc);
      if (auto it = constants.find(v); it != constants.end()) {
        for (const std::uint64_t x : it->second->to_bits()) h = mix(h, x);
      } else {
        h = mix(h, 0x57a7e);
      }
    }
    h = mix(h, id);
  };
  for (const Node& n : p.nodes) {
    h = detail::hash_field(h, std::string(n.op().name));
    h = mix(h, n.call->policy.key());
    h = mix(h,
            static_cast<std::uint64_t>(n.inplace) * 64 + static_cast<std::uint64_t>(n.reuse + 1));
    if (n.call->attrs.ref().data) {
      h = mix(h, n.call->attrs.ref().type->hash(n.call->attrs.ref().data));
    }
    for (ValueId v : n.inputs) use(v);
    for (ValueId v : n.outputs) {
      number[static_cast<std::size_t>(v)] = next++;
      desc(p.values[static_cast<std::size_t>(v)].desc);
    }
  }
  for (ValueId v : p.results()) use(v);
  return h;
}

// ---------------------------------------------------------------------------------------- dump

namespace {

std::string value_list(const std::vector<ValueId>& v) {
  std::string s;
  for (std::size_t i = 0; i < v.size(); ++i) s += fmt::format("{}%{}", i ? ", " : "", v[i]);
  return s;
}

std::string attributes(const Node& n) {
  if (&n.op() != &op::fused_elementwise) return n.call->attrs.str();
  return FusedProgram::decode(n.call->attrs.as<FusedAttrs>().code).str();
}

// "train.cpp:12 in 0, gradient of conv2d": for people who look for the line that made a node.
std::string comment(const Node& n) {
  const CallSource& c = n.source;
  std::string s = str(c.loc);
  if (!c.module.empty()) s += " in " + c.module;
  if (!c.gradient_of.empty()) {
    s += ", gradient of " + c.gradient_of;
  } else if (!c.function.empty() && c.function != n.op().name) {
    s += ", part of " + c.function;
  }
  return s;
}

std::string escape(const std::string& s) {
  std::string out;
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string dump(const Program& p) {
  std::string s;
  const auto source = [&](ValueId v, std::string_view what) {
    s += fmt::format("%{} = {} : {}\n", v, what, p.values[static_cast<std::size_t>(v)].desc.str());
  };
  for (std::size_t i = 0; i < p.inputs.size(); ++i) {
    source(p.inputs[i], i < p.input_names.size() && !p.input_names[i].empty()
                            ? "input " + p.input_names[i]
                            : fmt::format("input {}", i));
  }
  for (const auto& x : p.states) source(x.value, "state");
  for (const auto& x : p.constants) source(x.value, "constant");
  for (const auto& x : p.grad_reads) source(x.value, "gradient slot");
  for (const Node& n : p.nodes) {
    s += fmt::format("{} = {}({})", value_list(n.outputs), n.op().name, value_list(n.inputs));
    if (const auto a = attributes(n); !a.empty()) s += " {" + a + "}";
    if (n.inplace) s += " in place";
    if (n.reuse >= 0) s += fmt::format(" reuses input {}", n.reuse);
    s += " :";
    for (const auto& d : n.call->out) s += " " + d.str();
    if (n.call->plan) s += "  [" + n.call->plan->name + "]";
    if (const auto where = comment(n); !where.empty()) s += "  # " + where;
    for (const char* pass : n.passes) s += fmt::format(" <{}>", pass);
    s += "\n";
  }
  s += fmt::format("return {}\n", value_list(p.outputs));
  for (const auto& w : p.grad_writes) {
    s += w.value >= 0 ? fmt::format("gradient slot <- %{}\n", w.value) : "gradient slot <- none\n";
  }
  if (!p.effects.empty()) s += fmt::format("state after: {}\n", value_list(p.effects));
  return s;
}

std::string dump_dot(const Program& p) {
  std::string s = "digraph program {\n  rankdir=TB; node [shape=box, fontname=monospace];\n";
  const auto source = [&](ValueId v, const char* what) {
    s += fmt::format("  v{} [shape=ellipse, label=\"{}\\n{}\"];\n", v, what,
                     escape(p.values[static_cast<std::size_t>(v)].desc.str()));
  };
  for (ValueId v : p.inputs) source(v, "input");
  for (const auto& x : p.states) source(x.value, "state");
  for (const auto& x : p.constants) source(x.value, "constant");
  for (const auto& x : p.grad_reads) source(x.value, "gradient slot");
  const auto name = [&](ValueId v) {
    const auto node = p.values[static_cast<std::size_t>(v)].node;
    return node < 0 ? fmt::format("v{}", v) : fmt::format("n{}", node);
  };
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    const Node& n = p.nodes[i];
    std::string out;
    for (const auto& d : n.call->out) out += "\\n" + escape(d.str());
    s += fmt::format("  n{} [label=\"{}{}{}\"];\n", i, n.op().name,
                     n.source.module.empty() ? "" : "\\n" + escape(n.source.module), out);
    for (ValueId v : n.inputs) s += fmt::format("  {} -> n{};\n", name(v), i);
  }
  for (ValueId v : p.outputs) s += fmt::format("  {} -> output;\n", name(v));
  // What is left behind: nodes of their own, as they have no other reader.
  const auto sink = [&](const char* kind, std::size_t i, ValueId v, const char* what) {
    s += fmt::format("  {}{} [shape=ellipse, style=dashed, label=\"{}\"];\n", kind, i, what);
    if (v >= 0) s += fmt::format("  {} -> {}{};\n", name(v), kind, i);
  };
  for (std::size_t i = 0; i < p.effects.size(); ++i) sink("e", i, p.effects[i], "state after");
  for (std::size_t i = 0; i < p.grad_writes.size(); ++i) {
    const ValueId v = p.grad_writes[i].value;
    sink("g", i, v, v < 0 ? "gradient slot, emptied" : "gradient slot");
  }
  return s + "}\n";
}

}  // namespace tandem::graph
