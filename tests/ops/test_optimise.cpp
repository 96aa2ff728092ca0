// What the optimiser steps refuse among the values and the memory they are given.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "core/backend.h"
#include "core/error.h"
#include "graph/compile.h"
#include "ops/ops.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

/// Parameters with all that a step of Adam, or of SGD with dampening, takes besides.
struct Parts {
  std::vector<Tensor> p, g, m, v;
  Tensor lr = full({}, 0.5), step;

  explicit Parts(std::initializer_list<std::int64_t> counts)
      : step(Tensor::from<std::int64_t>(counts, {std::ssize(counts)})) {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      p.push_back(ones({5}));
      g.push_back(ones({5}));
      m.push_back(zeros({5}));
      v.push_back(zeros({5}));
    }
  }
  void adam(const AdamAttrs& a = {}) { adam_step(p, g, m, v, lr, step, a); }
  void sgd() { sgd_step(p, g, m, lr, {.momentum = 0.9, .dampening = 0.5}, step); }
};

/// The message of the ValueError that `f` ends with; a device reports bad values after the call.
template <class F>
std::string refusal(F&& f) {
  return test::message_of<ValueError>([&] {
    f();
    backend(default_device()).stream(default_device().index).synchronize();
  });
}

using Step = void (*)(Parts&);
const std::pair<const char*, Step> kSteps[] = {{"adam_step", [](Parts& x) { x.adam(); }},
                                               {"sgd_step", [](Parts& x) { x.sgd(); }}};

TEST(OptimiserSteps, CountsThatCannotBeAreAnError) {
  for (const auto& [name, step] : kSteps) {
    for (const std::int64_t bad :
         {std::int64_t{-1}, std::int64_t{-5}, std::numeric_limits<std::int64_t>::min(),
          std::numeric_limits<std::int64_t>::max(), kStepLimit}) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(bad));
      for (const bool first : {true, false}) {
        Parts x = first ? Parts({bad, 2}) : Parts({2, bad});
        const std::size_t at = first ? 0 : 1;
        const std::string m = refusal([&, step = step] { step(x); });
        EXPECT_EQ(m.find(std::string("[") + name + "]"), 0u) << m;
        EXPECT_NE(m.find("got " + std::to_string(bad)), std::string::npos) << m;
        // What has the bad count is left as it was.
        EXPECT_EQ(x.p[at].to_vector<float>(), std::vector<float>(5, 1));
        EXPECT_EQ(x.m[at].to_vector<float>(), std::vector<float>(5, 0));
        EXPECT_EQ(x.step.to_vector<std::int64_t>()[at], bad);
      }
    }
    Parts most({kStepLimit - 1});
    step(most);
    EXPECT_TRUE(std::isfinite(most.p[0].to_vector<float>()[0]));
  }
}

TEST(OptimiserSteps, CountsAreCheckedWhenAProgramRuns) {
  Parts x({0, 0});
  auto fast = compile([&](const Tensor& g) {
    x.g = {g, g};
    x.adam();
    return g.sum();
  });
  const Tensor g = ones({5});
  fast(g);
  x.step.fill_(-5);
  const auto before = x.p[0].to_vector<float>();
  const std::string m = refusal([&] { fast(g); });
  EXPECT_EQ(m.find("[adam_step]"), 0u) << m;
  EXPECT_EQ(x.p[0].to_vector<float>(), before);
  x.step.fill_(1);
  fast(g);
  EXPECT_EQ(x.step.to_vector<int>(), (std::vector<int>{2, 2}));
}

TEST(OptimiserSteps, WhatIsWrittenIsWrittenOnce) {
  const std::vector<std::pair<const char*, std::function<void(Parts&)>>> shared = {
      {"parameter 0 and parameter 1", [](Parts& x) { x.p[1] = x.p[0]; }},
      {"parameter 0 and parameter 1", [](Parts& x) { x.p[1] = x.p[0].detach(); }},
      {"parameter 0 and parameter 1",
       [](Parts& x) {
         const Tensor all = ones({8});
         x.p = {all.slice(0, 0, 5), all.slice(0, 3, 8)};
       }},
      {"first moment 0 and first moment 1", [](Parts& x) { x.m[1] = x.m[0]; }},
      {"first moment 0 and second moment 0", [](Parts& x) { x.v[0] = x.m[0]; }},
      {"parameter 1 and second moment 0", [](Parts& x) { x.v[0] = x.p[1]; }},
  };
  for (const auto& [what, share] : shared) {
    SCOPED_TRACE(what);
    Parts x({0, 0});
    share(x);
    const auto before = x.p[0].to_vector<float>();
    const std::string m = refusal([&] { x.adam(); });
    EXPECT_EQ(m.find("[adam_step] what a step writes must not share memory"), 0u) << m;
    // Which of the two is named first is where they lie in memory.
    const std::string_view w(what);
    for (const auto name : {w.substr(0, w.find(" and ")), w.substr(w.find(" and ") + 5)}) {
      EXPECT_NE(m.find(name), std::string::npos) << m;
    }
    EXPECT_EQ(x.p[0].to_vector<float>(), before);
    EXPECT_EQ(x.step.to_vector<int>(), (std::vector<int>{0, 0}));
  }
  Parts x({0, 0});
  x.m[1] = x.p[0];
  EXPECT_EQ(refusal([&] { x.sgd(); }).find("[sgd_step] what a step writes"), 0u);
  x.p[1] = x.p[0];
  EXPECT_EQ(refusal([&] { sgd_step(x.p, x.g, {}, x.lr, {}); }).find("[sgd_step] what a step"), 0u);
}

TEST(OptimiserSteps, WhatIsWrittenOnceInACaptureToo) {
  const auto program = [](const Tensor& p, const Tensor& q) {
    const std::vector<Tensor> both = {p, q}, g = {ones({5}), ones({5})};
    sgd_step(both, g, {}, full({}, 0.5), {});
    return p.sum();
  };
  auto fast = compile([&](const Tensor& p, const Tensor&) { return program(p, p.detach()); });
  EXPECT_EQ(refusal([&] { fast(ones({5}), ones({5})); }).find("[sgd_step] what a step"), 0u);
  auto fine = compile(program);
  EXPECT_EQ(fine(ones({5}), ones({5})).item(), 2.5);
}

TEST(OptimiserSteps, TakesPartsOfOneTensor) {
  // Halves, and columns that interleave.
  for (const int axis : {0, 1}) {
    const Tensor all = ones({4, 6});
    const auto half = [&](int k) {
      const std::int64_t n = all.dim(axis) / 2;
      return all.slice(axis, k * n, (k + 1) * n);
    };
    const std::vector<Tensor> p = {half(0), half(1)}, g = {ones_like(p[0]), ones_like(p[1])};
    sgd_step(p, g, {}, full({}, 0.5), {});
    EXPECT_EQ(all.to_vector<float>(), std::vector<float>(24, 0.5));
  }
  // Without elements there is nothing to share.
  const Tensor none = ones({0});
  const std::vector<Tensor> p = {none, none};
  sgd_step(p, p, {}, full({}, 0.5), {});
}

TEST(OptimiserSteps, FactorsAreFinite) {
  for (const double x :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN(), -1.0}) {
    SCOPED_TRACE(x);
    Parts a({0});
    for (const AdamAttrs& bad : {AdamAttrs{.eps = x}, AdamAttrs{.weight_decay = x},
                                 AdamAttrs{.beta1 = x}, AdamAttrs{.beta2 = x}}) {
      EXPECT_THROW(a.adam(bad), ValueError);
    }
    EXPECT_THROW(sgd_step(a.p, a.g, a.m, a.lr, {.momentum = x}), ValueError);
    EXPECT_THROW(sgd_step(a.p, a.g, {}, a.lr, {.weight_decay = x}), ValueError);
    EXPECT_EQ(a.p[0].to_vector<float>(), std::vector<float>(5, 1));
  }
}

}  // namespace
}  // namespace tandem
