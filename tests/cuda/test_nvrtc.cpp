// NVRTC needs no GPU: every kernel that fusion can ask for becomes machine code here, for each
// architecture that the library itself is built for.
#include <gtest/gtest.h>

#include "cuda/fused.h"
#include "cuda/nvrtc.h"
#include "tests/cuda/fused_programs.h"

namespace tandem::cuda {
namespace {

using fused_tests::NamedOp;
using fused_tests::record;
using fused_tests::Recorded;
using fused_tests::Values;

// Kernels k0, k1, … of one translation unit: a compilation costs more for what it includes than for
// each kernel.
class Sources {
 public:
  void add(const Recorded& r, const FusedLayout& layout) {
    const std::string entry = fmt::format("k{}_", count_++);
    text_ += fused_source(r.program, r.types(), layout, entry).text;
  }
  int count() const { return count_; }
  void expect_machine_code(int major, int minor) const {
    const std::string code = nvrtc_compile(text_, major, minor);
    EXPECT_EQ(code.substr(0, 4),
              "\x7f"
              "ELF");
    for (int i = 0; i < count_; ++i) {
      const std::string entry = fmt::format(".text.k{}_", i);
      EXPECT_NE(code.find(entry), std::string::npos) << entry;
    }
  }

 private:
  std::string text_;
  int count_ = 0;
};

FusedLayout layout_of(const Recorded& r, int rank, int pack, int unroll) {
  return {.rank = rank,
          .pack = pack,
          .unroll = unroll,
          .same = std::vector<bool>(r.inputs.size() + r.results.size(), false)};
}

class Nvrtc : public ::testing::TestWithParam<int> {};

// Each op alone, in each type that it takes.
TEST_P(Nvrtc, CompilesEveryOpInEveryType) {
  Sources sources;
  for (const NamedOp& op : fused_tests::every_op()) {
    for (int t = 0; t < kNumDTypes; ++t) {
      const auto ones = [](DType d) { return full({4}, 1, {.dtype = d}); };
      const auto dtype = static_cast<DType>(t);
      const Values in = {ones(dtype), ones(dtype), ones(DType::boolean), ones(DType::i32)};
      try {
        const Recorded r = record([&] { return Values{op.run(in)}; });
        sources.add(r, layout_of(r, 1, 4, 1));
      } catch (const TypeError&) {
        // Not a type of this op.
      }
    }
  }
  EXPECT_GT(sources.count(), 300);
  sources.expect_machine_code(GetParam(), 0);
}

// Long programs of mixed types, and all ways of walking memory.
TEST_P(Nvrtc, CompilesRandomPrograms) {
  Sources sources;
  for (int seed = 0; seed < 30; ++seed) {
    const auto program =
        fused_tests::random_program(static_cast<std::uint64_t>(seed), {2, 3, 4}, 1 + seed / 2);
    const Recorded r = record(program);
    sources.add(r, layout_of(r, 1 + seed % 4, seed % 3 == 0 ? 1 : 4, 1 + seed % 2));
  }
  sources.expect_machine_code(GetParam(), 0);
}

INSTANTIATE_TEST_SUITE_P(, Nvrtc, ::testing::Values(8, 9, 10),
                         [](const auto& p) { return fmt::format("sm_{}0", p.param); });

TEST(NvrtcErrors, CarryTheCompilersMessages) {
  try {
    nvrtc_compile("extern \"C\" __global__ void broken() { no_such_thing(); }", 9, 0);
    FAIL();
  } catch (const InternalError& e) {
    EXPECT_NE(std::string(e.what()).find("no_such_thing"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace tandem::cuda
