// Every case compiled: forward, and forward with gradients, bit for bit what eager gives; with all
// passes, with each left out, without any, without a memory plan, and in verify mode.
#include "autograd/autograd.h"
#include "core/policy.h"
#include "graph/compile.h"
#include "tests/ops/cases_fixture.h"

namespace tandem::cases {
namespace {

class CompiledCase : public OpCases {
 protected:
  /// The case as a program of its arguments and, behind them, the seeds of its results.
  std::vector<Tensor> program(const std::vector<Tensor>& in, bool gradients) const {
    std::vector<Tensor> args(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(c().args.size()));
    std::vector<Tensor> out = c().run(args);
    if (!gradients) return out;
    std::vector<Tensor> wanted, outputs, seeds;
    for (const Tensor& t : args) {
      if (t.requires_grad()) wanted.push_back(t);
    }
    for (std::size_t k = 0; k < out.size(); ++k) {
      if (!is_floating(out[k].dtype()) || !out[k].requires_grad()) continue;
      outputs.push_back(out[k]);
      seeds.push_back(in[args.size() + k]);
    }
    if (outputs.empty()) return out;
    for (const Tensor& g : autograd::grad(outputs, wanted, seeds, {.allow_unused = true})) {
      if (g.defined()) out.push_back(g);
    }
    return out;
  }

  void check(const std::vector<Tensor>& args, bool gradients, const CompileOptions& options,
             const std::string& what) const {
    manual_seed(77);
    const auto eager = program(args, gradients);
    auto fast =
        compile([&](const std::vector<Tensor>& in) { return program(in, gradients); }, options);
    for (int turn = 0; turn < 2; ++turn) {
      manual_seed(77);
      const auto got = fast(args);
      ASSERT_EQ(got.size(), eager.size()) << what;
      for (std::size_t k = 0; k < got.size(); ++k) {
        EXPECT_EQ(compare_bits(got[k], eager[k]), "")
            << what << ", result " << k << ", turn " << turn << "\n"
            << (HasFailure() ? fast.dump() : "");
        if (HasFailure()) return;
      }
    }
    EXPECT_EQ(fast.core().size(), 1) << what;
  }

  std::vector<Tensor> arguments(DType t, const Shapes& shapes, bool gradients) const {
    auto args = make_args(c(), t, shapes);
    if (!gradients) return args;
    args = with_grad(c(), args);
    const auto out = run(c(), args);
    for (const Tensor& y : out) {
      std::vector<double> v(static_cast<std::size_t>(y.numel()));
      for (std::size_t i = 0; i < v.size(); ++i) v[i] = 0.25 * static_cast<double>(i % 11) - 1;
      args.push_back(Tensor::from<double>(v, y.shape()).to(y.dtype()));
    }
    return args;
  }
};

std::vector<std::pair<std::string, CompileOptions>> variants() {
  std::vector<std::pair<std::string, CompileOptions>> v(4);
  v[0].first = "all passes";
  v[1].first = "no memory plan";
  v[1].second.memory_plan = false;
  v[2].first = "verify";
  v[2].second.verify = true;
  v[3].first = "captured once";
  v[3].second.check_capture = false;
  CompileOptions none;
  for (const auto& p : graph::all_passes()) {
    if (p.exactness != Exactness::exact) continue;
    CompileOptions o;
    o.without = {p.name};
    v.push_back({std::string("without ") + p.name, o});
    none.without.push_back(p.name);
  }
  v.push_back({"no passes", none});
  none.memory_plan = false;
  v.push_back({"no passes, no memory plan", none});
  return v;
}

TEST_P(CompiledCase, EqualsEager) {
  for (const bool gradients : {false, true}) {
    if (gradients && !c().differentiable) continue;
    for (const auto& [name, options] : variants()) {
      for (std::size_t k = 0; k < c().dtypes.size(); ++k) {
        const DType t = c().dtypes[k];
        // Of each kind one: the passes see 16 bits, integers and bools, not of which width.
        if (k > 1 && !is_low_precision(t)) continue;
        check(arguments(t, shapes_of(c()), gradients), gradients, options,
              fmt::format("{}, {}{}", name, tandem::name_of(t), gradients ? ", gradients" : ""));
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(CompiledCase, EqualsEagerInEveryTypeAndShape) {
  for (const DType t : c().dtypes) {
    for (const Shapes& shapes : every_shape()) {
      const bool gradients = c().differentiable && is_floating(t);
      for (const bool vendor : {true, false}) {
        const PolicyScope scope({.vendor = vendor});
        check(arguments(t, shapes, gradients), gradients, {},
              fmt::format("{} {} vendor {}", tandem::name_of(t), str(shapes), vendor));
      }
      if (HasFailure()) return;
    }
  }
}

TEST_P(CompiledCase, EqualsEagerInEveryLayout) {
  const DType t = c().dtypes[std::min<std::size_t>(1, c().dtypes.size() - 1)];
  const bool gradients = c().differentiable && is_floating(t);
  for (const Layout l : {Layout::reversed_axes, Layout::sliced, Layout::channels_last}) {
    auto args = arguments(t, shapes_of(c()), gradients);
    for (Tensor& a : args) {
      const bool wanted = a.requires_grad();
      a = in_layout(a.detach(), l).detach();
      if (wanted) a.set_requires_grad();
    }
    check(args, gradients, {}, cases::name_of(l));
  }
}

TANDEM_EVERY_CASE(CompiledCase);

}  // namespace
}  // namespace tandem::cases
