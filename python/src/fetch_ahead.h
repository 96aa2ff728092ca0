// What is wanted between two replays is asked for at once.
//
// A step's kernels leave nothing of it in the processor's caches. One cache line after the other
// (and the page tables on the way there) takes longer to come than all that is done with them.
//
// More than some 100 lines would wait for each other: what is marked stays small, and what calls do
// only at times is a function of its own.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__ELF__)
/// In front of the definitions of this module's functions that every compiled call runs: they stand
/// together. What is inlined there counts; lambdas that are not do not.
#define TANDEM_EVERY_CALL [[gnu::section("tandem_every_call")]]
extern "C" {  // the linker's
[[gnu::visibility("hidden")]] extern const char __start_tandem_every_call[];
[[gnu::visibility("hidden")]] extern const char __stop_tandem_every_call[];
}
#else
#define TANDEM_EVERY_CALL
#endif

namespace tandem::python {

/// All cache lines of `bytes` from there on; does not wait for them. Never fails, whatever is
/// there: an address is all it takes. They come to the cache that data and instructions share;
/// where they are still there next to nothing is done.
inline void fetch_ahead(std::uintptr_t from, std::size_t bytes) {
  constexpr std::uintptr_t kLine = 64;
  constexpr int kToRead = 0, kShared = 2;
  for (std::uintptr_t p = from / kLine * kLine; p < from + bytes; p += kLine) {
    __builtin_prefetch(reinterpret_cast<const void*>(p), kToRead, kShared);
  }
}
template <class T>
void fetch_ahead(const T* from, std::size_t bytes = sizeof(T)) {
  fetch_ahead(reinterpret_cast<std::uintptr_t>(from), bytes);
}

/// The functions so marked.
inline void fetch_functions_ahead() {
#if defined(__ELF__)
  fetch_ahead(__start_tandem_every_call,
              static_cast<std::size_t>(__stop_tandem_every_call - __start_tandem_every_call));
#endif
}

}  // namespace tandem::python
