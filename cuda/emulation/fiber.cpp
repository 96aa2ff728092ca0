#include "cuda/emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#ifdef __x86_64__
// tandem_change_stack(void** save, void* to): what a call preserves goes onto the old stack.
extern "C" void tandem_change_stack(void** save, void* to);
asm(R"(
.text
.globl tandem_change_stack
.hidden tandem_change_stack
.type tandem_change_stack, @function
tandem_change_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tandem_change_stack, .-tandem_change_stack
)");
#endif

namespace tandem::cuda::emulation {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStack = std::size_t{1} << 20;  // its frames are larger
#else
constexpr std::size_t kStack = std::size_t{256} << 10;
#endif

Fiber* starting = nullptr;

}  // namespace

Fiber::Fiber(void (*body)(void*), void* arg) : body_(body), arg_(arg) {
  void* p = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  stack_ = static_cast<char*>(p);
  mprotect(stack_, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
#ifdef __x86_64__
  // As tandem_change_stack leaves it: six registers, then where to go on. A function expects its
  // stack 8 bytes off a multiple of 16.
  auto* top = reinterpret_cast<std::uint64_t*>(stack_ + kStack) - 2;
  *top = reinterpret_cast<std::uint64_t>(&Fiber::start);
  here_ = top - 6;
#else
  getcontext(&here_);
  here_.uc_stack = {.ss_sp = stack_, .ss_flags = 0, .ss_size = kStack};
  here_.uc_link = nullptr;
  makecontext(&here_, &Fiber::start, 0);
#endif
#if defined(__SANITIZE_THREAD__)
  tsan_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, kStack);  // a fiber left in the middle of a call
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(tsan_);
#endif
  munmap(stack_, kStack);
}

void Fiber::start() {
  Fiber* self = starting;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &self->thread_stack_, &self->thread_size_);
#endif
  self->body_(self->arg_);
}

void Fiber::enter() {
  starting = this;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, stack_, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
  tsan_thread_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_, 0);
#endif
#ifdef __x86_64__
  tandem_change_stack(&there_, here_);
#else
  swapcontext(&there_, &here_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void Fiber::leave() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_, thread_stack_, thread_size_);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(tsan_thread_, 0);
#endif
#ifdef __x86_64__
  tandem_change_stack(&here_, there_);
#else
  swapcontext(&here_, &there_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_, &thread_stack_, &thread_size_);
#endif
}

}  // namespace tandem::cuda::emulation
