// Gradients: grad, hooks, custom functions, checkpoints, checks.
#include "autograd/autograd.h"

#include "autograd/gradcheck.h"
#include "core/trace_guard.h"
#include "python/src/imported.h"
#include "python/src/python_function.h"
#include "python/src/tensor_object.h"

namespace tandem::python {

using namespace py::literals;

namespace {

std::vector<Tensor> list_of(py::handle h, Nones nones = Nones::refused) {
  if (h.is_none() && nones == Nones::refused) {
    fail<TypeError>("grad", "a tensor or a list of tensors is needed", "None");
  }
  return tensors_of("grad", h, nones);
}

autograd::DifferentiableFunction function_of(const py::function& f) {
  return [f = PythonObject(f)](const std::vector<Tensor>& in) {
    const GilAcquire gil;
    py::tuple args(in.size());
    for (std::size_t i = 0; i < in.size(); ++i) args[i] = in[i];
    return tensors_of("function", call_python(f.get(), args));
  };
}

}  // namespace

void bind_autograd(py::module_& m) {
  py::class_<autograd::HookHandle>(m, "HookHandle", "One hook that register_hook registered.")
      .def("remove", &autograd::HookHandle::remove,
           "The hook is not called any more. Nothing happens the second time.");
  m.def(
      "grad",
      [](py::handle outputs, py::handle inputs, py::handle seeds, bool retain, bool create,
         bool unused) -> py::object {
        const auto out = list_of(outputs), in = list_of(inputs),
                   s = list_of(seeds, Nones::undefined);
        std::vector<Tensor> r;
        {
          const GilRelease release;
          r = autograd::grad(out, in, s, {retain, create, unused}, here());
        }
        if (is_tensor(inputs.ptr())) return py::cast(r[0]);
        return py::tuple(py::cast(r));
      },
      "outputs"_a, "inputs"_a, "grad_outputs"_a = py::none(), "retain_graph"_a = false,
      "create_graph"_a = false, "allow_unused"_a = false,
      "The gradients of the sum of `outputs` (times `grad_outputs`) with respect to `inputs`: a\n"
      "tensor of a tensor, else a tuple. No .grad changes. With create_graph they can be\n"
      "differentiated again. AutogradError without a tape.");
  m.def(
      "backward",
      [](py::handle outputs, py::handle seeds, bool retain, bool create) {
        const auto out = list_of(outputs), s = list_of(seeds, Nones::undefined);
        const GilRelease release;
        autograd::backward(out, s, {retain, create, false}, here());
      },
      "outputs"_a, "grad_outputs"_a = py::none(), "retain_graph"_a = false,
      "create_graph"_a = false, "Accumulates gradients into the .grad of every leaf.");
  m.def(
      "register_hook",
      [](const Tensor& t, const py::function& f) {
        static Imported note_hook("tandem._reads", "note_hook");
        if (!trace_guards()) note_hook()(f);
        return autograd::register_hook(
            t,
            [f = PythonObject(f)](const Tensor& g) -> Tensor {
              const GilAcquire gil;
              const py::object r = call_python(f.get(), py::make_tuple(g));
              if (r.is_none()) return {};
              if (!is_tensor(r.ptr())) {
                fail<TypeError>("register_hook", "a hook returns a tensor or None",
                                py::cast<std::string>(py::str(py::type::of(r))));
              }
              return tensor_of(r.ptr());
            },
            here());
      },
      "tensor"_a, "hook"_a,
      "Calls hook(gradient) when the gradient of `tensor` is known; what it returns, if it is not\n"
      "None, replaces the gradient. The handle's remove() takes the hook away again; a hook that\n"
      "refers to its own tensor keeps it alive until then.");
  m.def(
      "_custom",
      [](const std::string& name, const py::function& forward, const py::function& backward,
         const std::vector<Tensor>& in) {
        static auto& names = *new std::vector<std::unique_ptr<std::string>>();
        const char* kept = nullptr;
        for (const auto& n : names) {
          if (*n == name) kept = n->c_str();
        }
        if (!kept) kept = names.emplace_back(std::make_unique<std::string>(name))->c_str();
        const autograd::CustomFunction f{
            [f = PythonObject(forward)](std::span<const Tensor> x, std::vector<Tensor>& saved) {
              const GilAcquire gil;
              py::list inputs;
              for (const Tensor& t : x) inputs.append(t);
              const auto r = py::cast<py::tuple>(call_python(f.get(), py::make_tuple(inputs)));
              saved = tensors_of("custom function", r[1]);
              return tensors_of("custom function", r[0]);
            },
            [f = PythonObject(backward)](std::span<const Tensor> g, std::span<const Tensor> saved) {
              const GilAcquire gil;
              py::list grads, kept;
              for (const Tensor& t : g) grads.append(t);
              for (const Tensor& t : saved) kept.append(t);
              return tensors_of("custom function",
                                call_python(f.get(), py::make_tuple(grads, kept)),
                                Nones::undefined);
            },
            kept};
        return f(in, here());
      },
      "name"_a, "forward"_a, "backward"_a, "inputs"_a);
  m.def(
      "checkpoint",
      [](const py::function& f, const py::args& inputs) -> py::object {
        const auto in = tensors_of("checkpoint", inputs);
        const auto r = autograd::checkpoint(function_of(f), in, here());
        if (r.size() == 1) return py::cast(r[0]);
        return py::tuple(py::cast(r));
      },
      "function"_a,
      "function(*inputs) without keeping its intermediate values; backward() computes them again\n"
      "(Chen et al., \"Training deep nets with sublinear memory cost\", 2016).");
  const auto check = [&m](const char* name, auto f, const char* doc) {
    m.def(
        name,
        [=](const py::function& fn, py::handle inputs, double eps, double atol, double rtol,
            bool raise) {
          const std::string differs = f(function_of(fn), list_of(inputs), {eps, atol, rtol});
          if (raise && !differs.empty()) {
            fail<AutogradError>(name, "gradients must agree with differences", differs);
          }
          return differs.empty();
        },
        "function"_a, "inputs"_a, "eps"_a = 1e-6, "atol"_a = 1e-5, "rtol"_a = 1e-3,
        "raise_exception"_a = true, doc);
  };
  check("gradcheck", autograd::gradcheck,
        "Compares gradients of function(*inputs) with central differences, element by element.\n"
        "Inputs must be float64. True if all agree; else AutogradError naming what differs first,\n"
        "or False without raise_exception.");
  check("gradgradcheck", autograd::gradgradcheck, "gradcheck of the gradient itself.");
}

}  // namespace tandem::python
