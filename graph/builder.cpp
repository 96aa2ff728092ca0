#include "graph/builder.h"

#include <algorithm>

namespace tandem::graph {

Graph::Graph() : tracer_(new Tracer) {}
Graph::~Graph() {
  tracer_->abandon();
}

Tensor Graph::variable(const std::string& name, const Shape& shape, TensorOptions o) {
  checked_numel(shape, "variable");
  return variable(name, TensorDesc(o.dtype, o.device, shape));
}

Tensor Graph::variable(const std::string& name, const TensorDesc& desc) {
  if (name.empty()) fail("variable", "a variable needs a name");
  if (std::find(names_.begin(), names_.end(), name) != names_.end()) {
    fail("variable", "names must be unique", "'" + name + "' again");
  }
  names_.push_back(name);
  return tracer_->input(desc, name);
}

std::unique_ptr<CaptureScope> Graph::scope() {
  return std::make_unique<CaptureScope>(*tracer_);
}

Function Graph::compile(const Tensor& result, const CompileOptions& o) {
  return compile(std::vector<Tensor>{result}, o);
}

Function Graph::compile(const std::vector<Tensor>& results, const CompileOptions& o) {
  Function f;
  f.program_ = std::make_shared<CompiledProgram>(compile_program(snapshot(results), o));
  return f;
}

std::string Graph::dump(const std::vector<Tensor>& results) {
  return graph::dump(snapshot(results));
}

Program Graph::snapshot(const std::vector<Tensor>& results) const {
  std::vector<std::uint8_t> want_grad;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Tensor& t = results[i];
    if (t.defined() && !t.is_symbolic()) {
      fail<CaptureError>("graph",
                         fmt::format("result {} does not depend on anything declared here", i),
                         t.desc().str(), "an expression over variables, or one made in a scope");
    }
    want_grad.push_back(t.defined() && t.requires_grad());
  }
  Program p = tracer_->snapshot(results);
  p.results_want_grad = std::move(want_grad);
  return p;
}

const CompiledProgram& Function::checked() const {
  if (!program_) fail("graph", "the Function is empty", "no program", "what Graph::compile gives");
  return *program_;
}

std::vector<Tensor> Function::run(const Feeds& feeds) const {
  const Program& p = checked().executor->program();
  const Interceptor* i = dispatch::interceptor();
  const bool fed_symbols = std::any_of(feeds.begin(), feeds.end(), [](const auto& f) {
    return f.second.defined() && f.second.is_symbolic();
  });
  if (fed_symbols || (i && i->records())) {
    fail<CaptureError>("graph", "a Function cannot become part of another program", {},
                       "the expressions it was made of, or compile() of a C++ function");
  }
  std::vector<const Tensor*> args;
  for (std::size_t i = 0; i < p.inputs.size(); ++i) {
    const std::string& name = p.input_names[i];
    const auto it = feeds.find(name);
    if (it == feeds.end() || !it->second.defined()) {
      fail("graph", "a variable is not fed", "nothing for '" + name + "'",
           p.values[static_cast<std::size_t>(p.inputs[i])].desc.str());
    }
    const TensorDesc& want = p.values[static_cast<std::size_t>(p.inputs[i])].desc;
    const TensorDesc& got = it->second.desc();
    const std::string rule = "'" + name + "' does not match its variable";
    if (!(got.shape == want.shape)) fail<ShapeError>("graph", rule, got.str(), want.str());
    if (got.dtype != want.dtype) fail<TypeError>("graph", rule, got.str(), want.str());
    if (!(got.device == want.device)) fail<DeviceError>("graph", rule, got.str(), want.str());
    if (!(got.strides == want.strides)) {
      fail<ShapeError>("graph", rule + " in layout", got.str(), want.str());
    }
    args.push_back(&it->second);
  }
  for (const auto& [name, t] : feeds) {
    if (std::find(p.input_names.begin(), p.input_names.end(), name) == p.input_names.end()) {
      std::string known;
      for (const auto& n : p.input_names) known += (known.empty() ? "" : ", ") + n;
      fail("graph", "no such variable", "'" + name + "'", known);
    }
  }
  if (const std::string why = program_->out_of_date(); !why.empty()) {
    fail<CaptureError>("graph", "the program does not fit the outside world any more", why,
                       "what was there when it was declared, or a new Graph");
  }
  program_->check_aliases(args);
  std::vector<Tensor> results = program_->executor->run(args);
  if (grad_enabled()) program_->history.give(results);
  return results;
}

Tensor Function::operator()(const Feeds& feeds) const {
  const std::size_t results = checked().executor->program().outputs.size();
  if (results != 1) {
    fail("graph", "a Function that is called has one result", std::to_string(results),
         "run(), which gives all of them");
  }
  return std::move(run(feeds)[0]);
}

}  // namespace tandem::graph
