// Sizes and attributes near the ends of i64: a named error that gives the caller's line, or the
// right result, before anything is allocated; under UBSan also no overflow on the way.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "nn/nn.h"
#include "ops/ops.h"

namespace tandem {
namespace {

constexpr std::int64_t kMost = INT64_MAX, kLeast = INT64_MIN, kHuge = std::int64_t{1} << 40;

struct Case {
  const char* op;
  std::function<Tensor()> call;
};

TEST(AbsurdSizes, AreNamedErrors) {
  const Tensor x = ones({1, 2, 4, 4}), v = ones({6}), w = ones({2, 2, 3, 3}), one = ones({1});
  const Tensor ids = zeros({3}, {.dtype = DType::i64});
  const Tensor thin = one.expand({std::int64_t{1} << 58});
  const Case cases[] = {
      {"zeros",
       [&] {
         return zeros({kMost, kMost});
       }},
      {"zeros",
       [&] {
         return zeros({kMost, 0, kMost});
       }},
      {"zeros", [&] { return zeros({-1}); }},
      {"arange", [&] { return arange(0, kMost); }},
      {"arange", [&] { return arange(kLeast, kMost); }},
      {"arange", [&] { return arange(kMost, kLeast, -1); }},
      {"arange", [&] { return arange(0.0, 1e300); }},
      {"arange", [&] { return arange(0.0, std::numeric_limits<double>::quiet_NaN()); }},
      {"linspace", [&] { return linspace(0, 1, -1); }},
      {"linspace", [&] { return linspace(0, 1, kMost); }},
      {"eye", [&] { return eye(-2); }},
      {"eye", [&] { return eye(3, kLeast); }},
      {"eye", [&] { return eye(kMost); }},
      {"eye", [&] { return eye(kHuge); }},
      {"pad",
       [&] {
         return pad(v, {kMost, kMost});
       }},
      {"pad",
       [&] {
         return pad(v, {kLeast, 0});
       }},
      {"one_hot", [&] { return one_hot(ids, kMost); }},
      {"max_pool2d",
       [&] {
         return max_pool2d(x, {.kernel = {2, 2}, .stride = {kMost, kMost}, .ceil_mode = true});
       }},
      {"max_pool2d",
       [&] {
         return max_pool2d(x, {.kernel = {kMost, 1}, .padding = {kMost / 2, 0}});
       }},
      {"avg_pool2d",
       [&] {
         return avg_pool2d(x, {.kernel = {2, 2}, .stride = {kMost, 1}, .ceil_mode = true});
       }},
      {"adaptive_avg_pool2d",
       [&] {
         return adaptive_avg_pool2d(x, {kMost, kMost});
       }},
      {"conv2d", [&] { return conv2d(x, w, {}, {.stride = {kMost}}); }},
      {"conv2d", [&] { return conv2d(x, w, {}, {.padding = {kMost}}); }},
      {"conv2d", [&] { return conv2d(x, w, {}, {.dilation = {kMost}}); }},
      {"conv2d", [&] { return conv2d(x, w, {}, {.groups = kMost}); }},
      {"conv2d",
       [&] {
         return conv2d(x.expand({1, 2, 4, 4}), w, {}, {.padding = {kLeast}});
       }},
      {"conv_transpose2d", [&] { return conv_transpose2d(x, w, {}, {.stride = {kMost}}); }},
      {"conv_transpose2d", [&] { return conv_transpose2d(x, w, {}, {.dilation = {kMost}}); }},
      {"conv_transpose2d", [&] { return conv_transpose2d(x, w, {}, {.padding = {kMost}}); }},
      {"expand",
       [&] {
         return v.expand({kMost, 6});
       }},
      {"reshape",
       [&] {
         return v.reshape({kMost, -1});
       }},
      {"slice", [&] { return v.slice(0, 0, 6, kLeast); }},
      {"select", [&] { return v.select(0, kLeast); }},
      {"flatten", [&] { return x.flatten(INT32_MIN, INT32_MAX); }},
      {"split",
       [&] {
         return split(v, std::vector{kMost, kMost, std::int64_t{8}})[0];
       }},
      {"chunk", [&] { return chunk(v, kLeast)[0]; }},
      {"topk", [&] { return topk(v, kMost).first; }},
      {"concat",
       [&] {
         return concat({thin, thin, thin, thin}, 0);
       }},
      {"randint", [&] { return randint(kLeast, kMost, {2}); }},
      {"contiguous", [&] { return one.expand({std::int64_t{1} << 52}).contiguous(); }},
  };
  for (const Case& c : cases) {
    try {
      c.call();
      ADD_FAILURE() << c.op << ": no error";
    } catch (const Error& e) {
      const std::string m = e.what();
      EXPECT_EQ(m.rfind("[" + std::string(c.op) + "] ", 0), 0u) << m;
      EXPECT_NE(m.find("test_absurd_sizes.cpp:"), std::string::npos) << m;
    }
  }
}

TEST(AbsurdSizes, GiveTheRightResultWhereThereIsOne) {
  const Tensor v = arange(0, 6), m = ones({2, 3});
  EXPECT_EQ(arange(kMost - 1, kMost).to_vector<std::int64_t>(), std::vector{kMost - 1});
  EXPECT_EQ(arange(kLeast, kMost, kMost).to_vector<std::int64_t>(),
            (std::vector<std::int64_t>{kLeast, -1, kMost - 1}));
  EXPECT_EQ(arange(0, 10, kLeast).numel(), 0);
  EXPECT_EQ(v.slice(0, kLeast, kMost, kMost).numel(), 1);
  EXPECT_EQ(v.slice(0, kMost, kLeast, 1).numel(), 0);
  EXPECT_EQ(roll(v, {kMost}, {0}).to_vector<int>(), (std::vector{5, 0, 1, 2, 3, 4}));
  EXPECT_EQ(roll(v, {kLeast}, {0}).to_vector<int>(), (std::vector{2, 3, 4, 5, 0, 1}));
  EXPECT_EQ(split(v, kMost).size(), 1u);
  EXPECT_EQ(max_pool2d(ones({1, 1, 4, 4}), {.kernel = {2, 2}, .stride = {INT32_MAX}}).numel(), 1);
  EXPECT_EQ(m.sum().item(), 6);
}

TEST(ErrorSites, ReadsAndViewsNameTheCallersLine) {
  const Tensor v = ones({6});
  const std::function<void()> calls[] = {
      [&] { v.item(); },        [&] { v.data<int>(); },
      [&] { v.select(0, 9); },  [&] { v.reshape({4}); },
      [&] { v.permute({1}); },  [&] { v.unsqueeze(7); },
      [&] { v.squeeze(0); },    [&] { v.transpose(0, 3); },
      [&] { dropout(v, 2); },   [&] { stack({v, ones({2})}, 0); },
      [&] { embedding(v, v); }, [&] { layer_norm(v, {5}); },
  };
  for (const auto& f : calls) {
    try {
      f();
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("test_absurd_sizes.cpp:"), std::string::npos)
          << e.what();
    }
  }
}

}  // namespace
}  // namespace tandem
