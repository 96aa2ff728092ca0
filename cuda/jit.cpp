#include "cuda/jit.h"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "cuda/embedded.h"
#include "cuda/kernel_cache.h"
#include "cuda/runtime.h"
#ifdef TANDEM_CUDA_EMULATED
#include "cuda/emulation/compiler.h"
#include "cuda/emulation/device.h"
#elif defined(TANDEM_HAS_NVRTC)
#include "cuda/nvrtc.h"
#endif

namespace tandem::cuda {

namespace {

std::atomic<std::uint64_t> compilations{0};

// The compiler with what it is told, and what it gives, made ready to be launched.
#ifdef TANDEM_CUDA_EMULATED

std::string compiler() {
  return emulation::compiler_version();
}
std::string compile(const std::string& source, const DeviceInfo&) {
  return emulation::compile(source);
}

struct LoadedKernel final : JitKernel {
  LoadedKernel(const std::string& code, const std::string& entry)
      : run(reinterpret_cast<decltype(run)>(emulation::load(code, entry))) {}

  void launch(const LaunchArgs& a, unsigned blocks, unsigned threads,
              std::span<const std::uint64_t> args) const override {
    emulation::launch({stream_of(a).handle(), dim3(blocks), dim3(threads), 0,
                       reinterpret_cast<void*>(run), SrcLoc::current()},
                      [f = run, words = std::vector<std::uint64_t>(args.begin(), args.end())] {
                        f(words.data(), blockIdx.x, threadIdx.x);
                      });
  }

  void (*run)(const void*, unsigned block, unsigned thread);
};

#elif defined(TANDEM_HAS_NVRTC)

std::string compiler() {
  static const std::string v =
      fmt::format("nvrtc {} {}", nvrtc_version(), fmt::join(kNvrtcOptions, " "));
  return v;
}
std::string compile(const std::string& source, const DeviceInfo& d) {
  return nvrtc_compile(source, d.major, d.minor);
}

struct LoadedKernel final : JitKernel {
  LoadedKernel(const std::string& code, const std::string& entry) {
    cudaLibrary_t library = nullptr;
    check(cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
          "cudaLibraryLoadData");
    check(cudaLibraryGetKernel(&kernel, library, entry.c_str()), "cudaLibraryGetKernel", entry);
    // Loads it now: that is not allowed while a graph is recorded.
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes", entry);
  }

  void launch(const LaunchArgs& a, unsigned blocks, unsigned threads,
              std::span<const std::uint64_t> args) const override {
    cudaLaunchConfig_t c{};
    c.gridDim = dim3(blocks);
    c.blockDim = dim3(threads);
    c.stream = stream_of(a).handle();
    void* arguments[] = {const_cast<std::uint64_t*>(args.data())};
    check(cudaLaunchKernelExC(&c, kernel, arguments), "cudaLaunchKernelExC");
  }

  cudaKernel_t kernel = nullptr;
};

#else

std::string compiler() {
  return {};
}
std::string compile(const std::string&, const DeviceInfo&) {
  fail<InternalError>("jit_kernel", jit_missing());
}
struct LoadedKernel final : JitKernel {
  LoadedKernel(const std::string&, const std::string&) {}
  void launch(const LaunchArgs&, unsigned, unsigned,
              std::span<const std::uint64_t>) const override {}
};

#endif

// Everything the code depends on.
std::string key_of(const std::string& source, const DeviceInfo& d) {
  std::string key = fmt::format("{} sm_{}{}\n", compiler(), d.major, d.minor);
  for (const EmbeddedHeader& h : embedded_headers()) key.append(h.text).append("\n");
  return key + source;
}

std::unique_ptr<JitKernel> make(const std::string& source, const std::string& entry, int device) {
  const DeviceScope scope(device);
  const DeviceInfo& info = device_info(device);
  const std::string key = key_of(source, info);
  const auto folder = kernel_cache_folder();
  if (const auto code = load_kernel(folder, key)) {
    try {
      return std::make_unique<LoadedKernel>(*code, entry);
    } catch (const Error&) {
      // A driver may refuse what another one took.
    }
  }
  ++compilations;
  const std::string code = compile(source, info);
  auto kernel = std::make_unique<LoadedKernel>(code, entry);
  store_kernel(folder, key, code);
  return kernel;
}

struct Slot {
  std::mutex mutex;
  std::unique_ptr<JitKernel> kernel;
};

}  // namespace

const JitKernel& jit_kernel(const std::string& source, const std::string& entry, int device) {
  // Never destroyed: plans with static lifetime hold kernels.
  static auto* const mutex = new std::mutex;
  static auto* const slots = new std::map<std::string, Slot>;
  const DeviceInfo& info = device_info(device);
  Slot* slot;
  {
    const std::lock_guard lock(*mutex);
    slot = &(*slots)[fmt::format("{} {}.{}\n{}", entry, info.major, info.minor, source)];
  }
  // Others may compile something else meanwhile.
  const std::lock_guard lock(slot->mutex);
  if (!slot->kernel) slot->kernel = make(source, entry, device);
  return *slot->kernel;
}

const char* jit_missing() {
#if defined(TANDEM_CUDA_EMULATED) || defined(TANDEM_HAS_NVRTC)
  return nullptr;
#else
  return "this build has no NVRTC";
#endif
}

std::uint64_t jit_compilations() {
  return compilations;
}

}  // namespace tandem::cuda
