// Layers of C++, which the package's own classes stand on.
#include "nn/nn.h"

#include <pybind11/functional.h>

#include <map>
#include <variant>

#include "nn/grad_scaler.h"
#include "nn/init.h"
#include "python/src/choice.h"
#include "python/src/native.h"

namespace pybind11::detail {

/// An int or a pair of them.
template <>
struct type_caster<tandem::nn::Pair> {
  static constexpr auto name = const_name("int | tuple[int, int]");
  bool load(handle src, bool convert) {
    make_caster<tandem::Dims> dims;
    if (!dims.load(src, convert)) return false;
    const auto& d = cast_op<tandem::Dims&>(dims);
    if (d.size() < 1 || d.size() > 2) return false;
    value = {d[0], d[d.size() - 1]};
    return true;
  }
  operator tandem::nn::Pair&() { return value; }
  operator tandem::nn::Pair() const { return value; }
  template <class>
  using cast_op_type = tandem::nn::Pair;
  static handle cast(const tandem::nn::Pair& p, return_value_policy, handle) {
    return make_tuple(p.h, p.w).release();
  }
  tandem::nn::Pair value{0};
};

}  // namespace pybind11::detail

namespace tandem::python {

using namespace py::literals;

namespace {

using T = std::optional<DType>;
using D = std::optional<Device>;

/// A host value that compiled programs notice a change of.
class Flag {
 public:
  explicit Flag(std::int64_t v, const std::string& name) : name(name), value_(v, name) {}
  std::int64_t get() const { return value_.get(); }
  void set(std::int64_t v) { value_.set(v); }

  const std::string name;

 private:
  Guarded<std::int64_t> value_;
};

void bind_layers(py::module_& m) {
  const py::call_guard<CallerSite> site;
  py::class_<Native>(m, "_Native")
      .def(
          "forward",
          [](const Native& n, const Tensor& x) {
            return without_gil(1 << 20, [&] { return (*n.module)(x, here()); });
          },
          "x"_a)
      .def("parameters", [](const Native& n) { return named(n.module->named_parameters()); })
      .def("buffers", [](const Native& n) { return named(n.module->named_buffers()); })
      .def("train", [](const Native& n, bool on) { n.module->train(on); })
      .def(
          "to", [](const Native& n, DType t) { n.module->to(t); }, site)
      .def(
          "to", [](const Native& n, MemoryFormat f) { n.module->to(f); }, site)
      .def(
          "to", [](const Native& n, Device d) { n.module->to(d); }, site)
      .def("describe", [](const Native& n) { return n.module->describe(); })
      .def("modules",
           [](const Native& n) {
             py::list r;
             r.append(py::make_tuple("", n.module->describe()));
             for (const auto& [path, m] : n.module->named_modules()) {
               r.append(py::make_tuple(path, m->describe()));
             }
             return r;
           })
      .def("str", [](const Native& n) { return n.module->str(); });
  py::class_<Flag>(m, "_Flag")
      .def(py::init<std::int64_t, const std::string&>())
      .def("get", &Flag::get)
      .def("set", &Flag::set)
      .def(py::pickle([](const Flag& f) { return py::make_tuple(f.get(), f.name); },
                      [](const py::tuple& t) {
                        return Flag(t[0].cast<std::int64_t>(), t[1].cast<std::string>());
                      }));

  const auto dtype = "dtype"_a = py::none();
  const auto device = "device"_a = py::none();
  const auto generator = "generator"_a = py::none();
  m.def(
      "_linear",
      [](std::int64_t in, std::int64_t out, bool bias, T t, D d, Generator* g) {
        return native(nn::Linear(in, out, {bias, tensor_options(t, d), g}));
      },
      "in_features"_a, "out_features"_a, "bias"_a = true, dtype, device, generator, site);
  m.def(
      "_conv2d",
      [](std::int64_t in, std::int64_t out, nn::Pair kernel, nn::Pair stride, nn::Pair padding,
         nn::Pair dilation, std::int64_t groups, bool bias, T t, D d, Generator* g) {
        return native(nn::Conv2d(
            in, out, kernel, {stride, padding, dilation, groups, bias, tensor_options(t, d), g}));
      },
      "in_channels"_a, "out_channels"_a, "kernel_size"_a, "stride"_a = 1, "padding"_a = 0,
      "dilation"_a = 1, "groups"_a = 1, "bias"_a = true, dtype, device, generator, site);
  m.def(
      "_conv_transpose2d",
      [](std::int64_t in, std::int64_t out, nn::Pair kernel, nn::Pair stride, nn::Pair padding,
         nn::Pair output_padding, std::int64_t groups, bool bias, nn::Pair dilation, T t, D d,
         Generator* g) {
        return native(nn::ConvTranspose2d(
            in, out, kernel,
            {stride, padding, output_padding, dilation, groups, bias, tensor_options(t, d), g}));
      },
      "in_channels"_a, "out_channels"_a, "kernel_size"_a, "stride"_a = 1, "padding"_a = 0,
      "output_padding"_a = 0, "groups"_a = 1, "bias"_a = true, "dilation"_a = 1, dtype, device,
      generator, site);
  const auto norm = [&]<class M>(const char* name) {
    m.def(
        name,
        [](std::int64_t n, double eps, double momentum, bool affine, T t, D d) {
          return native(M(n, {eps, momentum, affine, tensor_options(t, d)}));
        },
        "num_features"_a, "eps"_a = 1e-5, "momentum"_a = 0.1, "affine"_a = true, dtype, device,
        site);
  };
  norm.operator()<nn::BatchNorm1d>("_batch_norm1d");
  norm.operator()<nn::BatchNorm2d>("_batch_norm2d");
  m.def(
      "_layer_norm",
      [](const Dims& shape, double eps, bool affine, T t, D d) {
        return native(nn::LayerNorm(shape, {eps, affine, tensor_options(t, d)}));
      },
      "normalized_shape"_a, "eps"_a = 1e-5, "affine"_a = true, dtype, device, site);
  m.def(
      "_dropout", [](double p, Generator* g) { return native(nn::Dropout(p, g)); }, "p"_a = 0.5,
      generator, site);
  m.def(
      "_embedding",
      [](std::int64_t n, std::int64_t size, T t, D d, Generator* g) {
        return native(nn::Embedding(n, size, {tensor_options(t, d), g}));
      },
      "num_embeddings"_a, "embedding_dim"_a, dtype, device, generator, site);
  // Whether a layer's options make sense: named as what errors are to name.
  const auto check_pool = [&]<class Layer>(const char* name) {
    m.def(
        name,
        [](nn::Pair kernel, std::optional<nn::Pair> stride, nn::Pair padding) {
          Layer(kernel, {.stride = stride, .padding = padding});
        },
        "kernel_size"_a, "stride"_a, "padding"_a, site);
  };
  check_pool.operator()<nn::MaxPool2d>("_MaxPool2d");
  check_pool.operator()<nn::AvgPool2d>("_AvgPool2d");
}

void bind_init(py::module_& m) {
  py::module_ init = m.def_submodule("_init");
  const auto g = "generator"_a = py::none();
  static const std::map<std::string_view, const char*> docs = {
      {"fans",
       "(in, out): how many inputs and outputs a unit of a weight [out, in, ...] has. ShapeError "
       "for "
       "a rank below 2."},
      {"constant_", "Every element the value."},
      {"zeros_", "Every element 0."},
      {"ones_", "Every element 1."},
      {"uniform_", "Uniform in [a, b)."},
      {"normal_", "Normal with that mean and standard deviation."},
      {"trunc_normal_", "Normal, cut off two standard deviations from the mean."},
      {"kaiming_uniform_",
       "Uniform within ±sqrt(6 / ((1 + a²) fan)), for layers before a leaky ReLU of slope a (He "
       "et\nal. 2015, arXiv:1502.01852). The fan is that of [out, in, ...]."},
      {"kaiming_normal_",
       "Normal with deviation sqrt(2 / ((1 + a²) fan)), for layers before a leaky ReLU of slope a "
       "(He\net al. 2015, arXiv:1502.01852). The fan is that of [out, in, ...]."},
      {"xavier_uniform_",
       "Uniform within ±gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."},
      {"xavier_normal_",
       "Normal with deviation gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."},
      {"dirac_", "[out, in, kh, kw] that passes channel i on as channel i."},
      {"orthogonal_",
       "Rows (or columns, if fewer) at right angles, of length gain (Saxe et al. 2014, "
       "arXiv:1312.6120)."},
  };
  const auto def = [&](const char* name, auto f, auto... extra) {
    init.def(name, f, extra..., py::call_guard<CallerSite>(), docs.at(name));
  };
  using nn::init::Fan;
  const auto fan = [](const std::string& mode) {
    return choice<Fan>("init", "mode", mode, {{"fan_in", Fan::in}, {"fan_out", Fan::out}});
  };
  def(
      "fans",
      [](const Tensor& t) {
        const nn::init::Fans f = nn::init::fans(t);
        return std::pair(f.in, f.out);
      },
      "weight"_a);
  // Each changes its tensor and returns it.
#define TANDEM_INIT(call) \
  {                       \
    call;                 \
    return t;             \
  }
  def("constant_", [](Tensor t, double v) TANDEM_INIT(nn::init::constant(t, v)), "tensor"_a,
      "value"_a);
  def("zeros_", [](Tensor t) TANDEM_INIT(nn::init::constant(t, 0)), "tensor"_a);
  def("ones_", [](Tensor t) TANDEM_INIT(nn::init::constant(t, 1)), "tensor"_a);
  def("uniform_",
      [](Tensor t, double lo, double hi, Generator* r) TANDEM_INIT(nn::init::uniform(t, lo, hi, r)),
      "tensor"_a, "a"_a = 0.0, "b"_a = 1.0, g);
  def("normal_",
      [](Tensor t, double mean, double sd, Generator* r)
          TANDEM_INIT(nn::init::normal(t, mean, sd, r)),
      "tensor"_a, "mean"_a = 0.0, "std"_a = 1.0, g);
  def("trunc_normal_",
      [](Tensor t, double mean, double sd, Generator* r)
          TANDEM_INIT(nn::init::truncated_normal(t, mean, sd, r)),
      "tensor"_a, "mean"_a = 0.0, "std"_a = 1.0, g);
  def("kaiming_uniform_",
      [fan](Tensor t, double a, const std::string& mode, Generator* r)
          TANDEM_INIT(nn::init::kaiming_uniform(t, {a, fan(mode)}, r)),
      "tensor"_a, "a"_a = 0.0, "mode"_a = "fan_in", g);
  def("kaiming_normal_",
      [fan](Tensor t, double a, const std::string& mode, Generator* r)
          TANDEM_INIT(nn::init::kaiming_normal(t, {a, fan(mode)}, r)),
      "tensor"_a, "a"_a = 0.0, "mode"_a = "fan_in", g);
  def("xavier_uniform_",
      [](Tensor t, double gain, Generator* r) TANDEM_INIT(nn::init::xavier_uniform(t, gain, r)),
      "tensor"_a, "gain"_a = 1.0, g);
  def("xavier_normal_",
      [](Tensor t, double gain, Generator* r) TANDEM_INIT(nn::init::xavier_normal(t, gain, r)),
      "tensor"_a, "gain"_a = 1.0, g);
  def("dirac_", [](Tensor t) TANDEM_INIT(nn::init::dirac(t)), "tensor"_a);
  def("orthogonal_",
      [](Tensor t, double gain, Generator* r) TANDEM_INIT(nn::init::orthogonal(t, gain, r)),
      "tensor"_a, "gain"_a = 1.0, g);
#undef TANDEM_INIT
}

}  // namespace

void bind_nn(py::module_& m) {
  bind_layers(m);
  bind_init(m);
}

}  // namespace tandem::python
