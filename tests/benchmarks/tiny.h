// What the tests of the ladder measure: as small as it can be.
#pragma once
#include "benchmarks/tradeoff/workload.h"
#include "ops/ops.h"

namespace tandem::tradeoff {

// A tiny net with dropout, momentum and something for each pass to do.
inline Workload tiny(double (*wobble)() = nullptr) {
  Workload w;
  w.name = "tiny";
  w.make = [wobble] {
    const nn::Linear a(6, 8), b(8, 3);
    const nn::Dropout drop(0.5);
    const nn::Sequential net(a, nn::Tanh(), drop, b);
    const optim::SGD opt(net.parameters(), {.lr = 0.1, .momentum = 0.9});
    Subject s;
    s.state = full_state(net, opt, make_scaler());
    s.step = [=](std::span<const Tensor> in) {
      opt.zero_grad();
      Tensor loss = nn::cross_entropy(net(in[0]), in[1]);
      if (wobble) loss = loss * wobble();
      loss.backward();
      opt.step();
      return std::vector<Tensor>{loss};
    };
    return s;
  };
  Generator draws(5);
  for (int i = 0; i < 3; ++i) {
    w.batches.push_back(
        {rand({4, 6}, {}, &draws), randint(0, 3, {4}, {.dtype = DType::i64}, &draws)});
  }
  return w;
}

inline LadderOptions brief() {
  LadderOptions o;
  o.seconds = 0.05;
  o.verify_steps = 3;
  o.instrumented_steps = 2;
  o.most_rounds = 9;
  return o;
}

}  // namespace tandem::tradeoff
