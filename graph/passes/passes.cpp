#include "graph/passes.h"

namespace tandem::graph {

namespace {
constexpr Pass kPasses[] = {
    {"fold", Exactness::exact, "compute at compile time what depends on constants only",
     fold_constants},
    {"cse", Exactness::exact, "compute equal expressions once", eliminate_common_subexpressions},
    {"dce", Exactness::exact, "drop what no result and no state depends on", eliminate_dead_code},
    {"reorder", Exactness::exact,
     "take the maximum of a window before its ReLU, which then has fewer elements", reorder},
    {"epilogue", Exactness::exact, "apply ReLUs, sums and masks beside a layer inside its kernel",
     fuse_epilogues},
    {"vendor_epilogue", Exactness::approximate,
     "the same in the vendors' kernels, which round otherwise and may lose a NaN; a batch norm's "
     "sums in the convolution in front, or all of it in the one behind",
     fuse_vendor_epilogues},
    {"fuse", Exactness::exact, "run chains of elementwise ops as one kernel, tile by tile",
     fuse_elementwise},
    {"inplace", Exactness::exact, "write a result over an input that is not needed any more",
     reuse_buffers},
};
}

std::span<const Pass> all_passes() {
  return kPasses;
}

const Pass& find_pass(std::string_view name) {
  std::string known;
  for (const Pass& p : kPasses) {
    if (name == p.name) return p;
    known += (known.empty() ? "" : ", ") + std::string(p.name);
  }
  fail("pass", "no such pass", std::string(name), known);
}

}  // namespace tandem::graph
