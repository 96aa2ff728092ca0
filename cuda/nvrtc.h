// NVRTC, the CUDA compiler as a library. It needs no GPU.
#pragma once
#include <string>

namespace tandem::cuda {

/// "13.0"
std::string nvrtc_version();

/// What every kernel is compiled with, besides its architecture: without contraction, as the
/// kernels compiled beforehand.
inline constexpr const char* kNvrtcOptions[] = {"--std=c++20", "--fmad=false"};

/// `source` (which may include what cuda/embedded.h lists) as code for compute capability
/// `major`.`minor`: a cubin, or, for one that this NVRTC does not know yet, PTX of the nearest
/// older one. Throws InternalError with the compiler's messages.
std::string nvrtc_compile(const std::string& source, int major, int minor);

}  // namespace tandem::cuda
