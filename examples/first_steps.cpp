// Tensors, gradients, and one function in both modes. docs/tutorial.md walks through it.
#include <cstdio>
#include <iostream>

#include "tandem/tandem.h"

using namespace tandem;

int main() {
  // Tensors: like NumPy's.
  Tensor a = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  std::cout << a * 2 + 1 << "\n\n" << a.t() << "\n\n" << a.sum({0}) << "\n\n";

  // Gradients: d/dx sum(x^3) = 3 x^2.
  Tensor x = Tensor::from<float>({1, 2, 3}, {3}).set_requires_grad();
  (x * x * x).sum().backward();
  std::cout << "gradient " << x.grad() << "\n\n";

  // One function, two ways to run it.
  auto f = [](const Tensor& u, const Tensor& v) { return tanh(u * v + 1).sum(); };
  auto g = compile(f);
  manual_seed(1);
  const Tensor u = randn({1000}), v = randn({1000});
  std::printf("eager %.9g, compiled %.9g\n\n", f(u, v).item(), g(u, v).item());
  std::cout << g.explain() << "\n" << g.dump() << "\n";

  // What a graph cannot express is an error when it is captured, not a wrong answer later.
  auto branch = compile([](const Tensor& t) { return t.sum().item() > 0 ? t : -t; });
  try {
    branch(u);
  } catch (const CaptureError& e) {
    std::cout << "as it should be: " << e.what() << "\n";
  }
}
