#include "nn/init.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/error.h"
#include "ops/ops.h"

namespace tandem::nn::init {

namespace {

/// Overwrites `t`, converting to its dtype.
void write(const Tensor& t, const Tensor& values) {
  const NoGrad no_grad;
  Tensor target = t;
  target.copy_(values);
}

void write(const Tensor& t, const std::vector<double>& values) {
  write(t, Tensor::from(values, t.shape(), t.device()));
}

/// Numbers are drawn in f32 (f64 for f64), so that a 16-bit parameter starts as the rounded f32
/// one.
TensorOptions draw_options(const Tensor& t) {
  return {.dtype = t.dtype() == DType::f64 ? DType::f64 : DType::f32, .device = t.device()};
}

std::vector<double> unit_uniform(const Tensor& t, Generator* g) {
  const NoGrad no_grad;
  return rand(t.shape(), draw_options(t), g).to_vector<double>();
}

double kaiming_sd(const Tensor& t, const KaimingOptions& o) {
  const Fans f = fans(t);
  return std::sqrt(2.0 / ((1 + o.a * o.a) * (o.fan == Fan::in ? f.in : f.out)));
}

double xavier_sd(const Tensor& t, double gain) {
  const Fans f = fans(t);
  return gain * std::sqrt(2.0 / (f.in + f.out));
}

// A uniform distribution on +-b has standard deviation b / sqrt(3).
const double kSqrt3 = std::sqrt(3.0);

double normal_cdf(double z) {
  return 0.5 * std::erfc(-z / std::sqrt(2.0));
}

/// The z with normal_cdf(z) = p, for p away from 0 and 1: Newton's method, which converges from 0
/// because the function is concave above and convex below it.
double normal_quantile(double p) {
  double z = 0;
  for (int i = 0; i < 50; ++i) {
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * 3.14159265358979323846);
    const double change = (normal_cdf(z) - p) / density;
    z -= change;
    if (std::fabs(change) < 1e-12) break;
  }
  return z;
}

}  // namespace

Fans fans(const Tensor& weight) {
  if (weight.rank() < 2) {
    fail<ShapeError>("init", "inputs and outputs need a weight of two axes or more",
                     weight.shape().str(), "[out, in, …]");
  }
  const auto out = static_cast<double>(weight.dim(0)), in = static_cast<double>(weight.dim(1));
  const double rest = static_cast<double>(weight.numel()) / (out * in);
  return {in * rest, out * rest};
}

void constant(const Tensor& t, double value) {
  const NoGrad no_grad;
  Tensor target = t;
  fill(target, value);
}

void uniform(const Tensor& t, double lo, double hi, Generator* generator) {
  write(t, tandem::uniform(t.shape(), lo, hi, draw_options(t), generator));
}

void normal(const Tensor& t, double mean, double sd, Generator* generator) {
  write(t, tandem::normal(t.shape(), mean, sd, draw_options(t), generator));
}

void truncated_normal(const Tensor& t, double mean, double sd, Generator* generator) {
  const double low = normal_cdf(-2), width = normal_cdf(2) - low;
  std::vector<double> v = unit_uniform(t, generator);
  for (double& x : v) x = mean + sd * normal_quantile(low + width * x);
  write(t, v);
}

void kaiming_uniform(const Tensor& t, KaimingOptions o, Generator* generator) {
  const double bound = kSqrt3 * kaiming_sd(t, o);
  uniform(t, -bound, bound, generator);
}

void kaiming_normal(const Tensor& t, KaimingOptions o, Generator* generator) {
  normal(t, 0, kaiming_sd(t, o), generator);
}

void xavier_uniform(const Tensor& t, double gain, Generator* generator) {
  const double bound = kSqrt3 * xavier_sd(t, gain);
  uniform(t, -bound, bound, generator);
}

void xavier_normal(const Tensor& t, double gain, Generator* generator) {
  normal(t, 0, xavier_sd(t, gain), generator);
}

void dirac(const Tensor& t) {
  fans(t);  // checks the rank
  const std::int64_t out = t.dim(0), in = t.dim(1),
                     taps = t.numel() / std::max<std::int64_t>(out * in, 1);
  std::int64_t centre = 0;
  for (int axis = 2; axis < t.rank(); ++axis) centre = centre * t.dim(axis) + t.dim(axis) / 2;
  std::vector<double> v(static_cast<std::size_t>(t.numel()), 0.0);
  for (std::int64_t i = 0; i < std::min(out, in); ++i) {
    v[static_cast<std::size_t>((i * in + i) * taps + centre)] = 1;
  }
  write(t, v);
}

void orthogonal(const Tensor& t, double gain, Generator* generator) {
  fans(t);  // checks the rank
  const std::int64_t rows = t.dim(0), columns = t.numel() / std::max<std::int64_t>(rows, 1);
  std::vector<double> v;
  {
    const NoGrad no_grad;
    v = randn(t.shape(), draw_options(t), generator).to_vector<double>();
  }
  // Gram-Schmidt over the shorter side, each vector twice: once leaves rounding errors behind.
  const bool by_row = rows <= columns;
  const std::int64_t n = by_row ? rows : columns, length = by_row ? columns : rows;
  const auto at = [&](std::int64_t i, std::int64_t k) -> double& {
    return v[static_cast<std::size_t>(by_row ? i * columns + k : k * columns + i)];
  };
  for (std::int64_t i = 0; i < n; ++i) {
    for (int pass = 0; pass < 2; ++pass) {
      for (std::int64_t j = 0; j < i; ++j) {
        double dot = 0;
        for (std::int64_t k = 0; k < length; ++k) dot += at(i, k) * at(j, k);
        for (std::int64_t k = 0; k < length; ++k) at(i, k) -= dot * at(j, k);
      }
      double square = 0;
      for (std::int64_t k = 0; k < length; ++k) square += at(i, k) * at(i, k);
      for (std::int64_t k = 0; k < length; ++k) at(i, k) /= std::sqrt(square);
    }
  }
  for (double& x : v) x *= gain;
  write(t, v);
}

}  // namespace tandem::nn::init
