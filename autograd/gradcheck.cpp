#include "autograd/gradcheck.h"

#include <cmath>

#include "autograd/autograd.h"

namespace tandem::autograd {
namespace {

// A fixed, irregular weight for element k: no symmetry of an op can hide an error from it.
double weight(std::size_t k) {
  return 0.5 + std::fmod(0.6180339887498949 * (k + 1.0), 1.0);
}

Tensor weights_like(const Tensor& t, std::size_t salt) {
  std::vector<double> w(static_cast<std::size_t>(t.numel()));
  for (std::size_t k = 0; k < w.size(); ++k) w[k] = weight(k + 31 * salt);
  return Tensor::from<double>(w, t.shape(), t.device());
}

// sum over outputs of <weights, output>, as a number
double weighted_sum(const std::vector<Tensor>& out) {
  double s = 0;
  for (std::size_t o = 0; o < out.size(); ++o) {
    if (!is_floating(out[o].dtype())) continue;
    const auto v = out[o].to_vector<double>();
    for (std::size_t k = 0; k < v.size(); ++k) s += v[k] * weight(k + 31 * o);
  }
  return s;
}

std::vector<Tensor> fresh(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> r;
  for (const Tensor& t : inputs) {
    if (t.dtype() != DType::f64 && is_floating(t.dtype())) {
      fail<TypeError>("gradcheck", "inputs must be f64", t.desc().str());
    }
    Tensor c = t.detach();
    if (t.requires_grad()) c.set_requires_grad();
    r.push_back(c);
  }
  return r;
}

// `constant`: a function whose results do not depend on the inputs, as far as the tape knows, is
// fine, if it is true.
std::string check(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                  const GradcheckOptions& o, bool constant) {
  EnableGrad tape;
  std::vector<Tensor> in = fresh(inputs);
  std::vector<Tensor> wanted, outputs, seeds;
  for (const Tensor& t : in) {
    if (t.requires_grad()) wanted.push_back(t);
  }
  const std::vector<Tensor> out = f(in);
  for (std::size_t k = 0; k < out.size(); ++k) {
    if (!is_floating(out[k].dtype()) || !out[k].requires_grad()) continue;
    outputs.push_back(out[k]);
    seeds.push_back(weights_like(out[k], k));
  }
  if (outputs.empty() && !constant) return "no output requires a gradient";
  const auto grads = outputs.empty() ? std::vector<Tensor>(wanted.size())
                                     : grad(outputs, wanted, seeds, {.allow_unused = true});

  std::size_t w = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!inputs[i].requires_grad()) continue;
    const Tensor& g = grads[w++];
    const auto analytic = g.defined()
                              ? g.to_vector<double>()
                              : std::vector<double>(static_cast<std::size_t>(in[i].numel()));
    auto values = inputs[i].to_vector<double>();
    for (std::size_t k = 0; k < values.size(); ++k) {
      double side[2];
      for (int s = 0; s < 2; ++s) {
        auto moved = values;
        moved[k] += s ? o.eps : -o.eps;
        std::vector<Tensor> at = fresh(inputs);
        // Written through the original strides, so that a strided input stays strided.
        Tensor t = Tensor::empty(inputs[i].desc());
        {
          NoGrad no_grad;
          t.copy_(Tensor::from<double>(moved, inputs[i].shape(), inputs[i].device()));
        }
        at[i] = t.set_requires_grad();
        side[s] = weighted_sum(f(at));
      }
      const double numeric = (side[1] - side[0]) / (2 * o.eps);
      if (!(std::fabs(numeric - analytic[k]) <= o.atol + o.rtol * std::fabs(numeric))) {
        return fmt::format("input {}, element {}: analytic {:.9g}, numeric {:.9g}", i, k,
                           analytic[k], numeric);
      }
    }
  }
  return {};
}

}  // namespace

std::string gradcheck(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                      const GradcheckOptions& o) {
  return check(f, inputs, o, false);
}

std::string gradgradcheck(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& o) {
  // The first gradient, as a function of the inputs.
  const DifferentiableFunction g = [&](const std::vector<Tensor>& in) {
    EnableGrad tape;
    std::vector<Tensor> wanted, outputs, seeds;
    for (const Tensor& t : in) {
      if (t.requires_grad()) wanted.push_back(t);
    }
    const auto out = f(in);
    for (std::size_t k = 0; k < out.size(); ++k) {
      if (!is_floating(out[k].dtype()) || !out[k].requires_grad()) continue;
      outputs.push_back(out[k]);
      seeds.push_back(weights_like(out[k], k + 7));
    }
    auto grads = grad(outputs, wanted, seeds, {.create_graph = true, .allow_unused = true});
    std::vector<Tensor> defined;
    for (Tensor& t : grads) {
      if (t.defined()) defined.push_back(t);
    }
    return defined;
  };
  // The gradient of a linear function is constant.
  return check(g, inputs, o, true);
}

}  // namespace tandem::autograd
