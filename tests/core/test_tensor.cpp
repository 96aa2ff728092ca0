// Tensors as values: construction, reading, printing, generators, Philox, source lines.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "core/box_muller.h"
#include "core/dispatch.h"
#include "core/generator.h"
#include "core/philox.h"
#include "ops/ops.h"

namespace tandem {
namespace {

TEST(Tensor, FromAndToHost) {
  const Tensor t = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_EQ(t.desc().str(), "f32[2, 3]");
  EXPECT_EQ(t.t().to_vector<int>(), (std::vector<int>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(t.dim(-1), 3);
  EXPECT_EQ(t.numel(), 6);
  EXPECT_EQ(t.select(0, 1).select(0, 2).item(), 6.0);
  EXPECT_EQ(t.data<float>()[5], 6.0f);
  EXPECT_EQ(Tensor::from<bool>({true, false}, {2}).to_bools(), (std::vector<bool>{true, false}));
  EXPECT_EQ(Tensor::from<std::int64_t>({std::int64_t{1} << 60}, {}).item<std::int64_t>(),
            std::int64_t{1} << 60);
  EXPECT_EQ(Tensor::from<Half>({Half(0.5f)}, {1}).to_vector<double>()[0], 0.5);
  EXPECT_EQ(Tensor::from<float>({}, {0, 3}).numel(), 0);
  EXPECT_FALSE(Tensor().defined());
}

TEST(Tensor, ViewsShareMemory) {
  Tensor t = zeros({3, 4});
  Tensor row = t.select(0, 1);
  row.fill_(2);
  EXPECT_EQ(sum(t).item(), 8);
  t.slice(1, 0, 4, 2).mul_(3);
  EXPECT_EQ(row.to_vector<int>(), (std::vector<int>{6, 2, 6, 2}));
  const Tensor copy = row.clone();
  row.zero_();
  EXPECT_EQ(copy.to_vector<int>(), (std::vector<int>{6, 2, 6, 2}));
  EXPECT_TRUE(t.contiguous().same_as(t));
  EXPECT_FALSE(t.t().contiguous().same_as(t));
}

TEST(Tensor, PrintsForPeople) {
  std::ostringstream os;
  os << Tensor::from<float>({1, 2.5f, -3, 4}, {2, 2});
  const std::string s = os.str();
  for (const char* part : {"1", "2.5", "-3", "f32", "[2, 2]"}) {
    EXPECT_NE(s.find(part), std::string::npos) << part << " in\n" << s;
  }
  EXPECT_EQ(Tensor::from<float>({1, 2.5f, -3, 4}, {2, 2}).str(), s);
  EXPECT_NE(full({}, 7, {.dtype = DType::i64}).str().find('7'), std::string::npos);
  EXPECT_NE(Tensor::from<bool>({true}, {1}).str().find("true"), std::string::npos);
  EXPECT_NE(full({2}, NAN).str().find("nan"), std::string::npos);
  EXPECT_NE(zeros({0, 3}).str().find("[0, 3]"), std::string::npos);
  EXPECT_LT(zeros({1000, 1000}).str().size(), 5000u) << "large tensors are abridged";
  EXPECT_FALSE(Tensor().str().empty());
}

// Random123's known answers (kat_vectors, philox4x32 10) whose counters fit into 64 bits.
TEST(Philox, KnownAnswer) {
  const Philox4 p = philox(0, 0);
  EXPECT_EQ(p.v[0], 0x6627e8d5u);
  EXPECT_EQ(p.v[1], 0xe169c58du);
  EXPECT_EQ(p.v[2], 0xbc57ac4cu);
  EXPECT_EQ(p.v[3], 0x9b00dbd8u);
}

TEST(Philox, UsesAllBitsOfSeedAndCounter) {
  const Philox4 base = philox(1, 1);
  for (int bit = 0; bit < 64; ++bit) {
    const Philox4 s = philox(1 ^ (1ull << bit), 1), c = philox(1, 1 ^ (1ull << bit));
    EXPECT_NE(s.v[0], base.v[0]) << bit;
    EXPECT_NE(c.v[0], base.v[0]) << bit;
  }
  EXPECT_LT(unit_float(0xffffffffu), 1.0f);
  EXPECT_EQ(unit_float(0), 0.0f);
}

TEST(BoxMuller, EqualsTheDefinition) {
  for (unsigned k = 0; k < 2000; ++k) {
    const Philox4 w = philox(5, k);
    float z[2];
    box_muller(w.v[0], w.v[1], z[0], z[1]);
    const double u = (w.v[0] >> 1) * 0x1p-31 + 0x1p-32, t = w.v[1] * 0x1p-32 * 2 * M_PI;
    const double r = std::sqrt(-2 * std::log(u));
    EXPECT_NEAR(z[0], r * std::cos(t), 3e-6);
    EXPECT_NEAR(z[1], r * std::sin(t), 3e-6);
  }
  for (unsigned a : {0u, 1u, 0xffffffffu}) {
    for (unsigned b : {0u, 0x1fffffffu, 0x20000000u, 0x80000000u, 0xffffffffu}) {
      float z0, z1;
      box_muller(a, b, z0, z1);
      EXPECT_TRUE(std::isfinite(z0) && std::isfinite(z1)) << a << " " << b;
    }
  }
}

TEST(Generator, IsAStateThatMovesOn) {
  Generator g(42);
  EXPECT_EQ(g.state().to_vector<std::int64_t>(), (std::vector<std::int64_t>{42, 0}));
  const Tensor a = rand({5}, {}, &g);
  EXPECT_EQ(g.state().to_vector<std::int64_t>()[1], 2) << "ceil(5 / 4) blocks";
  const Tensor b = rand({5}, {}, &g);
  EXPECT_NE(a.to_vector<float>(), b.to_vector<float>());
  g.set_state(42, 2);
  EXPECT_EQ(rand({5}, {}, &g).to_vector<float>(), b.to_vector<float>());
  g.seed(42);
  EXPECT_EQ(rand({5}, {}, &g).to_vector<float>(), a.to_vector<float>());
  manual_seed(42);
  EXPECT_EQ(rand({5}).to_vector<float>(), a.to_vector<float>());
  Generator large(~0ull);
  EXPECT_EQ(large.state().to_vector<std::int64_t>()[0], -1);
  EXPECT_EQ(rand({1}, {}, &large).item<float>(), unit_float(philox(~0ull, 0).v[0]));
}

TEST(Generator, DrawsWhatItClaims) {
  manual_seed(3);
  const Tensor u = rand({100000}), n = randn({100000});
  EXPECT_NEAR(mean(u).item(), 0.5, 0.005);
  EXPECT_NEAR(var(u).item(), 1.0 / 12, 0.002);
  EXPECT_GE(min(u).item(), 0);
  EXPECT_LT(max(u).item(), 1);
  EXPECT_NEAR(mean(n).item(), 0, 0.015);
  EXPECT_NEAR(var(n).item(), 1, 0.02);
  EXPECT_NEAR(mean(abs(n)).item(), std::sqrt(2 / M_PI), 0.01);
  const Tensor i = randint(-2, 3, {50000});
  EXPECT_EQ(min(i).item(), -2);
  EXPECT_EQ(max(i).item(), 2);
  EXPECT_NEAR(mean(i.to(DType::f64)).item(), 0, 0.03);
  const Tensor d = dropout(ones({100000}), 0.3);
  EXPECT_NEAR(mean(d).item(), 1, 0.02);
  EXPECT_NEAR(mean(eq(d, 0).to(DType::f32)).item(), 0.3, 0.01);
}

TEST(CallSite, BlamesTheOutermostLine) {
  const SrcLoc here = SrcLoc::current();
  EXPECT_EQ(str(here).substr(0, 16), "test_tensor.cpp:");
  const std::string path = "net.0";
  const SrcLoc inner = SrcLoc::current();
  {
    const CallSite site(here, &path);
    const CallSite nested(inner);
    EXPECT_EQ(CallSite::blame(inner).line(), here.line());
    EXPECT_EQ(CallSite::path(), "net.0");
  }
  EXPECT_EQ(CallSite::blame(inner).line(), inner.line());
  EXPECT_EQ(CallSite::path(), "");
}

TEST(Attrs, OneListOfFieldsGivesAll) {
  const PadAttrs a{{1, 2}, 0.5}, b{{1, 2}, 0.5}, c{{1, 3}, 0.5};
  const AttrRef ra(a), rb(b), rc(c);
  EXPECT_TRUE(ra.type->equal(&a, &b));
  EXPECT_FALSE(ra.type->equal(&a, &c));
  EXPECT_EQ(ra.type->hash(&a), rb.type->hash(&b));
  EXPECT_NE(ra.type->hash(&a), rc.type->hash(&c));
  EXPECT_EQ(AttrBox(ra).str(), "before_after=[1, 2], value=0.5");
  EXPECT_EQ(AttrBox(ra).as<PadAttrs>().before_after, a.before_after);
  EXPECT_EQ(AttrBox().str(), "");
}

}  // namespace
}  // namespace tandem
