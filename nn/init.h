// Initial values of parameters. Each function overwrites `t` in place, off the tape, with numbers
// of `generator` (the default one of the tensor's device when null).
#pragma once
#include "core/generator.h"
#include "core/tensor.h"

namespace tandem::nn::init {

/// Inputs and outputs of one unit.
struct Fans {
  double in, out;
};
/// For a weight [out, in, …]: `in` and `out` times the rest of the axes. ShapeError for a rank
/// below 2.
Fans fans(const Tensor& weight);

/// Which number of connections counts: into a unit (keeps the forward variance) or out of it (keeps
/// that of gradients).
enum class Fan : std::uint8_t { in, out };

/// Every element `value`. ValueError if the dtype cannot hold it.
void constant(const Tensor& t, double value);
/// Uniform in [lo, hi). ValueError unless lo <= hi.
void uniform(const Tensor& t, double lo, double hi, Generator* generator = nullptr);
/// Normal with mean `mean` and standard deviation `sd`.
void normal(const Tensor& t, double mean, double sd, Generator* generator = nullptr);
/// Normal, conditioned on lying within two standard deviations: drawn by inverting its distribution
/// function, so one word a value, however many would have been rejected.
void truncated_normal(const Tensor& t, double mean, double sd, Generator* generator = nullptr);

/// Options of kaiming_uniform and kaiming_normal.
struct KaimingOptions {
  double a = 0;  // slope below zero of the leaky ReLU that follows; 0 for ReLU
  Fan fan = Fan::in;
};
/// Variance 2 / ((1 + a^2) fan). He et al., "Delving deep into rectifiers", 2015.
void kaiming_uniform(const Tensor& t, KaimingOptions o = {}, Generator* generator = nullptr);
void kaiming_normal(const Tensor& t, KaimingOptions o = {}, Generator* generator = nullptr);

/// Variance 2 gain^2 / (fan in + fan out). Glorot and Bengio, "Understanding the difficulty of
/// training deep feedforward neural networks", 2010.
void xavier_uniform(const Tensor& t, double gain = 1, Generator* generator = nullptr);
void xavier_normal(const Tensor& t, double gain = 1, Generator* generator = nullptr);

/// Convolution weight [out, in, …] that passes its first min(out, in) channels on unchanged; the
/// other outputs are 0.
void dirac(const Tensor& t);
/// Rows (or columns, whichever are fewer) of the [out, rest] matrix orthonormal, times `gain`. Saxe
/// et al., "Exact solutions to the nonlinear dynamics of learning in deep linear networks", 2014.
void orthogonal(const Tensor& t, double gain = 1, Generator* generator = nullptr);

}  // namespace tandem::nn::init
