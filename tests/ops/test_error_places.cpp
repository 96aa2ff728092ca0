// Where errors say that something happened, and what they leave behind.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "autograd/autograd.h"
#include "ops/ops.h"
#include "tests/message_of.h"

namespace tandem {
namespace {

using test::message_of;

Tensor f(const Shape& s) {
  return ones(s);
}
Tensor leaf(const Shape& s) {
  return f(s).set_requires_grad();
}

TEST(Errors, NameTheLineOfTheUser) {
  const int line = __LINE__ + 1;
  const std::string m = message_of([] { matmul(f({2, 3}), f({2, 3})); });
  EXPECT_NE(m.find("test_error_places.cpp:" + std::to_string(line)), std::string::npos) << m;
}

TEST(Errors, AMutatedSavedTensorNamesBothPlaces) {
  Tensor x = leaf({2});
  Tensor y = x * 1.0;
  const int used = __LINE__ + 1;
  const Tensor z = square(y);
  const int written = __LINE__ + 1;
  y.mul_(3);
  const std::string m = message_of([&] { sum(z).backward(); });
  EXPECT_NE(m.find("[square]"), std::string::npos) << m;
  EXPECT_NE(m.find("'mul'"), std::string::npos) << m;
  EXPECT_NE(m.find("test_error_places.cpp:" + std::to_string(used)), std::string::npos) << m;
  EXPECT_NE(m.find("test_error_places.cpp:" + std::to_string(written)), std::string::npos) << m;
  EXPECT_NE(m.find("version"), std::string::npos) << m;
}

TEST(Errors, AMutatedSavedOutputIsSeenToo) {
  Tensor x = leaf({2});
  Tensor y = tanh(x);
  {
    const NoGrad off;
    y.mul_(2);
  }
  EXPECT_NE(message_of([&] { sum(y).backward(); }).find("output 0"), std::string::npos);
  // What the gradient does not need may be written.
  Tensor a = leaf({2}) * 1.0;
  const Tensor b = a + 1;
  {
    const NoGrad off;
    a.mul_(2);
  }
  EXPECT_NO_THROW(sum(b).backward());
}

TEST(Errors, AFactorOverwrittenByTheProduct) {
  const Tensor x = leaf({2});
  Tensor y = x * 1.0;
  y.mul_(x);  // x's gradient needs what y was
  const std::string m = message_of([&] { sum(y).backward(); });
  EXPECT_NE(m.find("[mul] input 0"), std::string::npos) << m;
  EXPECT_NE(m.find("written over by 'mul'"), std::string::npos) << m;
}

// Calls with an epilogue are made by the graph's passes, but a program may come from a file.
TEST(Errors, OfCallsWithAnEpilogue) {
  const auto call = [](const OpDef& op, std::vector<Tensor> in, AttrRef attrs) {
    std::vector<const Tensor*> p;
    for (const Tensor& t : in) p.push_back(&t);
    return dispatch::call(op, p, attrs, SrcLoc::current())[0];
  };
  const ConvAttrs conv{{1, 1}, {0, 0}, {1, 1}, 1, {4, 4}, MemoryFormat::contiguous, true};
  const BatchNormAttrs norm{.relu = true};
  const Tensor x = f({2, 3, 4, 4}), w = f({5, 3, 1, 1}), y = f({2, 5, 4, 4}), c = f({3});
  using Parts = std::vector<std::string>;
  const auto expect = [](const std::function<void()>& g, const Parts& parts) {
    const std::string m = message_of(g);
    for (const auto& part : parts) EXPECT_NE(m.find(part), std::string::npos) << m;
  };
  const Parts no_gradient = {"a call with an epilogue has no gradient rule", "relu=true"};
  expect([&] { sum(call(op::conv2d, {x, leaf({5, 3, 1, 1})}, conv)).backward(); }, no_gradient);
  expect(
      [&] {
        sum(call(op::linear, {f({2, 3}), leaf({4, 3})}, LinearAttrs{true})).backward();
      },
      no_gradient);
  expect([&] { sum(call(op::batch_norm_train, {x, leaf({3}), c}, norm)).backward(); }, no_gradient);
  expect(
      [&] {
        sum(call(op::batch_norm_eval, {x, leaf({3}), c, c, c}, norm)).backward();
      },
      no_gradient);
  expect(
      [&] {
        call(op::conv2d_grad_input, {y, w}, conv);
      },
      {"[conv2d_grad_input]", "only conv2d itself"});
  expect([&] { call(op::conv2d_grad_weight, {x, y}, conv); }, {"[conv2d_grad_weight]"});
  ConvAttrs normed = conv;
  normed.relu = false;
  normed.normed = true;
  expect([&] { call(op::conv2d_grad_weight, {x, y}, normed); }, {"[conv2d_grad_weight]"});
  expect(
      [&] {
        sum(call(op::conv2d, {x, leaf({5, 3, 1, 1}), c, c, c, c}, normed)).backward();
      },
      {"a call with an epilogue has no gradient rule", "normed=true"});
  expect([&] { call(op::conv2d, {x, w}, normed); }, {"wrong number of tensors", "2", "6"});
  expect(
      [&] {
        call(op::conv2d, {x, w, c, c, c, f({4})}, normed);
      },
      {"one element per input channel", "[4]", "[3]"});
  expect([&] { call(op::conv2d, {x, w, c, c, c, c.to(DType::f64)}, normed); }, {"f64", "f32"});
  ConvAttrs sums = conv;
  sums.sums = true;
  expect([&] { call(op::conv2d, {x, w}, sums); }, {"[conv2d]", "sums and relu"});
  sums.relu = false;
  expect([&] { call(op::conv2d_grad_input, {y, w}, sums); }, {"only conv2d itself"});
  expect(
      [&] {
        sum(call(op::conv2d, {x, leaf({5, 3, 1, 1})}, sums)).backward();
      },
      {"a call with an epilogue has no gradient rule", "sums=true"});
  const BatchNormAttrs summed{.sums = true};
  expect(
      [&] {
        sum(call(op::batch_norm_train, {x, leaf({3}), c, c, c}, summed)).backward();
      },
      {"a call with an epilogue has no gradient rule", "sums=true"});
  expect(
      [&] {
        call(op::batch_norm_eval, {x, c, c, c, c, c, c}, summed);
      },
      {"[batch_norm_eval]", "only training has sums"});
  expect(
      [&] {
        call(op::batch_norm_train, {x, c, c}, summed);
      },
      {"wrong number of tensors", "3", "5"});
  expect(
      [&] {
        call(op::batch_norm_train, {x, c, c, c, f({4})}, summed);
      },
      {"sum of squares has the wrong shape", "[4]", "[3]"});
  expect(
      [&] {
        call(op::batch_norm_train, {x, c, c, f({2, 3, 4})}, norm);
      },
      {"the residual has the shape of the input", "[2, 3, 4, 4]"});
  expect(
      [&] {
        call(op::batch_norm_eval, {x, c, c, c, c, x.to(DType::f64)}, norm);
      },
      {"[batch_norm_eval]", "f64"});
  expect(
      [&] {
        call(op::batch_norm_eval, {x, c, c, c, c, x}, BatchNormAttrs{});
      },
      {"wrong number of tensors", "6", "5"});
  expect(
      [&] {
        call(op::batch_norm_train, {x, c, c, x}, BatchNormAttrs{});
      },
      {"wrong number of tensors", "4", "5"});
  expect(
      [&] {
        sum(call(op::batch_norm_grad, {leaf(x.shape()), x, c, c, c, x},
                 BatchNormGradAttrs{.relu = true}))
            .backward();
      },
      no_gradient);
  expect(
      [&] {
        call(op::batch_norm_grad, {x, x, c, c, c, x}, BatchNormGradAttrs{});
      },
      {"[batch_norm_grad]", "wrong number of tensors", "6", "5"});
  expect(
      [&] {
        call(op::batch_norm_grad, {x, x, c, c, c}, BatchNormGradAttrs{.relu = true});
      },
      {"[batch_norm_grad]", "wrong number of tensors", "5", "6"});
  expect(
      [&] {
        call(op::batch_norm_grad, {x, x, c, c, c}, BatchNormGradAttrs{.residual = true});
      },
      {"[batch_norm_grad]", "only behind a ReLU is there a residual"});
  expect(
      [&] {
        call(op::batch_norm_grad, {x, x, c, c, c, f({2, 3, 4})}, BatchNormGradAttrs{.relu = true});
      },
      {"the result of the ReLU has the shape of the input", "[2, 3, 4, 4]"});
}

TEST(Errors, AFailedBackwardLeavesTheRestUsable) {
  const Tensor x = leaf({2});
  Tensor y = x * 1.0;
  const Tensor z = sum(square(y)), other = sum(x * 3);
  {
    const NoGrad off;
    y.add_(1);
  }
  EXPECT_THROW((z + other).backward(), AutogradError);
  EXPECT_NO_THROW(sum(x * 5).backward());
}

}  // namespace
}  // namespace tandem
