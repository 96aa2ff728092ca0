// The device that emulation/ pretends is there, and how tests reach into it.
//
// Work put into a stream is not run before something waits for it, so a missing wait shows: as
// results from before the work, in tests that need no luck. Device memory is filled with 0xCB when
// it is handed out, and where the processor has protection keys only running work can touch it.
#pragma once
#include <cstdint>

#include "cuda/emulation/device.h"

namespace tandem::cuda::emulation {

/// Runs all threads of a launch, one launch at a time.
void run_kernel(const Launch& l, const std::function<void()>& call);

// ---------------------------------------------------------------------------------- for tests

/// How many devices there are (at first 2; 0: as on a machine without a GPU).
void set_devices(int n);
/// Memory of each device, in bytes.
void set_memory(std::size_t bytes);
/// Calls of the CUDA runtime by this thread so far.
std::uint64_t calls();
/// The `nth` next call of that name by any thread fails with `code`.
void fail_call(const char* name, cudaError_t code, int nth = 1);
/// Whether the host is kept from touching device memory.
bool guards_memory();

}  // namespace tandem::cuda::emulation
