// Forward results of every case: against its reference, in every dtype, layout and shape, with the
// vendor's kernels and the plain ones, twice, and with one thread and two.
#include <map>

#include "core/parallel.h"
#include "core/policy.h"
#include "tests/ops/cases_fixture.h"

namespace tandem::cases {
namespace {

class Forward : public OpCases {
 protected:
  void check(const std::vector<Tensor>& args, const std::string& what) const {
    const auto want = expected(c(), args);
    const auto got = run(c(), args);
    ASSERT_EQ(got.size(), want.size()) << what;
    for (std::size_t k = 0; k < got.size(); ++k) {
      EXPECT_EQ(compare(c(), got[k], want[k]), "") << what << ", result " << k;
    }
  }
};

TEST_P(Forward, EqualsReference) {
  for (const DType t : c().dtypes) {
    for (const Shapes& shapes : every_shape()) {
      const auto args = make_args(c(), t, shapes);
      for (const bool vendor : {true, false}) {
        const PolicyScope scope({.vendor = vendor});
        check(args, fmt::format("{} {} vendor {}", tandem::name_of(t), str(shapes), vendor));
      }
      if (HasFailure()) return;
    }
  }
}

TEST_P(Forward, HasTheRightType) {
  for (const DType t : c().dtypes) {
    const auto got = run(c(), make_args(c(), t, shapes_of(c())));
    for (std::size_t k = 0; k < got.size(); ++k) {
      const Type type = c().types[std::min(k, c().types.size() - 1)];
      if (type == Type::any) continue;
      EXPECT_STREQ(tandem::name_of(got[k].dtype()), tandem::name_of(resolve(type, t)))
          << "for " << tandem::name_of(t) << ", result " << k;
    }
  }
}

TEST_P(Forward, TakesAnyLayout) {
  for (const DType t : c().dtypes) {
    for (const Shapes& shapes : every_shape()) {
      const auto args = make_args(c(), t, shapes);
      for (const Layout l : {Layout::reversed_axes, Layout::sliced, Layout::channels_last}) {
        std::vector<Tensor> other;
        for (const Tensor& a : args) other.push_back(in_layout(a, l));
        for (const bool vendor : {true, false}) {
          const PolicyScope scope({.vendor = vendor});
          check(other, fmt::format("{} {} {} vendor {}", tandem::name_of(t), str(shapes),
                                   cases::name_of(l), vendor));
        }
        // One argument at a time: kernels like to ask only the first.
        for (std::size_t i = 0; args.size() > 1 && i < args.size(); ++i) {
          auto one = args;
          one[i] = other[i];
          check(one, fmt::format("{} {} argument {} {}", tandem::name_of(t), str(shapes), i,
                                 cases::name_of(l)));
        }
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(Forward, TakesExpandedArguments) {
  for (const DType t : c().dtypes) {
    const auto args = make_args(c(), t, shapes_of(c()));
    for (std::size_t i = 0; i < args.size(); ++i) {
      for (int axis = 0; axis < args[i].rank(); ++axis) {
        if (args[i].dim(axis) == 0) continue;
        auto one = args;
        one[i] = args[i].slice(axis, 0, 1).expand(args[i].shape());
        check(one, fmt::format("{} argument {} repeated along {}", tandem::name_of(t), i, axis));
      }
    }
    if (HasFailure()) return;
  }
}

// Why the first result of a case is not channels-last although its first argument is, or "". The
// rule and its exceptions are those of docs/types.md.
std::string exempt(const std::string& name) {
  static const std::map<std::string, std::string> cases = {
      {"copy_contiguous", "asks for row-major"},
      {"permute", "a view: the memory stays, the axes change places"},
      {"matmul_broadcast", "matrix products are row-major"},
  };
  const auto it = cases.find(name);
  if (it != cases.end()) return it->second;
  if (name.ends_with("_rows")) return "reductions are row-major";
  if (name.starts_with("grad_weight_")) return "the format wanted is an argument";
  return {};
}

TEST_P(Forward, KeepsChannelsLast) {
  const std::string why = exempt(c().name);
  bool tried = false, kept = true;
  for (const DType t : c().dtypes) {
    for (const Shapes& shapes : every_shape()) {
      if (shapes[0].size() != 4) continue;
      auto args = make_args(c(), t, shapes);
      for (Tensor& a : args) a = in_layout(a, Layout::channels_last);
      for (const bool vendor : {true, false}) {
        const PolicyScope scope({.vendor = vendor});
        const auto got = run(c(), args);
        // One of both formats (one channel, one pixel, no element) says nothing.
        if (got[0].rank() != 4 || (got[0].is_contiguous() && got[0].is_channels_last())) continue;
        tried = true;
        kept = kept && got[0].is_channels_last();
        if (!why.empty()) continue;
        EXPECT_TRUE(got[0].is_channels_last())
            << tandem::name_of(t) << " " << str(shapes) << ": " << got[0].desc().str() << " "
            << got[0].strides().str() << " vendor " << vendor;
      }
    }
  }
  if (!tried) GTEST_SKIP() << "no result of four axes, or of both formats";
  EXPECT_NE(kept, !why.empty()) << "exempt for nothing";
}

TEST_P(Forward, RepeatsItself) {
  for (const DType t : c().dtypes) {
    const auto args = make_args(c(), t, shapes_of(c()));
    const auto a = run(c(), args), b = run(c(), args);
    for (std::size_t k = 0; k < a.size(); ++k) EXPECT_EQ(compare_bits(a[k], b[k]), "");
  }
}

TEST_P(Forward, LeavesItsArgumentsAlone) {
  for (const Layout l : {Layout::contiguous, Layout::sliced}) {
    auto args = make_args(c(), c().dtypes[0], shapes_of(c()));
    std::vector<Tensor> before;
    for (Tensor& a : args) {
      a = in_layout(a, l);
      before.push_back(a.clone());
    }
    run(c(), args);
    for (std::size_t i = 0; i < args.size(); ++i) {
      EXPECT_EQ(compare(c(), args[i], to_array(before[i])), "");
    }
  }
}

TEST_P(Forward, DoesNotDependOnThreads) {
  if (c().big.empty()) GTEST_SKIP();
  const int threads = num_threads();
  for (const DType t : c().dtypes) {
    if (t != DType::f32 && t != DType::i32 && t != DType::bf16) continue;
    const auto args = make_args(c(), t, c().big);
    const PolicyScope scope({.vendor = false});
    set_num_threads(1);
    const auto one = run(c(), args);
    for (int n : {2, 3}) {
      set_num_threads(n);
      const auto many = run(c(), args);
      for (std::size_t k = 0; k < one.size(); ++k) {
        EXPECT_EQ(compare_bits(one[k], many[k]), "")
            << tandem::name_of(t) << " with " << n << " threads";
      }
    }
    set_num_threads(threads);
  }
}

class ForwardTf32 : public Forward {};

TEST_P(ForwardTf32, EqualsReference) {
  for (const Shapes& shapes : every_shape()) {
    const auto args = make_args(c(), DType::f32, shapes);
    const auto exact = run(c(), args);
    const PolicyScope scope({.tf32 = true});
    check(args, "tf32 " + str(shapes));
    if (!default_device().is_cpu()) continue;
    // It is the GPU's.
    const auto got = run(c(), args);
    for (std::size_t k = 0; k < got.size(); ++k) EXPECT_EQ(compare_bits(got[k], exact[k]), "");
  }
}

std::vector<std::size_t> products() {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < all_cases().size(); ++i) {
    if (all_cases()[i].tf32) found.push_back(i);
  }
  return found;
}
INSTANTIATE_TEST_SUITE_P(Table, ForwardTf32, ::testing::ValuesIn(products()), case_name);
TANDEM_EVERY_CASE(Forward);

}  // namespace
}  // namespace tandem::cases
