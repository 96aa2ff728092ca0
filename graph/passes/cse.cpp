#include <unordered_map>

#include "graph/passes.h"

namespace tandem::graph {
namespace {

std::uint64_t key_of(const Node& n) {
  std::uint64_t h = n.call->hash;
  for (ValueId v : n.inputs) h = detail::mix(h, static_cast<std::uint64_t>(v));
  return h;
}

bool same_call(const Node& a, const Node& b) {
  if (a.inputs != b.inputs || a.call->op != b.call->op) return false;
  if (a.call.get() == b.call.get()) return true;
  const AttrRef x = a.call->attrs.ref(), y = b.call->attrs.ref();
  return (!x.data || x.type->equal(x.data, y.data)) && a.call->out == b.call->out &&
         a.call->policy == b.call->policy;
}

}  // namespace

// Program order and SSA do most of the work: equal inputs mean equal contents. What needs care is
// identity: a buffer that is written later, or handed to the caller, must stay one of its own.
Program eliminate_common_subexpressions(const Program& p, PassStats& s) {
  const Buffers b = buffers_of(p);
  const auto private_buffer = [&](ValueId v) {
    const auto r = static_cast<std::size_t>(b.root[static_cast<std::size_t>(v)]);
    return !b.mutated[r] && b.kind[r] != Buffers::Kind::output;
  };
  Program out = p;
  out.nodes.clear();
  std::vector<ValueId> replaced(p.values.size());
  for (std::size_t v = 0; v < replaced.size(); ++v) replaced[v] = static_cast<ValueId>(v);
  std::unordered_multimap<std::uint64_t, std::size_t> seen;  // -> index in out.nodes
  for (Node n : p.nodes) {
    for (ValueId& v : n.inputs) v = replaced[static_cast<std::size_t>(v)];
    const bool is_view = n.op().traits.kind == OpKind::view;
    bool eligible = n.call->mutated.empty() && !n.inplace && !n.op().traits.random;
    // Two views of one buffer are the same thing whatever happens to the buffer: the values they
    // were made from are equal, so nothing was written in between.
    if (!is_view) {
      for (ValueId v : n.outputs) eligible &= private_buffer(v);
    }
    if (eligible) {
      const std::uint64_t h = key_of(n);
      auto [i, e] = seen.equal_range(h);
      for (; i != e; ++i) {
        if (same_call(out.nodes[i->second], n)) break;
      }
      if (i != e) {
        Node& first = out.nodes[i->second];
        for (std::size_t k = 0; k < n.outputs.size(); ++k) {
          replaced[static_cast<std::size_t>(n.outputs[k])] = first.outputs[k];
        }
        if (first.passes.empty() || std::string_view(first.passes.back()) != "cse") {
          first.passes.push_back("cse");
        }
        ++s.changed;
        continue;
      }
      seen.emplace(h, out.nodes.size());
    }
    out.nodes.push_back(std::move(n));
  }
  const auto renew = [&](ValueId& v) {
    if (v >= 0) v = replaced[static_cast<std::size_t>(v)];
  };
  for (ValueId& v : out.outputs) renew(v);
  for (auto& w : out.grad_writes) renew(w.value);
  for (ValueId& v : out.effects) renew(v);
  s.detail = "merged";
  out.relink();
  return out;
}

}  // namespace tandem::graph
