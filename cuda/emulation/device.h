// Stands in for the device where kernels are compiled by the host's compiler: what CUDA C++ offers
// inside a kernel, as ordinary C++.
//
// A kernel is run block after block. The threads of a block are fibers: each runs until it reaches
// a barrier or a warp's exchange, and goes on when those it waits for have come. One kernel runs
// at a time in the whole process, so nothing here needs to be atomic or thread-local.
//
// What it checks, beyond the results: barriers that not all threads reach, exchanges with lanes
// that do not take part, launches no GPU accepts, writes past dynamic shared memory. Every other
// launch runs its blocks and threads in reverse, so that a missing barrier shows as bits that
// differ from run to run.
#pragma once
#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>

#include "core/source.h"

#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

inline constexpr int warpSize = 32;
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace tandem::cuda::emulation {

using Where = std::source_location;

struct Launch {
  cudaStream_t stream;
  dim3 blocks, threads;
  std::size_t shared;
  const void* kernel;  // which one: some attributes are set per kernel
  SrcLoc where;
};

/// Puts a kernel into a stream; `run` is the call of one thread.
void launch(const Launch& l, std::function<void()> run);
/// The dynamic shared memory of the block that runs.
void* dynamic_shared();

enum class Exchange : std::uint8_t {
  none,
  sync,
  shuffle,  // out = the lane `source`'s in
  ballot,
  match,
  block_sync,
  block_count,
};
/// Waits for the lanes in `mask`, then gives what the exchange is for.
std::uint64_t exchange(Exchange kind, unsigned mask, std::uint64_t in, int source,
                       const Where& where);
/// Waits for all threads of the block that have not returned: how many gave true.
int block_exchange(Exchange kind, bool in, const Where& where);
unsigned active_lanes();
/// This thread's lane.
int lane();

template <class T>
T shuffle(unsigned mask, T value, int source, const Where& where) {
  static_assert(sizeof(T) <= 8 && std::is_arithmetic_v<T>);
  std::uint64_t in = 0;
  std::memcpy(&in, &value, sizeof(T));
  in = exchange(Exchange::shuffle, mask, in, source, where);
  std::memcpy(&value, &in, sizeof(T));
  return value;
}

template <class A, class B>
using Common = std::common_type_t<A, B>;

}  // namespace tandem::cuda::emulation

// ---------------------------------------------------------------------------------- barriers

inline void __syncthreads(const std::source_location& w = std::source_location::current()) {
  using namespace tandem::cuda::emulation;
  block_exchange(Exchange::block_sync, false, w);
}
inline int __syncthreads_count(int p,
                               const std::source_location& w = std::source_location::current()) {
  using namespace tandem::cuda::emulation;
  return block_exchange(Exchange::block_count, p != 0, w);
}
inline int __syncthreads_or(int p,
                            const std::source_location& w = std::source_location::current()) {
  return __syncthreads_count(p, w) != 0;
}
inline int __syncthreads_and(int p,
                             const std::source_location& w = std::source_location::current()) {
  return __syncthreads_count(!p, w) == 0;
}

// ---------------------------------------------------------------------------------- warps

inline void __syncwarp(unsigned mask = ~0u,
                       const std::source_location& w = std::source_location::current()) {
  using namespace tandem::cuda::emulation;
  exchange(Exchange::sync, mask, 0, 0, w);
}
template <class T>
T __shfl_sync(unsigned mask, T v, int from, int width = 32,
              const std::source_location& w = std::source_location::current()) {
  const int lane = tandem::cuda::emulation::lane();
  return tandem::cuda::emulation::shuffle(mask, v, (lane & ~(width - 1)) + (from & (width - 1)), w);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32,
                 const std::source_location& w = std::source_location::current()) {
  const int lane = tandem::cuda::emulation::lane(), at = lane & (width - 1);
  const bool out = at < static_cast<int>(by);
  return tandem::cuda::emulation::shuffle(mask, v, out ? lane : lane - static_cast<int>(by), w);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32,
                   const std::source_location& w = std::source_location::current()) {
  const int lane = tandem::cuda::emulation::lane(), at = lane & (width - 1);
  const bool out = at + static_cast<int>(by) >= width;
  return tandem::cuda::emulation::shuffle(mask, v, out ? lane : lane + static_cast<int>(by), w);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32,
                  const std::source_location& w = std::source_location::current()) {
  const int lane = tandem::cuda::emulation::lane(), from = lane ^ by;
  // A lane of a later group is out of reach, one of an earlier group is not.
  const bool out = from / width > lane / width;
  return tandem::cuda::emulation::shuffle(mask, v, out ? lane : from, w);
}
inline unsigned __ballot_sync(unsigned mask, int p,
                              const std::source_location& w = std::source_location::current()) {
  using namespace tandem::cuda::emulation;
  return static_cast<unsigned>(exchange(Exchange::ballot, mask, p != 0, 0, w));
}
inline int __any_sync(unsigned mask, int p,
                      const std::source_location& w = std::source_location::current()) {
  return __ballot_sync(mask, p, w) != 0;
}
inline int __all_sync(unsigned mask, int p,
                      const std::source_location& w = std::source_location::current()) {
  return __ballot_sync(mask, !p, w) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T v,
                          const std::source_location& w = std::source_location::current()) {
  using namespace tandem::cuda::emulation;
  std::uint64_t in = 0;
  std::memcpy(&in, &v, sizeof(T));
  return static_cast<unsigned>(exchange(Exchange::match, mask, in, 0, w));
}
inline unsigned __activemask() {
  return tandem::cuda::emulation::active_lanes();
}

// ---------------------------------------------------------------------------------- memory

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldca(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, std::type_identity_t<T> v) {
  *p = v;
}
template <class T>
void __stcg(T* p, std::type_identity_t<T> v) {
  *p = v;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

#define TANDEM_ATOMIC(name, expression)     \
  template <class T>                        \
  T name(T* p, std::type_identity_t<T> v) { \
    const T old = *p;                       \
    *p = expression;                        \
    return old;                             \
  }
TANDEM_ATOMIC(atomicAdd, static_cast<T>(old + v))
TANDEM_ATOMIC(atomicSub, static_cast<T>(old - v))
TANDEM_ATOMIC(atomicMin, v < old ? v : old)
TANDEM_ATOMIC(atomicMax, v > old ? v : old)
TANDEM_ATOMIC(atomicAnd, static_cast<T>(old& v))
TANDEM_ATOMIC(atomicOr, static_cast<T>(old | v))
TANDEM_ATOMIC(atomicXor, static_cast<T>(old ^ v))
TANDEM_ATOMIC(atomicExch, v)
TANDEM_ATOMIC(atomicInc, old >= v ? T{0} : static_cast<T>(old + 1))
#undef TANDEM_ATOMIC
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  const T old = *p;
  if (old == expected) *p = v;
  return old;
}

// ---------------------------------------------------------------------------------- numbers

template <class A, class B>
constexpr tandem::cuda::emulation::Common<A, B> min(A a, B b) {
  using T = tandem::cuda::emulation::Common<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmin(static_cast<T>(a), static_cast<T>(b));
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B>
constexpr tandem::cuda::emulation::Common<A, B> max(A a, B b) {
  using T = tandem::cuda::emulation::Common<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(static_cast<T>(a), static_cast<T>(b));
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline long long __double_as_longlong(double x) {
  return std::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return std::bit_cast<double>(x);
}
inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __popcll(unsigned long long x) {
  return std::popcount(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return std::countl_zero(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1;
}
inline int __ffsll(long long x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline float rsqrtf(float x) {
  return 1 / std::sqrt(x);
}
inline double rsqrt(double x) {
  return 1 / std::sqrt(x);
}
