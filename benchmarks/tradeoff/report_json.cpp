// A report as JSON, and the machine it was made on.
#include <fstream>
#include <thread>

#include "benchmarks/tradeoff/report.h"
#include "core/backend.h"
#include "core/parallel.h"

namespace tandem::tradeoff {

namespace {

using nlohmann::json;
using Kind = Rung::Kind;

json to_json(const Interval& i) {
  return {{"median", i.median}, {"low", i.low}, {"high", i.high}, {"samples", i.samples}};
}

const char* name_of(Kind k) {
  switch (k) {
    case Kind::eager: return "eager";
    case Kind::control: return "control";
    case Kind::by_hand: return "by_hand";
    case Kind::step: return "step";
    case Kind::leave_out: return "leave_out";
  }
  return "";
}

const char* name_of(BreakEven::Kind k) {
  switch (k) {
    case BreakEven::Kind::none: return "none";
    case BreakEven::Kind::after: return "after";
    case BreakEven::Kind::unclear: return "unclear";
    case BreakEven::Kind::never: return "never";
  }
  return "";
}

const char* name_of(Forecast::Bound b, bool asynchronous) {
  switch (b) {
    case Forecast::Bound::kernels: return asynchronous ? "device-bound" : "kernel-bound";
    case Forecast::Bound::mixed: return "mixed";
    case Forecast::Bound::host: return asynchronous ? "host-bound" : "launch-bound";
  }
  return "";
}

const char* name_of(BusyFrom b) {
  switch (b) {
    case BusyFrom::none: return "none";
    case BusyFrom::events: return "events";
    case BusyFrom::activity: return "activity records";
  }
  return "";
}

// What only an asynchronous device has.
void add_device(json& out, const LadderResult& r, const Summary& s) {
  out["busy_from"] = name_of(r.busy_from);
  out["notes"] = r.notes;
  out["forecast"]["step_ms"] = s.forecast.step_ms;
  out["forecast"]["idle_ms"] = s.forecast.idle_ms;
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    const Arm& a = r.arms[i];
    json& j = out["arms"][i];
    j["device_graph"] = a.rung.setting.device_graph;
    j["busy_ms"] = a.busy_ms;
    j["idle_ms"] = s.arms[i].idle_ms;
    j["idle_part"] = s.arms[i].idle_part;
    if (a.kernels_run > 0) j["kernels_run"] = a.kernels_run;
    if (a.compiles()) j["record_ms"] = a.record_ms;
    j["host_samples_ms"] = a.put_in_ms;
  }
  if (s.compiled_to_by_hand) out["compiled_to_by_hand"] = to_json(*s.compiled_to_by_hand);
}

std::string proc_value(const char* file, std::string_view key) {
  std::ifstream f(file);
  for (std::string line; std::getline(f, line);) {
    if (!line.starts_with(key)) continue;
    const auto colon = line.find(':');
    const auto at = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    return at == std::string::npos ? "" : line.substr(at);
  }
  return "";
}

}  // namespace

json to_json(const LadderResult& r, const Summary& s) {
  json out;
  out["workload"] = r.workload;
  out["seed"] = r.options.seed;
  out["seconds"] = r.options.seconds;
  out["rounds"] = r.rounds;
  out["steps_per_sample"] = r.steps_per_sample;
  out["stopped_early"] = r.stopped;
  out["checked_steps"] = r.checked_steps;
  out["profiler_ns_per_launch"] = r.profiler_ns;
  out["cold_ms"] = {{"capture", r.cold_capture_ms}, {"compile", r.cold_compile_ms}};
  out["noise"] = {{"part", s.noise_part}, {"ms", s.noise_ms}};
  const Forecast& f = s.forecast;
  out["forecast"] = {{"bound", name_of(f.bound, r.asynchronous)},
                     {"kernel_ms", f.kernel_ms},
                     {"host_ms", f.host_ms},
                     {"host_part", f.host_part},
                     {"elementwise_ms", f.elementwise_ms},
                     {"elementwise_launches", f.elementwise_launches}};
  for (const KernelTime& k : r.eager_kernels) {
    out["eager_kernels"].push_back({{"op", k.op}, {"calls", k.calls}, {"ms", k.ms}});
  }
  for (std::size_t i = 0; i < r.arms.size(); ++i) {
    const Arm& a = r.arms[i];
    const ArmSummary& x = s.arms[i];
    json j = {{"name", a.rung.name},
              {"kind", name_of(a.rung.kind)},
              {"factor", a.rung.factor},
              {"compiled", a.rung.setting.compiled},
              {"memory_plan", a.rung.setting.memory_plan},
              {"passes", a.rung.setting.passes},
              {"compared", a.rung.setting.exact()},
              {"step_ms", to_json(x.step_ms)},
              {"ratio_to_eager", to_json(x.ratio)},
              {"saved_ms", to_json(x.saved_ms)},
              {"beyond_noise", s.beyond_noise(x.saved_ms)},
              {"kernel_ms", a.kernel_ms},
              {"host_ms", a.host_ms},
              {"launches", a.launches},
              {"allocations", a.allocations},
              {"system_allocations", a.system_allocations},
              {"held_bytes", a.held_bytes},
              {"peak_bytes", a.peak_bytes},
              {"samples_ms", a.step_ms}};
    if (a.same_as) j["same_program_as"] = r.arms[*a.same_as].rung.name;
    if (a.compiles()) {
      j["break_even"] = {{"kind", name_of(x.break_even.kind)}, {"steps", nullptr}};
      if (x.break_even.steps > 0) j["break_even"]["steps"] = x.break_even.steps;
    }
    if (a.rung.setting.compiled) {
      j["capture_ms"] = a.capture_ms;
      j["compile_ms"] = a.compile_ms;
      j["nodes"] = a.nodes;
      j["arena_bytes"] = a.arena_bytes;
      j["arena_bound_bytes"] = a.arena_bound;
      for (const auto& p : a.passes) {
        j["pass_statistics"].push_back({{"name", p.name},
                                        {"nodes_before", p.stats.nodes_before},
                                        {"nodes_after", p.stats.nodes_after},
                                        {"changed", p.stats.changed},
                                        {"detail", p.stats.detail},
                                        {"ms", p.stats.ms}});
      }
    }
    out["arms"].push_back(std::move(j));
  }
  for (const FactorSummary& x : s.factors) {
    json j = {{"name", x.name},
              {"meaning", x.meaning},
              {"found_nothing", x.found_nothing},
              {"saved_by_adding_ms", to_json(x.added_ms)},
              {"beyond_noise", s.beyond_noise(x.added_ms)}};
    if (x.lost_ms) j["lost_by_leaving_out_ms"] = to_json(*x.lost_ms);
    out["factors"].push_back(std::move(j));
  }
  out["together_ms"] = to_json(s.together_ms);
  if (s.interaction_ms) out["interaction_ms"] = to_json(*s.interaction_ms);
  if (r.asynchronous) add_device(out, r, s);
  return out;
}

json machine_json() {
  json m;
  m["cpu"] = proc_value("/proc/cpuinfo", "model name");
  m["cpus"] = std::thread::hardware_concurrency();
  m["memory"] = proc_value("/proc/meminfo", "MemTotal");
  m["threads"] = num_threads();
  m["backend"] = backend(DeviceType::cpu).description();
  const Device d = default_device();
  if (!d.is_cpu()) m["device"] = fmt::format("{}: {}", d.str(), backend(d).description());
  m["tandem"] = TANDEM_VERSION;
  m["compiler"] = __VERSION__;
  return m;
}

std::string machine_text() {
  const json m = machine_json();
  return fmt::format("{}, {} cores, {} thread{}; Tandem {}, {}{}", m["cpu"].get<std::string>(),
                     m["cpus"].get<int>(), num_threads(), num_threads() == 1 ? "" : "s",
                     m["tandem"].get<std::string>(), m["backend"].get<std::string>(),
                     m.contains("device") ? "; " + m["device"].get<std::string>() : "");
}

}  // namespace tandem::tradeoff
