// Gradients against finite differences.
#pragma once
#include <vector>

#include "autograd/autograd.h"

namespace tandem::autograd {

/// Options of gradcheck and gradgradcheck. Right for f64.
struct GradcheckOptions {
  double eps = 1e-6;  // step of the central difference
  double atol = 1e-5, rtol = 1e-3;
};

/// Compares d f / d inputs with central differences, element by element. Inputs must be f64;
/// those that require a gradient are checked. Random functions must draw the same numbers at each
/// call. Returns "" when all agree, else what differs first. Throws TypeError for other dtypes.
std::string gradcheck(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                      const GradcheckOptions& o = {});

/// The same for the gradient itself: differentiates sum(gradients x fixed weights) once more.
std::string gradgradcheck(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& o = {});

}  // namespace tandem::autograd
