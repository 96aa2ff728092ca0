// Modules: functions with parameters.
//
// A module object is a handle to shared state. Copying it (into a Sequential, into a lambda) makes
// another handle to the same parameters, so everything that does not change the handle itself is
// const. A module of one's own is a class with a `forward`:
//
//   class Residual final : public nn::Module {
//    public:
//     explicit Residual(std::int64_t c)
//         : conv_(register_module("conv", nn::Conv2d(c, c, 3, {.padding = 1}))),
//           scale_(register_parameter("scale", ones({c, 1, 1}))) {}
//     Tensor forward(const Tensor& x) const override { return x + relu(conv_(x)) * scale_; }
//     std::string describe() const override { return "Residual"; }
//
//    private:
//     nn::Conv2d conv_;
//     Tensor scale_;
//   };
//
//   auto net = nn::Sequential(nn::Conv2d(3, 16, 3), Residual(16), nn::Flatten());
//
// What a module keeps must be handles (modules, registered tensors) or constants: a plain member
// that forward() changed would change in one copy only.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "core/trace_guard.h"

namespace tandem {

/// Tensors by name, in a definite order.
using StateDict = std::vector<std::pair<std::string, Tensor>>;

/// Copies the tensors `given` into `own` by name, converted to the dtypes and devices there. Checks
/// all of them before it changes one: ValueError naming what `given` lacks or has too much (both
/// allowed unless `strict`) or has twice, ShapeError, TypeError (floating into integral, or the
/// other way round). `op` is whom errors name.
void load_into(std::string_view op, const StateDict& own, const StateDict& given,
               bool strict = true);

namespace nn {

/// Base of layers and models: parameters, buffers and children by name, train and eval mode.
class Module {
 public:
  Module(const Module&) = default;
  Module& operator=(const Module&) = default;
  virtual ~Module() = default;

  virtual Tensor forward(const Tensor& x) const = 0;  // what net(x) calls
  /// One line for str(): "Linear(3136, 1024)".
  virtual std::string describe() const { return "Module"; }

  /// forward(), with the operations in it attributed to the caller's line and to this module.
  Tensor operator()(const Tensor& x, SrcLoc loc = SrcLoc::current()) const;

  /// Every tensor once, depth first, in the order of registration. `named_` gives paths
  /// ("features.0.weight").
  std::vector<Tensor> parameters() const;
  StateDict named_parameters() const;
  StateDict named_buffers() const;
  /// Every module below this one, depth first, with its path.
  std::vector<std::pair<std::string, std::shared_ptr<const Module>>> named_modules() const;

  /// Parameters and buffers under their paths: the live tensors, not copies.
  StateDict state_dict() const;
  /// Copies values in by name, converted to this module's dtypes. Nothing is changed when anything
  /// is wrong: ValueError naming what is missing or unexpected (unless `strict` is off),
  /// ShapeError, TypeError (floating into integral, or the other way round).
  void load_state_dict(const StateDict& state, bool strict = true) const;

  /// Training or evaluation mode of this module and all below it. A compiled program that read the
  /// mode is captured anew for the other one.
  void train(bool on = true) const;
  void eval() const { train(false); }
  bool training() const { return state_->training.get(); }

  /// Converts every floating parameter and buffer, in place: optimisers and other handles see it.
  /// Normalisation layers keep theirs in f32 where f16 or bf16 is asked for. Gradients are dropped.
  /// Not between a forward and its backward. CaptureError inside a capture.
  void to(DType dtype) const;
  void to(Device device) const;
  /// The same for the layout of parameters and buffers of rank 4.
  void to(MemoryFormat format) const;

  /// Drops every gradient.
  void zero_grad() const;
  void set_requires_grad(bool on) const;
  /// Calls `f` for every module below, then for this one. To change some kinds of modules:
  /// `if (auto* m = dynamic_cast<const nn::Linear*>(&module)) …`.
  void apply(const std::function<void(const Module&)>& f) const;

  /// Number of parameter values.
  std::int64_t parameter_count() const;
  /// The tree, one line a module.
  std::string str() const;
  /// The tree with the parameters of each module, and the sums.
  std::string summary() const;
  /// Path from the module it was last registered in, or "".
  const std::string& path() const { return state_->path; }

 protected:
  Module();

  /// Registers a tensor that is trained, and marks it as wanting a gradient. An undefined one (no
  /// bias) is passed through. Throws ValueError for a name that is taken, empty or has a dot in it.
  Tensor register_parameter(const std::string& name, Tensor t) const;
  /// Registers a tensor that is state but not trained.
  Tensor register_buffer(const std::string& name, Tensor t) const;
  /// Registers a module below this one and returns a handle to it.
  template <class M>
  requires std::is_base_of_v<Module, M> M register_module(const std::string& name, M m)
  const {
    if constexpr (requires { m.body(); }) {
      add_child(name, m.body());
    } else {
      add_child(name, std::make_shared<M>(m));
    }
    return m;
  }

  /// to(f16) and to(bf16) leave this module's own tensors in f32 (normalisation needs it).
  void keep_f32() const { state_->keep_f32 = true; }

  struct State {
    StateDict parameters, buffers;
    std::vector<std::pair<std::string, std::shared_ptr<const Module>>> children;
    Guarded<bool> training{true, "training mode"};
    // How often to() replaced the memory of this module's own tensors. A compiled program holds on
    // to the memory it was captured with, and must notice.
    Guarded<int> conversions{0, "dtype, layout or device of a module"};
    std::string path;
    bool keep_f32 = false;
  };
  const State& state() const { return *state_; }

 private:
  void add_child(const std::string& name, std::shared_ptr<const Module> child) const;
  void check_name(const std::string& name) const;
  void set_path(const std::string& path) const;
  bool contains(const Module& m) const;  // it, or a handle to the same state
  template <class F>
  void visit(const std::string& prefix, F&& f) const;
  template <class F>
  void convert_tensors(const char* what, F&& f) const;

  std::shared_ptr<State> state_;
};

/// A handle to a module of any kind, for where the kind is not known when compiling.
class AnyModule final : public Module {
 public:
  template <class M>
  requires(std::is_base_of_v<Module, M> && !std::is_same_v<M, AnyModule>) AnyModule(const M& m)
      : Module(m), body_(std::make_shared<M>(m)) {}

  Tensor forward(const Tensor& x) const override { return body_->forward(x); }
  std::string describe() const override { return body_->describe(); }
  /// The module itself, to look at its kind.
  const std::shared_ptr<const Module>& body() const { return body_; }

 private:
  std::shared_ptr<const Module> body_;
};

}  // namespace nn
}  // namespace tandem
