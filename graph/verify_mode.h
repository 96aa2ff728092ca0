// Verify mode: eager beside compiled, compared node by node.
#pragma once
#include "graph/compile.h"

namespace tandem::graph {

/// Runs `f` eagerly, puts every state back, runs the compiled program, and compares each value both
/// computed, bit for bit, in program order. Throws CaptureError at the first node that differs,
/// with its op, line and passes. Returns the compiled program's results.
std::vector<Tensor> verify_against_eager(const CompiledProgram& program,
                                         std::span<const Tensor* const> args,
                                         const TensorFunction& f);

}  // namespace tandem::graph
