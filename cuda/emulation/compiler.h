// The host's compiler in place of NVRTC, for kernels compiled at run time (cuda/jit.h).
#pragma once
#include <string>

namespace tandem::cuda::emulation {

/// What the code depends on besides the source.
std::string compiler_version();
/// `source` as a shared object. Throws InternalError with the compiler's messages.
std::string compile(const std::string& source);
/// Loads a shared object (for good) and finds a function in it. Throws InternalError.
void* load(const std::string& object, const std::string& function);

}  // namespace tandem::cuda::emulation
