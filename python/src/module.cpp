// tandem._core: everything the Python package takes from C++.
#include "core/signal_stack.h"
#include "python/src/tensor_object.h"

PYBIND11_MODULE(_core, m) {
  using namespace tandem::python;
  m.doc() = "Tandem's C++ core. Use it through the package `tandem`.";
  tandem::use_signal_stack();  // of the main thread, which gets them all
  m.attr("__version__") = TANDEM_VERSION;
  bind_gil();
  register_errors(m);
  make_tensor_type(m);
  bind_core(m);
  bind_settings(m);
  bind_ops(m);
  bind_autograd(m);
  bind_graph(m);
  bind_nn(m);
  bind_optim(m);
  bind_models(m);
  bind_data(m);
  bind_profiler(m);
  bind_tradeoff(m);
  finish_bindings(m);
}
