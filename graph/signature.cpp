#include "graph/signature.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "core/grad_meta.h"
#include "core/parallel.h"

namespace tandem::graph {

bool Signature::matches(std::span<const Tensor* const> a, const Statics& s) const {
  if (a.size() != args.size() || grad != grad_enabled() || !(policy == tandem::policy()) ||
      !(device == default_device()) || threads != num_threads() || !(autocast == autocast_mode()) ||
      anomaly != dispatch::anomaly_mode() || *s.type != *type || s.text != statics) {
    return false;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(a[i]->desc() == args[i])) return false;
    if ((wants_grad[i] != 0) != (a[i]->impl()->grad_meta && a[i]->requires_grad())) return false;
  }
  return true;
}

Signature Signature::of(std::span<const Tensor* const> a, const Statics& s) {
  Signature r;
  for (const Tensor* t : a) {
    r.args.push_back(t->desc());
    r.wants_grad.push_back(t->requires_grad());
  }
  r.type = s.type;
  r.statics = s.text;
  r.policy = tandem::policy();
  r.autocast = autocast_mode();
  r.grad = grad_enabled();
  r.device = default_device();
  r.threads = num_threads();
  r.anomaly = dispatch::anomaly_mode();
  return r;
}

void Signature::restore_settings() const {
  tandem::policy() = policy;
  set_autocast_mode(autocast);
  set_grad_enabled(grad);
  set_default_device(device);
  if (num_threads() != threads) set_num_threads(threads);
  dispatch::set_anomaly_mode(anomaly);
}

std::string Signature::difference(const Signature& was, const Signature& is) {
  if (was.args.size() != is.args.size()) {
    return fmt::format("number of tensors: {} -> {}", was.args.size(), is.args.size());
  }
  for (std::size_t i = 0; i < is.args.size(); ++i) {
    if (!(was.args[i] == is.args[i])) {
      return fmt::format("argument {}: {} -> {}", i, was.args[i].str(), is.args[i].str());
    }
    if (was.wants_grad[i] != is.wants_grad[i]) {
      return fmt::format("argument {}: requires_grad {} -> {}", i, was.wants_grad[i] != 0,
                         is.wants_grad[i] != 0);
    }
  }
  if (was.statics != is.statics) {
    return fmt::format("static arguments: {} -> {}", was.statics, is.statics);
  }
  if (*was.type != *is.type) return "types of the arguments";
  if (!(was.policy == is.policy)) {
    return fmt::format("policy: {} -> {}", was.policy.str(), is.policy.str());
  }
  if (!(was.autocast == is.autocast)) {
    return fmt::format("autocast: {} -> {}", was.autocast.str(), is.autocast.str());
  }
  if (was.grad != is.grad) return fmt::format("tape on: {} -> {}", was.grad, is.grad);
  if (!(was.device == is.device)) {
    return fmt::format("default device: {} -> {}", was.device.str(), is.device.str());
  }
  if (was.threads != is.threads) {
    return fmt::format("threads: {} -> {}", was.threads, is.threads);
  }
  if (was.anomaly != is.anomaly) {
    return fmt::format("anomaly mode: {} -> {}", was.anomaly, is.anomaly);
  }
  return {};
}

}  // namespace tandem::graph
