// Layers, optimisers and schedules of C++, which the package's own classes stand on.
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

py::dict named(const StateDict& s) {
  py::dict d;
  for (const auto& [name, t] : s) d[py::str(name)] = t;
  return d;
}
StateDict state_of(const py::dict& d) {
  StateDict s;
  for (const auto& [k, v] : d) s.emplace_back(py::cast<std::string>(k), to_tensor(v));
  return s;
}

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

void bind_optim(py::module_& m) {
  using namespace optim;
  py::class_<Optimizer>(
      m, "Optimizer",
      "Base of the optimisers. Their `params` are tensors, or dicts with 'params' and\n"
      "options of the group. RangeError for rates out of range, ShapeError for state that does "
      "not\n"
      "fit, AutogradError for parameters that want no gradient.")
      .def(
          "step",
          [](const Optimizer& o, const std::optional<Tensor>& scaling) {
            const GilRelease release;
            o.step(scaling.value_or(Tensor()), here());
          },
          "scaling"_a = py::none(),
          "Changes every parameter that has a gradient. `scaling` (float32 [2], on the "
          "parameters'\n"
          "device): gradients are multiplied by its first element as they are read; if the second "
          "is\n"
          "not 0 the whole step is left out. GradScaler.step() gives one.")
      .def("zero_grad", &Optimizer::zero_grad, "Drops the gradients: .grad becomes None.")
      .def("gradients", &Optimizer::gradients, "The gradients there are.")
      .def_property(
          "lr", [](const Optimizer& o) { return o.lr(); },
          [](const Optimizer& o, double lr) { o.set_lr(lr); },
          "Learning rate of the first group; assigning sets that of all.")
      .def("get_lr", &Optimizer::lr, "group"_a = 0, "Learning rate of a group.")
      .def(
          "set_lr", [](const Optimizer& o, int g, double lr) { o.set_lr(g, lr); }, "group"_a,
          "lr"_a, "Sets the learning rate of one group. CaptureError inside a capture.")
      .def_property_readonly("num_groups", &Optimizer::groups, "Number of parameter groups.")
      .def(
          "state_dict", [](const Optimizer& o) { return named(o.state_dict()); },
          "Rates, step counts and slots by name: the live tensors, not copies.")
      .def(
          "load_state_dict",
          [](const Optimizer& o, const py::dict& d) { o.load_state_dict(state_of(d)); }, "state"_a,
          "Copies values in; nothing is changed when anything is wrong.");
  const auto parameter = [](py::handle h) {
    if (!is_tensor(h.ptr())) {
      fail<TypeError>("optimizer", "parameters are tensors",
                      py::cast<std::string>(py::str(py::type::of(h))));
    }
    const Tensor& t = tensor_of(h.ptr());
    if (!t.requires_grad()) {
      fail<AutogradError>("optimizer", "parameters must want a gradient", t.desc().str(),
                          "[p for p in net.parameters() if p.requires_grad]");
    }
    return t;
  };
  const auto groups = [=](auto options, py::handle parameters, auto set) {
    using O = decltype(options);
    std::vector<ParameterGroup<O>> r;
    std::vector<Tensor> plain;
    for (const py::handle h : parameters) {
      if (!PyDict_Check(h.ptr())) {
        plain.push_back(parameter(h));
        continue;
      }
      ParameterGroup<O> group{{}, options};
      for (const auto& [k, v] : py::reinterpret_borrow<py::dict>(h)) {
        const auto name = py::cast<std::string>(k);
        if (name == "params") {
          for (const py::handle p : v) group.parameters.push_back(parameter(p));
        } else if (!set(group.options, name, v)) {
          fail<ValueError>("optimizer", "no such option", name);
        }
      }
      r.push_back(std::move(group));
    }
    if (!plain.empty()) r.insert(r.begin(), ParameterGroup<O>{std::move(plain), options});
    return r;
  };
  const auto set_sgd = [](SgdOptions& o, const std::string& n, py::handle v) {
    if (n == "nesterov") return o.nesterov = py::cast<bool>(v), true;
    double* d = n == "lr"             ? &o.lr
                : n == "momentum"     ? &o.momentum
                : n == "dampening"    ? &o.dampening
                : n == "weight_decay" ? &o.weight_decay
                                      : nullptr;
    if (d) *d = py::cast<double>(v);
    return d != nullptr;
  };
  const auto set_adam = [](auto& o, const std::string& n, py::handle v) {
    if (n == "betas") {
      std::tie(o.beta1, o.beta2) = py::cast<std::pair<double, double>>(v);
      return true;
    }
    if (n == "eps_hat") return o.eps_hat = py::cast<bool>(v), true;
    double* d = n == "lr"             ? &o.lr
                : n == "eps"          ? &o.eps
                : n == "weight_decay" ? &o.weight_decay
                                      : nullptr;
    if (d) *d = py::cast<double>(v);
    return d != nullptr;
  };
  py::class_<SGD, Optimizer>(
      m, "SGD",
      "v = momentum v + (1 - dampening) g;  p -= lr v  (Nesterov: p -= lr (g + momentum v)).\n"
      "RangeError for rates out of range, AutogradError for parameters that want no gradient.\n"
      "Source: Sutskever et al., \"On the importance of initialization and momentum in deep\n"
      "learning\", 2013.")
      .def(py::init([=](py::handle p, double lr, double momentum, double dampening, double decay,
                        bool nesterov) {
             return SGD(groups(SgdOptions{lr, momentum, dampening, decay, nesterov}, p, set_sgd));
           }),
           "params"_a, "lr"_a = 1e-2, "momentum"_a = 0.0, "dampening"_a = 0.0,
           "weight_decay"_a = 0.0, "nesterov"_a = false);
  const auto betas = "betas"_a = std::pair(0.9, 0.999);
  py::class_<Adam, Optimizer>(
      m, "Adam", "Kingma and Ba, \"Adam: a method for stochastic optimization\", 2015.")
      .def(py::init([=](py::handle p, double lr, std::pair<double, double> b, double eps,
                        double decay, bool eps_hat) {
             return Adam(
                 groups(AdamOptions{lr, b.first, b.second, eps, decay, eps_hat}, p, set_adam));
           }),
           "params"_a, "lr"_a = 1e-3, betas, "eps"_a = 1e-8, "weight_decay"_a = 0.0,
           "eps_hat"_a = false);
  py::class_<AdamW, Adam>(m, "AdamW",
                          "Loshchilov and Hutter, \"Decoupled weight decay regularization\", 2019.")
      .def(py::init([=](py::handle p, double lr, std::pair<double, double> b, double eps,
                        double decay, bool eps_hat) {
             return AdamW(
                 groups(AdamWOptions{lr, b.first, b.second, eps, decay, eps_hat}, p, set_adam));
           }),
           "params"_a, "lr"_a = 1e-3, betas, "eps"_a = 1e-8, "weight_decay"_a = 1e-2,
           "eps_hat"_a = false);

  py::class_<ScheduleRule>(
      m, "ScheduleRule",
      "Learning rates by the number of steps taken: rate(t, base) is that after t steps of a "
      "group\n"
      "whose base rate is `base`. The base rates are one for all groups, or one per group; none:\n"
      "those the optimiser has when the schedule is made.")
      .def(py::init([](std::function<double(std::int64_t, double)> rate, std::vector<double> base) {
             return ScheduleRule{std::move(rate), std::move(base)};
           }),
           "rate"_a.none(false), "base"_a = std::vector<double>())
      .def(
          "rate",
          [](const ScheduleRule& r, std::int64_t t, double base) { return r.rate(t, base); }, "t"_a,
          "base"_a, "The rate after t steps of a group with that base rate.")
      .def_property_readonly(
          "base", [](const ScheduleRule& r) { return r.base; }, "The base rates: a list.");
  py::class_<Schedule>(m, "Schedule",
                       "The learning rate is factor(t) times what the optimiser's was, t steps "
                       "later; or what a ScheduleRule says. RangeError for a rule with neither one "
                       "base rate nor one per group.")
      .def(py::init<Optimizer, std::function<double(std::int64_t)>>(), "optimizer"_a,
           "factor"_a.none(false))
      .def(py::init<Optimizer, ScheduleRule>(), "optimizer"_a, "rule"_a)
      .def_property_readonly(
          "rule", [](const Schedule& s) { return s.rule(); },
          "What the rates follow, with one base rate per group.")
      .def("step", &Schedule::step, "Call after each step of the optimiser, or each epoch.")
      .def_property("steps", &Schedule::steps, &Schedule::set_steps,
                    "How often step() was called; assigning continues from there.")
      .def("lr", &Schedule::lr, "t"_a, "group"_a = 0,
           "The learning rate after t steps. OutOfBoundsError for a group there is not.");
  py::class_<StepLR, Schedule>(
      m, "StepLR",
      "Times gamma every `step_size` steps, as in PyTorch. RangeError for a step size below 1.")
      .def(py::init([](const Optimizer& o, std::int64_t n, double g) {
             return StepLR(o, {n, g});
           }),
           "optimizer"_a, "step_size"_a, "gamma"_a = 0.1);
  py::class_<MultiStepLR, Schedule>(
      m, "MultiStepLR",
      "Times gamma at each milestone, a count of steps, as in PyTorch (He et al. 2015,\n"
      "arXiv:1512.03385, for one).")
      .def(py::init([](const Optimizer& o, std::vector<std::int64_t> n, double g) {
             return MultiStepLR(o, {std::move(n), g});
           }),
           "optimizer"_a, "milestones"_a, "gamma"_a = 0.1);
  py::class_<CosineAnnealingLR, Schedule>(
      m, "CosineAnnealingLR",
      "Down to the rate `eta_min` along half a cosine over `T_max` steps, and up again over the "
      "next "
      "(Loshchilov and Hutter, \"SGDR\", 2017, without restarts).")
      .def(py::init([](const Optimizer& o, std::int64_t n, double least) {
             return CosineAnnealingLR(o, {n, least});
           }),
           "optimizer"_a, "T_max"_a, "eta_min"_a = 0.0);  // PyTorch's spelling
  py::class_<LinearLR, Schedule>(
      m, "LinearLR",
      "Times a factor that goes from `start_factor` to `end_factor` over "
      "`total_iters` steps, and is constant from there, as in PyTorch.")
      .def(py::init([](const Optimizer& o, double first, double last, std::int64_t n) {
             return LinearLR(o, {first, last, n});
           }),
           "optimizer"_a, "start_factor"_a = 1.0 / 3, "end_factor"_a = 1.0, "total_iters"_a = 5);
  py::class_<LinearWarmup, Schedule>(m, "LinearWarmup",
                                     "Times a factor that goes from `start_factor` to 1 over "
                                     "`total_iters` steps; then `after` or constant (Goyal et al. "
                                     "2017, arXiv:1706.02677).")
      .def(py::init(
               [](const Optimizer& o, std::int64_t n, double first, std::optional<Schedule> after) {
                 return LinearWarmup(o, {n, first, std::move(after)});
               }),
           "optimizer"_a, "total_iters"_a, "start_factor"_a = 0.0, "after"_a = py::none());
  py::class_<OneCycleLR, Schedule>(
      m, "OneCycleLR",
      "From `max_lr` (one, or one per group) / `div_factor` up to `max_lr` and down to the first "
      "rate / `final_div_factor`, along cosines; `pct_start` is the part of the steps on the way "
      "up. Momentum stays as it is (Smith and Topin, \"Super-convergence\", 2018).")
      .def(py::init([](const Optimizer& o, const std::variant<double, std::vector<double>>& top,
                       std::int64_t n, double up, double first, double last) {
             const double* one = std::get_if<double>(&top);
             return OneCycleLR(o, {one ? std::vector{*one} : std::get<1>(top), n, up, first, last});
           }),
           "optimizer"_a, "max_lr"_a, "total_steps"_a, "pct_start"_a = 0.3, "div_factor"_a = 25.0,
           "final_div_factor"_a = 1e4);

  py::class_<GradScaler>(m, "GradScaler",
                         "Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740).")
      .def(py::init([](double scale, double growth, double backoff, std::int64_t interval,
                       bool enabled, D d) {
             return GradScaler(
                 {scale, growth, backoff, interval, enabled, d.value_or(default_device())});
           }),
           "init_scale"_a = 65536.0, "growth_factor"_a = 2.0, "backoff_factor"_a = 0.5,
           "growth_interval"_a = 2000, "enabled"_a = true, "device"_a = py::none())
      .def("scale", &GradScaler::scale, "loss"_a, "loss times the factor.")
      .def("unscale_", &GradScaler::unscale, "optimizer"_a,
           "Divides the optimiser's gradients by the factor, for clipping.")
      .def(
          "step", [](const GradScaler& s, const Optimizer& o) { s.step(o, here()); }, "optimizer"_a,
          "The optimiser's step, left out if a gradient overflowed.")
      .def("update", &GradScaler::update, "Adapts the factor.")
      .def("factor", &GradScaler::factor, "The factor now.")
      .def(
          "state_dict", [](const GradScaler& s) { return named(s.state_dict()); },
          "The factor and its counter by name: the live tensors, not copies.")
      .def(
          "load_state_dict",
          [](const GradScaler& s, const py::dict& d) { s.load_state_dict(state_of(d)); }, "state"_a,
          "Copies values in; nothing is changed when anything is wrong.");
}

}  // namespace

void bind_nn(py::module_& m) {
  bind_layers(m);
  bind_init(m);
  bind_optim(m);
}

}  // namespace tandem::python
