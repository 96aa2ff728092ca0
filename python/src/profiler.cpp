// The profiler, and what the calls of a program are and cost.
#include "core/profiler.h"

#include "core/backend.h"
#include "core/dispatch.h"
#include "python/src/tensor_object.h"

namespace tandem::python {

using namespace py::literals;

namespace {

/// Notes every call of this thread between enter() and exit(), which runs (or is captured) as ever.
class CallRecorder final : public Interceptor {
 public:
  /// With `keep` the tensors are kept alive, so that calls can be told to read what others made.
  explicit CallRecorder(bool keep) : keep_(keep) {}

  void enter() {
    if (scope_) fail<ValueError>("profiler", "it is recording already");
    outer_ = dispatch::interceptor();
    scope_ = std::make_unique<dispatch::InterceptorScope>(this);
  }
  void exit() {
    scope_.reset();
    outer_ = nullptr;
  }

  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    Outputs out = outer_ ? outer_->call(op, in, loc) : dispatch::execute(op, in, loc);
    Call& c = note(op, in);
    if (keep_) c.out.assign(out.begin(), out.end());
    return out;
  }
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    if (outer_) {
      outer_->call_inplace(op, in, loc);
    } else {
      dispatch::execute_inplace(op, in, loc);
    }
    Call& c = note(op, in);
    if (keep_) c.out = {*in[0]};
  }
  bool records() const override { return outer_ && outer_->records(); }
  Tensor constant(Tensor t) override { return outer_ ? outer_->constant(std::move(t)) : t; }

  void set_path(std::string path) { path_ = std::move(path); }
  std::size_t size() const { return calls_.size(); }

  py::list calls() const {
    const auto ids = [](const std::vector<Tensor>& list) {
      py::list r;
      for (const Tensor& t : list) r.append(py::hash(py::cast(t)));
      return r;
    };
    py::list r;
    for (const Call& c : calls_) {
      py::list shapes;
      for (const TensorDesc& d : c.desc) {
        py::tuple shape(static_cast<std::size_t>(d.shape.size()));
        for (int i = 0; i < d.shape.size(); ++i) shape[static_cast<std::size_t>(i)] = d.shape[i];
        shapes.append(py::make_tuple(shape, dtype_object(d.dtype)));
      }
      py::dict d;
      d["op"] = c.op;
      d["path"] = c.path;
      d["flops"] = c.cost.flops;
      d["bytes"] = c.cost.bytes;
      d["outputs"] = shapes;
      d["reads"] = ids(c.in);
      d["makes"] = ids(c.out);
      r.append(d);
    }
    return r;
  }

 private:
  struct Call {
    const char* op;
    std::string path;
    Cost cost;
    std::vector<TensorDesc> desc;
    std::vector<Tensor> in, out;
  };

  Call& note(const PreparedOp& op, Inputs in) {
    // A module of C++ knows its own path; it lies below the one Python set.
    const std::string below = CallSite::path();
    const char* dot = path_.empty() || below.empty() ? "" : ".";
    Call& c =
        calls_.emplace_back(Call{op.op->name, path_ + dot + below, cost_of(op), op.out, {}, {}});
    if (keep_) {
      for (const Tensor* t : in) c.in.push_back(*t);
    }
    return c;
  }

  bool keep_;
  Interceptor* outer_ = nullptr;
  std::unique_ptr<dispatch::InterceptorScope> scope_;
  std::string path_;
  std::vector<Call> calls_;
};

}  // namespace

void bind_profiler(py::module_& m) {
  m.def(
      "_profiler_start",
      [](std::optional<Device> device) {
        if (!device) return profiler::start();
        backend(*device).stream(device->index);  // DeviceError where there is none
        profiler::start_on_device(*device);
      },
      py::arg("device"));
  m.def("_profiler_recording", &profiler::recording);
  m.def("_profiler_stop", [] {
    const auto events = [] {
      const GilRelease release;  // it may wait for the device
      return profiler::stop();
    }();
    py::list r;
    for (const auto& e : events) {
      r.append(py::make_tuple(e.op, e.kernel, e.start_ns, e.end_ns));
    }
    return r;
  });
  m.def("launch_count", &profiler::launches,
        "Kernels this thread launched so far, in either mode. Views launch none.");
  py::class_<CallRecorder>(m, "_CallRecorder")
      .def(py::init<bool>(), "keep"_a = false)
      .def("enter", &CallRecorder::enter)
      .def("exit", &CallRecorder::exit)
      .def("set_path", &CallRecorder::set_path)
      .def("calls", &CallRecorder::calls)
      .def("__len__", &CallRecorder::size);
}

}  // namespace tandem::python
