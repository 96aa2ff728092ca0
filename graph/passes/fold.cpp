#include "graph/passes.h"

namespace tandem::graph {
namespace {
// A constant is memory for as long as the program lives; above this it is cheaper to compute.
constexpr std::size_t kMaxBytes = 64 << 10;
}  // namespace

// Runs the very kernels the program would run, so the bits are the same.
Program fold_constants(const Program& p, PassStats& s) {
  const Buffers b = buffers_of(p);
  std::vector<Tensor> known(p.values.size());
  for (const auto& c : p.constants) {
    const auto r = static_cast<std::size_t>(b.root[static_cast<std::size_t>(c.value)]);
    if (!b.mutated[r]) known[static_cast<std::size_t>(c.value)] = c.tensor;
  }
  Program out = p;
  out.nodes.clear();
  for (const Node& n : p.nodes) {
    bool fold = n.call->mutated.empty() && !n.inplace && !n.op().traits.random;
    for (ValueId v : n.inputs) fold &= known[static_cast<std::size_t>(v)].defined();
    for (std::size_t k = 0; fold && k < n.outputs.size(); ++k) {
      const auto r = static_cast<std::size_t>(b.root[static_cast<std::size_t>(n.outputs[k])]);
      // What is written later, or given to the caller, must be new at every run.
      fold = !b.mutated[r] && b.kind[r] != Buffers::Kind::output &&
             n.call->out[k].bytes() <= kMaxBytes;
    }
    if (!fold) {
      out.nodes.push_back(n);
      continue;
    }
    std::vector<const Tensor*> in;
    for (ValueId v : n.inputs) in.push_back(&known[static_cast<std::size_t>(v)]);
    const dispatch::InterceptorScope none(nullptr);
    const Outputs r = dispatch::execute(*n.call, in, n.source.loc);
    for (std::size_t k = 0; k < n.outputs.size(); ++k) {
      known[static_cast<std::size_t>(n.outputs[k])] = r[static_cast<int>(k)];
      out.constants.push_back({n.outputs[k], r[static_cast<int>(k)]});
    }
    ++s.changed;
  }
  // Keep only the constants still in use.
  std::vector<std::uint8_t> used(p.values.size(), 0);
  for (const Node& n : out.nodes) {
    for (ValueId v : n.inputs) used[static_cast<std::size_t>(v)] = 1;
  }
  for (ValueId v : out.results()) used[static_cast<std::size_t>(v)] = 1;
  std::erase_if(out.constants,
                [&](const Constant& c) { return !used[static_cast<std::size_t>(c.value)]; });
  s.detail = "folded";
  out.relink();
  return out;
}

}  // namespace tandem::graph
