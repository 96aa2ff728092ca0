// Trains a small net on generated digits, eagerly and compiled, from the same starting point: the
// losses agree to the last bit. Then a program declared as a graph.
#include <tandem/tandem.h>

#include <cstdio>
#include <vector>

using namespace tandem;

namespace {

std::vector<float> train(const data::DatasetPtr& digits, bool compiled) {
  manual_seed(1);  // the same weights and the same dropout both times
  auto net = nn::Sequential(nn::Conv2d(1, 8, 5, {.padding = 2}), nn::ReLU(), nn::MaxPool2d(4),
                            nn::Flatten(), nn::Dropout(0.2), nn::Linear(8 * 7 * 7, 10));
  auto opt = optim::Adam(net.parameters(), {.lr = 3e-3});
  auto step = [&](const Tensor& x, const Tensor& y) {
    opt.zero_grad();
    Tensor loss = nn::cross_entropy(net(x), y);
    loss.backward();
    opt.step();
    return loss;
  };
  auto fast = compile(step);  // captured at its first call

  std::vector<float> losses;
  data::DataLoader loader(digits, {.batch_size = 64, .seed = 1});
  for (auto& [x, y] : loader) losses.push_back((compiled ? fast(x, y) : step(x, y)).item<float>());
  return losses;
}

}  // namespace

int main() {
  const auto digits = data::synthetic_digits(1280, 1);
  const std::vector<float> eager = train(digits, false), compiled = train(digits, true);
  std::printf("loss %.4f -> %.4f, eager and compiled %s\n", eager.front(), eager.back(),
              eager == compiled ? "equal" : "DIFFER");

  graph::Graph g;
  auto a = g.variable("A", {10}), b = g.variable("B", {10});
  auto f = g.compile(b * a);
  const Tensor c = f({{"A", ones({10})}, {"B", full({10}, 2)}});
  std::printf("B * A = %s\n", c.str().c_str());

  const bool good = eager == compiled && eager.back() < eager.front() && c.sum().item() == 20;
  return good ? 0 : 1;
}
