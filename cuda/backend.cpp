// Streams, events, memory, copies and graphs of NVIDIA GPUs, as core/backend.h wants them.
#include "core/backend.h"

#include <fmt/format.h>

#include "cuda/allocator.h"
#include "cuda/cublaslt.h"
#include "cuda/cudnn.h"
#include "cuda/cupti.h"
#include "cuda/runtime.h"
#include "cuda/table.h"

namespace tandem {

namespace cuda {
namespace {

class CudaGraph final : public DeviceGraph {
 public:
  CudaGraph(cudaGraph_t graph, std::unique_ptr<CapturePool> memory, int device)
      : memory_(std::move(memory)), graph_(graph), device_(device) {}
  ~CudaGraph() override {
    const DeviceScope scope(device_);
    if (last_) last_->wait();  // its memory is about to be somebody else's
    if (exec_) cudaGraphExecDestroy(exec_);
    cudaGraphDestroy(graph_);
  }

  void make_ready() override {
    use_device(device_);
    if (!exec_) check(cudaGraphInstantiate(&exec_, graph_, 0), "cudaGraphInstantiate");
  }

  void launch(Stream& stream) override {
    auto& s = static_cast<CudaStream&>(stream);
    make_ready();
    check(cudaGraphLaunch(exec_, s.handle()), "cudaGraphLaunch");
    if (memory_->empty()) return;
    if (!last_) last_ = std::make_unique<CudaEvent>(device_);
    last_->record(s);
  }

  std::size_t nodes() const override {
    std::size_t n = 0;
    check(cudaGraphGetNodes(graph_, nullptr, &n), "cudaGraphGetNodes");
    return n;
  }

  bool update(DeviceGraph& newer) override {
    auto& other = static_cast<CudaGraph&>(newer);
    if (exec_) {
      use_device(device_);
      cudaGraphExecUpdateResultInfo info{};
      const cudaError_t e = cudaGraphExecUpdate(exec_, other.graph_, &info);
      if (e == cudaErrorGraphExecUpdateFailure) {
        cudaGetLastError();
        return false;
      }
      check(e, "cudaGraphExecUpdate");
    }
    // The older recording, with the memory only it used, goes with `newer`.
    std::swap(graph_, other.graph_);
    std::swap(memory_, other.memory_);
    std::swap(last_, other.last_);
    return true;
  }

 private:
  std::unique_ptr<CapturePool> memory_;
  cudaGraph_t graph_;
  cudaGraphExec_t exec_ = nullptr;  // made at the first launch: a newer one may serve an older
  std::unique_ptr<CudaEvent> last_;
  int device_;
};

// The capture in progress on this thread.
thread_local std::unique_ptr<CapturePool> capture;

// What depends on the build stands outside of the class, which clang-format 14 would lay out anew.
std::string library_versions() {
  std::string s;
#ifdef TANDEM_HAS_CUDNN
  s += ", " + cudnn_version();
#endif
#ifdef TANDEM_HAS_CUBLASLT
  s += ", " + cublaslt_version();
#endif
  return s;
}
ActivityRecorder* activity_recorder() {
#ifdef TANDEM_HAS_CUPTI
  return &cupti_recorder();
#else
  return nullptr;
#endif
}

class CudaBackend final : public Backend {
 public:
  int device_count() override { return cuda::device_count(); }

  std::string description() override {
    int runtime = 0, driver = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    const auto version = [](int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); };
    std::string s = "CUDA " + version(runtime);
    s += driver == 0 ? ", no driver" : fmt::format(", driver for {}", version(driver));
    s += library_versions();
    for (int d = 0; d < device_count(); ++d) {
      cudaDeviceProp p{};
      check(cudaGetDeviceProperties(&p, d), "cudaGetDeviceProperties");
      s += fmt::format(", cuda:{} {} ({:.0f} GiB, sm_{}{})", d, p.name,
                       static_cast<double>(p.totalGlobalMem) / (1 << 30), p.major, p.minor);
    }
    return s;
  }

  Allocator& allocator(int device) override { return device_allocator(device); }
  Allocator& host_allocator() override { return pinned_allocator(); }
  Stream& stream(int device) override { return current_stream(device); }
  Stream* set_stream(int device, Stream* s) override {
    return set_current_stream(device, static_cast<CudaStream*>(s));
  }
  std::unique_ptr<Stream> make_stream(int device) override {
    require_device(device);
    return std::make_unique<CudaStream>(device);
  }
  std::unique_ptr<Event> make_event(int device) override {
    require_device(device);
    return std::make_unique<CudaEvent>(device);
  }

  void copy(void* dst, Device to, const void* src, Device from, std::size_t bytes) override {
    CudaStream& s = current_stream(to.is_cuda() ? to.index : from.index);
    if (from.is_cuda() && to.is_cuda() && from.index != to.index) {
      current_stream(from.index).synchronize();
    }
    copy_async(dst, to, src, from, bytes, s);
    s.synchronize();
  }

  void copy_async(void* dst, Device to, const void* src, Device from, std::size_t bytes,
                  Stream& stream) override {
    if (bytes == 0) return;
    auto& s = static_cast<CudaStream&>(stream);
    use_device(s.device());
    const auto what = [&] {
      return fmt::format("{} bytes from {} to {}", bytes, from.str(), to.str());
    };
    cudaError_t e;
    if (from.is_cuda() && to.is_cuda() && from.index != to.index) {
      e = cudaMemcpyPeerAsync(dst, to.index, src, from.index, bytes, s.handle());
    } else {
      const cudaMemcpyKind kind = from.is_cpu() ? cudaMemcpyHostToDevice
                                  : to.is_cpu() ? cudaMemcpyDeviceToHost
                                                : cudaMemcpyDeviceToDevice;
      e = cudaMemcpyAsync(dst, src, bytes, kind, s.handle());
    }
    if (e != cudaSuccess) failed(e, "cudaMemcpyAsync", what());
  }

  PlanFn kernel(std::uint16_t op_id) override { return cuda::kernel(op_id); }

  bool has_graphs() const override { return true; }

  void begin_capture(Stream& stream) override {
    auto& s = static_cast<CudaStream&>(stream);
    if (capture) {
      fail<CaptureError>("begin_capture", "this thread is recording a device graph already");
    }
    use_device(s.device());
    auto memory = std::make_unique<CapturePool>(s);
    // Other threads may go on allocating and waiting.
    const cudaError_t e = cudaStreamBeginCapture(s.handle(), cudaStreamCaptureModeThreadLocal);
    if (e != cudaSuccess) {
      memory->end(s);
      failed(e, "cudaStreamBeginCapture", {});
    }
    s.capturing = true;
    capture = std::move(memory);
  }

  std::unique_ptr<DeviceGraph> end_capture(Stream& stream) override {
    auto& s = static_cast<CudaStream&>(stream);
    if (!capture || !s.capturing) {
      fail<CaptureError>("end_capture", "nothing is being recorded on this stream");
    }
    use_device(s.device());
    cudaGraph_t graph = nullptr;
    const cudaError_t e = cudaStreamEndCapture(s.handle(), &graph);
    s.capturing = false;
    capture->end(s);
    std::unique_ptr<CapturePool> memory = std::move(capture);
    check(e, "cudaStreamEndCapture");
    return std::make_unique<CudaGraph>(graph, std::move(memory), s.device());
  }

  ActivityRecorder* activity() override { return activity_recorder(); }
};

}  // namespace
}  // namespace cuda

Backend* cuda_backend() {
  static auto* const b = new cuda::CudaBackend;  // never destroyed: as the allocators
  return b;
}

const char* cuda_missing() {
  return nullptr;
}

}  // namespace tandem
