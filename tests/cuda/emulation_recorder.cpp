// Compiled functions whose launches a device refuses to record.
#include "core/error.h"
#include "cuda/emulation/runtime.h"
#include "graph/compile.h"
#include "ops/ops.h"
#include "tests/on_gpu.h"
#include "tests/op_cases.h"

namespace tandem::cuda::testing {
namespace {

using Recorder = tandem::testing::GpuByDefault;

TEST_F(Recorder, WhatCannotBeRecordedIsRunAndTheLedgerSaysWhy) {
  const auto f = [](const Tensor& x) { return exp(x).sum({0}) * 2; };
  for (int k = 0; k < 4; ++k) {
    const bool late = k % 2 != 0;  // at the first recording, or for the second address
    const char* const call = k < 2 ? "cudaStreamBeginCapture" : "cudaGraphInstantiate";
    const cudaError_t code = k < 2 ? cudaErrorUnknown : cudaErrorMemoryAllocation;
    auto fast = compile(f);
    std::vector<Tensor> held;
    for (int i = 0; i < 8; ++i) {
      if (i == (late ? 4 : 1)) emulation::fail_call(call, code);
      const Tensor x = full({3, 4}, 0.1 * i);  // no generator: that would keep memory
      held.push_back(fast(x));
      EXPECT_EQ(cases::compare_bits(held.back(), f(x)), "") << i;
    }
    const std::string why = fast.core().ledger().at(0).no_device_graph;
    EXPECT_NE(why.find("recording failed"), std::string::npos) << why;
    EXPECT_NE(why.find(call), std::string::npos) << why;
    EXPECT_NE(fast.core().explain().find("device graph: none (recording failed"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace tandem::cuda::testing
