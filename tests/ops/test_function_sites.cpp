// Public functions that are made of several operations, or of one of another name: what their
// operations do is attributed to the line of the caller, and errors bear the function's name.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/dispatch.h"
#include "core/generator.h"
#include "graph/compile.h"
#include "ops/ops.h"

namespace tandem {
namespace {

constexpr SrcLoc kCaller("caller.cpp", 42);
constexpr const char* kCallersLine = "(at caller.cpp:42)";

struct Function {
  const char* name;
  std::function<void()> good, bad;  // called from kCaller
};

/// `t` as a public function's first argument from that line.
In at(const Tensor& t) {
  return {t, kCaller};
}

// One for every such function of ops/, and of core/tensor.h.
const std::vector<Function>& functions() {
  static const Tensor none;
  static const Tensor x = arange(0, 6).to(DType::f32).reshape({2, 3});
  static const Tensor scalar = full({}, 3), labels = zeros({2}, {.dtype = DType::i64});
  static const Tensor bools = gt(x, 0), ids = zeros({2, 2}, {.dtype = DType::i32});
  static const Tensor far = full({2}, 9, {.dtype = DType::i64});
  static const Tensor image = ones({1, 2, 4, 4}), weight = ones({2, 2, 3, 3});
  static const Tensor per_channel = ones({2}), wrong = ones({5});
  static const auto gapped = [] { return zeros({2, 6}).slice(1, 0, 6, 2); };
  static const auto expanded = [] { return zeros({1}).expand({3}); };
  static const auto norm = [](const Tensor& w, bool training) {
    Tensor mean = zeros({2}), var = ones({2});
    batch_norm(at(image), w, {}, mean, var, training);
  };
  const TensorOptions on{DType::f32, kCPU}, as_bool{DType::boolean, kCPU};
  static const std::vector<Function> all = {
      {"zeros", [=] { zeros({2}, on, kCaller); }, [=] { zeros({-1}, on, kCaller); }},
      {"ones", [=] { ones({2}, on, kCaller); }, [=] { ones({-1}, on, kCaller); }},
      {"full_like", [] { full_like(at(x), 1); }, [] { full_like(at(x), {}); }},
      {"zeros_like", [] { zeros_like(at(x)); }, [] { zeros_like(at(none)); }},
      {"ones_like", [] { ones_like(at(x)); }, [] { ones_like(at(none)); }},
      {"linspace", [=] { linspace(0, 1, 4, on, kCaller); },
       [=] { linspace(0, 1, 4, as_bool, kCaller); }},
      {"eye", [=] { eye(2, 3, on, kCaller); }, [=] { eye(-1, 3, on, kCaller); }},
      {"assign",
       [] {
         Tensor t = zeros({4});
         Tensor tail = t.slice(0, 1, 4);
         assign(tail, t.slice(0, 0, 3), kCaller);
       },
       [] {
         Tensor t = zeros({2});
         assign(t, wrong, kCaller);
       }},
      {"add_", [] { gapped().add_(2, kCaller); }, [] { expanded().add_(2, kCaller); }},
      {"add_", [] { gapped().add_(x, kCaller); }, [] { expanded().add_(scalar, kCaller); }},
      {"sub_", [] { gapped().sub_(x, kCaller); }, [] { bools.clone().sub_(bools, kCaller); }},
      {"mul_", [] { gapped().mul_(2, kCaller); }, [] { expanded().mul_(2, kCaller); }},
      {"mul_", [] { gapped().mul_(x, kCaller); }, [] { gapped().mul_(wrong, kCaller); }},
      {"copy_", [] { gapped().copy_(x, kCaller); }, [] { gapped().copy_(wrong, kCaller); }},
      {"fill_", [] { gapped().fill_(2, kCaller); }, [] { gapped().fill_({}, kCaller); }},
      {"zero_", [] { gapped().zero_(kCaller); },
       [] {
         Tensor t;
         t.zero_(kCaller);
       }},
      {"concat",
       [] {
         concat({x, labels.unsqueeze(1)}, 1, kCaller);
       },
       [] {
         concat({x, labels}, 1, kCaller);
       }},
      {"stack",
       [] {
         stack({x, bools}, 0, kCaller);
       },
       [] {
         stack({x, wrong}, 0, kCaller);
       }},
      {"embedding", [] { embedding(at(x), ids); }, [] { embedding(at(x), far); }},
      {"nll_loss", [] { nll_loss(at(x), labels); }, [] { nll_loss(at(x), far); }},
      {"cross_entropy", [] { cross_entropy(at(x), labels); }, [] { cross_entropy(at(x), far); }},
      {"cross_entropy", [] { cross_entropy(at(x), x, {.label_smoothing = 0.1}); },
       [] { cross_entropy(at(labels), scalar); }},
      {"mse_loss", [] { mse_loss(at(x), x); }, [] { mse_loss(at(bools), bools); }},
      {"mse_loss", [] { mse_loss(at(x), x, Reduction::sum); }, [] { mse_loss(at(x), wrong); }},
      {"matmul", [] { matmul(at(x), x.to(DType::f64).t()); },
       [] { matmul(at(x), x.to(DType::f64)); }},
      {"batch_norm", [] { norm(none, true); }, [] { norm(wrong, true); }},
      {"batch_norm", [] { norm(per_channel, false); }, [] { norm(wrong, false); }},
      {"layer_norm", [] { layer_norm(at(x), {3}, {}, {}); },
       [] { layer_norm(at(x), {3}, wrong, {}); }},
      {"max_pool2d_with_indices", [] { max_pool2d_with_indices(at(image), {.kernel = {2}}); },
       [] { max_pool2d_with_indices(at(image), {.kernel = {9}}); }},
      {"conv_transpose2d", [] { conv_transpose2d(at(image), weight, per_channel); },
       [] { conv_transpose2d(at(image), weight.to(DType::f64), {}); }},
      {"rand", [=] { rand({2}, on, nullptr, kCaller); }, [=] { rand({-1}, on, nullptr, kCaller); }},
      {"uniform", [=] { uniform({2}, 0, 1, on, nullptr, kCaller); },
       [=] { uniform({-1}, 0, 1, on, nullptr, kCaller); }},
      {"randn", [=] { randn({2}, on, nullptr, kCaller); },
       [=] { randn({2}, as_bool, nullptr, kCaller); }},
      {"normal", [=] { normal({2}, 0, 1, on, nullptr, kCaller); },
       [=] { normal({2}, 0, 1, as_bool, nullptr, kCaller); }},
      {"randint", [] { randint(0, 5, {2}, {.dtype = DType::i64}, nullptr, kCaller); },
       [] { randint(5, 0, {2}, {.dtype = DType::i64}, nullptr, kCaller); }},
      {"bernoulli", [] { bernoulli(at(sigmoid(x))); }, [] { bernoulli(at(bools)); }},
      {"cumsum", [] { cumsum(at(scalar), 0); }, [] { cumsum(at(none), 0); }},
      {"sort", [] { sort(at(scalar)); }, [] { sort(at(none)); }},
      {"reshape", [] { x.t().reshape({6}, kCaller); }, [] { x.reshape({7}, kCaller); }},
      {"flatten", [] { image.flatten(1, 2, kCaller); }, [] { image.flatten(3, 1, kCaller); }},
      {"transpose", [] { x.transpose(0, 1, kCaller); }, [] { x.transpose(0, 2, kCaller); }},
      {"t", [] { x.t(kCaller); }, [] { scalar.t(kCaller); }},
      {"squeeze", [] { image.squeeze(0, kCaller); }, [] { image.squeeze(1, kCaller); }},
      {"unsqueeze", [] { x.unsqueeze(0, kCaller); }, [] { x.unsqueeze(4, kCaller); }},
      {"select", [] { x.select(0, 1, kCaller); }, [] { x.select(0, 2, kCaller); }},
      {"to", [] { x.to(DType::f64, kCaller); }, [] { none.to(DType::f64, kCaller); }},
      {"to", [] { image.to(MemoryFormat::channels_last, kCaller); },
       [] { x.to(MemoryFormat::channels_last, kCaller); }},
      {"contiguous", [] { x.t().contiguous(kCaller); }, [] { none.contiguous(kCaller); }},
      {"clone", [] { x.clone(kCaller); }, [] { none.clone(kCaller); }},
      {"split", [] { split(at(x), 2, 1); }, [] { split(at(x), 0, 1); }},
      {"split",
       [] {
         split(at(x), std::vector<std::int64_t>{1, 2}, 1);
       },
       [] {
         split(at(x), std::vector<std::int64_t>{1, 1}, 1);
       }},
      {"chunk", [] { chunk(at(x), 2, 1); }, [] { chunk(at(x), 0, 1); }},
  };
  return all;
}

/// Notes the line that each operation would be blamed on.
class Lines final : public Interceptor {
 public:
  std::vector<std::string> seen;
  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    note(op, loc);
    return dispatch::execute(op, in, loc);
  }
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    note(op, loc);
    dispatch::execute_inplace(op, in, loc);
  }

 private:
  void note(const PreparedOp& op, const SrcLoc& loc) {
    seen.push_back(std::string(op.op->name) + " at " + str(CallSite::blame(loc)));
  }
};

TEST(FunctionSites, OperationsAreAttributedToTheCallersLine) {
  for (const Function& f : functions()) {
    Lines lines;
    {
      // What the function is given is made outside of its line.
      const dispatch::InterceptorScope scope(&lines);
      f.good();
    }
    std::size_t at_caller = 0;
    for (const std::string& s : lines.seen) at_caller += s.ends_with(" at caller.cpp:42");
    EXPECT_GT(at_caller, 0u) << f.name;
    for (const std::string& s : lines.seen) {
      const bool argument = s.find("test_function_sites.cpp") != std::string::npos;
      EXPECT_TRUE(argument || s.ends_with(" at caller.cpp:42")) << f.name << " calls " << s;
    }
  }
}

TEST(FunctionSites, ErrorsNameTheFunctionAndTheCallersLine) {
  for (const Function& f : functions()) {
    try {
      f.bad();
      // What is wrong with values a device can report only now, by the operation's name.
      const Device d = default_device();
      if (d.is_cpu()) {
        ADD_FAILURE() << f.name << " takes bad input";
      } else {
        EXPECT_THROW(backend(d).stream(d.index).synchronize(), IndexError) << f.name;
      }
    } catch (const Error& e) {
      const std::string m = e.what();
      EXPECT_TRUE(m.starts_with(std::string("[") + f.name + "] ")) << f.name << ": " << m;
      EXPECT_TRUE(m.ends_with(kCallersLine)) << f.name << ": " << m;
    }
  }
}

TEST(FunctionSites, EndWithTheFunction) {
  EXPECT_THROW(mse_loss(at(ones({2})), ones({3})), ShapeError);
  try {
    sub(at(ones({2})), ones({3}));
    ADD_FAILURE();
  } catch (const ShapeError& e) {
    EXPECT_TRUE(std::string(e.what()).starts_with("[sub] ")) << e.what();
  }
}

struct Anomaly {
  Anomaly() { dispatch::set_anomaly_mode(true); }
  ~Anomaly() { dispatch::set_anomaly_mode(false); }
};

TEST(FunctionSites, AnomalyModeNamesFunctionOperationAndLine) {
  const Anomaly on;
  const Tensor big = full({2}, 1e30);
  for (const auto& f : std::vector<std::function<void()>>{
           [&] { mse_loss(at(big), -big); },
           [&] {
             auto step = compile([](const Tensor& a) { return mse_loss(at(a), -a); });
             step(big);
           }}) {
    try {
      f();
      ADD_FAILURE() << "the square of 2e30 is infinite in f32";
    } catch (const ValueError& e) {
      const std::string m = e.what();
      EXPECT_NE(m.find("anomaly mode"), std::string::npos) << m;
      EXPECT_NE(m.find("square"), std::string::npos) << m;
      EXPECT_NE(m.find("caller.cpp:42"), std::string::npos) << m;
    }
  }
}

TEST(FunctionSites, ProgramsShowTheCallersLine) {
  auto loss = compile([](const Tensor& a, const Tensor& b) {
    return cross_entropy(at(a), b, {.label_smoothing = 0.1}) + mse_loss(at(a), b);
  });
  loss(ones({2, 3}), full({2, 3}, 0.5));
  const std::string program = loss.core().dump();
  EXPECT_NE(program.find("caller.cpp:42"), std::string::npos) << program;
  EXPECT_EQ(program.find("loss.cpp"), std::string::npos) << program;
}

}  // namespace
}  // namespace tandem
