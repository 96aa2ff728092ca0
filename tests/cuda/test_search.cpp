#include "cuda/search.h"

#include <gtest/gtest.h>

#include <vector>

#include "ops/op_list.h"
#include "tests/on_gpu.h"

namespace tandem {
namespace {

using Search = testing::OnGpu;

TEST_F(Search, FindsTheFastestWay) {
  const Device gpu{DeviceType::cuda, 0};
  const TensorDesc desc(DType::f32, gpu, {3, 5});
  const TensorDesc in[] = {desc, desc}, out[] = {desc};
  const PlanRequest r{op::matmul, in, out, nullptr, {}};
  cuda::CudaStream& stream = cuda::current_stream(0);
  constexpr std::size_t workspace = std::size_t{2} << 20;
  const auto before = backend(gpu).allocator(0).stats().in_use;
  for (const std::size_t quick : {0, 1, 2}) {
    std::vector<int> runs(3);
    const std::size_t found =
        cuda::fastest(r, stream, 3, workspace, [&](std::size_t way, const LaunchArgs& args) {
          ++runs[way];
          EXPECT_EQ(args.stream, &stream);
          for (const void* p : {args.in[0], args.in[1], args.out[0]}) EXPECT_NE(p, nullptr);
          for (int k = 0; k < (way == quick ? 1 : 8); ++k) {
            ASSERT_EQ(cudaMemsetAsync(args.workspace, 0, workspace, stream.handle()), cudaSuccess);
          }
        });
    EXPECT_EQ(found, quick);
    for (const int n : runs) EXPECT_EQ(n, runs[0]);
  }
  EXPECT_EQ(backend(gpu).allocator(0).stats().in_use, before);  // gives its memory back
}

}  // namespace
}  // namespace tandem
