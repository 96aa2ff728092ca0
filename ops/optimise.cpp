#include "ops/optimise.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/dispatch.h"
#include "ops/op_list.h"

namespace tandem {
namespace {

// Inputs come list after list: parameters, gradients, slots; then the scalars.
struct List {
  const char* what;
  bool state;  // kept in f32 for 16-bit parameters, and written
};

void check_lists(InferContext& c, std::int64_t n, std::span<const List> lists) {
  for (std::int64_t i = 0; i < n; ++i) {
    const int first = static_cast<int>(i);
    const TensorDesc& p = c.input(first);
    c.expect_floating(first);
    for (std::size_t k = 0; k < lists.size(); ++k) {
      const int at = static_cast<int>(static_cast<std::int64_t>(k) * n + i);
      const TensorDesc& d = c.input(at);
      const List& list = lists[k];
      if (!(d.shape == p.shape)) {
        c.fail(fmt::format("{} {} has the shape of its parameter", list.what, i), d.str(), p.str());
      }
      const DType t = list.state && is_low_precision(p.dtype) ? DType::f32 : p.dtype;
      if (d.dtype != t) {
        c.fail<TypeError>(fmt::format("{} {} has the wrong dtype", list.what, i), d.str(),
                          name_of(t));
      }
    }
    c.mutates(first);
  }
  for (std::size_t k = 1; k < lists.size(); ++k) {
    for (std::int64_t i = 0; lists[k].state && i < n; ++i) {
      c.mutates(static_cast<int>(static_cast<std::int64_t>(k) * n + i));
    }
  }
}

void check_lr(const InferContext& c, int i) {
  const TensorDesc& d = c.input(i);
  if (d.numel() != 1) c.fail("the learning rate is one number", d.str(), "f32[]");
  if (d.dtype != DType::f32 && d.dtype != DType::f64) {
    c.fail<TypeError>("the learning rate has the wrong dtype", d.str(), "f32 or f64");
  }
}

// A count for each of the `n` parameters, and maybe for others.
void check_step(InferContext& c, int i, std::int64_t n, const std::vector<std::int64_t>& at) {
  c.expect_dtype(i, DType::i64);
  c.expect_rank(i, 1);
  const TensorDesc& d = c.input(i);
  if (at.empty() ? d.dim(0) != n : std::ssize(at) != n) {
    c.fail("one step count for each parameter", at.empty() ? d.str() : detail::print_field(at),
           fmt::format("{}", n));
  }
  std::int64_t last = -1;
  for (const std::int64_t p : at) {
    if (p <= last || p >= d.dim(0)) {
      c.fail<ValueError>("positions of step counts rise and lie in the tensor",
                         detail::print_field(at), fmt::format("0 to {}", d.dim(0) - 1));
    }
    last = p;
  }
  if (d.strides[0] == 0 && d.dim(0) > 1) {
    c.fail("step counts must not share memory", d.str(), "a tensor of its own memory");
  }
  c.mutates(i);
}

// The last input, if there is one.
void check_scaling(const InferContext& c, int i) {
  c.expect_dtype(i, DType::f32);
  c.expect_shape(i, {2}, "the scaling is a factor and a flag");
}

void check_not_negative(const InferContext& c, const char* what, double value) {
  if (!(value >= 0 && std::isfinite(value))) {
    c.fail<ValueError>(fmt::format("{} must be finite and not negative", what),
                       fmt::format("{}", value), "0 or more");
  }
}

constexpr List kSgdLists[] = {{"parameter", false}, {"gradient", false}, {"momentum", true}};
constexpr List kAdamLists[] = {
    {"parameter", false}, {"gradient", false}, {"first moment", true}, {"second moment", true}};

void infer_sgd_step(InferContext& c) {
  const auto& a = c.attrs<SgdAttrs>();
  const std::size_t lists = a.has_momentum() ? 3 : 2;
  const int n = static_cast<int>(a.num_params), lr = n * static_cast<int>(lists);
  const int end = lr + 1 + a.counts_steps();
  c.expect_inputs(end + a.scaled);
  check_not_negative(c, "momentum", a.momentum);
  check_not_negative(c, "weight_decay", a.weight_decay);
  if (!(a.dampening >= 0 && a.dampening <= 1)) {
    c.fail<ValueError>("dampening is a share of the gradient", fmt::format("{}", a.dampening),
                       "0 to 1");
  }
  if (a.nesterov && (!a.has_momentum() || a.dampening != 0)) {
    c.fail<ValueError>("Nesterov momentum needs a momentum and no dampening",
                       fmt::format("momentum {}, dampening {}", a.momentum, a.dampening));
  }
  check_lists(c, n, std::span(kSgdLists, lists));
  check_lr(c, lr);
  if (a.counts_steps()) check_step(c, lr + 1, n, a.positions);
  if (a.scaled) check_scaling(c, end);
}

void infer_adam_step(InferContext& c) {
  const auto& a = c.attrs<AdamAttrs>();
  const int n = static_cast<int>(a.num_params);
  c.expect_inputs(4 * n + 2 + a.scaled);
  if (!(a.beta1 >= 0 && a.beta1 < 1 && a.beta2 >= 0 && a.beta2 < 1)) {
    c.fail<ValueError>("the decay rates lie in [0, 1)",
                       fmt::format("beta1 {}, beta2 {}", a.beta1, a.beta2));
  }
  check_not_negative(c, "eps", a.eps);
  check_not_negative(c, "weight_decay", a.weight_decay);
  check_lists(c, n, kAdamLists);
  check_lr(c, 4 * n);
  check_step(c, 4 * n + 1, n, a.positions);
  if (a.scaled) check_scaling(c, 4 * n + 2);
}

double param_count(const PreparedOp& p, std::int64_t n) {
  double c = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    c += static_cast<double>(p.in[static_cast<std::size_t>(i)].numel());
  }
  return c;
}
double sgd_step_flops(const PreparedOp& p) {
  const auto& a = p.attrs.as<SgdAttrs>();
  return param_count(p, a.num_params) * (a.has_momentum() ? 5 : 2);
}
double adam_step_flops(const PreparedOp& p) {
  return param_count(p, p.attrs.as<AdamAttrs>().num_params) * 12;
}

void append(std::vector<const Tensor*>& in, std::span<const Tensor> list, std::size_t expected,
            const char* op, const char* what) {
  if (list.size() != expected) {
    fail<ValueError>(op, fmt::format("one {} for each parameter", what),
                     std::to_string(list.size()), std::to_string(expected));
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list[i].defined()) {
      fail<ValueError>(op, fmt::format("{} {} must be defined", what, i), "an undefined tensor",
                       "a tensor with values");
    }
    in.push_back(&list[i]);
  }
}

/// The memory of a tensor that a step writes.
struct Written {
  const void* base;  // what `begin` and `end` are places in
  std::uintptr_t begin, end;
  bool dense;  // every byte from begin to end is its own
  const char* what;
  std::size_t index;
};

void add_written(std::vector<Written>& all, std::span<const Tensor> list, const char* what) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    const TensorDesc& d = list[i].desc();
    if (d.numel() == 0) continue;
    const TensorImpl& t = *list[i].impl();
    // A value of a capture has no address, but its storage is its own.
    const bool symbolic = list[i].is_symbolic();
    const void* base = symbolic ? t.storage.get() : nullptr;
    const std::uintptr_t begin =
        static_cast<std::uintptr_t>(t.offset) +
        (symbolic ? 0 : reinterpret_cast<std::uintptr_t>(t.storage->data()));
    all.push_back({base, begin, begin + d.bytes(), d.is_dense(), what, i});
  }
}

/// Elements are updated by many threads in any order: one that two tensors have would be updated
/// twice, or half. Tensors with gaps may interleave, so of those only the first elements count.
void check_distinct(std::vector<Written>& all, const char* op) {
  std::sort(all.begin(), all.end(), [](const Written& a, const Written& b) {
    return a.base != b.base ? std::less<>()(a.base, b.base) : a.begin < b.begin;
  });
  const Written *before = nullptr, *dense = nullptr;
  for (const Written& w : all) {
    const Written* same = before && before->base == w.base && before->begin == w.begin ? before
                          : w.dense && dense && dense->base == w.base && w.begin < dense->end
                              ? dense
                              : nullptr;
    if (same) {
      fail<ValueError>(op, "what a step writes must not share memory",
                       fmt::format("{} {} and {} {}", same->what, same->index, w.what, w.index),
                       "each in memory of its own, and given once");
    }
    before = &w;
    if (w.dense) dense = &w;
  }
}

}  // namespace

namespace op {
constinit const OpDef sgd_step = {.id = id_of(OpId::sgd_step_),
                                  .name = "sgd_step",
                                  .attrs = &attr_type_v<SgdAttrs>,
                                  .infer = infer_sgd_step,
                                  .flops = sgd_step_flops,
                                  .doc = "A step of gradient descent for all parameters."};
constinit const OpDef adam_step = {.id = id_of(OpId::adam_step_),
                                   .name = "adam_step",
                                   .attrs = &attr_type_v<AdamAttrs>,
                                   .infer = infer_adam_step,
                                   .flops = adam_step_flops,
                                   .doc = "A step of Adam or AdamW for all parameters."};
}  // namespace op

void sgd_step(std::span<const Tensor> params, std::span<const Tensor> grads,
              std::span<const Tensor> momenta, const Tensor& lr, SgdAttrs attrs, const Tensor& step,
              const Tensor& scaling, SrcLoc loc) {
  const ErrorSite at(loc);
  const char* name = op::sgd_step.name;
  const std::size_t n = params.size();
  if (n == 0) return;
  attrs.num_params = static_cast<std::int64_t>(n);
  if (!attrs.has_momentum()) attrs.dampening = 0;
  attrs.scaled = scaling.defined();
  std::vector<const Tensor*> in;
  in.reserve(3 * n + 3);
  append(in, params, n, name, "parameter");
  append(in, grads, n, name, "gradient");
  append(in, momenta, attrs.has_momentum() ? n : 0, name, "momentum");
  in.push_back(&lr);
  if (attrs.counts_steps()) {
    if (!step.defined())
      fail<ValueError>(name, "dampening needs step counts", "none", fmt::format("i64[{}]", n));
    in.push_back(&step);
  }
  if (attrs.scaled) in.push_back(&scaling);
  std::vector<Written> written;
  written.reserve(2 * n);
  add_written(written, params, "parameter");
  add_written(written, momenta, "momentum");
  check_distinct(written, name);
  const NoGrad guard;
  dispatch::call(op::sgd_step, in, attrs, loc);
}

void adam_step(std::span<const Tensor> params, std::span<const Tensor> grads,
               std::span<const Tensor> m, std::span<const Tensor> v, const Tensor& lr,
               const Tensor& step, AdamAttrs attrs, const Tensor& scaling, SrcLoc loc) {
  const ErrorSite at(loc);
  const char* name = op::adam_step.name;
  const std::size_t n = params.size();
  if (n == 0) return;
  attrs.num_params = static_cast<std::int64_t>(n);
  attrs.scaled = scaling.defined();
  std::vector<const Tensor*> in;
  in.reserve(4 * n + 3);
  append(in, params, n, name, "parameter");
  append(in, grads, n, name, "gradient");
  append(in, m, n, name, "first moment");
  append(in, v, n, name, "second moment");
  in.push_back(&lr);
  in.push_back(&step);
  if (attrs.scaled) in.push_back(&scaling);
  std::vector<Written> written;
  written.reserve(3 * n);
  add_written(written, params, "parameter");
  add_written(written, m, "first moment");
  add_written(written, v, "second moment");
  check_distinct(written, name);
  const NoGrad guard;
  dispatch::call(op::adam_step, in, attrs, loc);
}

}  // namespace tandem
