// Kernels compiled at run time: from CUDA C++ by NVRTC (by the host's compiler where the device is
// emulated), once per source and architecture, and kept: in memory, and in files (kernel_cache.h).
#pragma once
#include <span>
#include <string>

#include "core/op.h"
#include "core/source.h"

namespace tandem::cuda {

class JitKernel {
 public:
  virtual ~JitKernel() = default;
  /// Puts the kernel into the launch's stream. `args`: its one argument.
  virtual void launch(const LaunchArgs& a, unsigned blocks, unsigned threads,
                      std::span<const std::uint64_t> args) const = 0;
};

/// The kernel `extern "C" entry` of `source` for that device. It may include what is embedded
/// (cuda/embed.cmake). Never freed. Throws InternalError with the compiler's messages.
const JitKernel& jit_kernel(const std::string& source, const std::string& entry, int device);

/// Why this build cannot compile at run time; null when it can.
const char* jit_missing();

/// How often jit_kernel had to call the compiler in this process.
std::uint64_t jit_compilations();

}  // namespace tandem::cuda
