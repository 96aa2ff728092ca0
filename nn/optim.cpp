#include "nn/optim.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "core/dispatch.h"
#include "core/error.h"
#include "nn/option_check.h"
#include "ops/ops.h"

namespace tandem::optim {

namespace {

/// Zeros laid out in memory as `t` is, so that an update runs through both in one go; f32 for
/// 16-bit parameters.
Tensor slot_like(const Tensor& t) {
  TensorDesc d = t.desc();
  if (is_low_precision(d.dtype)) d.dtype = DType::f32;
  if (!d.is_dense()) d.strides = contiguous_strides(d.shape);
  Tensor slot = Tensor::empty(d);
  fill(slot, 0);
  return slot;
}

Tensor scalar(DType dtype, Device device, double value) {
  Tensor t = Tensor::empty(TensorDesc(dtype, device, {}));
  fill(t, value);
  return t;
}

Tensor zero_counts(std::size_t parameters, Device device) {
  Tensor t = Tensor::empty(TensorDesc(DType::i64, device, {static_cast<std::int64_t>(parameters)}));
  fill(t, 0);
  return t;
}

/// ValueError for rates and step counts that cannot be. What is not of their dtype or shape is
/// left to load_into.
void check_values(const std::string& op, const StateDict& own, const StateDict& given) {
  for (const auto& [name, t] : given) {
    const bool rate = name.ends_with(".lr"), count = name.ends_with(".step");
    if (!t.defined() || !(rate || count)) continue;
    const auto known = [&name = name, &t = t](const auto& entry) {
      return entry.first == name && entry.second.shape() == t.shape();
    };
    if (std::none_of(own.begin(), own.end(), known)) continue;
    if (rate && is_floating(t.dtype())) {
      check_not_negative(op, fmt::format("\"{}\"", name), t.item());
    }
    if (!count || is_floating(t.dtype())) continue;
    for (const std::int64_t n : t.to_vector<std::int64_t>()) {
      check_option(n >= 0 && n < kStepLimit, op, fmt::format("\"{}\"", name), n,
                   fmt::format("0 <= count < {}", kStepLimit));
    }
  }
}

}  // namespace

Optimizer::Optimizer(const char* name, std::vector<std::string> slot_names)
    : state_(std::make_shared<State>(State{name, std::move(slot_names), {}})) {}

void Optimizer::refuse_capture(const char* what) const {
  if (trace_guards()) {
    fail<CaptureError>(state_->name, std::string(what) + " cannot be changed inside a capture", {},
                       "the change made between calls of the compiled function");
  }
}

void Optimizer::add_group(std::vector<Tensor> parameters, double lr, int slots, bool counts_steps,
                          Update update) const {
  const char* name = state_->name.c_str();
  refuse_capture("the parameters");
  check_not_negative(name, "lr", lr);
  if (parameters.empty()) fail(name, "a group has parameters", "none", "at least one");
  std::unordered_set<const TensorImpl*> seen;
  for (const Group& g : state_->groups) {
    for (const Bucket& b : g.buckets) {
      for (const Tensor& p : b.parameters) seen.insert(p.impl());
    }
  }
  const NoGrad no_grad;
  Group g{{}, Guarded<double>(lr, "learning rate"), std::move(update)};
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Tensor& p = parameters[i];
    if (!p.defined()) {
      fail(name, fmt::format("parameter {} must be defined", i), "an undefined tensor",
           "a floating leaf");
    }
    if (!is_floating(p.dtype())) {
      fail<TypeError>(name, fmt::format("parameter {} must be floating", i), p.desc().str(),
                      "f32, f64, f16 or bf16");
    }
    if (!p.is_leaf()) {
      fail(name, fmt::format("parameter {} must be a leaf", i),
           "the result of an operation " + p.desc().str(), "a tensor made directly, or detach()");
    }
    if (!seen.insert(p.impl()).second) {
      fail(name, "no parameter is given twice", fmt::format("parameter {} again", i),
           "each in one group, once");
    }
    auto b = std::find_if(g.buckets.begin(), g.buckets.end(),
                          [&](const Bucket& k) { return k.parameters[0].device() == p.device(); });
    if (b == g.buckets.end()) {
      b = g.buckets.emplace(b);
      b->slots.resize(static_cast<std::size_t>(slots));
      b->live_slots.resize(static_cast<std::size_t>(slots));
      b->lr = scalar(DType::f64, p.device(), lr);
    }
    b->index.push_back(static_cast<int>(i));
    for (auto& slot : b->slots) slot.push_back(slot_like(p));
    b->parameters.push_back(std::move(p));
  }
  if (counts_steps) {
    for (Bucket& b : g.buckets) b.step = zero_counts(b.parameters.size(), b.lr.device());
  }
  state_->groups.push_back(std::move(g));
}

void Optimizer::step(const Tensor& scaling, SrcLoc loc) const {
  const NoGrad no_grad;
  for (Group& g : state_->groups) {
    for (Bucket& b : g.buckets) {
      // Cleared at the end as well, so that nothing keeps gradients alive between steps.
      const auto clear = [&] {
        b.live.clear();
        b.gradients.clear();
        for (auto& slot : b.live_slots) slot.clear();
        b.positions.clear();
        b.scaling = {};
      };
      clear();  // an update may have thrown
      for (std::size_t i = 0; i < b.parameters.size(); ++i) {
        Tensor grad = b.parameters[i].grad();
        if (!grad.defined()) continue;
        b.live.push_back(b.parameters[i]);
        b.gradients.push_back(std::move(grad));
        b.positions.push_back(static_cast<std::int64_t>(i));
        for (std::size_t k = 0; k < b.slots.size(); ++k) b.live_slots[k].push_back(b.slots[k][i]);
      }
      if (b.live.size() == b.parameters.size()) b.positions.clear();
      b.scaling = scaling;
      if (!b.live.empty()) g.update(b, loc);
      clear();
    }
  }
}

std::vector<Tensor> Optimizer::gradients() const {
  std::vector<Tensor> r;
  for (const Group& g : state_->groups) {
    for (const Bucket& b : g.buckets) {
      for (const Tensor& p : b.parameters) {
        Tensor grad = p.grad();
        if (grad.defined()) r.push_back(std::move(grad));
      }
    }
  }
  return r;
}

void Optimizer::zero_grad() const {
  for (Group& g : state_->groups) {
    for (Bucket& b : g.buckets) {
      for (Tensor& p : b.parameters) p.set_grad({});
    }
  }
}

int Optimizer::groups() const {
  return static_cast<int>(state_->groups.size());
}

Optimizer::Group& Optimizer::group(int i) const {
  if (i < 0 || i >= groups()) {
    fail<IndexError>(state_->name, "no such parameter group", std::to_string(i),
                     fmt::format("0 to {}", groups() - 1));
  }
  return state_->groups[static_cast<std::size_t>(i)];
}

double Optimizer::lr(int i) const {
  return group(i).lr.get();
}

void Optimizer::set_lr(int i, double lr) const {
  refuse_capture("the learning rate");
  check_not_negative(state_->name, "lr", lr);
  Group& g = group(i);
  g.lr.set(lr);
  for (Bucket& b : g.buckets) fill(b.lr, lr);
}

void Optimizer::set_lr(double lr) const {
  for (int i = 0; i < groups(); ++i) set_lr(i, lr);
}

/// i64[n] in the order of the group's n parameters.
Tensor Optimizer::step_counts(const Group& g) {
  if (g.buckets.size() == 1) return g.buckets[0].step;
  std::size_t n = 0;
  for (const Bucket& b : g.buckets) n += b.index.size();
  std::vector<std::int64_t> all(n);
  for (const Bucket& b : g.buckets) {
    const auto counts = b.step.to_vector<std::int64_t>();
    for (std::size_t k = 0; k < counts.size(); ++k) {
      all[static_cast<std::size_t>(b.index[k])] = counts[k];
    }
  }
  return Tensor::from(all, {static_cast<std::int64_t>(n)}, kCPU);
}

StateDict Optimizer::state_dict() const {
  StateDict d;
  for (int i = 0; i < groups(); ++i) {
    const Group& g = group(i);
    // All buckets of a group have the same rate.
    d.emplace_back(fmt::format("{}.lr", i), g.buckets[0].lr);
    if (g.buckets[0].step.defined()) d.emplace_back(fmt::format("{}.step", i), step_counts(g));
    for (const Bucket& b : g.buckets) {
      for (std::size_t k = 0; k < b.slots.size(); ++k) {
        for (std::size_t p = 0; p < b.slots[k].size(); ++p) {
          d.emplace_back(fmt::format("{}.{}.{}", i, state_->slot_names[k], b.index[p]),
                         b.slots[k][p]);
        }
      }
    }
  }
  return d;
}

void Optimizer::load_state_dict(const StateDict& state) const {
  refuse_capture("the state");
  const NoGrad no_grad;
  const StateDict own = state_dict();
  StateDict given = state;
  for (auto& [name, t] : given) {
    if (!t.defined() || t.rank() != 0 || !name.ends_with(".step")) continue;
    for (const auto& [own_name, counts] : own) {
      if (own_name == name) t = t.expand(counts.shape());
    }
  }
  check_values(state_->name, own, given);
  load_into(state_->name, own, given);
  for (int i = 0; i < groups(); ++i) {
    Group& g = group(i);
    set_lr(i, g.buckets[0].lr.item());
    if (g.buckets.size() == 1 || !g.buckets[0].step.defined()) continue;
    const auto is_step = [&](const auto& entry) {
      return entry.first == fmt::format("{}.step", i);
    };
    const Tensor counts = std::find_if(own.begin(), own.end(), is_step)->second;
    for (Bucket& b : g.buckets) {
      std::vector<std::int64_t> mine;
      for (const int p : b.index) mine.push_back(counts.select(0, p).item<std::int64_t>());
      const Tensor here = Tensor::from(mine, b.step.shape(), kCPU);
      b.step.copy_(here.to(b.step.device()));
    }
  }
}

// ------------------------------------------------------------------------------- the optimisers

SGD::SGD(std::vector<Tensor> parameters, const SgdOptions& o)
    : SGD(std::vector<ParameterGroup<SgdOptions>>{{std::move(parameters), o}}) {}

SGD::SGD(std::vector<ParameterGroup<SgdOptions>> groups) : Optimizer("SGD", {"momentum"}) {
  for (auto& g : groups) {
    const SgdOptions& o = g.options;
    check_not_negative("SGD", "momentum", o.momentum);
    check_option(o.dampening >= 0 && o.dampening <= 1, "SGD", "dampening", o.dampening, "0 to 1");
    check_not_negative("SGD", "weight_decay", o.weight_decay);
    if (o.nesterov && (o.momentum == 0 || o.dampening != 0)) {
      fail("SGD", "nesterov needs momentum and no dampening",
           fmt::format("momentum {}, dampening {}", o.momentum, o.dampening),
           "momentum > 0, dampening 0");
    }
    const SgdAttrs a{.momentum = o.momentum,
                     .dampening = o.dampening,
                     .weight_decay = o.weight_decay,
                     .nesterov = o.nesterov};
    const int slots = a.has_momentum() ? 1 : 0;
    add_group(std::move(g.parameters), o.lr, slots, a.counts_steps(), [a](Bucket& b, SrcLoc loc) {
      static const std::vector<Tensor> none;
      SgdAttrs now = a;
      if (a.counts_steps()) now.positions = b.positions;
      sgd_step(b.live, b.gradients, b.live_slots.empty() ? none : b.live_slots[0], b.lr,
               std::move(now), b.step, b.scaling, loc);
    });
  }
}

Adam::Adam(const char* name, std::vector<ParameterGroup<AdamOptions>> groups, bool decoupled)
    : Optimizer(name, {"exp_avg", "exp_avg_sq"}) {
  for (auto& g : groups) {
    const AdamOptions& o = g.options;
    check_option(o.beta1 >= 0 && o.beta1 < 1, name, "beta1", o.beta1, "0 <= beta1 < 1");
    check_option(o.beta2 >= 0 && o.beta2 < 1, name, "beta2", o.beta2, "0 <= beta2 < 1");
    check_not_negative(name, "eps", o.eps);
    check_not_negative(name, "weight_decay", o.weight_decay);
    const AdamAttrs a{.beta1 = o.beta1,
                      .beta2 = o.beta2,
                      .eps = o.eps,
                      .weight_decay = o.weight_decay,
                      .decoupled = decoupled,
                      .eps_hat = o.eps_hat};
    add_group(std::move(g.parameters), o.lr, 2, true, [a](Bucket& b, SrcLoc loc) {
      AdamAttrs now = a;
      now.positions = b.positions;
      adam_step(b.live, b.gradients, b.live_slots[0], b.live_slots[1], b.lr, b.step, std::move(now),
                b.scaling, loc);
    });
  }
}

Adam::Adam(std::vector<Tensor> parameters, const AdamOptions& o)
    : Adam("Adam", {{std::move(parameters), o}}, false) {}
Adam::Adam(std::vector<ParameterGroup<AdamOptions>> groups)
    : Adam("Adam", std::move(groups), false) {}

namespace {
std::vector<ParameterGroup<AdamOptions>> as_adam(
    const std::vector<ParameterGroup<AdamWOptions>>& groups) {
  std::vector<ParameterGroup<AdamOptions>> r;
  for (const auto& [parameters, options] : groups) r.push_back({parameters, options.adam()});
  return r;
}
}  // namespace

AdamW::AdamW(std::vector<Tensor> parameters, const AdamWOptions& o)
    : Adam("AdamW", {{std::move(parameters), o.adam()}}, true) {}
AdamW::AdamW(const std::vector<ParameterGroup<AdamWOptions>>& groups)
    : Adam("AdamW", as_adam(groups), true) {}

}  // namespace tandem::optim
