// Stands in for the CUDA backend in builds without one.
#include "core/backend.h"

namespace tandem {

Backend* cuda_backend() {
  return nullptr;
}

const char* cuda_missing() {
  return TANDEM_NO_CUDA_WHY;
}

}  // namespace tandem
