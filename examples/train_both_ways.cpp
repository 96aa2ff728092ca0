// The whole training step, eager and compiled, from the same seed: the losses are equal bit for
// bit. Uses generated digits, so it needs no files.
#include <chrono>
#include <cstdio>
#include <vector>

#include "tandem/tandem.h"

using namespace tandem;

namespace {

template <class Step>
std::vector<float> train(const char* name, Step& step, int steps) {
  const data::DatasetPtr digits = data::synthetic_digits(3200, 1);
  data::DataLoader loader(digits, {.batch_size = 32, .shuffle = true, .seed = 7});
  std::vector<float> losses;
  const auto start = std::chrono::steady_clock::now();
  for (auto& [x, y] : loader) {
    losses.push_back(step(x, y).template item<float>());
    if (static_cast<int>(losses.size()) == steps) break;
  }
  const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - start;
  std::printf("%-8s %zu steps, loss %.4f -> %.4f, %.2f ms a step\n", name, losses.size(),
              losses.front(), losses.back(), ms.count() / static_cast<double>(losses.size()));
  return losses;
}

auto make_step() {
  manual_seed(42);
  nn::Sequential net;
  net.add(nn::Conv2d(1, 8, 5, {.padding = 2}));
  net.add(nn::ReLU());
  net.add(nn::MaxPool2d(2));
  net.add(nn::Flatten());
  net.add(nn::Dropout(0.2));
  net.add(nn::Linear(8 * 14 * 14, 10));
  optim::SGD opt(net.parameters(), {.lr = 0.05, .momentum = 0.9});
  return [net, opt](const Tensor& x, const Tensor& y) mutable {
    opt.zero_grad();
    Tensor loss = nn::cross_entropy(net(x), y);
    loss.backward();
    opt.step();
    return loss;
  };
}

}  // namespace

int main() {
  auto eager = make_step();
  const auto a = train("eager", eager, 100);
  auto compiled = compile(make_step());
  manual_seed(42);  // dropout draws from the default generator: start it at the same place
  make_step();
  const auto b = train("compiled", compiled, 100);
  std::printf("losses %s\n", a == b ? "are equal, bit for bit" : "DIFFER");
  return a == b ? 0 : 1;
}
