// What a compiled program is specialised on, beside the host values it guards.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <vector>

#include "core/dispatch.h"
#include "core/policy.h"
#include "graph/watch.h"

namespace tandem::graph {

/// Everything about the arguments of a call that is no tensor.
struct Statics {
  const std::type_info* type = &typeid(void);  // of the arguments together
  std::string_view text = {};                  // their values, spelled unambiguously; the caller's
  WatchPtr watch = {};                         // what the program may depend on, but need not
};

/// The arguments of a call and this thread's modes.
struct Signature {
  std::vector<TensorDesc> args;
  std::vector<std::uint8_t> wants_grad;
  const std::type_info* type = nullptr;
  std::string statics;
  Policy policy;
  AutocastMode autocast;
  bool grad = true;
  Device device;
  int threads = 1;
  bool anomaly = false;

  /// Of a call made now, on this thread.
  static Signature of(std::span<const Tensor* const> args, const Statics& s);
  /// Whether such a call has this signature.
  bool matches(std::span<const Tensor* const> args, const Statics& s) const;
  /// Gives this thread its modes.
  void restore_settings() const;
  /// The first thing in which two signatures differ, for the ledger; "" if there is none.
  static std::string difference(const Signature& was, const Signature& is);
};

}  // namespace tandem::graph
