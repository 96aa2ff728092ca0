// Operations refuse tensors of several devices, and say which and by which operation.
#include <functional>

#include "autograd/autograd.h"
#include "ops/ops.h"
#include "tests/message_of.h"
#include "tests/on_gpu.h"

namespace tandem {
namespace {

class MixedDevices : public testing::GpuByDefault {
 protected:
  void SetUp() override {
    GpuByDefault::SetUp();
    if (!b) return;
    there = ones({2, 3});
    here = ones({2, 3}, {.device = kCPU});
  }
  /// One way round and the other.
  static void refuses(const char* op, const std::function<void(const Tensor&, const Tensor&)>& f,
                      const Tensor& there, const Tensor& here) {
    for (const bool turned : {false, true}) {
      const Tensor &a = turned ? here : there, &c = turned ? there : here;
      const std::string m = test::message_of<DeviceError>([&] { f(a, c); });
      EXPECT_TRUE(m.starts_with(std::string("[") + op + "] all tensors must be on one device"))
          << op << ": " << m;
      EXPECT_NE(m.find("cuda:0"), std::string::npos) << m;
      EXPECT_NE(m.find("cpu"), std::string::npos) << m;
    }
  }
  Tensor there, here;
};

TEST_F(MixedDevices, AreRefused) {
  refuses(
      "add", [](const Tensor& a, const Tensor& c) { add(a, c); }, there, here);
  refuses(
      "add_", [](Tensor a, const Tensor& c) { a.add_(c); }, there, here);
  refuses(
      "where", [](const Tensor& a, const Tensor& c) { where(gt(a, 0), a, c); }, there, here);
  refuses(
      "matmul", [](const Tensor& a, const Tensor& c) { matmul(a, c.t()); }, there, here);
  refuses(
      "linear", [](const Tensor& a, const Tensor& c) { linear(a, a, c.select(1, 0)); }, there,
      here);
  refuses(
      "concat",
      [](const Tensor& a, const Tensor& c) {
        concat({a, a, c});
      },
      there, here);
  refuses(
      "stack",
      [](const Tensor& a, const Tensor& c) {
        stack({a, c});
      },
      there, here);
  refuses(
      "index_select",
      [](const Tensor& a, const Tensor& c) {
        index_select(a, 0, c.select(0, 0).to(DType::i64) - 1);
      },
      there, here);
  refuses(
      "gather", [](const Tensor& a, const Tensor& c) { gather(a, 0, c.to(DType::i64) - 1); }, there,
      here);
  refuses(
      "cross_entropy",
      [](const Tensor& a, const Tensor& c) { cross_entropy(a, c.select(1, 0).to(DType::i64)); },
      there, here);
  refuses(
      "copy_", [](Tensor a, const Tensor& c) { a.copy_(c); }, there, here);
}

TEST_F(MixedDevices, AreRefusedByOptimiserSteps) {
  refuses(
      "sgd_step",
      [](Tensor a, const Tensor& c) {
        sgd_step({{a}}, {{c}}, {}, full({}, 0.1, {.device = a.device()}), {});
      },
      there, here);
  // The rate is a tensor, too.
  refuses(
      "sgd_step",
      [](Tensor a, const Tensor& c) {
        sgd_step({{a}}, {{a.clone()}}, {}, full({}, 0.1, {.device = c.device()}), {});
      },
      there, here);
  refuses(
      "adam_step",
      [](Tensor a, const Tensor& c) {
        const TensorOptions on{.device = a.device()};
        adam_step({{a}}, {{a.clone()}}, {{zeros({2, 3}, on)}}, {{c.clone()}}, full({}, 0.1, on),
                  zeros({1}, {DType::i64, a.device()}), {});
      },
      there, here);
}

TEST_F(MixedDevices, AreRefusedInGradients) {
  Tensor x = there.clone();
  x.set_requires_grad();
  const std::string m =
      test::message_of<DeviceError>([&] { autograd::grad({{x * 2}}, {{x}}, {{here}}); });
  EXPECT_TRUE(
      m.starts_with("[grad] a seed must be on the device of its output; got cpu; "
                    "expected cuda:0"))
      << m;
}

}  // namespace
}  // namespace tandem
