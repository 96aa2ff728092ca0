#include "ops/grad_util.h"

#include "core/dispatch.h"
#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"

namespace tandem {

Tensor reduce_to(const Tensor& g, const TensorDesc& like) {
  Tensor r = g;
  if (!(g.shape() == like.shape)) {
    const int extra = g.rank() - like.rank();
    Dims axes;
    for (int i = 0; i < g.rank(); ++i) {
      if (i < extra || (like.dim(i - extra) == 1 && g.dim(i) != 1)) axes.push_back(i);
    }
    // An empty list would mean all axes; there is none only if just the ranks differ.
    if (!axes.empty()) r = sum(r, axes, /*keepdim=*/true);
    if (extra != 0) r = r.reshape(like.shape);
  }
  return cast(r, like.dtype);
}

Tensor zeros_of(const TensorDesc& like) {
  const FullAttrs a{like.shape, 0, like.dtype, like.device, like.format(MemoryFormat::contiguous)};
  return std::move(dispatch::call(op::full, Inputs{}, a, SrcLoc::current())[0]);
}

void expect_no_epilogue(const VjpContext& c, bool epilogue) {
  if (epilogue) {
    fail<InternalError>(c.call.op->name, "a call with an epilogue has no gradient rule",
                        c.call.attrs.str());
  }
}

}  // namespace tandem
