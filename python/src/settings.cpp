// What a thread has set, threads and devices, memory, the plan cache, and random generators.
#include "core/autocast.h"
#include "core/backend.h"
#include "core/dispatch.h"
#include "core/generator.h"
#include "core/parallel.h"
#include "core/policy.h"
#include "python/src/tensor_object.h"

namespace tandem::python {

using namespace py::literals;

namespace {

/// A setting of this thread that lasts from __enter__ to __exit__.
template <class S, class... A>
class Scope {
 public:
  explicit Scope(A... a) : args_(std::move(a)...) {}
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  void enter() {
    std::apply([&](const A&... a) { open_.push_back(std::make_unique<S>(a...)); }, args_);
  }
  void exit() {
    if (!open_.empty()) open_.pop_back();
  }

 private:
  std::tuple<A...> args_;
  std::vector<std::unique_ptr<S>> open_;
};

template <class C>
py::class_<C> bind_scope(py::module_& m, const char* name, const char* doc) {
  return py::class_<C>(m, name, doc)
      .def(
          "__enter__",
          [](C& s) -> C& {
            s.enter();
            return s;
          },
          py::return_value_policy::reference)
      .def("__exit__", [](C& s, const py::args&) { s.exit(); });
}

struct DeviceScope {
  explicit DeviceScope(Device d) : before(default_device()) { set_default_device(d); }
  ~DeviceScope() { set_default_device(before); }
  DeviceScope(const DeviceScope&) = delete;
  Device before;
};
struct AnomalyScope {
  explicit AnomalyScope(bool on) : before(dispatch::anomaly_mode()) {
    dispatch::set_anomaly_mode(on);
  }
  ~AnomalyScope() { dispatch::set_anomaly_mode(before); }
  AnomalyScope(const AnomalyScope&) = delete;
  bool before;
};
struct AutocastScope {
  AutocastScope(DType t, bool on) : before(autocast_mode()) {
    if (on) scope.emplace(t);
    if (!on) set_autocast_mode({});
  }
  ~AutocastScope() {
    scope.reset();
    set_autocast_mode(before);
  }
  AutocastScope(const AutocastScope&) = delete;
  AutocastMode before;
  std::optional<Autocast> scope;
};

}  // namespace

void bind_settings(py::module_& m) {
  bind_scope<Scope<tandem::NoGrad>>(m, "_NoGrad", "").def(py::init<>());
  bind_scope<Scope<tandem::EnableGrad>>(m, "_EnableGrad", "").def(py::init<>());
  bind_scope<Scope<DeviceScope, Device>>(m, "_DeviceScope", "").def(py::init<Device>());
  bind_scope<Scope<AnomalyScope, bool>>(m, "_AnomalyScope", "").def(py::init<bool>());
  bind_scope<Scope<AutocastScope, DType, bool>>(m, "_AutocastScope", "")
      .def(py::init<DType, bool>());
  bind_scope<Scope<PolicyScope, Policy>>(m, "_PolicyScope", "").def(py::init<Policy>());

  py::class_<Policy>(m, "Policy", "What kernels may be chosen; part of every program's signature.")
      .def(py::init([](bool deterministic, bool tf32, bool fast_math, bool vendor, int search) {
             if (search < 0 || search > 255) {
               fail<ValueError>("Policy", "search is out of range", std::to_string(search),
                                "0 to 255");
             }
             return Policy{deterministic, tf32, fast_math, vendor,
                           static_cast<std::uint8_t>(search)};
           }),
           py::arg("deterministic") = true, py::arg("tf32") = false, py::arg("fast_math") = false,
           py::arg("vendor") = true, py::arg("search") = 0)
      .def_readwrite("deterministic", &Policy::deterministic,
                     "Only kernels whose results are the same in every run.")
      .def_readwrite("tf32", &Policy::tf32, "float32 products may be of 10-bit mantissas (CUDA).")
      .def_readwrite(
          "fast_math", &Policy::fast_math,
          "float32 products may round their operands to bfloat16 (CPU); sums stay float32.")
      .def_readwrite("vendor", &Policy::vendor,
                     "Kernels of oneDNN, cuDNN and cuBLASLt may be chosen; else Tandem's own.")
      .def_readwrite("search", &Policy::search,
                     "How many algorithms to time for a new call: 0 for none.")
      .def("__repr__", [](const Policy& p) { return "Policy(" + p.str() + ")"; })
      .def("__eq__", [](const Policy& a, py::handle b) {
        return py::isinstance<Policy>(b) && a == py::cast<const Policy&>(b);
      });
  m.def(
      "get_policy", [] { return policy(); }, "This thread's policy.");
  m.def(
      "set_policy", [](const Policy& p) { policy() = p; }, py::arg("policy"),
      "Changes this thread's policy.");

  m.def("is_grad_enabled", &grad_enabled, "Whether this thread's operations go on the tape.");
  m.def(
      "set_grad_enabled", &set_grad_enabled, py::arg("on").noconvert(),
      "Whether this thread's operations go on the tape from now on; no_grad does it for a scope.");
  m.def("is_anomaly_mode", &dispatch::anomaly_mode,
        "Whether the first NaN or infinity on this thread raises an error.");
  m.def("set_anomaly_mode", &dispatch::set_anomaly_mode, py::arg("on").noconvert(),
        "Whether it does from now on; anomaly_mode does it for a scope.");
  m.def(
      "get_autocast_mode",
      []() -> std::optional<DType> {
        const AutocastMode mode = autocast_mode();
        return mode.on ? std::optional(mode.dtype) : std::nullopt;
      },
      "The dtype that this thread's products and convolutions compute in, or None.");
  m.def(
      "set_autocast_mode",
      [](std::optional<DType> t) {
        set_autocast_mode(t ? AutocastMode{.on = true, .dtype = *t} : AutocastMode{});
      },
      py::arg("dtype").none(true),
      "bfloat16 or float16 from now on, or None for neither; autocast does it for a scope.\n"
      "DTypeError for another.");
  m.def(
      "set_num_threads", &set_num_threads, py::arg("n"),
      "Threads that CPU kernels may use, oneDNN's too. RangeError below 1 and for absurd numbers.\n"
      "OpenMP's threads do not survive os.fork(): a child that goes on with more than one may wait "
      "for\n"
      "them for ever. Let it call set_num_threads(1) first, or start it with 'spawn'.");
  m.def("get_num_threads", &num_threads, "Threads that CPU kernels may use.");
  m.def(
      "max_threads", &max_threads,
      "The most that set_num_threads() takes: 64, or eight for each processor where that is more;\n"
      "OMP_THREAD_LIMIT where that is less.");
  m.def("set_default_device", &set_default_device, py::arg("device"),
        "Where this thread makes new tensors when no device is named.");
  m.def("get_default_device", &default_device,
        "Where this thread makes new tensors when no device is named.");
  m.def(
      "has_device", [](const Device& d) { return has_device(d.type); }, py::arg("device"),
      "Whether this build and this machine have the device.");
  m.def(
      "device_count",
      [](const Device& d) { return has_device(d.type) ? backend(d).device_count() : 0; },
      py::arg("device") = Device{}, "How many devices of this type there are; 0 for none.");
  m.def(
      "cuda_missing",
      []() -> std::optional<std::string> {
        const char* why = cuda_missing();
        return why ? std::optional<std::string>(why) : std::nullopt;
      },
      "Why this build cannot compute on CUDA devices; None when it can.");
  m.def(
      "describe_backend", [](const Device& d) { return backend(d).description(); },
      py::arg("device") = Device{}, "What computes on the device: libraries and versions.");
  m.def(
      "synchronize",
      [](const Device& d) {
        const GilRelease release;
        backend(d).stream(d.index).synchronize();
      },
      py::arg("device") = Device{}, "Waits for the device.");
  m.def(
      "memory_stats",
      [](const Device& d) {
        const AllocatorStats s = backend(d).allocator(d.index).stats();
        py::dict r;
        r["allocations"] = s.allocations;
        r["system_allocations"] = s.system_allocations;
        r["in_use"] = s.in_use;
        r["peak"] = s.peak;
        r["cached"] = s.cached;
        return r;
      },
      py::arg("device") = Device{},
      "What the device's allocator did: counts since the start, sizes in bytes.");
  m.def(
      "reset_peak_memory", [](const Device& d) { backend(d).allocator(d.index).reset_peak(); },
      py::arg("device") = Device{}, "memory_stats()['peak'] starts over from what is in use.");
  m.def(
      "empty_cache", [](const Device& d) { backend(d).allocator(d.index).trim(); },
      py::arg("device") = Device{}, "Gives cached memory back to the system.");
  m.def(
      "plan_cache_stats",
      [] {
        const dispatch::PlanCacheStats s = dispatch::plan_cache_stats();
        return py::dict("entries"_a = s.entries, "misses"_a = s.misses);
      },
      "What the cache of prepared operations holds (`entries`), and how many had to be made since\n"
      "the program began (`misses`). The key is the operation, its inputs' descriptions, options,\n"
      "policy and number of threads; both modes use it.");
  m.def("clear_plan_cache", &dispatch::clear_plan_cache,
        "Drops every prepared operation that no program holds.");

  py::class_<Generator>(m, "Generator",
                        "A stream of random numbers (Philox4x32-10, Salmon et al., SC 2011).")
      .def(py::init([](std::uint64_t seed, std::optional<Device> d) {
             return Generator(seed, d.value_or(default_device()));
           }),
           py::arg("seed") = 0, py::arg("device") = py::none())
      .def("seed", &Generator::seed, py::arg("seed"), "Starts over from `seed`.")
      .def_property_readonly("state", &Generator::state,
                             "int64 [2]: the seed, and how many blocks of four words were used.")
      .def("set_state", &Generator::set_state, py::arg("seed"), py::arg("offset"),
           "Continues as a generator of that seed would after `offset` draws.");
  m.def("manual_seed", &manual_seed, py::arg("seed"),
        "Seeds the default generator of every device.");
  m.def(
      "default_generator",
      [](std::optional<Device> d) { return default_generator(d.value_or(default_device())); },
      py::arg("device") = py::none(), "The device's default generator.");
}

}  // namespace tandem::python
