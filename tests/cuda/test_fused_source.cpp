// Fused kernels: the source that is generated, how it is kept, and that one kernel gives the bits
// of the separate ops.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "core/backend.h"
#include "cuda/fused.h"
#include "cuda/jit.h"
#include "cuda/kernel_cache.h"
#include "cuda/loops.h"
#include "tests/cuda/fused_programs.h"
#include "tests/on_gpu.h"
#include "tests/op_cases.h"

namespace tandem::cuda {
namespace {

namespace fs = std::filesystem;
using fused_tests::record;
using fused_tests::Recorded;
using fused_tests::Values;

std::string text(const Recorded& r, const FusedLayout& l) {
  return fused_source(r.program, r.types(), l, "kernel").text;
}

// ------------------------------------------------------------------------------------ the source

TEST(FusedSource, RoundsEveryStepAndTakesNumbersAsArguments) {
  const Tensor x = full({4}, 1, {.dtype = DType::f16}), y = full({4}, 1);
  const Recorded r = record([&] { return Values{relu(add(mul(x, 0.3), y))}; });
  const std::string s = text(r, {.same = {false, false, false}});
  EXPECT_NE(s.find("const Half r0 = convert<Half>(functor::mul::apply<float>(convert<float>(i0), "
                   "a.number<float>(0)"),
            s.npos)
      << s;
  EXPECT_NE(s.find("const float r1 = functor::add::apply<float>(convert<float>(r0), i1"), s.npos)
      << s;
  EXPECT_EQ(s.find("0.3"), s.npos) << s;
}

TEST(FusedSource, IsTheSameForOtherSizesAndNumbers) {
  const auto source = [](std::int64_t n, double factor) {
    const Recorded r = record([=, x = full({n}, 1)] { return Values{relu(mul(x, factor))}; });
    return text(r, {.pack = 4, .unroll = 2, .same = {false, false}});
  };
  EXPECT_EQ(source(5, 2), source(100, 3));
  const Recorded r = record([x = full({5}, 1)] { return Values{relu(add(x, 2))}; });
  EXPECT_NE(source(5, 2), text(r, {.pack = 4, .unroll = 2, .same = {false, false}}));
}

TEST(FusedSource, RefusesATypeThatAnOpLacks) {
  FusedProgram p;
  FusedStep step;
  step.op = OpId::neg_;
  step.dtype = DType::boolean;
  step.operands = {0};
  p.steps.push_back(step);
  p.outputs = {0};
  p.strides = {{1}};
  p.shape = {4};
  const DType types[] = {DType::boolean};
  EXPECT_THROW(fused_source(p, types, {.same = {false, false}}, "kernel"), TypeError);
}

// -------------------------------------------------------------------------------------- the bits

class FusedOnGpu : public tandem::testing::GpuByDefault {
 protected:
  static void expect_same_bits(const Recorded& r, const std::string& what) {
    const Values got = r.run();
    ASSERT_EQ(got.size(), r.results.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(cases::compare_bits(got[i], r.results[i]), "")
          << what << " result " << i << " of " << r.program.str();
    }
  }
};

TEST_F(FusedOnGpu, RandomProgramsGiveTheBitsOfTheSeparateOps) {
  const Shape shapes[] = {{1},    {7},       {64},         {1000},         {5, 3},
                          {6, 8}, {2, 3, 4}, {3, 1, 5, 8}, {2, 2, 2, 2, 3}};
  for (std::uint64_t seed = 0; seed < 36; ++seed) {
    const Shape& s = shapes[seed % std::size(shapes)];
    const Recorded r = record(fused_tests::random_program(seed, s, 1 + static_cast<int>(seed) / 2));
    expect_same_bits(r, fmt::format("seed {}", seed));
  }
}

// One source for each of the ways memory is walked, a rest in the last pack, operands that start
// where no pack may.
TEST_F(FusedOnGpu, EveryLayout) {
  const auto check = [](const std::string& what, const Tensor& a, const Tensor& b) {
    expect_same_bits(record([&] {
                       const Tensor c = mul(a, b);
                       return Values{add(c, a), gt(c, b)};
                     }),
                     what);
  };
  for (const DType t : {DType::f32, DType::bf16, DType::f64, DType::u8}) {
    const auto make = [&](const Shape& s) {
      std::vector<double> v(static_cast<std::size_t>(numel(s)));
      for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>(i * 7919 % 61) / 4;
      return Tensor::from<double>(v, s).to(t);
    };
    check("contiguous", make({4096}), make({4096}));
    check("a rest", make({1027}), make({1027}));
    check("not aligned", make({1028}).slice(0, 1, 1028), make({1027}));
    check("a number", make({1027}), make({}));
    check("rows", make({12, 32}), make({32}));
    check("columns", make({12, 32}), make({12, 1}));
    check("short rows", make({12, 3}), make({3}));
    check("rows of six", make({12, 6}), make({6}));
    check("a row and a column", make({12, 1}), make({1, 32}));
    check("transposed", make({12, 32}), make({32, 12}).permute({1, 0}));
    check("both transposed", make({32, 12}).permute({1, 0}), make({32, 12}).permute({1, 0}));
    check("gaps", make({12, 32}).slice(1, 0, 32, 2), make({12, 16}));
    check("channels last", make({2, 8, 3, 3}).to(MemoryFormat::channels_last), make({8, 1, 1}));
    check("two orders", make({2, 8, 3, 3}).to(MemoryFormat::channels_last), make({2, 8, 3, 3}));
    check("five axes", make({2, 3, 2, 5, 4}), make({2, 1, 2, 1, 4}));
  }
}

TEST_F(FusedOnGpu, ManyInputsStepsAndOutputs) {
  std::vector<Tensor> in;
  for (int i = 0; i < kMaxFusedInputs; ++i) {
    in.push_back(Tensor::from<float>({0.5f * static_cast<float>(i), -1, 2, 3, 1.25f}, {5}));
  }
  const Recorded r = record([&] {
    std::vector<Tensor> v = {add(in[0], in[1])};
    for (int i = 2; i < kMaxFusedInputs; ++i)
      v.push_back(sub(mul(v.back(), 0.5), in[static_cast<std::size_t>(i)]));
    while (v.size() < kMaxFusedSteps - kMaxFusedInputs + 1) v.push_back(sigmoid(v.back()));
    return Values{v[3], v[10], v[17], v.back()};
  });
  ASSERT_LE(r.program.steps.size(), static_cast<std::size_t>(kMaxFusedSteps));
  ASSERT_EQ(r.inputs.size(), static_cast<std::size_t>(kMaxFusedInputs));
  expect_same_bits(r, "large program");
}

TEST_F(FusedOnGpu, WritesOverItsInput) {
  for (const std::int64_t n : {5, 1024, 3000}) {
    Tensor x = uniform({n}, -2, 2), y = uniform({n}, -2, 2);
    const Recorded r = record([&] {
      const Tensor a = mul(x, y);
      return Values{add(tanh(a), x)};
    });
    const TensorDesc* descs[] = {&r.inputs[0].desc(), &r.inputs[1].desc()};
    const auto& call = dispatch::prepare(op::fused_elementwise, descs, r.attrs());
    void* in[] = {r.inputs[0].raw_data(), r.inputs[1].raw_data()};
    ASSERT_TRUE(r.inputs[0].same_as(x));
    call.plan->launch({in, in, nullptr, &backend(x.device()).stream(0)});
    EXPECT_EQ(cases::compare_bits(x, r.results[0]), "");
  }
}

// ------------------------------------------------------------------------------- the kept kernels

class KernelCache : public ::testing::Test {
 protected:
  KernelCache() {
    std::string name = (fs::temp_directory_path() / "tandem-test-XXXXXX").string();
    folder = mkdtemp(name.data());
  }
  ~KernelCache() override { fs::remove_all(folder); }

  fs::path folder;
};

TEST_F(KernelCache, GivesBackWhatWasStoredUnderThatKeyOnly) {
  EXPECT_FALSE(load_kernel(folder, "key"));
  const std::string code("a\0b", 3);
  store_kernel(folder / "new" / "folder", "key", code);
  EXPECT_EQ(load_kernel(folder / "new" / "folder", "key"), code);
  EXPECT_FALSE(load_kernel(folder / "new" / "folder", "kez"));
  // A file under the name of another key: no more than a coincidence of hashes.
  fs::copy_file(kernel_cache_file(folder / "new" / "folder", "key"),
                kernel_cache_file(folder, "other"));
  EXPECT_FALSE(load_kernel(folder, "other"));
  // Nothing but the file itself is left behind.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "new" / "folder"), {}), 1);
}

TEST_F(KernelCache, TakesNoDamagedFile) {
  const std::string code(100, 'x');
  store_kernel(folder, "key", code);
  const fs::path file = kernel_cache_file(folder, "key");
  const auto size = fs::file_size(file);
  for (std::uintmax_t at = 0; at < size; at += 7) {
    {
      std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
      f.seekp(static_cast<std::streamoff>(at)).put('!');
    }
    EXPECT_FALSE(load_kernel(folder, "key")) << at;
    store_kernel(folder, "key", code);
    EXPECT_EQ(load_kernel(folder, "key"), code);
    fs::resize_file(file, at);
    EXPECT_FALSE(load_kernel(folder, "key")) << at;
    store_kernel(folder, "key", code);
  }
}

TEST_F(KernelCache, DoesWithoutAFolder) {
  store_kernel({}, "key", "code");
  EXPECT_FALSE(load_kernel({}, "key"));
  std::ofstream(folder / "file") << "in the way";
  store_kernel(folder / "file", "key", "code");
  EXPECT_FALSE(load_kernel(folder / "file", "key"));
}

class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    const char* v = std::getenv(name);
    if (v) before_ = v;
    value ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Environment() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TEST_F(KernelCache, FolderFollowsTheEnvironment) {
  const Environment home("HOME", "/h");
  const Environment xdg("XDG_CACHE_HOME", nullptr), own("TANDEM_KERNEL_CACHE", nullptr);
  EXPECT_EQ(kernel_cache_folder(), "/h/.cache/tandem");
  {
    const Environment e("XDG_CACHE_HOME", "/x");
    EXPECT_EQ(kernel_cache_folder(), "/x/tandem");
    const Environment f("TANDEM_KERNEL_CACHE", "/t");
    EXPECT_EQ(kernel_cache_folder(), "/t");
    const Environment g("TANDEM_KERNEL_CACHE", "off");
    EXPECT_EQ(kernel_cache_folder(), "");
  }
  const Environment none("HOME", nullptr);
  EXPECT_EQ(kernel_cache_folder(), "");
}

TEST_F(KernelCache, IsAskedBeforeTheCompiler) {
  if (!has_device(DeviceType::cuda)) GTEST_SKIP() << "no CUDA device";
  const Environment own("TANDEM_KERNEL_CACHE", folder.c_str());
  const Recorded r = record([x = full({5}, 1)] { return Values{relu(add(x, 2))}; });
  std::string source;
  for (const char* entry : {"first", "second", "third", "fourth"}) {
    source += fused_source(r.program, r.types(), {.same = {false, false}}, entry).text;
  }
  const auto compiled = [&](const char* entry) {
    const std::uint64_t before = jit_compilations();
    jit_kernel(source, entry, 0);
    return jit_compilations() - before;
  };
  const auto file = [&] { return fs::directory_iterator(folder)->path(); };
  EXPECT_EQ(compiled("first"), 1);
  EXPECT_EQ(compiled("first"), 0);   // from memory
  EXPECT_EQ(compiled("second"), 0);  // from the file, which has all four
  fs::resize_file(file(), 1000);
  EXPECT_EQ(compiled("third"), 1);
  EXPECT_GT(fs::file_size(file()), 1000);
  EXPECT_EQ(compiled("fourth"), 0);
}

TEST_F(KernelCache, ErrorsCarryTheCompilersMessages) {
  if (!has_device(DeviceType::cuda)) GTEST_SKIP() << "no CUDA device";
  try {
    jit_kernel("extern \"C\" void broken() { no_such_thing(); }", "broken", 0);
    FAIL();
  } catch (const InternalError& e) {
    EXPECT_NE(std::string(e.what()).find("no_such_thing"), std::string::npos) << e.what();
  }
}

// ------------------------------------------------------------------------------------ the walking

TEST(Divisor, DividesEveryNumber) {
  std::vector<unsigned> numbers = {0, 1, 2, 3, 0x7fffffff, 0x7ffffffe, 0x40000000};
  std::mt19937 rng(5);
  for (int i = 0; i < 200; ++i) numbers.push_back((rng() >> 1) >> (i % 31));
  for (const unsigned d : numbers) {
    if (d == 0) continue;
    const Divisor by = divisor(d);
    for (unsigned n : numbers) {
      n &= 0x7fffffff;
      ASSERT_EQ(by.quotient(n), n / d) << n << " / " << d;
      const unsigned edge = n / d * d;
      ASSERT_EQ(by.quotient(edge), n / d) << edge << " / " << d;
      if (edge > 0) {
        ASSERT_EQ(by.quotient(edge - 1), n / d - 1) << edge - 1 << " / " << d;
      }
    }
  }
}

TEST(Pieces, CoverEveryElementOnceAndStayBelowTheLimit) {
  for (const std::int64_t limit : {1 << 20, 200, 40, 7}) {
    Axes<2> axes;  // [9, 5, 4] and its transposed
    axes.add(9, {20, 1});
    axes.add(5, {4, 9});
    axes.add(4, {1, 45});
    const auto list = [](const Axes<2>& a, std::array<std::int64_t, 2> base) {
      std::vector<std::array<std::int64_t, 2>> all = {base};
      for (int d = 0; d < a.rank(); ++d) {
        std::vector<std::array<std::int64_t, 2>> more;
        for (const auto& x : all) {
          for (std::int64_t i = 0; i < a.size[d]; ++i) {
            more.push_back({x[0] + i * a.stride[0][d], x[1] + i * a.stride[1][d]});
          }
        }
        all = more;
      }
      return all;
    };
    auto want = list(axes, {});
    std::vector<std::array<std::int64_t, 2>> got;
    const auto pieces = pieces_of(axes, limit);
    EXPECT_EQ(pieces.size() == 1, limit > 180);
    for (const auto& p : pieces) {
      const auto part = list(p.axes, p.base);
      for (const auto& x : part) {
        EXPECT_LT(x[0] - p.base[0], limit);
        EXPECT_LT(x[1] - p.base[1], limit);
      }
      got.insert(got.end(), part.begin(), part.end());
    }
    std::sort(want.begin(), want.end());
    std::sort(got.begin(), got.end());
    EXPECT_EQ(got, want);
  }
}

}  // namespace
}  // namespace tandem::cuda
