#include "core/thread_state.h"

#include <fmt/format.h>

#include "core/trace_guard.h"

namespace tandem {

namespace detail {
constinit thread_local ThreadState thread_state;
}
using detail::thread_state;

Policy& policy() {
  return thread_state.policy;
}

std::string Policy::str() const {
  return fmt::format("deterministic={} tf32={} fast_math={} vendor={} search={}", deterministic,
                     tf32, fast_math, vendor, search);
}

AutocastMode autocast_mode() {
  return thread_state.autocast;
}
void set_autocast_mode(AutocastMode mode) {
  if (mode.on && !is_low_precision(mode.dtype)) {
    fail<TypeError>("autocast", "casts to a 16-bit floating type", name_of(mode.dtype),
                    "bf16 or f16");
  }
  thread_state.autocast = mode;
}
std::string AutocastMode::str() const {
  return on ? name_of(dtype) : "off";
}
Autocast::Autocast(DType dtype, bool on) : saved_(autocast_mode()) {
  set_autocast_mode({on, dtype});
}

bool grad_enabled() {
  return thread_state.grad_enabled;
}
void set_grad_enabled(bool on) {
  thread_state.grad_enabled = on;
}

Device default_device() {
  return thread_state.default_device;
}
void set_default_device(Device d) {
  thread_state.default_device = d;
}

namespace {
thread_local TraceGuards* guards = nullptr;
}
TraceGuards* trace_guards() {
  return guards;
}
void set_trace_guards(TraceGuards* g) {
  guards = g;
}
CaptureError::CaptureError(const std::string& what) : Error(what) {
  if (guards) guards->refused(what);
}

namespace dispatch {
Interceptor* interceptor() {
  return thread_state.interceptor;
}
InterceptorScope::InterceptorScope(Interceptor* i) : saved_(thread_state.interceptor) {
  thread_state.interceptor = i;
}
InterceptorScope::~InterceptorScope() {
  thread_state.interceptor = saved_;
}
bool anomaly_mode() {
  return thread_state.anomaly;
}
void set_anomaly_mode(bool on) {
  thread_state.anomaly = on;
}
}  // namespace dispatch

// ------------------------------------------------------------------------------ call sites

namespace {
SrcLoc (*locate_foreign)() = nullptr;
}

void set_foreign_locator(SrcLoc (*locate)()) {
  locate_foreign = locate;
}
SrcLoc resolved(const SrcLoc& loc) {
  return loc.is_foreign() && locate_foreign ? locate_foreign() : loc;
}

std::string str(const SrcLoc& loc) {
  if (loc.is_foreign()) return "a line that only anomaly mode notes";
  const std::string_view f = loc.file_name();
  if (f.empty()) return {};
  return fmt::format("{}:{}", f.substr(f.find_last_of('/') + 1), loc.line());
}

CallSite::CallSite(const SrcLoc& loc, const std::string* path)
    : outer_(thread_state.call_site), loc_(outer_ ? outer_->loc_ : loc), path_(path) {
  if (!path_ && outer_) path_ = outer_->path_;
  thread_state.call_site = this;
}
CallSite::~CallSite() {
  thread_state.call_site = outer_;
}

SrcLoc CallSite::blame(const SrcLoc& loc) {
  return thread_state.call_site ? thread_state.call_site->loc_ : loc;
}
std::string CallSite::path() {
  const CallSite* s = thread_state.call_site;
  return s && s->path_ ? *s->path_ : std::string();
}

CallSource CallSource::of(const SrcLoc& loc) {
  CallSource s{resolved(CallSite::blame(loc)), {}, {}, CallSite::path()};
  if (thread_state.function) s.function = thread_state.function;
  if (thread_state.gradient_of) s.gradient_of = thread_state.gradient_of;
  return s;
}

GradientSite::GradientSite(const char* op, const SrcLoc& loc)
    : site_(loc), outer_(thread_state.gradient_of) {
  thread_state.gradient_of = op;
}
GradientSite::~GradientSite() {
  thread_state.gradient_of = outer_;
}

ReplaySite::ReplaySite() : now_(&thread_state.replayed), outer_(thread_state.replayed) {}
ReplaySite::~ReplaySite() {
  *now_ = outer_;
}

ErrorSite::ErrorSite(const SrcLoc& loc) : outer_(thread_state.loc) {
  thread_state.loc = &loc;
}
ErrorSite::~ErrorSite() {
  thread_state.loc = outer_;
}

FunctionSite::FunctionSite(const char* name, const SrcLoc& loc)
    : site_(loc), error_(loc), outer_(thread_state.function) {
  if (!outer_) thread_state.function = name;
}
FunctionSite::~FunctionSite() {
  thread_state.function = outer_;
}

std::string_view detail::function_or(std::string_view op) {
  const CallSource* r = thread_state.replayed;
  if (r && !r->function.empty()) return r->function;
  return thread_state.function ? thread_state.function : op;
}

std::string detail::error_message(std::string_view op, std::string_view rule, std::string_view got,
                                  std::string_view expected) {
  std::string m = fmt::format("[{}] {}", op, rule);
  if (!got.empty()) m += fmt::format("; got {}", got);
  if (!expected.empty()) m += fmt::format("; expected {}", expected);
  return m + where();
}

std::string detail::where() {
  SrcLoc at = SrcLoc::foreign();
  std::string_view gradient_of;
  if (const CallSource* r = thread_state.replayed) {
    at = r->loc;
    gradient_of = r->gradient_of;
  } else {
    if (thread_state.loc) at = resolved(CallSite::blame(*thread_state.loc));
    if (thread_state.gradient_of) gradient_of = thread_state.gradient_of;
  }
  std::string s = at.is_foreign() || str(at).empty() ? std::string() : "at " + str(at);
  if (!gradient_of.empty()) {
    s += fmt::format("{}in the gradient of {}", s.empty() ? "" : ", ", gradient_of);
  }
  return s.empty() ? s : fmt::format(" ({})", s);
}

}  // namespace tandem
