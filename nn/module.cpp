#include "nn/module.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "core/dispatch.h"
#include "core/error.h"
#include "core/host_changes.h"
#include "ops/ops.h"

namespace tandem {

void load_into(std::string_view op, const StateDict& own, const StateDict& given, bool strict) {
  std::unordered_map<std::string_view, const Tensor*> sources;
  for (const auto& [name, t] : given) {
    if (!sources.emplace(name, &t).second) {
      fail(op, "a name is in the state twice", fmt::format("\"{}\"", name), "each name once");
    }
  }
  std::vector<std::string_view> missing, unexpected;
  std::vector<std::pair<Tensor, const Tensor*>> copies;
  for (const auto& [name, t] : own) {
    const auto it = sources.find(name);
    if (it == sources.end()) {
      missing.push_back(name);
      continue;
    }
    const Tensor& source = *it->second;
    if (!source.defined()) {
      fail(op, fmt::format("\"{}\" must be defined", name), "an undefined tensor", t.desc().str());
    }
    if (source.shape() != t.shape()) {
      fail<ShapeError>(op, fmt::format("\"{}\" has another shape", name), source.shape().str(),
                       t.shape().str());
    }
    if (is_floating(source.dtype()) != is_floating(t.dtype())) {
      fail<TypeError>(op, fmt::format("\"{}\" has another kind of dtype", name),
                      name_of(source.dtype()), name_of(t.dtype()));
    }
    copies.emplace_back(t, &source);
    sources.erase(it);
  }
  for (const auto& [name, t] : given) {
    if (sources.contains(name)) unexpected.push_back(name);
  }
  if (strict && !missing.empty()) {
    fail(op, "the state lacks some of the tensors",
         fmt::format("none for {}", fmt::join(missing, ", ")), "one for each name of state_dict()");
  }
  if (strict && !unexpected.empty()) {
    fail(op, "the state has tensors that its target does not have",
         fmt::format("{}", fmt::join(unexpected, ", ")), "the names of state_dict()");
  }
  const NoGrad no_grad;
  for (auto& [to, from] : copies) {
    to.copy_(from->device() == to.device() ? *from : from->to(to.device()));
  }
}

}  // namespace tandem

namespace tandem::nn {

namespace {

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

StateDict unique(StateDict d) {
  std::unordered_set<const TensorImpl*> seen;
  std::erase_if(d, [&](const auto& e) { return !seen.insert(e.second.impl()).second; });
  return d;
}

std::int64_t count(const StateDict& d) {
  std::int64_t n = 0;
  for (const auto& [name, t] : d) n += t.numel();
  return n;
}

std::string with_commas(std::int64_t n) {
  std::string s = std::to_string(n);
  for (int i = static_cast<int>(s.size()) - 3; i > 0; i -= 3) s.insert(static_cast<size_t>(i), ",");
  return s;
}

void refuse_capture(const char* what) {
  if (trace_guards()) {
    fail<CaptureError>("Module", std::string(what) + " cannot be changed inside a capture", {},
                       "the change made before the function is called");
  }
}

}  // namespace

Module::Module() : state_(std::make_shared<State>()) {}

Tensor Module::operator()(const Tensor& x, SrcLoc loc) const {
  const CallSite site(loc, &state_->path);
  if (!state_->parameters.empty() || !state_->buffers.empty()) state_->conversions.get();
  return forward(x);
}

// ------------------------------------------------------------------------------- registration

void Module::check_name(const std::string& name) const {
  if (name.empty() || name.find('.') != std::string::npos) {
    fail("Module", "a name must not be empty or have a dot in it", "\"" + name + "\"");
  }
  const auto taken = [&](const auto& list) {
    return std::any_of(list.begin(), list.end(), [&](const auto& e) { return e.first == name; });
  };
  if (taken(state_->parameters) || taken(state_->buffers) || taken(state_->children)) {
    fail("Module", describe() + " has something of this name already", "\"" + name + "\"");
  }
}

Tensor Module::register_parameter(const std::string& name, Tensor t) const {
  if (!t.defined()) return t;
  check_name(name);
  t.set_requires_grad();
  state_->parameters.emplace_back(name, t);
  return t;
}

Tensor Module::register_buffer(const std::string& name, Tensor t) const {
  if (!t.defined()) return t;
  check_name(name);
  state_->buffers.emplace_back(name, t);
  return t;
}

void Module::add_child(const std::string& name, std::shared_ptr<const Module> child) const {
  check_name(name);
  if (child->contains(*this)) {
    fail("Module", "a module cannot be put into itself",
         fmt::format("'{}', which holds the module it is added to", name));
  }
  child->set_path(join(state_->path, name));
  state_->children.emplace_back(name, std::move(child));
  note_host_change({0, "a layer"});  // a program captured before has no such one
}

bool Module::contains(const Module& m) const {
  if (state_ == m.state_) return true;
  for (const auto& [name, child] : state_->children) {
    if (child->contains(m)) return true;
  }
  return false;
}

void Module::set_path(const std::string& path) const {
  state_->path = path;
  for (const auto& [name, child] : state_->children) child->set_path(join(path, name));
}

// ------------------------------------------------------------------------------- traversal

/// `f(path, module)` for this module and all below it, depth first.
template <class F>
void Module::visit(const std::string& prefix, F&& f) const {
  f(prefix, *this);
  for (const auto& [name, child] : state_->children) child->visit(join(prefix, name), f);
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> v;
  for (auto& [name, t] : named_parameters()) v.push_back(std::move(t));
  return v;
}

StateDict Module::named_parameters() const {
  StateDict d;
  visit({}, [&](const std::string& path, const Module& m) {
    for (const auto& [name, t] : m.state_->parameters) d.emplace_back(join(path, name), t);
  });
  return unique(std::move(d));
}

StateDict Module::named_buffers() const {
  StateDict d;
  visit({}, [&](const std::string& path, const Module& m) {
    for (const auto& [name, t] : m.state_->buffers) d.emplace_back(join(path, name), t);
  });
  return unique(std::move(d));
}

std::vector<std::pair<std::string, std::shared_ptr<const Module>>> Module::named_modules() const {
  std::vector<std::pair<std::string, std::shared_ptr<const Module>>> v;
  visit({}, [&](const std::string& path, const Module& m) {
    for (const auto& [name, child] : m.state_->children) v.emplace_back(join(path, name), child);
  });
  return v;
}

void Module::apply(const std::function<void(const Module&)>& f) const {
  for (const auto& [name, child] : state_->children) child->apply(f);
  f(*this);
}

std::int64_t Module::parameter_count() const {
  return count(named_parameters());
}

// ------------------------------------------------------------------------------- state

StateDict Module::state_dict() const {
  StateDict d;
  visit({}, [&](const std::string& path, const Module& m) {
    for (const auto& [name, t] : m.state_->parameters) d.emplace_back(join(path, name), t);
    for (const auto& [name, t] : m.state_->buffers) d.emplace_back(join(path, name), t);
  });
  return d;
}

void Module::load_state_dict(const StateDict& state, bool strict) const {
  load_into("load_state_dict", state_dict(), state, strict);
}

void Module::train(bool on) const {
  visit({}, [&](const std::string&, const Module& m) {
    // Setting what is set already is harmless; a real switch would not happen again at replay.
    if (m.training() == on) return;
    refuse_capture("the training mode");
    m.state_->training.set(on);
  });
}

template <class F>
void Module::convert_tensors(const char* what, F&& f) const {
  refuse_capture(what);
  const NoGrad no_grad;
  visit({}, [&](const std::string&, const Module& m) {
    for (const StateDict* list : {&m.state_->parameters, &m.state_->buffers}) {
      for (const auto& [name, t] : *list) {
        const Tensor now = f(m, t);
        if (now.same_as(t)) continue;
        if (t.grad().defined()) Tensor(t).set_grad({});
        // In place, so that every handle (the module's own members, an optimiser's) sees it.
        t.impl()->storage = now.impl()->storage;
        t.impl()->desc = now.desc();
        t.impl()->offset = now.impl()->offset;
        m.state_->conversions.set(m.state_->conversions.get() + 1);
      }
    }
  });
}

void Module::to(DType dtype) const {
  if (!is_floating(dtype)) {
    fail<TypeError>("Module::to", "parameters are floating", name_of(dtype), "f32, f64, f16, bf16");
  }
  convert_tensors("the dtype of a module", [&](const Module& m, const Tensor& t) {
    const DType to = m.state_->keep_f32 && is_low_precision(dtype) ? DType::f32 : dtype;
    return is_floating(t.dtype()) && t.dtype() != to ? t.to(to) : t;
  });
}

void Module::to(Device device) const {
  convert_tensors("the device of a module", [&](const Module&, const Tensor& t) {
    return t.device() == device ? t : t.to(device);
  });
}

void Module::to(MemoryFormat format) const {
  convert_tensors("the layout of a module",
                  [&](const Module&, const Tensor& t) { return t.rank() == 4 ? t.to(format) : t; });
}

void Module::zero_grad() const {
  for (Tensor& t : parameters()) t.set_grad({});
}

void Module::set_requires_grad(bool on) const {
  for (Tensor& t : parameters()) t.set_requires_grad(on);
}

// ------------------------------------------------------------------------------- text

std::string Module::str() const {
  std::string s = describe();
  if (state_->children.empty()) return s;
  s += "(\n";
  for (const auto& [name, child] : state_->children) {
    std::string text = child->str();
    for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 3) {
      text.insert(at + 1, "  ");
    }
    s += "  (" + name + "): " + text + "\n";
  }
  return s + ")";
}

std::string Module::summary() const {
  struct Row {
    std::string path, kind, shapes, parameters;
  };
  std::vector<Row> rows;
  visit({}, [&](const std::string& path, const Module& m) {
    Row r{path.empty() ? "(all)" : path, m.describe(), {}, {}};
    for (const auto& [name, t] : m.state_->parameters) {
      r.shapes += (r.shapes.empty() ? "" : " ") + name + t.shape().str();
    }
    if (!m.state_->parameters.empty()) r.parameters = with_commas(count(m.state_->parameters));
    rows.push_back(std::move(r));
  });
  std::size_t w[4] = {0, 0, 0, 10};
  for (const Row& r : rows) {
    w[0] = std::max(w[0], r.path.size());
    w[1] = std::max(w[1], r.kind.size());
    w[2] = std::max(w[2], r.shapes.size());
  }
  std::string s;
  for (const Row& r : rows) {
    s += fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>{}}\n", r.path, w[0], r.kind, w[1], r.shapes, w[2],
                     r.parameters, w[3]);
  }
  return s + fmt::format("{} parameters, {} values in buffers\n", with_commas(parameter_count()),
                         with_commas(count(named_buffers())));
}

}  // namespace tandem::nn
