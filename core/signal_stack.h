// A stack of their own for a thread's signal handlers.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>

namespace tandem {

/// From now on a signal that meets this thread is handled on a stack of its own, if the handler was
/// installed with SA_ONSTACK (Python's are); does nothing where the thread has one already.
///
/// Kernels of oneDNN's sgemm keep values further below the stack pointer than the 128 bytes that
/// the ABI leaves them (seen with 2.6 on AVX-512). A handler on the thread's own stack writes over
/// those, and the kernel then writes anywhere.
inline void use_signal_stack() {
  struct Stack {
    std::unique_ptr<char[]> memory;
    ~Stack() {
      stack_t now{};
      if (!memory || sigaltstack(nullptr, &now) != 0 || now.ss_sp != memory.get()) return;
      now = {};
      now.ss_flags = SS_DISABLE;
      sigaltstack(&now, nullptr);
    }
  };
  static thread_local Stack own;
  stack_t now{};
  if (sigaltstack(nullptr, &now) != 0 || (now.ss_flags & SS_DISABLE) == 0) return;
  // A frame holds all vector registers: more than the constant SIGSTKSZ foresaw.
  long size = 1 << 16;
#ifdef _SC_SIGSTKSZ
  size = std::max(size, sysconf(_SC_SIGSTKSZ));
#endif
  own.memory = std::make_unique<char[]>(static_cast<std::size_t>(size));
  now = {};
  now.ss_sp = own.memory.get();
  now.ss_size = static_cast<std::size_t>(size);
  sigaltstack(&now, nullptr);
}

}  // namespace tandem
