// A second stack that the thread can change to and back. Made for many short stretches: a change
// costs a few nanoseconds.
#pragma once
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace tandem::cuda::emulation {

class Fiber {
 public:
  /// `body` never returns; it leaves with leave().
  Fiber(void (*body)(void*), void* arg);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  /// From the thread's own stack: runs the fiber until it leaves.
  void enter();
  /// From the fiber: back to enter().
  void leave();

 private:
  static void start();

  void (*body_)(void*);
  void* arg_;
  char* stack_;  // its lowest page is out of bounds
#ifdef __x86_64__
  void* here_ = nullptr;
  void* there_ = nullptr;
#else
  ucontext_t here_, there_;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_ = nullptr;
  const void* thread_stack_ = nullptr;
  std::size_t thread_size_ = 0;
#endif
#if defined(__SANITIZE_THREAD__)
  void* tsan_ = nullptr;
  void* tsan_thread_ = nullptr;
#endif
};

}  // namespace tandem::cuda::emulation
