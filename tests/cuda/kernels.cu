#include "tests/cuda/kernels.h"

#include "cuda/kernel.h"

namespace tandem::cuda::testing {

namespace {

__global__ void fill_kernel(int* p, int value, int n, int rounds) {
  for (int r = 0; r < rounds; ++r) {
    for (long long i = global_index(); i < n; i += global_size()) p[i] = value + rounds - 1 - r;
  }
}
__global__ void add_kernel(int* p, int value, int n, int rounds) {
  for (int r = 0; r < rounds; ++r) {
    for (long long i = global_index(); i < n; i += global_size()) p[i] += value;
  }
}
__global__ void copy_kernel(int* dst, const int* src, int n, int rounds) {
  for (int r = 0; r < rounds; ++r) {
    for (long long i = global_index(); i < n; i += global_size()) dst[i] = src[i] + r - r;
  }
}
__global__ void note_kernel(Fault* f, FaultKind kind, const char* op, long long value,
                            long long limit) {
  note_fault(f, kind, op, value, limit);
}

LaunchArgs in(Stream& s) {
  return {nullptr, nullptr, nullptr, &s};
}

}  // namespace

void fill(Stream& s, int* p, int value, int n, int rounds) {
  launch(in(s), grid_for(n), fill_kernel, p, value, n, rounds);
}
void add(Stream& s, int* p, int value, int n, int rounds) {
  launch(in(s), grid_for(n), add_kernel, p, value, n, rounds);
}
void copy(Stream& s, int* dst, const int* src, int n, int rounds) {
  launch(in(s), grid_for(n), copy_kernel, dst, src, n, rounds);
}
void note(Stream& s, const char* op, long long value, long long limit, bool label) {
  const LaunchArgs a = in(s);
  launch(a, {.blocks = dim3(3), .threads = dim3(64)}, note_kernel, stream_of(a).fault(),
         label ? FaultKind::label_out_of_range : FaultKind::index_out_of_range, op, value, limit);
}

}  // namespace tandem::cuda::testing
