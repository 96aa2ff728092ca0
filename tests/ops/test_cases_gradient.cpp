// Gradients of every case: against differences, to second order; in lower precision and in other
// layouts against the f64 gradient of the contiguous arguments.
#include <cmath>
#include <map>

#include "autograd/autograd.h"
#include "autograd/gradcheck.h"
#include "core/parallel.h"
#include "core/policy.h"
#include "tests/ops/cases_fixture.h"

namespace tandem::cases {
namespace {

// Differences with every element of more arguments than this take too long, but for gradients of
// first order with the kernels in use.
constexpr std::int64_t kFew = 240, kMany = 800;

std::int64_t elements(const Shapes& shapes) {
  std::int64_t n = 0;
  for (const Shape& s : shapes) n += numel(s);
  return n;
}

// Why gradients of such a case are not, or need not be, channels-last where the arguments are.
std::string exempt_from_channels_last(const std::string& name) {
  static const std::map<std::string, std::string> cases = {
      {"permute", "a view: the memory stays, the axes change places"},
      {"flatten", "a view of a row-major gradient"},
      {"concat_1", "a view of part of the channels"},
      {"pad_images", "a view of the middle"},
  };
  const auto it = cases.find(name);
  if (it != cases.end()) return it->second;
  for (const char* reduction : {"sum", "mean", "prod"}) {
    if (name == reduction || name.starts_with(std::string(reduction) + "_")) {
      return "made of a result of fewer elements, repeated";
    }
  }
  if (name.starts_with("nll_loss_")) return "made of the labels, row-major";
  return {};
}

class Gradient : public OpCases {
 protected:
  void SetUp() override {
    if (!c().differentiable || !takes(DType::f64)) GTEST_SKIP() << "not differentiable";
  }
  autograd::DifferentiableFunction function() const {
    return [this](const std::vector<Tensor>& in) {
      auto out = run(c(), in);
      if (c().differentiable_results) out.resize(c().differentiable_results);
      return out;
    };
  }
  /// Gradients of all that are wanted, for fixed seeds; results that take no part are left out.
  std::vector<Tensor> gradients(const std::vector<Tensor>& args,
                                Layout seeds_in = Layout::contiguous) const {
    const auto in = with_grad(c(), args);
    const auto out = run(c(), in);
    std::vector<Tensor> wanted, outputs, seeds;
    for (const Tensor& t : in) {
      if (t.requires_grad()) wanted.push_back(t);
    }
    for (std::size_t k = 0; k < out.size(); ++k) {
      if (!is_floating(out[k].dtype()) || !out[k].requires_grad()) continue;
      // Halves and quarters: exact in every dtype.
      std::vector<double> v(static_cast<std::size_t>(out[k].numel()));
      for (std::size_t i = 0; i < v.size(); ++i) {
        v[i] = 0.25 * static_cast<double>((i * 7 + k) % 13) - 1.5;
      }
      Tensor s = Tensor::from<double>(v, out[k].shape()).to(out[k].dtype());
      outputs.push_back(out[k]);
      seeds.push_back(in_layout(s, seeds_in));
    }
    if (outputs.empty()) return {};
    return autograd::grad(outputs, wanted, seeds, {.allow_unused = true});
  }
};

TEST_P(Gradient, EqualsDifferences) {
  if (!c().differences) GTEST_SKIP();
  for (const Shapes& shapes : every_shape()) {
    const std::int64_t n = elements(shapes);
    // There to try blocked kernels: gradients of those are compared with f64 below.
    if (n > kMany) continue;
    for (const bool vendor : {true, false}) {
      if (!vendor && n > kFew) continue;
      const PolicyScope scope({.vendor = vendor});
      EXPECT_EQ(autograd::gradcheck(function(), with_grad(c(), make_args(c(), DType::f64, shapes))),
                "")
          << str(shapes);
    }
  }
}

TEST_P(Gradient, OfTheGradientEqualsDifferences) {
  if (!c().differences) GTEST_SKIP();
  bool several = false, compared = false;
  for (const Shapes& shapes : every_shape()) {
    bool more_than_one = false;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      more_than_one = more_than_one || (c().args[i].grad && numel(shapes[i]) > 1);
    }
    several = several || more_than_one;
    if (elements(shapes) > kFew) continue;
    compared = compared || more_than_one;
    // Squares, so that the gradient depends on the gradient it is made from.
    const auto squares = [f = function()](const std::vector<Tensor>& in) {
      auto out = f(in);
      for (Tensor& t : out) {
        if (is_floating(t.dtype())) t = square(t);
      }
      return out;
    };
    EXPECT_EQ(autograd::gradgradcheck(squares, with_grad(c(), make_args(c(), DType::f64, shapes))),
              "")
        << str(shapes);
  }
  EXPECT_EQ(compared, several) << "every shape of more than one element is too large";
}

// Everything a lower precision can lose lies in the rounding of each intermediate result, measured
// against the largest element: small ones may be differences of large ones.
double allowed(DType t) {
  switch (t) {
    case DType::f64: return 1e-12;
    case DType::f32: return 2e-5;
    case DType::f16: return 8e-3;
    default: return 6e-2;
  }
}

std::string compare_norm(const Tensor& got, const Tensor& want, double tolerance) {
  if (!(got.shape() == want.shape())) return got.desc().str() + " and " + want.desc().str();
  const auto a = got.to_vector<double>(), b = want.to_vector<double>();
  double size = 0.25;
  for (double x : b) size = std::max(size, std::fabs(x));
  for (std::size_t k = 0; k < a.size(); ++k) {
    if (!(std::fabs(a[k] - b[k]) <= tolerance * size)) {
      return fmt::format("element {}: {:.9g}, in f64 {:.9g}, largest {:.3g}", k, a[k], b[k], size);
    }
  }
  return {};
}

TEST_P(Gradient, KeepsChannelsLast) {
  const std::string why = exempt_from_channels_last(c().name);
  bool tried = false, kept = true;
  for (const Shapes& shapes : every_shape()) {
    auto args = make_args(c(), DType::f64, shapes);
    for (Tensor& a : args) a = in_layout(a, Layout::channels_last);
    for (const Tensor& g : gradients(args, Layout::channels_last)) {
      // One of both formats (one channel, one pixel, no element) says nothing.
      if (!g.defined() || g.rank() != 4 || (g.is_contiguous() && g.is_channels_last())) continue;
      tried = true;
      kept = kept && g.is_channels_last();
      if (!why.empty()) continue;
      EXPECT_TRUE(g.is_channels_last())
          << str(shapes) << ": " << g.desc().str() << " " << g.strides().str();
    }
  }
  if (!tried) GTEST_SKIP() << "no gradient of four axes, or of both formats";
  EXPECT_NE(kept, !why.empty()) << "exempt for nothing";
}

TEST_P(Gradient, InEveryTypeAndLayoutEqualsTheOneInF64) {
  for (const DType t : c().dtypes) {
    if (!is_floating(t)) continue;
    for (const Shapes& shapes : every_shape()) {
      const auto args = make_args(c(), t, shapes);
      std::vector<Tensor> wide;
      for (const Tensor& a : args) wide.push_back(is_floating(a.dtype()) ? a.to(DType::f64) : a);
      if (!c().args.empty() && c().args.back().dtype == DType::f32) wide.back() = args.back();
      auto want = gradients(wide);
      for (const Layout l :
           {Layout::contiguous, Layout::reversed_axes, Layout::sliced, Layout::channels_last}) {
        std::vector<Tensor> in;
        for (const Tensor& a : args) in.push_back(in_layout(a, l));
        if (c().by_place) {
          std::vector<Tensor> alike;
          for (const Tensor& a : wide) alike.push_back(in_layout(a, l));
          want = gradients(alike);
        }
        for (const bool vendor : {true, false}) {
          const PolicyScope scope({.vendor = vendor});
          const auto got = gradients(in, l == Layout::sliced ? l : Layout::contiguous);
          ASSERT_EQ(got.size(), want.size());
          for (std::size_t k = 0; k < got.size(); ++k) {
            if (!want[k].defined()) continue;
            EXPECT_EQ(compare_norm(got[k], want[k], allowed(t)), "")
                << tandem::name_of(t) << " " << str(shapes) << " " << cases::name_of(l)
                << " vendor " << vendor << ", gradient " << k;
          }
        }
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(Gradient, DoesNotDependOnThreads) {
  if (c().big.empty()) GTEST_SKIP();
  const int threads = num_threads();
  const auto args = make_args(c(), DType::f32, c().big);
  const PolicyScope scope({.vendor = false});
  set_num_threads(1);
  const auto one = gradients(args);
  set_num_threads(2);
  const auto two = gradients(args);
  set_num_threads(threads);
  for (std::size_t k = 0; k < one.size(); ++k) {
    if (!one[k].defined()) continue;
    EXPECT_EQ(compare_bits(one[k], two[k]), "");
  }
}

TANDEM_EVERY_CASE(Gradient);

}  // namespace
}  // namespace tandem::cases
