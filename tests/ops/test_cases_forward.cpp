// Forward results of every case: against its reference, in every dtype, layout and shape, with the
// vendor's kernels and the plain ones, twice, and with one thread and two.
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
  if (!c().strided) GTEST_SKIP() << "the result depends on the layout by definition";
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
  if (!c().strided) GTEST_SKIP();
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

TEST_P(Forward, KeepsChannelsLast) {
  if (!c().channels_last) GTEST_SKIP();
  for (const DType t : c().dtypes) {
    for (const Shapes& shapes : every_shape()) {
      if (shapes[0].size() != 4) continue;
      auto args = make_args(c(), t, shapes);
      for (Tensor& a : args) a = in_layout(a, Layout::channels_last);
      for (const bool vendor : {true, false}) {
        const PolicyScope scope({.vendor = vendor});
        const auto got = run(c(), args);
        EXPECT_TRUE(got[0].is_channels_last())
            << got[0].desc().str() << " " << got[0].strides().str() << " vendor " << vendor;
      }
    }
  }
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

TANDEM_EVERY_CASE(Forward);

}  // namespace
}  // namespace tandem::cases
