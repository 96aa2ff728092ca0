// What every thread carries: one struct, so that the hot path touches one cache line.
#pragma once
#include "core/autocast.h"
#include "core/dispatch.h"
#include "core/policy.h"
#include "core/source.h"

namespace tandem::detail {

/// What scopes change, per thread.
struct ThreadState {
  Interceptor* interceptor = nullptr;
  const SrcLoc* loc = nullptr;           // the call in progress, for error messages
  const CallSite* call_site = nullptr;   // the innermost open one
  const char* function = nullptr;        // the outermost open FunctionSite's
  const char* gradient_of = nullptr;     // the innermost open GradientSite's
  const CallSource* replayed = nullptr;  // the operation of a compiled program in progress
  std::uint64_t launches = 0;
  Policy policy;
  bool grad_enabled = true;
  bool anomaly = false;
  bool recording = false;
  AutocastMode autocast;
  Device default_device;
};

extern constinit thread_local ThreadState thread_state;

}  // namespace tandem::detail
