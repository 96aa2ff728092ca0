// Host values a program reads while it is being captured. A compiled program is valid only as long
// as they stay what they were; each read goes through here, so that capture can note it.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/tensor.h"

namespace tandem {

/// What a capture wants to hear about the host side of the program.
class TraceGuards {
 public:
  virtual ~TraceGuards() = default;
  /// The program depends on `still_holds()` staying true; `what` says on what, for the ledger.
  virtual void guard(std::string what, std::function<bool()> still_holds) = 0;
  /// The gradient slot of `leaf` as the program sees it. The slot itself stays what it is: other
  /// threads use it meanwhile.
  virtual Tensor read_grad(const Tensor& leaf) = 0;
  virtual void write_grad(const Tensor& leaf, const Tensor& g) = 0;
  /// The program takes gradients of `outputs` with respect to `targets`, or (none) of all leaves.
  virtual void gradients_taken(std::span<const Tensor> outputs,
                               std::span<const Tensor> targets) = 0;
  /// A CaptureError with this message was made.
  virtual void refused(const std::string& what) = 0;
};

/// This thread's capture in progress, or null.
TraceGuards* trace_guards();
void set_trace_guards(TraceGuards* g);

/// A host value that programs may read while being captured: a flag, a probability, a mode.
template <class T>
class Guarded {
 public:
  explicit Guarded(T v, std::string name) : cell_(std::make_shared<T>(v)), name_(std::move(name)) {}
  T get() const {  // in a capture: guarded
    if (TraceGuards* g = trace_guards()) {
      // Weak: when the owner is gone, the program that read it is out of date as well.
      g->guard(name_, [cell = std::weak_ptr<T>(cell_), v = *cell_] {
        const auto now = cell.lock();
        return now && *now == v;
      });
    }
    return *cell_;
  }
  void set(T v) { *cell_ = v; }  // outdates what was captured with another

 private:
  std::shared_ptr<T> cell_;
  std::string name_;
};

}  // namespace tandem
