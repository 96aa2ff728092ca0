// Operations: each is bound once, as a function and, where people expect it, as a method.
#include "ops/ops.h"

#include <algorithm>
#include <cstring>

#include "core/dispatch.h"
#include "python/src/dlpack.h"
#include "python/src/indexing.h"
#include "python/src/op_docs.h"
#include "python/src/tensor_object.h"

namespace tandem::python {
namespace {

using namespace py::literals;

py::module_* module_ = nullptr;

py::handle tensor_class() {
  return reinterpret_cast<PyObject*>(tensor_type);
}

// Of what a function is bound with, the documentation gets its sections.
template <class E>
const E& documented(const char*, const E& extra) {
  return extra;
}
inline const char* documented(const char* name, const char* doc) {
  return with_sections(name, doc);
}

// What an argument makes a call last, in elements.
std::int64_t weight(const Tensor& t) {
  return t.defined() ? t.numel() : 0;
}
std::int64_t weight(const std::optional<Tensor>& t) {
  return t ? weight(*t) : 0;
}
std::int64_t weight(const std::vector<Tensor>& list) {
  std::int64_t n = 0;
  for (const Tensor& t : list) n += weight(t);
  return n;
}
std::int64_t weight(const Dims& shape) {  // of what may be made
  std::int64_t n = 1;
  for (const std::int64_t s : shape) {
    n = std::min(n * std::clamp<std::int64_t>(s, 1, GilRelease::kAlways), GilRelease::kAlways);
  }
  return n;
}
template <class T>
std::int64_t weight(const T&) {
  return 0;
}

template <class T>
constexpr bool of_python = std::is_base_of_v<py::handle, std::remove_cvref_t<T>>;

// `f` without the GIL where that pays, unless it has to do with Python's objects itself.
template <class F, class R, class... A>
auto releasing(F&& f, R (*)(A...)) {
  if constexpr (of_python<R> || (of_python<A> || ...)) {
    return std::forward<F>(f);
  } else {
    return [f = std::forward<F>(f)](A... a) -> R {
      const GilRelease release((std::int64_t{0} + ... + weight(a)));
      return f(std::forward<A>(a)...);
    };
  }
}
template <class F>
auto releasing(F&& f) {
  return releasing(std::forward<F>(f),
                   static_cast<py::detail::function_signature_t<std::decay_t<F>>*>(nullptr));
}

template <class F, class... Extra>
void method(const char* name, F&& f, const Extra&... extra) {
  const py::handle c = tensor_class();
  c.attr(name) =
      py::cpp_function(releasing(std::forward<F>(f)), py::name(name), py::is_method(c),
                       py::sibling(py::getattr(c, name, py::none())), documented(name, extra)...);
}
template <class F>
void property(const char* name, F&& f, const char* doc) {
  const py::handle c = tensor_class();
  c.attr(name) = py::module_::import("builtins")
                     .attr("property")(py::cpp_function(std::forward<F>(f), py::is_method(c)),
                                       py::none(), py::none(), doc);
}
template <class G, class S>
void property(const char* name, G&& get, S&& set, const char* doc) {
  const py::handle c = tensor_class();
  c.attr(name) = py::module_::import("builtins")
                     .attr("property")(py::cpp_function(std::forward<G>(get), py::is_method(c)),
                                       py::cpp_function(std::forward<S>(set), py::is_method(c)),
                                       py::none(), doc);
}
template <class F, class... Extra>
void function(const char* name, F&& f, const Extra&... extra) {
  module_->def(name, releasing(std::forward<F>(f)), documented(name, extra)...);
}
/// A function whose first argument is the tensor it could be a method of. The method has no name
/// for that argument.
template <class F, class... Extra>
void both(const char* name, const F& f, const char* doc, const Extra&... extra) {
  function(name, f, py::arg("x"), extra..., doc);
  method(name, f, extra..., doc);
}

In at(const Tensor& t) {
  return {t, here()};
}

/// An argument that may be None, as C++ has it: an undefined tensor.
using Optional = std::optional<Tensor>;
Tensor of(const Optional& t) {
  return t.value_or(Tensor());
}

using Unary = Tensor (*)(In);
void unary(const char* name, Unary f, const char* doc) {
  both(
      name,
      [f](const Tensor& x) {
        const In in = at(x);
        return without_gil(x.numel(), [&] { return f(in); });
      },
      doc);
}

// A tensor or a number on either side, but not numbers on both.
template <class TT, class TS, class ST>
void binary(const char* name, TT tensors, TS right_number, ST left_number, const char* doc) {
  const auto f = [=](py::handle a, py::handle b) {
    Scalar s;
    if (is_tensor(a.ptr()) && to_scalar(b.ptr(), s)) {
      const Tensor& x = tensor_of(a.ptr());
      return without_gil(x.numel(), [&] { return right_number(at(x), s); });
    }
    if (is_tensor(b.ptr()) && to_scalar(a.ptr(), s)) {
      const Tensor& y = tensor_of(b.ptr());
      return without_gil(y.numel(), [&] { return left_number(s, at(y)); });
    }
    const Tensor x = to_tensor(a), y = to_tensor(b);
    return without_gil(x.numel() + y.numel(), [&] { return tensors(at(x), y); });
  };
  function(name, f, "a"_a, "b"_a, doc);
  method(name, f, "other"_a, doc);
}
#define TANDEM_BINARY(python, name, mirrored, doc)              \
  binary(                                                       \
      python, [](In x, const Tensor& y) { return name(x, y); }, \
      [](In x, Scalar y) { return name(x, y); }, [](Scalar x, In y) { return mirrored; }, doc)

void bind_elementwise() {
  TANDEM_BINARY("add", add, add(y, x), "a + b, elementwise, with broadcasting.");
  TANDEM_BINARY("subtract", sub, sub(x, y), "a - b, elementwise, with broadcasting.");
  TANDEM_BINARY("multiply", mul, mul(y, x), "a * b, elementwise, with broadcasting.");
  TANDEM_BINARY("divide", div, div(x, y), "a / b, elementwise; of two integer tensors float32.");
  TANDEM_BINARY("pow", pow, pow(x, y),
                "a to the power of b. Integers stay integers: a negative number as b is\n"
                "refused, a negative element of b gives the quotient cut towards 0.");
  TANDEM_BINARY("floor_divide", floor_divide, floor_divide(x, y),
                "a / b rounded down, elementwise; of integers, 0 where b is 0.");
  TANDEM_BINARY("remainder", remainder, remainder(x, y),
                "What floor_divide leaves, elementwise: of b's sign; of integers, 0 where b is 0.");
  TANDEM_BINARY("maximum", maximum, maximum(y, x),
                "The larger of two, elementwise; NaN if either is. Equal ones share the gradient.");
  TANDEM_BINARY(
      "minimum", minimum, minimum(y, x),
      "The smaller of two, elementwise; NaN if either is. Equal ones share the gradient.");
  TANDEM_BINARY("equal", eq, eq(y, x), "a == b, elementwise: bool.");
  TANDEM_BINARY("not_equal", ne, ne(y, x), "a != b, elementwise: bool.");
  TANDEM_BINARY("less", lt, lt(x, y), "a < b, elementwise: bool.");
  TANDEM_BINARY("less_equal", le, le(x, y), "a <= b, elementwise: bool.");
  TANDEM_BINARY("greater", gt, gt(x, y), "a > b, elementwise: bool.");
  TANDEM_BINARY("greater_equal", ge, ge(x, y), "a >= b, elementwise: bool.");

  unary("negative", neg, "-x, elementwise.");
  unary("abs", abs, "The magnitude of each element.");
  unary("sign", sign, "-1, 0 or 1 by the sign of each element; NaN of NaN.");
  unary("floor", floor, "The largest whole number not above each element.");
  unary("ceil", ceil, "The smallest whole number not below each element.");
  unary("round", round, "The nearest whole number, halves to even.");
  unary("square", square, "x * x, elementwise.");
  unary("reciprocal", reciprocal, "1 / x, elementwise.");
  unary("exp", exp, "e to the power of each element.");
  unary("log", log, "The natural logarithm, elementwise.");
  unary("log1p", log1p, "log(1 + x), accurate near 0.");
  unary("sqrt", sqrt, "The square root, elementwise.");
  unary("rsqrt", rsqrt, "1 / sqrt(x), elementwise.");
  unary("sin", sin, "The sine, elementwise; radians.");
  unary("cos", cos, "The cosine, elementwise; radians.");
  unary("erf", erf, "The error function, elementwise.");
  unary("tanh", tanh, "The hyperbolic tangent, elementwise.");
  unary("sigmoid", sigmoid, "1 / (1 + exp(-x)), elementwise.");
  unary("relu", relu, "max(x, 0), elementwise; NaN stays NaN.");
  unary("gelu", gelu,
        "x Phi(x), the exact form (Hendrycks and Gimpel, \"Gaussian error linear units\", 2016).");
  unary("silu", silu, "x sigmoid(x), elementwise.");
  unary("softplus", softplus, "log(1 + exp(x)), elementwise.");
  unary("logical_not", logical_not, "Whether each element is zero: bool.");
  unary("isnan", isnan, "Whether each element is a NaN: bool.");
  both(
      "leaky_relu",
      [](const Tensor& x, double slope) {
        const In in = at(x);
        return without_gil(x.numel(), [&] { return leaky_relu(in, slope); });
      },
      "x where x > 0, else slope * x.", "slope"_a = 0.01);
  both(
      "clamp",
      [](const Tensor& x, std::optional<Scalar> lo, std::optional<Scalar> hi) {
        const In in = at(x);
        return without_gil(x.numel(),
                           [&] { return clamp(in, lo.value_or(Scalar()), hi.value_or(Scalar())); });
      },
      "x limited to [min, max]; None leaves that side open. Gradient 1 on the bounds.",
      "min"_a = py::none(), "max"_a = py::none());
  function(
      "where",
      [](const Tensor& cond, py::handle a, py::handle b) {
        const auto value = [](py::handle h, py::handle other) {
          Scalar s;
          if (!is_tensor(h.ptr()) && to_scalar(h.ptr(), s) && is_tensor(other.ptr())) {
            const Tensor& t = tensor_of(other.ptr());
            return full({}, s, {.dtype = promote(t.dtype(), s), .device = t.device()}, here());
          }
          return to_tensor(h);
        };
        const Tensor x = value(a, b), y = value(b, a);
        return without_gil(cond.numel(), [&] { return where(at(cond), x, y); });
      },
      "condition"_a, "a"_a, "b"_a, "`a` where `condition` (bool) holds, else `b`; all broadcast.");
  const auto logic = [](const char* name, Tensor (*f)(In, const Tensor&), const char* doc) {
    both(
        name, [f](const Tensor& a, const Tensor& b) { return f(at(a), b); }, doc, "other"_a);
  };
  logic("logical_and", logical_and, "Whether both elements are non-zero: bool.");
  logic("logical_or", logical_or, "Whether either element is non-zero: bool.");
}

using Reduction3 = Tensor (*)(In, const Dims&, bool);

// To C++ no axes are all of them; to axis=() each element is a set of its own.
Tensor over_nothing(Reduction3 f, const Tensor& x) {
  const Tensor line = x.reshape({1, x.numel()}, here());
  return f(at(line), {0}, false).reshape(x.shape(), here());
}

void reduction(const char* name, Reduction3 f, const char* doc) {
  both(
      name,
      [f](const Tensor& x, std::optional<Dims> axis, bool keepdims) {
        const In in = at(x);
        return without_gil(x.numel(), [&] {
          if (axis && axis->size() == 0) return over_nothing(f, x);
          return f(in, axis.value_or(Dims()), keepdims);
        });
      },
      doc, "axis"_a = py::none(), "keepdims"_a = false);
}

void bind_reductions() {
  reduction("sum", sum, "Sum over the axes (all by default); integers and bool give int64.");
  reduction("mean", mean, "Arithmetic mean over the axes (all by default), of floats.");
  reduction("prod", prod, "Product over the axes (all by default); integers give int64.");
  reduction("max", max, "Largest element over the axes; a NaN wins. Ties share the gradient.");
  reduction("min", min, "Smallest element over the axes; a NaN wins. Ties share the gradient.");
  reduction("argmax", argmax,
            "Where the largest element is (int64): along one axis, or in row-major order.");
  reduction("argmin", argmin,
            "Where the smallest element is (int64): along one axis, or in row-major order.");
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
        return sqrt(at(variance(x, axis, by, keepdims)));
      },
      "Standard deviation over the axes: the square root of var.", "axis"_a = py::none(),
      "correction"_a = 0.0, "keepdims"_a = false);
  both(
      "cumulative_sum", [](const Tensor& x, int axis) { return cumsum(at(x), axis); },
      "Sum of the elements up to and with this one along `axis`.", "axis"_a = 0);
}

TensorOptions options(std::optional<DType> t, std::optional<Device> d) {
  return {.dtype = t.value_or(DType::f32), .device = d.value_or(default_device())};
}

void bind_creation() {
  const auto dtype = "dtype"_a = py::none();
  const auto device = "device"_a = py::none();
  using T = std::optional<DType>;
  using D = std::optional<Device>;
  function(
      "full",
      [](const Dims& shape, Scalar v, T t, D d) {
        const DType natural = v.kind() == Scalar::Kind::boolean   ? DType::boolean
                              : v.kind() == Scalar::Kind::integer ? DType::i64
                                                                  : DType::f32;
        return full(shape, v, options(t.value_or(natural), d), here());
      },
      "shape"_a, "fill_value"_a, dtype, device,
      "Every element `fill_value`; without a dtype int64, float32 or bool, as the value is.");
  function(
      "zeros", [](const Dims& s, T t, D d) { return zeros(s, options(t, d), here()); }, "shape"_a,
      dtype, device, "Zeros of that shape, float32 by default.");
  function(
      "ones", [](const Dims& s, T t, D d) { return ones(s, options(t, d), here()); }, "shape"_a,
      dtype, device, "Ones of that shape, float32 by default.");
  function(
      "empty", [](const Dims& s, T t, D d) { return zeros(s, options(t, d), here()); }, "shape"_a,
      dtype, device, "Some values of that shape (zeros, in fact).");
  const auto like = [&](const char* name, Scalar v, const char* doc) {
    function(
        name,
        [v](const Tensor& x, T t, D d) {
          return full(at(x)->shape(), v,
                      {.dtype = t.value_or(x.dtype()), .device = d.value_or(x.device())}, here());
        },
        "x"_a, dtype, device, doc);
  };
  like("zeros_like", 0, "Zeros with x's shape, dtype and device; row-major.");
  like("ones_like", 1, "Ones with x's shape, dtype and device; row-major.");
  function(
      "full_like",
      [](const Tensor& x, Scalar v, T t, D d) {
        return full(at(x)->shape(), v,
                    {.dtype = t.value_or(x.dtype()), .device = d.value_or(x.device())}, here());
      },
      "x"_a, "fill_value"_a, dtype, device, "`fill_value` with x's shape, dtype and device.");
  function(
      "arange",
      [](Scalar start, std::optional<Scalar> end, Scalar step, T t, D d) {
        const Scalar stop = end.value_or(start);
        if (!end) start = 0;
        if (!t && !d) return arange(start, stop, step, here());
        const bool whole = start.kind() != Scalar::Kind::real &&
                           stop.kind() != Scalar::Kind::real && step.kind() != Scalar::Kind::real;
        return arange(start, stop, step, options(t.value_or(whole ? DType::i64 : DType::f32), d),
                      here());
      },
      "start"_a, "stop"_a = py::none(), "step"_a = 1, dtype, device,
      "start, start + step, … before stop; arange(n) starts from 0. int64 when all are integers.");
  function(
      "linspace",
      [](double a, double b, std::int64_t n, T t, D d) {
        return linspace(a, b, n, options(t, d), here());
      },
      "start"_a, "stop"_a, "num"_a, dtype, device, "`num` even steps from start to stop, both in.");
  function(
      "eye",
      [](std::int64_t n, std::optional<std::int64_t> m, T t, D d) {
        return eye(n, m.value_or(-1), options(t, d), here());
      },
      "n_rows"_a, "n_cols"_a = py::none(), dtype, device, "Ones on the diagonal, zeros elsewhere.");

  const auto generator = "generator"_a = py::none();
  function(
      "rand",
      [](const Dims& s, T t, D d, Generator* g) { return rand(s, options(t, d), g, here()); },
      "shape"_a, dtype, device, generator, "Uniform in [0, 1).");
  function(
      "uniform",
      [](const Dims& s, double lo, double hi, T t, D d, Generator* g) {
        return uniform(s, lo, hi, options(t, d), g, here());
      },
      "shape"_a, "low"_a = 0.0, "high"_a = 1.0, dtype, device, generator,
      "Uniform in [low, high).");
  function(
      "randn",
      [](const Dims& s, T t, D d, Generator* g) { return randn(s, options(t, d), g, here()); },
      "shape"_a, dtype, device, generator, "Normal with mean 0 and standard deviation 1.");
  function(
      "normal",
      [](const Dims& s, double mean, double std, T t, D d, Generator* g) {
        return normal(s, mean, std, options(t, d), g, here());
      },
      "shape"_a, "mean"_a = 0.0, "std"_a = 1.0, dtype, device, generator,
      "Normal with that mean and standard deviation.");
  function(
      "randint",
      [](std::int64_t lo, std::int64_t hi, const Dims& s, T t, D d, Generator* g) {
        return randint(lo, hi, s, options(t.value_or(DType::i64), d), g, here());
      },
      "low"_a, "high"_a, "shape"_a, dtype, device, generator, "Integers in [low, high).");
  function(
      "bernoulli", [](const Tensor& p, Generator* g) { return bernoulli(at(p), g); }, "p"_a,
      generator, "1 with probability p, else 0, element by element; in p's dtype.");
  function(
      "dropout",
      [](const Tensor& x, double p, bool training, Generator* g) {
        return dropout(at(x), p, training, g);
      },
      "x"_a, "p"_a = 0.5, "training"_a = true, generator,
      "0 with probability p, else x / (1 - p) (Srivastava et al., \"Dropout\", 2014).");
}

void bind_shapes() {
  both(
      "reshape", [](const Tensor& x, const Dims& s) { return at(x)->reshape(s, here()); },
      "The same elements in another shape; -1 stands for what is left. A view if it can be.",
      "shape"_a);
  method(
      "view", [](const Tensor& x, const Dims& s) { return x.view(s, here()); }, "shape"_a,
      "The same memory in another shape; RangeError where that would take a copy.");
  both(
      "flatten",
      [](const Tensor& x, int start, int end) { return at(x)->flatten(start, end, here()); },
      "The axes start … end as one.", "start_axis"_a = 0, "end_axis"_a = -1);
  both(
      "transpose", [](const Tensor& x, int a, int b) { return at(x)->transpose(a, b, here()); },
      "Two axes exchanged: a view.", "axis0"_a = -2, "axis1"_a = -1);
  both(
      "permute_dims", [](const Tensor& x, const Dims& a) { return at(x)->permute(a, here()); },
      "The axes in another order: a view.", "axes"_a);
  method(
      "permute", [](const Tensor& x, const Dims& a) { return x.permute(a, here()); }, "axes"_a,
      "The axes in another order: a view.");
  both(
      "squeeze", [](const Tensor& x, int axis) { return at(x)->squeeze(axis, here()); },
      "Without an axis of size 1: a view.", "axis"_a);
  both(
      "expand_dims", [](const Tensor& x, int axis) { return at(x)->unsqueeze(axis, here()); },
      "With a new axis of size 1: a view.", "axis"_a = 0);
  method(
      "unsqueeze", [](const Tensor& x, int axis) { return x.unsqueeze(axis, here()); }, "axis"_a,
      "With a new axis of size 1: a view.");
  both(
      "broadcast_to", [](const Tensor& x, const Dims& s) { return at(x)->expand(s, here()); },
      "x repeated along axes of size 1 and new ones: a view.", "shape"_a);
  function(
      "concat", [](const std::vector<Tensor>& xs, int axis) { return concat(xs, axis, here()); },
      "tensors"_a, "axis"_a = 0, "One after the other along an axis.");
  function(
      "stack", [](const std::vector<Tensor>& xs, int axis) { return stack(xs, axis, here()); },
      "tensors"_a, "axis"_a = 0, "Along a new axis.");
  both(
      "split",
      [](const Tensor& x, std::variant<std::int64_t, std::vector<std::int64_t>> s, int axis) {
        return std::holds_alternative<std::int64_t>(s) ? split(at(x), std::get<0>(s), axis)
                                                       : split(at(x), std::get<1>(s), axis);
      },
      "Views of `size` elements along an axis (the last may be smaller), or of those sizes.",
      "size"_a, "axis"_a = 0);
  both(
      "chunk", [](const Tensor& x, std::int64_t n, int axis) { return chunk(at(x), n, axis); },
      "At most `count` views of equal size along an axis; the last may be smaller.", "count"_a,
      "axis"_a = 0);
  both(
      "pad",
      [](const Tensor& x, const std::vector<std::int64_t>& before_after, Scalar v) {
        return pad(at(x), before_after, v);
      },
      "x with `value` around it: two counts for each axis, from axis 0.", "before_after"_a,
      "value"_a = 0);
  both(
      "flip",
      [](const Tensor& x, std::optional<Dims> axis) {
        Dims all;
        for (int i = 0; i < x.rank(); ++i) all.push_back(i);
        return flip(at(x), axis.value_or(all));
      },
      "In reverse order along the axes (all by default).", "axis"_a = py::none());
  both(
      "roll",
      [](const Tensor& x, const Dims& shift, const Dims& axis) { return roll(at(x), shift, axis); },
      "Elements moved along the axes; what falls off one end comes in at the other.", "shift"_a,
      "axis"_a);
  both(
      "gather", [](const Tensor& x, int axis, const Tensor& i) { return gather(at(x), axis, i); },
      "x at the positions `index` along an axis; the other axes as in `index`.", "axis"_a,
      "index"_a);
  both(
      "scatter_add",
      [](const Tensor& x, int axis, const Tensor& i, const Tensor& src) {
        return scatter_add(at(x), axis, i, src);
      },
      "x with src added at the positions `index` along an axis: the adjoint of gather.", "axis"_a,
      "index"_a, "src"_a);
  both(
      "take",
      [](const Tensor& x, const Tensor& i, int axis) { return index_select(at(x), axis, i); },
      "The slices at the positions `index` (rank 1) along an axis.", "index"_a, "axis"_a = 0);
  both(
      "index_add",
      [](const Tensor& x, int axis, const Tensor& i, const Tensor& src) {
        return index_add(at(x), axis, i, src);
      },
      "x with slice k of src added to slice index[k], in order.", "axis"_a, "index"_a, "src"_a);
  function(
      "embedding", [](const Tensor& w, const Tensor& ids) { return embedding(at(w), ids); },
      "weight"_a, "ids"_a, "Rows of weight [V, D] for ids of any shape: [..., D].");
  both(
      "one_hot",
      [](const Tensor& x, std::int64_t n, std::optional<DType> t) {
        return one_hot(at(x), n, t.value_or(DType::i64));
      },
      "[...] -> [..., classes]: 1 at the id, 0 elsewhere.", "classes"_a, "dtype"_a = py::none());
  both(
      "sort",
      [](const Tensor& x, int axis, bool descending) { return sort(at(x), axis, descending); },
      "(values, positions) in order along an axis; stable, a NaN counts as largest.", "axis"_a = -1,
      "descending"_a = false);
  both(
      "argsort",
      [](const Tensor& x, int axis, bool descending) {
        return sort(at(x), axis, descending).second;
      },
      "Positions (int64) in order along an axis; stable, a NaN counts as largest.", "axis"_a = -1,
      "descending"_a = false);
  both(
      "topk",
      [](const Tensor& x, std::int64_t k, int axis, bool largest) {
        return topk(at(x), k, axis, largest);
      },
      "(values, positions) of the k largest or smallest along an axis, best first.", "k"_a,
      "axis"_a = -1, "largest"_a = true);
}

std::string lower(Reduction r) {
  return name_of(r);
}
Reduction reduction_of(const std::string& s) {
  for (const Reduction r : {Reduction::none, Reduction::mean, Reduction::sum}) {
    if (lower(r) == s) return r;
  }
  fail<ValueError>("loss", "no such reduction", s, "'mean', 'sum' or 'none'");
}

void bind_networks() {
  both(
      "matmul",
      [](const Tensor& a, const Tensor& b) {
        const In in = at(a);
        return without_gil((a.numel() + b.numel()) * 8, [&] { return matmul(in, b); });
      },
      "Matrix product with NumPy's rules: [..., M, K] and [..., K, N] give [..., M, N].",
      "other"_a);
  const auto none = py::none();
  function(
      "linear",
      [](const Tensor& x, const Tensor& w, const Optional& b) {
        const In in = at(x);
        return without_gil(w.numel() * 8, [&] { return linear(in, w, of(b)); });
      },
      "x"_a, "weight"_a, "bias"_a = none,
      "x wᵀ + b: x [..., in], weight [out, in], bias [out] or None give [..., out].");
  function(
      "conv2d",
      [](const Tensor& x, const Tensor& w, const Optional& b, const Dims& stride,
         const Dims& padding, const Dims& dilation, std::int64_t groups) {
        const In in = at(x);
        const Conv2dOptions o{stride, padding, dilation, groups};
        return without_gil(x.numel() * 8, [&] { return conv2d(in, w, of(b), o); });
      },
      "x"_a, "weight"_a, "bias"_a = none, "stride"_a = 1, "padding"_a = 0, "dilation"_a = 1,
      "groups"_a = 1,
      "Cross-correlation of x [N, C, H, W] with weight [O, C / groups, kh, kw], plus bias [O],\n"
      "giving [N, O, OH, OW], OH = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1.\n"
      "Channels-last in, channels-last out.");
  function(
      "conv_transpose2d",
      [](const Tensor& x, const Tensor& w, const Optional& b, const Dims& stride,
         const Dims& padding, const Dims& output_padding, std::int64_t groups,
         const Dims& dilation) {
        const In in = at(x);
        const ConvTranspose2dOptions o{stride, padding, output_padding, groups, dilation};
        return without_gil(x.numel() * 8, [&] { return conv_transpose2d(in, w, of(b), o); });
      },
      "x"_a, "weight"_a, "bias"_a = none, "stride"_a = 1, "padding"_a = 0, "output_padding"_a = 0,
      "groups"_a = 1, "dilation"_a = 1,
      "The gradient of conv2d with respect to its input as a layer of its own: x [N, I, H, W],\n"
      "weight [I, O / groups, kh, kw] give [N, O, OH, OW],\n"
      "OH = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.");
  const auto pool = [](const Dims& kernel, std::optional<Dims> stride, const Dims& padding,
                       bool ceil_mode, bool include) {
    return Pool2dOptions{kernel, stride.value_or(Dims()), padding, ceil_mode, include};
  };
  function(
      "max_pool2d",
      [=](const Tensor& x, const Dims& kernel, std::optional<Dims> stride, const Dims& padding,
          bool ceil_mode) {
        const In in = at(x);
        const auto o = pool(kernel, stride, padding, ceil_mode, true);
        return without_gil(x.numel(), [&] { return max_pool2d(in, o); });
      },
      "x"_a, "kernel_size"_a, "stride"_a = none, "padding"_a = 0, "ceil_mode"_a = false,
      "Largest element of each window of x [N, C, H, W]; stride is the kernel by default.");
  function(
      "avg_pool2d",
      [=](const Tensor& x, const Dims& kernel, std::optional<Dims> stride, const Dims& padding,
          bool ceil_mode, bool include) {
        const In in = at(x);
        const auto o = pool(kernel, stride, padding, ceil_mode, include);
        return without_gil(x.numel(), [&] { return avg_pool2d(in, o); });
      },
      "x"_a, "kernel_size"_a, "stride"_a = none, "padding"_a = 0, "ceil_mode"_a = false,
      "count_include_pad"_a = true, "Mean of each window of x [N, C, H, W].");
  function(
      "adaptive_avg_pool2d",
      [](const Tensor& x, const Dims& out) { return adaptive_avg_pool2d(at(x), out); }, "x"_a,
      "output_size"_a, "Mean over windows such that the result is [N, C, *output_size].");
  function(
      "batch_norm",
      [](const Tensor& x, const Optional& w, const Optional& b, const Optional& running_mean,
         const Optional& running_var, bool training, double momentum, double eps) {
        const In in = at(x);
        Tensor mean = of(running_mean), var = of(running_var);
        return without_gil(x.numel(), [&] {
          return batch_norm(in, of(w), of(b), mean, var, training, momentum, eps);
        });
      },
      "x"_a, "weight"_a = none, "bias"_a = none, "running_mean"_a = none, "running_var"_a = none,
      "training"_a = true, "momentum"_a = 0.1, "eps"_a = 1e-5,
      "(x - mean) / sqrt(var + eps) weight + bias for each channel of x [N, C, ...]; in training\n"
      "by the batch's statistics, which move the running ones. Ioffe and Szegedy 2015,\n"
      "arXiv:1502.03167.");
  function(
      "layer_norm",
      [](const Tensor& x, const Dims& shape, const Optional& w, const Optional& b, double eps) {
        const In in = at(x);
        return without_gil(x.numel(), [&] { return layer_norm(in, shape, of(w), of(b), eps); });
      },
      "x"_a, "normalized_shape"_a, "weight"_a = none, "bias"_a = none, "eps"_a = 1e-5,
      "(x - mean) / sqrt(var + eps) weight + bias over the last axes, whose sizes are\n"
      "`normalized_shape`. Ba et al. 2016, arXiv:1607.06450.");
  both(
      "softmax", [](const Tensor& x, int axis) { return softmax(at(x), axis); },
      "exp(x) / sum(exp(x)) along an axis.", "axis"_a = -1);
  both(
      "log_softmax", [](const Tensor& x, int axis) { return log_softmax(at(x), axis); },
      "log(softmax(x)) along an axis.", "axis"_a = -1);
  function(
      "cross_entropy",
      [](const Tensor& x, const Tensor& y, double smoothing, const std::string& r,
         std::int64_t ignore) {
        return cross_entropy(at(x), y, {smoothing, reduction_of(r), ignore});
      },
      "logits"_a, "target"_a, "label_smoothing"_a = 0.0, "reduction"_a = "mean",
      "ignore_index"_a = -100,
      "-log(softmax(logits))[target]: logits [N, C, ...], target class indices [N, ...] or\n"
      "probabilities like logits. Mean is over the samples not ignored.");
  function(
      "nll_loss",
      [](const Tensor& x, const Tensor& y, const std::string& r, std::int64_t ignore) {
        return nll_loss(at(x), y, reduction_of(r), ignore);
      },
      "log_probabilities"_a, "target"_a, "reduction"_a = "mean", "ignore_index"_a = -100,
      "-log_probabilities[target] of each sample.");
  function(
      "mse_loss",
      [](const Tensor& a, const Tensor& b, const std::string& r) {
        return mse_loss(at(a), b, reduction_of(r));
      },
      "a"_a, "b"_a, "reduction"_a = "mean", "(a - b)², reduced; the shapes must be equal.");
}

py::object to_list(const Tensor& t) {
  if (t.rank() == 0) {
    const Scalar s = t.item_scalar(here());
    return py::reinterpret_steal<py::object>(
        py::detail::type_caster<Scalar>::cast(s, py::return_value_policy::move, {}));
  }
  const auto build = [&](auto&& self, const std::vector<Scalar>& v, int axis,
                         std::size_t& at) -> py::object {
    if (axis == t.rank()) {
      return py::reinterpret_steal<py::object>(
          py::detail::type_caster<Scalar>::cast(v[at++], py::return_value_policy::move, {}));
    }
    py::list l;
    for (std::int64_t i = 0; i < t.dim(axis); ++i) l.append(self(self, v, axis + 1, at));
    return l;
  };
  std::vector<Scalar> v;
  v.reserve(static_cast<std::size_t>(t.numel()));
  if (is_floating(t.dtype())) {
    for (double x : t.to_vector<double>(here())) v.emplace_back(x);
  } else if (t.dtype() == DType::boolean) {
    for (std::int64_t x : t.to_vector<std::int64_t>(here())) v.emplace_back(x != 0);
  } else {
    for (std::int64_t x : t.to_vector<std::int64_t>(here())) v.emplace_back(x);
  }
  std::size_t at = 0;
  return build(build, v, 0, at);
}

void bind_tensor() {
  property(
      "shape", [](const Tensor& t) { return t.shape(); }, "Sizes of the axes: a tuple.");
  property(
      "strides", [](const Tensor& t) { return t.strides(); }, "Steps along the axes, in elements.");
  property(
      "ndim", [](const Tensor& t) { return t.rank(); }, "Number of axes.");
  property(
      "size", [](const Tensor& t) { return t.numel(); }, "Number of elements.");
  property(
      "dtype", [](const Tensor& t) { return t.dtype(); }, "Type of the elements.");
  property(
      "device", [](const Tensor& t) { return t.device(); }, "Where the tensor lies.");
  property(
      "T", [](const Tensor& t) { return t.t(here()); }, "The last two axes exchanged: a view.");
  property(
      "mT", [](const Tensor& t) { return t.t(here()); }, "The last two axes exchanged: a view.");
  property(
      "is_leaf", [](const Tensor& t) { return t.is_leaf(); },
      "Not a result that the tape knows the history of.");
  property(
      "is_symbolic", [](const Tensor& t) { return t.is_symbolic(); },
      "A value of a program being captured, without numbers yet.");
  property(
      "requires_grad", [](const Tensor& t) { return t.requires_grad(); },
      [](Tensor t, bool on) { t.set_requires_grad(on, here()); },
      "Whether gradients flow to it. DTypeError unless floating.");
  property(
      "grad", [](const Tensor& t) { return t.grad(); },
      [](Tensor t, const Optional& g) { t.set_grad(of(g), here()); },
      "The gradient backward() accumulated, or None.");
  method(
      "requires_grad_",
      [](py::object self, bool on) {
        tensor_of(self.ptr()).set_requires_grad(on, here());
        return self;
      },
      "on"_a = true, "Marks it as wanting a gradient, and returns it.");
  method(
      "backward",
      [](const Tensor& t, const Optional& gradient, bool retain, bool create) {
        const Tensor seed = of(gradient);
        const GilRelease release(GilRelease::kAlways);
        t.backward(seed, retain, create, here());
      },
      "gradient"_a = py::none(), "retain_graph"_a = false, "create_graph"_a = false,
      "Accumulates the gradient of this value into the .grad of every leaf it depends on;\n"
      "`gradient` is 1 by default for one element.");
  method(
      "detach", [](const Tensor& t) { return t.detach(); },
      "The same memory, cut off from the tape.");
  method(
      "is_contiguous", [](const Tensor& t) { return t.is_contiguous(); },
      "Row-major without gaps.");
  method(
      "is_channels_last", [](const Tensor& t) { return t.is_channels_last(); },
      "[N, C, H, W] whose channels vary fastest in memory.");
  method(
      "contiguous", [](const Tensor& t) { return t.contiguous(here()); },
      "Row-major: itself, or a copy.");
  method(
      "clone", [](const Tensor& t) { return t.clone(here()); }, "A copy of its own memory.");
  method(
      "to",
      [](const Tensor& t, py::handle what, std::optional<DType> dtype,
         std::optional<Device> device) {
        Tensor r = t;
        if (!what.is_none()) {
          if (py::isinstance<MemoryFormat>(what)) {
            r = r.to(py::cast<MemoryFormat>(what), here());
          } else if (const auto d = to_dtype(what)) {
            dtype = d;
          } else {
            device = py::cast<Device>(what);
          }
        }
        if (dtype) r = without_gil(r.numel(), [&] { return r.to(*dtype, here()); });
        if (device) {
          const py::gil_scoped_release release;
          r = r.to(*device, here());
        }
        return r;
      },
      "what"_a = py::none(), "dtype"_a = py::none(), "device"_a = py::none(),
      "In another dtype, on another device, in another memory format; itself if it is already.");
  method(
      "astype", [](const Tensor& t, DType d) { return t.to(d, here()); }, "dtype"_a,
      "In another dtype; floating to integral truncates.");
  method(
      "item", [](const Tensor& t) { return t.item_scalar(here()); },
      "The value of a one-element tensor as a Python number. ShapeError otherwise;\n"
      "CaptureError inside a capture.");
  method("tolist", to_list, "The values as nested lists of Python numbers.");
  method(
      "copy_",
      [](py::object self, py::handle src) {
        const Tensor s = to_tensor(src);
        Tensor& t = tensor_of(self.ptr());
        without_gil(t.numel(), [&] { t.copy_(s, here()); });
        return self;
      },
      "src"_a, "Writes src, broadcast and converted, into this tensor.");
  method(
      "fill_",
      [](py::object self, Scalar v) {
        Tensor& t = tensor_of(self.ptr());
        without_gil(t.numel(), [&] { t.fill_(v, here()); });
        return self;
      },
      "value"_a, "Writes one value to every element.");
  method(
      "zero_",
      [](py::object self) {
        tensor_of(self.ptr()).zero_(here());
        return self;
      },
      "Writes 0 to every element.");
  method("__repr__", [](const Tensor& t) { return t.str(); });
  method("__getitem__", get_item, "key"_a);
  method("__setitem__", set_item, "key"_a, "value"_a);
  method(
      "__dlpack__",
      [](const Tensor& t, py::object, py::object max_version,
         std::optional<std::pair<int, int>> device, std::optional<bool> copy) {
        if (t.requires_grad()) {
          fail<AutogradError>("__dlpack__", "the tape does not follow into other libraries",
                              t.desc().str(), ".detach()");
        }
        const int major = max_version.is_none() ? 0 : py::cast<int>(max_version[py::int_(0)]);
        if (!device || *device == dlpack_device(t.device())) {
          return to_dlpack(t, major, copy.value_or(false));
        }
        if (*device != dlpack_device(kCPU) || copy == false) {
          fail<DeviceError>("__dlpack__", "the tensor is elsewhere", t.device().str(),
                            "its own device, or a copy on the CPU");
        }
        return to_dlpack(t.to(kCPU, here()), major);
      },
      py::kw_only(), "stream"_a = py::none(), "max_version"_a = py::none(),
      "dl_device"_a = py::none(), "copy"_a = py::none());
  method("__dlpack_device__", [](const Tensor& t) { return dlpack_device(t.device()); });
  method("_same", [](const Tensor& a, const Tensor& b) { return a.same_as(b); });
  method("_data_ptr",
         [](const Tensor& t) { return reinterpret_cast<std::uintptr_t>(t.raw_data()); });
  // For pickle: the bytes of a row-major tensor of any type, and back.
  function("_to_bytes", [](const Tensor& t) {
    return py::bytes(static_cast<const char*>(t.raw_data()),
                     static_cast<std::size_t>(t.numel()) * size_of(t.dtype()));
  });
  function("_from_bytes", [](const Tensor& raw, const Dims& shape, DType t) {
    const auto bytes = static_cast<std::size_t>(checked_numel(shape, "load")) * size_of(t);
    if (raw.dtype() != DType::u8 || static_cast<std::size_t>(raw.numel()) != bytes) {
      fail<ValueError>("load", "a tensor's bytes must fit its shape", std::to_string(raw.numel()),
                       std::to_string(bytes));
    }
    Tensor r = Tensor::empty(TensorDesc(t, kCPU, shape));
    if (bytes > 0) std::memcpy(r.raw_data(), raw.raw_data(), bytes);
    return r;
  });
  function(
      "from_dlpack", [](py::handle o) { return from_dlpack(o); }, "x"_a,
      "A tensor over the memory of an array of another library.");
}

}  // namespace

void bind_ops(py::module_& m) {
  module_ = &m;
  bind_creation();
  bind_elementwise();
  bind_reductions();
  bind_shapes();
  bind_networks();
  bind_tensor();
  m.def(
      "op_names",
      [] {
        std::vector<std::string> names;
        for (const OpDef* op : all_ops()) names.emplace_back(op->name);
        return names;
      },
      "The names of all ops there are, gradients and views among them, in the order of the list.");
  bind_op_docs(m);
  module_ = nullptr;
}

}  // namespace tandem::python
