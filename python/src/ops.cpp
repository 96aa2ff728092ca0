// Operations: each is bound once, as a function and, where people expect it, as a method.
#include "core/dispatch.h"
#include "python/src/bind_op.h"

namespace tandem::python {

void bind_ops(py::module_& m) {
  op_module = &m;
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
  op_module = nullptr;
}

}  // namespace tandem::python
