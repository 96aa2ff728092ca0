// Creation of tensors, bound to Python.
#include "python/src/bind_op.h"

namespace tandem::python {

namespace {

// A function that makes a leaf, which may want a gradient.
template <class F, class... Extra>
void creation(const char* name, F f, const Extra&... extra) {
  const auto with_gradient = [&]<class... A>(Tensor (*make)(A...)) {
    // The text is the last of what is extra.
    const auto arguments = std::make_tuple(extra...);
    constexpr std::size_t n = sizeof...(Extra) - 1;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      function(
          name,
          [make](A... a, bool requires_grad) {
            Tensor t = make(std::forward<A>(a)...);
            if (requires_grad) t.set_requires_grad(true, here());
            return t;
          },
          std::get<I>(arguments)..., "requires_grad"_a = false, std::get<n>(arguments));
    }
    (std::make_index_sequence<n>());
  };
  with_gradient(+f);
}

// A function of a shape and options, whose sizes may be given one by one: zeros(2, 3).
template <class F, class... Options>
void of_shape(const char* name, const char* doc, F f, const Options&... options) {
  creation(name, f, "shape"_a, options..., doc);
  const auto with_sizes = [&]<class... A>(Tensor (*make)(const Dims&, A...)) {
    op_module->def(
        name,
        [make](const py::args& sizes, A... a, bool requires_grad) {
          const Dims shape = one_by_one(sizes);
          Tensor t = without_gil(weight(shape), [&] { return make(shape, std::move(a)...); });
          if (requires_grad) t.set_requires_grad(true, here());
          return t;
        },
        options..., "requires_grad"_a = false);
  };
  with_sizes(+f);
}

}  // namespace

void bind_creation() {
  const auto dtype = "dtype"_a = py::none();
  const auto device = "device"_a = py::none();
  using T = std::optional<DType>;
  using D = std::optional<Device>;
  creation(
      "full",
      [](const Dims& shape, Scalar v, T t, D d) {
        const DType natural = v.kind() == Scalar::Kind::boolean   ? DType::boolean
                              : v.kind() == Scalar::Kind::integer ? DType::i64
                                                                  : DType::f32;
        return full(shape, v, tensor_options(t.value_or(natural), d), here());
      },
      "shape"_a, "fill_value"_a, dtype, device,
      "Every element `fill_value`; without a dtype int64, float32 or bool, as the value is.");
  of_shape(
      "zeros", "Zeros of that shape, float32 by default.",
      [](const Dims& s, T t, D d) { return zeros(s, tensor_options(t, d), here()); }, dtype,
      device);
  of_shape(
      "ones", "Ones of that shape, float32 by default.",
      [](const Dims& s, T t, D d) { return ones(s, tensor_options(t, d), here()); }, dtype, device);
  of_shape(
      "empty", "Some values of that shape (zeros, in fact).",
      [](const Dims& s, T t, D d) {
        const FunctionSite site("empty", here());
        return zeros(s, tensor_options(t, d), here());
      },
      dtype, device);
  const auto like = [&]<int value>(const char* name, const char* doc) {
    creation(
        name,
        [](const Tensor& x, T t, D d) {
          return full_like(at(x), value,
                           {.dtype = t.value_or(x.dtype()), .device = d.value_or(x.device())});
        },
        "x"_a, dtype, device, doc);
  };
  like.operator()<0>("zeros_like", "Zeros with x's shape, dtype, device and memory format.");
  like.operator()<1>("ones_like", "Ones with x's shape, dtype, device and memory format.");
  creation(
      "full_like",
      [](const Tensor& x, Scalar v, T t, D d) {
        return full_like(at(x), v,
                         {.dtype = t.value_or(x.dtype()), .device = d.value_or(x.device())});
      },
      "x"_a, "fill_value"_a, dtype, device,
      "`fill_value` with x's shape, dtype, device and memory format.");
  creation(
      "arange",
      [](Scalar start, std::optional<Scalar> end, Scalar step, T t, D d) {
        const Scalar stop = end.value_or(start);
        if (!end) start = 0;
        if (!t && !d) return arange(start, stop, step, here());
        const bool whole = start.kind() != Scalar::Kind::real &&
                           stop.kind() != Scalar::Kind::real && step.kind() != Scalar::Kind::real;
        return arange(start, stop, step,
                      tensor_options(t.value_or(whole ? DType::i64 : DType::f32), d), here());
      },
      "start"_a, "stop"_a = py::none(), "step"_a = 1, dtype, device,
      "start, start + step, … before stop; arange(n) starts from 0. int64 when all are integers.");
  creation(
      "linspace",
      [](double a, double b, std::int64_t n, T t, D d) {
        return linspace(a, b, n, tensor_options(t, d), here());
      },
      "start"_a, "stop"_a, "num"_a, dtype, device, "`num` even steps from start to stop, both in.");
  creation(
      "eye",
      [](std::int64_t n, std::optional<std::int64_t> m, T t, D d) {
        return eye(n, m.value_or(-1), tensor_options(t, d), here());
      },
      "n_rows"_a, "n_cols"_a = py::none(), dtype, device, "Ones on the diagonal, zeros elsewhere.");

  const auto generator = "generator"_a = py::none();
  // Where there are overloads a pointer takes None as the last resort only, and too late.
  using G = std::optional<Generator*>;
  of_shape(
      "rand", "Uniform in [0, 1).",
      [](const Dims& s, T t, D d, G g) {
        return rand(s, tensor_options(t, d), g.value_or(nullptr), here());
      },
      dtype, device, generator);
  creation(
      "uniform",
      [](const Dims& s, double lo, double hi, T t, D d, Generator* g) {
        return uniform(s, lo, hi, tensor_options(t, d), g, here());
      },
      "shape"_a, "low"_a = 0.0, "high"_a = 1.0, dtype, device, generator,
      "Uniform in [low, high).");
  of_shape(
      "randn", "Normal with mean 0 and standard deviation 1.",
      [](const Dims& s, T t, D d, G g) {
        return randn(s, tensor_options(t, d), g.value_or(nullptr), here());
      },
      dtype, device, generator);
  creation(
      "normal",
      [](const Dims& s, double mean, double std, T t, D d, Generator* g) {
        return normal(s, mean, std, tensor_options(t, d), g, here());
      },
      "shape"_a, "mean"_a = 0.0, "std"_a = 1.0, dtype, device, generator,
      "Normal with that mean and standard deviation.");
  function(
      "randint",
      [](std::int64_t lo, std::int64_t hi, const Dims& s, T t, D d, Generator* g) {
        return randint(lo, hi, s, tensor_options(t.value_or(DType::i64), d), g, here());
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
      "0 with probability p, else x / (1 - p).");
}

}  // namespace tandem::python
