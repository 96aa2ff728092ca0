// Optimisers, schedules and loss scaling of C++.
#include "nn/optim.h"

#include <pybind11/functional.h>

#include <variant>

#include "nn/clip.h"
#include "nn/grad_scaler.h"
#include "nn/schedule.h"
#include "python/src/native.h"

namespace tandem::python {

using namespace py::literals;
using namespace optim;

namespace {

// "SGD(lr=0.1)"
py::str shown(py::handle self, const char* name, const py::object& value) {
  return py::str("{}({}={})").format(py::type::of(self).attr("__name__"), name, value);
}

void bind_optimizers(py::module_& m) {
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
          "Copies values in; nothing is changed when anything is wrong.")
      .def("__repr__", [](py::handle self) {
        const auto& o = py::cast<const Optimizer&>(self);
        std::vector<double> rates;
        for (int g = 0; g < o.groups(); ++g) rates.push_back(o.lr(g));
        return shown(self, "lr", rates.size() == 1 ? py::cast(rates[0]) : py::cast(rates));
      });
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
    if (is_tensor(parameters.ptr()) || !py::isinstance<py::iterable>(parameters)) {
      fail<TypeError>("optimizer", "parameters come in a list or another iterable",
                      py::cast<std::string>(py::str(py::type::of(parameters))),
                      "net.parameters(), or [p]");
    }
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
    if (!plain.empty() || r.empty())
      r.insert(r.begin(), ParameterGroup<O>{std::move(plain), options});
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
}

void bind_schedules(py::module_& m) {
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
      .def(
          "state_dict", [](const Schedule& s) { return named(s.state_dict()); },
          "The number of steps and the base rates by name: copies.")
      .def(
          "load_state_dict",
          [](const Schedule& s, const py::dict& d) { s.load_state_dict(state_of(d)); }, "state"_a,
          "Goes on from there, whatever rates the optimiser has by now; nothing is changed when\n"
          "anything is wrong.")
      .def("lr", &Schedule::lr, "t"_a, "group"_a = 0,
           "The learning rate after t steps. OutOfBoundsError for a group there is not.")
      .def("__repr__", [](py::handle self) {
        return shown(self, "steps", py::cast(py::cast<const Schedule&>(self).steps()));
      });
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
}

void bind_scaler(py::module_& m) {
  py::class_<GradScaler>(m, "GradScaler",
                         "Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740).")
      .def(py::init([](double scale, double growth, double backoff, std::int64_t interval,
                       bool enabled, std::optional<Device> d) {
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

void bind_clipping(py::module_& m) {
  const auto list = [](py::handle parameters) {
    if (is_tensor(parameters.ptr())) return std::vector{tensor_of(parameters.ptr())};
    std::vector<Tensor> all;
    for (const py::handle p : parameters) {
      if (!is_tensor(p.ptr())) {
        fail<TypeError>("clip_grad", "parameters are tensors",
                        py::cast<std::string>(py::str(py::type::of(p))), "net.parameters()");
      }
      all.push_back(tensor_of(p.ptr()));
    }
    return all;
  };
  m.def(
      "clip_grad_norm_",
      [list](py::handle parameters, double max_norm, double norm_type) {
        return clip_grad_norm(list(parameters), max_norm, norm_type, here());
      },
      "parameters"_a, "max_norm"_a, "norm_type"_a = 2.0,
      "Multiplies the gradients of `parameters` (a tensor, or any number of them) by\n"
      "min(1, max_norm / (norm + 1e-6)), `norm` being that of all of them together as one vector: "
      "the\n"
      "2-norm, or another (math.inf: the largest absolute value). Gives the norm there was "
      "before,\n"
      "with no axes. Between backward() and the optimiser's step, eagerly or compiled. RangeError "
      "for a\n"
      "max_norm below 0.\n"
      "Source: Pascanu et al., \"On the difficulty of training recurrent neural networks\", 2013.");
  m.def(
      "clip_grad_value_",
      [list](py::handle parameters, double limit) {
        clip_grad_value(list(parameters), limit, here());
      },
      "parameters"_a, "clip_value"_a,
      "Brings every element of the gradients of `parameters` into [-clip_value, clip_value].\n"
      "RangeError for a limit below 0.");
}

}  // namespace

void bind_optim(py::module_& m) {
  bind_clipping(m);
  bind_optimizers(m);
  bind_schedules(m);
  bind_scaler(m);
}

}  // namespace tandem::python
