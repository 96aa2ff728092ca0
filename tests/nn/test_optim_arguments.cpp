// What optimisers, schedules and the loss scaler refuse: options, rates and states that cannot be.
// Nothing is changed by what was refused.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "nn/grad_scaler.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/message_of.h"
#include "tests/on_gpu.h"

namespace tandem {
namespace {

using test::message_of;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<Tensor> leaves() {
  return {ones({2}).set_requires_grad(), ones({3}).set_requires_grad()};
}

TEST(OptimArguments, OptionsAreFinite) {
  const auto p = leaves();
  for (const double x : {kInf, -kInf, kNaN, -1.0}) {
    SCOPED_TRACE(x);
    EXPECT_THROW(optim::SGD(p, {.lr = x}), ValueError);
    EXPECT_THROW(optim::SGD(p, {.momentum = x}), ValueError);
    EXPECT_THROW(optim::SGD(p, {.momentum = 0.9, .dampening = x}), ValueError);
    EXPECT_THROW(optim::SGD(p, {.weight_decay = x}), ValueError);
    EXPECT_THROW(optim::Adam(p, {.lr = x}), ValueError);
    EXPECT_THROW(optim::Adam(p, {.beta1 = x}), ValueError);
    EXPECT_THROW(optim::Adam(p, {.beta2 = x}), ValueError);
    EXPECT_THROW(optim::Adam(p, {.eps = x}), ValueError);
    EXPECT_THROW(optim::Adam(p, {.weight_decay = x}), ValueError);
    EXPECT_THROW(optim::AdamW(p, {.weight_decay = x}), ValueError);
    const optim::Adam opt(p, {.lr = 0.5});
    EXPECT_THROW(opt.set_lr(x), ValueError);
    EXPECT_THROW(opt.set_lr(0, x), ValueError);
    EXPECT_EQ(opt.lr(), 0.5);
  }
  EXPECT_EQ(message_of([&] { optim::SGD(p, {.lr = kInf}); }),
            "[SGD] lr is out of range; got inf; expected 0 or more, and finite");
}

TEST(OptimArguments, TheScalersAreToo) {
  for (const double x : {kInf, -kInf, kNaN, 0.0}) {
    SCOPED_TRACE(x);
    EXPECT_THROW(optim::GradScaler({.init_scale = x}), ValueError);
    EXPECT_THROW(optim::GradScaler({.growth_factor = x}), ValueError);
    EXPECT_THROW(optim::GradScaler({.backoff_factor = x}), ValueError);
  }
  EXPECT_THROW(optim::GradScaler({.init_scale = 1e39}), ValueError);  // beyond f32
  EXPECT_THROW(optim::GradScaler({.growth_interval = 0}), ValueError);
  EXPECT_THROW(optim::GradScaler({.growth_interval = (1 << 24) + 1}), ValueError);
  const optim::GradScaler s({.init_scale = 8});
  for (const double x : {kInf, kNaN, -1.0, 0.0}) {
    EXPECT_THROW(s.load_state_dict({{"growth_tracker", zeros({})}, {"scale", full({}, x)}}),
                 ValueError);
  }
  EXPECT_THROW(s.load_state_dict({{"scale", ones({})}, {"growth_tracker", full({}, -1)}}),
               ValueError);
  EXPECT_EQ(s.factor(), 8);
}

/// The bits of everything a state holds.
std::vector<std::vector<std::uint64_t>> bits_of(const StateDict& state) {
  std::vector<std::vector<std::uint64_t>> r;
  for (const auto& [name, t] : state) r.push_back(t.to_bits());
  return r;
}

Tensor counts(std::initializer_list<std::int64_t> v) {
  return Tensor::from<std::int64_t>(v, {std::ssize(v)});
}

/// A state that would change everything, but for `name`, which is `bad`.
StateDict state_with(const optim::Optimizer& opt, const std::string& name, const Tensor& bad) {
  StateDict r;
  for (const auto& [own, t] : opt.state_dict()) {
    r.emplace_back(own, own == name ? bad : ones(t.shape(), {.dtype = t.dtype()}));
  }
  return r;
}

/// Both of a group's tensors on the first device, the second group's split between both.
std::vector<optim::ParameterGroup<optim::AdamOptions>> two_groups(Device first, Device second) {
  const auto leaf = [](Device d) { return ones({2}, {.device = d}).set_requires_grad(); };
  return {{{leaf(first), leaf(first)}, {.lr = 0.25}}, {{leaf(first), leaf(second)}, {.lr = 0.5}}};
}

void expect_all_or_nothing(const optim::Optimizer& opt) {
  const auto before = bits_of(opt.state_dict());
  const auto refused = [&](const StateDict& state) {
    EXPECT_THROW(opt.load_state_dict(state), Error);
    EXPECT_EQ(bits_of(opt.state_dict()), before);
    EXPECT_EQ(opt.lr(0), 0.25);
    EXPECT_EQ(opt.lr(1), 0.5);
  };
  for (const char* group : {"0", "1"}) {
    SCOPED_TRACE(group);
    const std::string lr = std::string(group) + ".lr", step = std::string(group) + ".step";
    for (const double x : {kInf, kNaN, -1.0}) refused(state_with(opt, lr, full({}, x)));
    for (const std::int64_t n : {std::int64_t{-1}, std::numeric_limits<std::int64_t>::min(),
                                 std::numeric_limits<std::int64_t>::max(), kStepLimit}) {
      refused(state_with(opt, step, counts({3, n})));
      refused(state_with(opt, step, counts({n, 3})));
      refused(state_with(opt, step, full({}, n)));  // one number for all
    }
    refused(state_with(opt, step, ones({2})));
    refused(state_with(opt, step, counts({1, 2, 3})));
    refused(state_with(opt, lr, ones({2})));
    refused(state_with(opt, lr, Tensor()));
    refused(state_with(opt, std::string(group) + ".exp_avg_sq.1", ones({3})));
  }
  StateDict twice = state_with(opt, "", {});
  twice.push_back(twice.back());
  refused(twice);
  // And without fault it is loaded.
  opt.load_state_dict(state_with(opt, "1.step", counts({0, kStepLimit - 1})));
  EXPECT_EQ(opt.lr(1), 1);
  for (const auto& [name, t] : opt.state_dict()) {
    if (name == "1.step") {
      EXPECT_EQ(t.to_vector<std::int64_t>()[1], kStepLimit - 1);
    } else if (name == "1.exp_avg_sq.1") {
      EXPECT_EQ(t.to_vector<float>(), (std::vector<float>{1, 1}));
    }
  }
}

TEST(OptimArguments, AStateIsLoadedWholeOrNotAtAll) {
  expect_all_or_nothing(optim::Adam(two_groups(kCPU, kCPU)));
}

using OptimArgumentsOnTwoDevices = testing::OnGpu;
TEST_F(OptimArgumentsOnTwoDevices, AStateIsLoadedWholeOrNotAtAll) {
  const Device gpu{DeviceType::cuda, 0};
  expect_all_or_nothing(optim::Adam(two_groups(kCPU, gpu)));
  expect_all_or_nothing(optim::Adam(two_groups(gpu, kCPU)));
}

TEST(OptimArguments, AStateSaysWhatIsWrong) {
  const optim::Adam opt(two_groups(kCPU, kCPU));
  EXPECT_EQ(message_of([&] { opt.load_state_dict(state_with(opt, "1.lr", full({}, -2))); }),
            "[Adam] \"1.lr\" is out of range; got -2; expected 0 or more, and finite");
  EXPECT_EQ(message_of([&] {
              opt.load_state_dict(state_with(opt, "0.step", counts({0, -5})));
            }),
            "[Adam] \"0.step\" is out of range; got -5; expected 0 <= count < 9007199254740992");
}

TEST(ScheduleArguments, OptionsAreInRange) {
  const optim::SGD opt(leaves(), {.lr = 0.8});
  for (const double x : {kInf, -kInf, kNaN, -1.0}) {
    SCOPED_TRACE(x);
    EXPECT_THROW(optim::StepLR(opt, {.step_size = 1, .gamma = x}), ValueError);
    EXPECT_THROW(optim::MultiStepLR(opt, {.milestones = {1}, .gamma = x}), ValueError);
    EXPECT_THROW(optim::CosineAnnealingLR(opt, {.t_max = 1, .eta_min = x}), ValueError);
    EXPECT_THROW(optim::LinearLR(opt, {.start_factor = x}), ValueError);
    EXPECT_THROW(optim::LinearLR(opt, {.end_factor = x}), ValueError);
    EXPECT_THROW(optim::LinearWarmup(opt, {.total_iters = 1, .start_factor = x}), ValueError);
    EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {x}, .total_steps = 9}), ValueError);
    EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1}, .total_steps = 9, .pct_start = x}),
                 ValueError);
    EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1}, .total_steps = 9, .div_factor = x}),
                 ValueError);
    EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1}, .total_steps = 9, .final_div_factor = x}),
                 ValueError);
    EXPECT_THROW(optim::Schedule(opt, [x](std::int64_t) { return x; }), ValueError);
    EXPECT_THROW(optim::Schedule(opt, {.rate = [](auto, double) { return 1.0; }, .base = {1, 2}}),
                 ValueError);
  }
  for (const std::int64_t n : {0, -3}) {
    EXPECT_THROW(optim::StepLR(opt, {.step_size = n}), ValueError);
    EXPECT_THROW(optim::CosineAnnealingLR(opt, {.t_max = n}), ValueError);
    EXPECT_THROW(optim::LinearLR(opt, {.total_iters = n}), ValueError);
    EXPECT_THROW(optim::LinearWarmup(opt, {.total_iters = n}), ValueError);
    EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1}, .total_steps = n}), ValueError);
  }
  EXPECT_THROW(optim::MultiStepLR(opt, {.milestones = {1, -1}}), ValueError);
  EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1}, .total_steps = 9, .pct_start = 1.5}),
               ValueError);
  EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1}, .total_steps = 9, .div_factor = 0}),
               ValueError);
  EXPECT_THROW(optim::OneCycleLR(opt, {.max_lr = {1}, .total_steps = 9, .final_div_factor = 0}),
               ValueError);
  EXPECT_THROW(optim::Schedule(opt, std::function<double(std::int64_t)>()), ValueError);
  EXPECT_THROW(optim::Schedule(opt, optim::ScheduleRule{}), ValueError);
  EXPECT_EQ(opt.lr(), 0.8);
}

TEST(ScheduleArguments, WhatLiesOnTheEdgeIsTaken) {
  const optim::SGD opt(leaves(), {.lr = 0.8});
  for (const double part : {0.0, 1.0}) {
    const optim::OneCycleLR s(opt, {.max_lr = {0.5}, .total_steps = 4, .pct_start = part});
    for (std::int64_t t = 0; t < 6; ++t) {
      EXPECT_TRUE(s.lr(t) > 0 && s.lr(t) <= 0.5) << part << " " << t << ": " << s.lr(t);
    }
  }
  const optim::OneCycleLR one(opt, {.max_lr = {0.5}, .total_steps = 1});
  EXPECT_TRUE(one.lr(0) > 0 && one.lr(1) > 0);
}

TEST(ScheduleArguments, StepsAndGroupsExist) {
  const optim::Adam opt(two_groups(kCPU, kCPU));
  const optim::StepLR s(opt, {.step_size = 2});
  EXPECT_EQ(message_of([&] { s.lr(0, 5); }),
            "[Schedule] no such parameter group; got 5; expected 0 to 1");
  EXPECT_THROW(s.lr(0, 5), IndexError);
  EXPECT_THROW(s.lr(0, -1), IndexError);
  EXPECT_THROW(s.lr(-1), ValueError);
  s.set_steps(3);
  EXPECT_EQ(message_of([&] { s.set_steps(-1); }),
            "[Schedule] the number of steps is out of range; got -1; expected 0 or more");
  EXPECT_EQ(s.steps(), 3);
}

// The second group's rate is refused: the first group's stays what it was.
TEST(ScheduleArguments, ARefusedRateChangesNoGroup) {
  const optim::Adam opt(two_groups(kCPU, kCPU));
  const optim::Schedule s(opt, {.rate = [](std::int64_t t, double base) {
                            return t == 1 && base == 0.5 ? kNaN : base / double(t + 1);
                          }});
  EXPECT_EQ(message_of([&] { s.step(); }),
            "[Schedule] the rate after 1 steps is out of range; got nan; expected 0 or more, and "
            "finite");
  EXPECT_EQ(opt.lr(0), 0.25);
  EXPECT_EQ(opt.lr(1), 0.5);
  EXPECT_EQ(s.steps(), 0);
}

}  // namespace
}  // namespace tandem
