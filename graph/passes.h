// Passes: pure functions program -> program. One file each in passes/.
#pragma once
#include <span>
#include <string>

#include "core/function_ref.h"
#include "graph/program.h"

namespace tandem::graph {

/// What a pass counted.
struct PassStats {
  int nodes_before = 0, nodes_after = 0;
  int changed = 0;     // nodes folded, merged, removed, fused, or given a buffer to reuse
  std::string detail;  // what "changed" counts
  double ms = 0;
};

/// A transformation of programs that keeps their meaning to its exactness class.
struct Pass {
  const char* name;
  Exactness exactness;
  const char* summary;
  Program (*run)(const Program&, PassStats&);
};

/// In the order they run. What each does: its `summary` in all_passes().
Program fold_constants(const Program& p, PassStats& s);
Program eliminate_common_subexpressions(const Program& p, PassStats& s);
Program eliminate_dead_code(const Program& p, PassStats& s);
Program reorder(const Program& p, PassStats& s);
Program fuse_epilogues(const Program& p, PassStats& s);
Program fuse_vendor_epilogues(const Program& p, PassStats& s);
/// The part of fuse_vendor_epilogues that has the statistics of a batch norm in training summed up
/// by the convolution in front, where both plans of the convolution, with sums and without, are
/// `offered` for that.
Program fuse_sums(const Program& p, PassStats& s, FunctionRef<bool(const Plan&)> offered);
/// The same for a batch norm in evaluation, with its ReLU, in front of a convolution, which then
/// normalises what it reads.
Program fuse_norms(const Program& p, PassStats& s, FunctionRef<bool(const Plan&)> offered);
Program fuse_elementwise(const Program& p, PassStats& s);
Program reuse_buffers(const Program& p, PassStats& s);

/// All of them, in the order they run.
std::span<const Pass> all_passes();
/// Throws ValueError listing the passes if there is none of that name.
const Pass& find_pass(std::string_view name);

}  // namespace tandem::graph
