#include "graph/passes.h"

namespace tandem::graph {
namespace {

bool may_write_over(const Node& n, std::size_t i) {
  return i < 32 && (n.op().traits.inplace >> i & 1);
}

}  // namespace

Program reuse_buffers(const Program& p, PassStats& s) {
  Program out = p;
  // Last node that touches each buffer. Recomputed sharing is not needed as reuse is added: a
  // buffer that is taken over dies here, and the output that takes it has its own entry.
  const Buffers b = buffers_of(p, true);
  const auto root = [&](ValueId v) {
    return static_cast<std::size_t>(b.root[static_cast<std::size_t>(v)]);
  };
  std::vector<std::size_t> last(p.values.size(), 0);
  for (std::size_t n = 0; n < p.nodes.size(); ++n) {
    for (ValueId v : p.nodes[n].inputs) last[root(v)] = n;
    for (ValueId v : p.nodes[n].outputs) last[root(v)] = n;
  }
  for (ValueId v : p.results()) last[root(v)] = p.nodes.size();
  for (std::size_t i = 0; i < p.nodes.size(); ++i) {
    Node& n = out.nodes[i];
    const PreparedOp& c = *n.call;
    if (n.reuse >= 0 || n.inplace || !c.mutated.empty() || c.out.empty() ||
        c.op->traits.kind == OpKind::view) {
      continue;
    }
    for (std::size_t k = 0; k < n.inputs.size(); ++k) {
      const ValueId v = n.inputs[k];
      const std::size_t r = root(v);
      if (!may_write_over(n, k) || last[r] != i || !(c.in[k] == c.out[0])) continue;
      if (b.kind[r] != Buffers::Kind::temporary || b.offset[static_cast<std::size_t>(v)] != 0)
        continue;
      if (p.values[r].desc.bytes() != c.out_bytes[0]) continue;
      // Another input that looks at the same buffer. An elementwise op has read an element when it
      // writes it, so there the very same value is fine.
      const bool by_element = c.op->traits.kind == OpKind::elementwise;
      bool aliased = false;
      for (std::size_t j = 0; j < n.inputs.size(); ++j) {
        aliased |= j != k && root(n.inputs[j]) == r && !(by_element && n.inputs[j] == v);
      }
      if (aliased) continue;
      n.reuse = static_cast<int>(k);
      n.passes.push_back("inplace");
      ++s.changed;
      break;
    }
  }
  s.detail = "reused";
  return out;
}

}  // namespace tandem::graph
