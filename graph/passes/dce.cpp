#include "graph/passes.h"

namespace tandem::graph {

Program eliminate_dead_code(const Program& p, PassStats& s) {
  std::vector<std::uint8_t> live(p.values.size(), 0);
  for (ValueId v : p.results()) live[static_cast<std::size_t>(v)] = 1;
  std::vector<std::uint8_t> keep(p.nodes.size(), 0);
  for (std::size_t n = p.nodes.size(); n-- > 0;) {
    for (ValueId v : p.nodes[n].outputs) keep[n] |= live[static_cast<std::size_t>(v)];
    if (!keep[n]) continue;
    for (ValueId v : p.nodes[n].inputs) live[static_cast<std::size_t>(v)] = 1;
  }
  Program out = p;
  out.nodes.clear();
  for (std::size_t n = 0; n < p.nodes.size(); ++n) {
    if (keep[n]) {
      out.nodes.push_back(p.nodes[n]);
    } else {
      ++s.changed;
    }
  }
  s.detail = "removed";
  out.relink();
  return out;
}

}  // namespace tandem::graph
