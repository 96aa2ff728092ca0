// Optimisers. Like modules they are handles: copies share parameters, slots and learning rate.
//
// The learning rate is a tensor on the parameters' device which the update reads, and a schedule
// writes to it from outside: so a captured training step replays with the rate of the day. Slots
// are made in the constructor, so the first step is like all others. Convert a module (dtype,
// device, layout) before giving its parameters to an optimiser.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "core/trace_guard.h"
#include "nn/module.h"

namespace tandem::optim {

/// Base of the optimisers: parameters, learning rate, and one op per step for all parameters.
class Optimizer {
 public:
  /// Changes every parameter that has a gradient: one operation for each group (and device).
  /// `scaling` (f32[2], on the parameters' device): see sgd_step; what GradScaler::step passes.
  void step(SrcLoc loc = SrcLoc::current()) const { step(Tensor(), loc); }
  void step(const Tensor& scaling, SrcLoc loc = SrcLoc::current()) const;
  /// The gradients there are, of all groups.
  std::vector<Tensor> gradients() const;
  /// Drops the gradients (to "none", which costs nothing; not to zeros).
  void zero_grad() const;

  /// Equal for copies of one optimiser only.
  const void* identity() const { return state_.get(); }
  int groups() const;
  double lr(int group = 0) const;
  /// For all groups, or one. ValueError unless finite and 0 or more; CaptureError inside a capture:
  /// it would not happen at replay.
  void set_lr(double lr) const;
  void set_lr(int group, double lr) const;

  /// Learning rates, step counts and slots: the live tensors, not copies. For group 0 they are
  ///   "0.lr"          f64[]
  ///   "0.step"        i64[n], if steps count: those that each of the group's n parameters has made
  ///                   (a copy, if the group's parameters are on several devices)
  ///   "0.momentum.3"  the slot of the fourth parameter, in its shape
  StateDict state_dict() const;
  /// Copies values in. A "0.step" that is one number (of files from before parameters had counts of
  /// their own) counts for every parameter. Throws ValueError naming what is missing, unexpected or
  /// given twice, and for rates and counts that cannot be; ShapeError, TypeError. Nothing is
  /// changed then. CaptureError inside a capture.
  void load_state_dict(const StateDict& state) const;

 protected:
  /// Parameters of one group on one device, with what belongs to them.
  struct Bucket {
    std::vector<int> index;  // in the group
    std::vector<Tensor> parameters;
    std::vector<std::vector<Tensor>> slots;  // of each kind one for each parameter
    Tensor lr;                               // f64[]: what is saved and loaded is the exact rate
    Tensor step;     // i64[parameters], the steps each has made; undefined if not wanted
    Tensor scaling;  // of this step, undefined if none
    // Of this step: those with a gradient. Members only to keep their memory.
    std::vector<Tensor> live, gradients;
    std::vector<std::vector<Tensor>> live_slots;
    std::vector<std::int64_t> positions;  // of their step counts; empty: all parameters, in order
  };
  using Update = std::function<void(Bucket&, SrcLoc)>;

  Optimizer(const char* name, std::vector<std::string> slot_names);
  /// `update` changes live parameters and slots in place.
  void add_group(std::vector<Tensor> parameters, double lr, int slots, bool counts_steps,
                 Update update) const;

 private:
  struct Group {
    std::vector<Bucket> buckets;
    Guarded<double> lr;
    Update update;
  };
  struct State {
    std::string name;
    std::vector<std::string> slot_names;
    std::vector<Group> groups;
  };
  Group& group(int i) const;
  static Tensor step_counts(const Group& g);
  void refuse_capture(const char* what) const;

  std::shared_ptr<State> state_;
};

/// Parameters with options of their own.
template <class Options>
struct ParameterGroup {
  std::vector<Tensor> parameters;
  Options options;
};

/// Options of SGD. Here and below: ValueError unless all are finite and in the ranges given, or 0
/// or more.
struct SgdOptions {
  double lr = 1e-2;
  double momentum = 0;
  double dampening = 0;     // of the gradient on its way into the momentum, in [0, 1]
  double weight_decay = 0;  // added to the gradient times the parameter
  bool nesterov = false;    // needs momentum, and no dampening
};

/// v = momentum v + (1 - dampening) g;  p -= lr v  (Nesterov: p -= lr (g + momentum v)). The
/// momentum starts from zero; with dampening, the first step is not dampened (as in PyTorch).
class SGD final : public Optimizer {
 public:
  explicit SGD(std::vector<Tensor> parameters, const SgdOptions& o = {});
  explicit SGD(std::vector<ParameterGroup<SgdOptions>> groups);
};

/// Options of Adam and AdamW.
struct AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;  // in [0, 1)
  double eps = 1e-8;
  double weight_decay = 0;
  /// Where eps is added: to the root of the corrected second moment, or (TensorFlow) to the root of
  /// the uncorrected one, which in the first steps makes it count for more.
  bool eps_hat = false;
};

/// Adam's, with another default: AdamW without weight decay would be Adam.
struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;
  bool eps_hat = false;
  AdamOptions adam() const { return {lr, beta1, beta2, eps, weight_decay, eps_hat}; }
  static AdamWOptions of(const AdamOptions& o) {  // the other way round
    return {o.lr, o.beta1, o.beta2, o.eps, o.weight_decay, o.eps_hat};
  }
};

/// Kingma and Ba, "Adam: a method for stochastic optimization", 2015. Weight decay is part of the
/// gradient.
class Adam : public Optimizer {
 public:
  explicit Adam(std::vector<Tensor> parameters, const AdamOptions& o = {});
  explicit Adam(std::vector<ParameterGroup<AdamOptions>> groups);

 protected:
  Adam(const char* name, std::vector<ParameterGroup<AdamOptions>> groups, bool decoupled);
};

/// Loshchilov and Hutter, "Decoupled weight decay regularization", 2019: p -= lr weight_decay p
/// beside Adam's step.
class AdamW final : public Adam {
 public:
  explicit AdamW(std::vector<Tensor> parameters, const AdamWOptions& o = {});
  explicit AdamW(const std::vector<ParameterGroup<AdamWOptions>>& groups);
};

}  // namespace tandem::optim
