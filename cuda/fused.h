// Fused elementwise programs as CUDA C++: what is compiled at run time (cuda/jit.h).
#pragma once
#include <string>
#include <vector>

#include "ops/fused.h"

namespace tandem::cuda {

/// How the kernel walks memory. Sizes and strides are no part of it: they are arguments, so that
/// one kernel serves all shapes of a kind.
struct FusedLayout {
  int rank = 1;            // axes, at least 1
  int pack = 1;            // elements of a unit: 1, or neighbours in all tensors
  int unroll = 1;          // units of a thread
  std::vector<bool> same;  // of each tensor, inputs first: one element stands for a pack
};

struct FusedSource {
  std::string text;                    // one translation unit
  std::vector<std::uint64_t> numbers;  // FusedArgs::numbers
  std::size_t args_bytes;
};

/// The source of `program` as a kernel named `entry`: the same functors as the separate ops call,
/// each result rounded to its dtype. Throws TypeError for a step that has no kernel in its type.
FusedSource fused_source(const FusedProgram& program, std::span<const DType> inputs,
                         const FusedLayout& layout, const std::string& entry);

}  // namespace tandem::cuda
