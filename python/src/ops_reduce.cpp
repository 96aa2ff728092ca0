// Reductions and scans, bound to Python.
#include "python/src/bind_op.h"

namespace tandem::python {

namespace {

using Reduction3 = Tensor (*)(In, const Dims&, bool);

// To C++ no axes are all of them; to axis=() each element is a set of its own.
Tensor over_nothing(Reduction3 f, const Tensor& x) {
  const Tensor line = x.reshape({1, x.numel()}, here());
  return f(at(line), {0}, false).reshape(x.shape(), here());
}

// `no_axes`: whether it can be of single elements, of which a position says nothing.
void reduction(const char* name, Reduction3 f, const char* doc, bool no_axes = true) {
  both(
      name,
      [=](const Tensor& x, std::optional<Dims> axis, bool keepdims) {
        const In in = at(x);
        if (!no_axes && axis && axis->size() == 0) {
          fail<ValueError>(name, "one axis, or none for all", "no axes", "an axis or None");
        }
        return without_gil(x.numel(), [&] {
          if (axis && axis->size() == 0) return over_nothing(f, x);
          return f(in, axis.value_or(Dims()), keepdims);
        });
      },
      doc, "axis"_a = py::none(), "keepdims"_a = false);
}

}  // namespace

void bind_reductions() {
  reduction("sum", sum, "Sum over the axes (all by default); integers and bool give int64.");
  reduction("mean", mean, "Arithmetic mean over the axes (all by default), of floats.");
  reduction("prod", prod, "Product over the axes (all by default); integers give int64.");
  reduction("max", max, "Largest element over the axes; a NaN wins. Ties share the gradient.");
  reduction("min", min, "Smallest element over the axes; a NaN wins. Ties share the gradient.");
  reduction("argmax", argmax,
            "Where the largest element is (int64): along one axis, or in row-major order.", false);
  reduction("argmin", argmin,
            "Where the smallest element is (int64): along one axis, or in row-major order.", false);
  reduction("any", any, "Whether any element is non-zero.");
  reduction("all", all, "Whether all elements are non-zero.");
  const auto correction = [](Tensor v, const Tensor& x, const std::optional<Dims>& axis,
                             double correction) {
    if (correction == 0) return v;
    double n = 1;
    const Dims axes = axis.value_or(Dims());
    for (int i = 0; i < x.rank(); ++i) {
      bool in = axes.empty();
      for (std::int64_t a : axes) in = in || wrap_axis(a, x.rank(), "var") == i;
      if (in) n *= static_cast<double>(x.dim(i));
    }
    return mul(at(v), n / (n - correction));
  };
  const auto variance = [=](const Tensor& x, std::optional<Dims> axis, double by, bool keepdims) {
    if (axis && axis->size() == 0) {
      const Tensor line = x.reshape({1, x.numel()}, here());
      const Tensor v = correction(var(at(line), {0}, false, false), line, Dims{0}, by);
      return v.reshape(x.shape(), here());
    }
    return correction(var(at(x), axis.value_or(Dims()), keepdims, false), x, axis, by);
  };
  both("var", variance,
       "Variance over the axes, of floats, divided by n - correction (0: of a population).",
       "axis"_a = py::none(), "correction"_a = 0.0, "keepdims"_a = false);
  both(
      "std",
      [=](const Tensor& x, std::optional<Dims> axis, double by, bool keepdims) {
        // The variance may overflow where its root does not.
        const bool is_narrow = is_low_precision(x.dtype());
        const Tensor wide = is_narrow ? x.to(DType::f32, here()) : x;
        const Tensor y = sqrt(at(variance(wide, axis, by, keepdims)));
        return is_narrow ? y.to(x.dtype(), here()) : y;
      },
      "Standard deviation over the axes: the square root of var.", "axis"_a = py::none(),
      "correction"_a = 0.0, "keepdims"_a = false);
  both(
      "cumulative_sum", [](const Tensor& x, int axis) { return cumsum(at(x), axis); },
      "Sum of the elements up to and with this one along `axis`.", "axis"_a = 0);
}

}  // namespace tandem::python
