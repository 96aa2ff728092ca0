// tandem._core: everything the Python package takes from C++.
#include "python/src/tensor_object.h"

PYBIND11_MODULE(_core, m) {
  using namespace tandem::python;
  m.doc() = "Tandem's C++ core. Use it through the package `tandem`.";
  m.attr("__version__") = TANDEM_VERSION;
  register_errors(m);
  make_tensor_type(m);
  bind_core(m);
  bind_ops(m);
  bind_autograd(m);
  bind_graph(m);
  bind_nn(m);
  bind_data(m);
}
