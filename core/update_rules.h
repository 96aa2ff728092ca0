// What the optimisers do to one element, and the factors of one step: written once for all devices.
// T: the parameter's type, A: the type it is computed in (compute_t<T>). No contraction, so that
// devices agree.
#pragma once
#include <math.h>

#include "core/half.h"

namespace tandem {

/// The factors of one step of sgd_step (ops/optimise.h, which has the formulas). Gradients count
/// times `scale`.
template <class A>
struct SgdFactors {
  A lr, decay, scale;
  A momentum = 0, share = 1;  // share: 1 - dampening

  /// The parameter after a step without momentum. Multiplying by a scale of 1 changes no gradient,
  /// so scaled and unscaled steps share this.
  TANDEM_HD A plain(A p, A g) const { return p - lr * (g * scale + decay * p); }
  /// The parameter after a step with momentum `u`, which is updated.
  template <bool Nesterov>
  TANDEM_HD A with_momentum(A p, A g, A& u) const {
    const A d = g * scale + decay * p;
    const A b = momentum * u + share * d;
    u = b;
    return p - lr * (Nesterov ? d + momentum * b : b);
  }
};

/// The factors of one step of adam_step (ops/optimise.h).
template <class A>
struct AdamFactors {
  A keep;   // of the parameter: 1 - lr weight_decay when decoupled
  A decay;  // added to the gradient otherwise
  A m, v;   // 1 - beta1, 1 - beta2
  A beta2;
  A rate;  // the step is rate m / (sqrt(v) root + eps)
  A root;
  A eps;
  A scale;  // of the gradient

  /// The parameter after a step, which also updates the moments.
  TANDEM_HD A operator()(A p, A g, A& mean, A& square) const {
    const A d = g * scale + decay * p;
    const A mi = mean + m * (d - mean);
    const A vi = beta2 * square + v * (d * d);
    mean = mi;
    square = vi;
    return p * keep - rate * mi / (::sqrt(vi) * root + eps);
  }

  template <class B>
  TANDEM_HD AdamFactors<B> as() const {  // rounded to B
    return {static_cast<B>(keep), static_cast<B>(decay), static_cast<B>(m),
            static_cast<B>(v),    static_cast<B>(beta2), static_cast<B>(rate),
            static_cast<B>(root), static_cast<B>(eps),   static_cast<B>(scale)};
  }
};

/// Those of step `t`, counted from 1. Attrs: AdamAttrs of ops/optimise.h.
template <class Attrs>
TANDEM_HD AdamFactors<double> adam_factors(const Attrs& a, double lr, double t, double scale) {
  const double c1 = 1 - ::pow(a.beta1, t);
  const double c2 = ::sqrt(1 - ::pow(a.beta2, t));
  return {.keep = a.decoupled ? 1 - lr * a.weight_decay : 1,
          .decay = a.decoupled ? 0 : a.weight_decay,
          .m = 1 - a.beta1,
          .v = 1 - a.beta2,
          .beta2 = a.beta2,
          .rate = a.eps_hat ? lr * c2 / c1 : lr / c1,
          .root = a.eps_hat ? 1 : 1 / c2,
          .eps = a.eps,
          .scale = scale};
}

}  // namespace tandem
