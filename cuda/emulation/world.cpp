#include "cuda/emulation/world.h"

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tandem::cuda::emulation {

namespace {

extern "C" void on_fault(int signal, siginfo_t* info, void*) {
  const auto* p = static_cast<char*>(info->si_addr);
  const World& w = world();
  char text[300] = "";
  if (running_launch) {
    std::snprintf(text, sizeof text,
                  "emulated kernel launched at %s:%u: %s at %p (block %u %u %u, thread %u %u %u)\n",
                  running_launch->where.file_name(), running_launch->where.line(),
                  signal == SIGSEGV ? "bad access" : "misaligned access or trap",
                  static_cast<const void*>(p), blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
                  threadIdx.y, threadIdx.z);
  } else if (signal == SIGSEGV && p >= w.base && p < w.base + kReserve) {
    std::snprintf(text, sizeof text,
                  "the host touches device memory at %p: on a GPU this is a crash\n",
                  static_cast<const void*>(p));
  }
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) std::abort();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

World& world() {
  static World* const w = [] {
    auto* x = new World;
    void* p = mmap(nullptr, kReserve, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    x->base = static_cast<char*>(p);
    x->holes[0] = kReserve;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    x->key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (x->key >= 0) pkey_mprotect(p, kReserve, PROT_READ | PROT_WRITE, x->key);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_RESETHAND;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGILL, &action, nullptr);
#endif
    return x;
  }();
  return *w;
}

static void set_access(unsigned rights) {
  if (world().key >= 0) pkey_set(world().key, rights);
}
Access::Access() {
  if (world().running++ == 0) set_access(0);
}
Access::~Access() {
  if (--world().running == 0) set_access(PKEY_DISABLE_ACCESS);
}

Call::Call(const char* name) : lock(world().mutex) {
  ++call_count;
  const auto it = world().failures.find(name);
  if (it != world().failures.end() && --it->second.first == 0) {
    error = it->second.second;
    world().failures.erase(it);
  } else if (world().devices == 0) {
    error = cudaErrorNoDevice;
  }
}

cudaError_t result(cudaError_t e) {
  if (e != cudaSuccess && e != cudaErrorNotReady) last_error = e;
  return e;
}

cudaStream_t real(cudaStream_t s) {
  if (s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread) {
    auto& p = world().null_streams[current_device];
    if (!p) {
      p = std::make_unique<CUstream_st>();
      p->device = current_device;
    }
    return p.get();
  }
  return s;
}

bool run_one(cudaStream_t s) {
  if (s->work.empty()) return false;
  const Op op = std::move(s->work.front());
  s->work.pop_front();
  const Access access;
  op.run();
  return true;
}
void drain(cudaStream_t s) {
  while (run_one(s)) {
  }
}
void run_until(const MarkerPtr& m) {
  while (!m->done && run_one(m->stream)) {
  }
}

void put(cudaStream_t s, Op op) {
  if (!s->capture) {
    s->work.push_back(std::move(op));
    return;
  }
  op.after = s->last;
  s->last = {s->capture->ops.size()};
  s->capture->ops.push_back(std::move(op));
}

// A call that must not be made while this thread captures.
bool refused_by_capture() {
  if (!thread_capture || thread_mode == cudaStreamCaptureModeRelaxed ||
      thread_capture->mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  thread_capture->broken = true;
  return true;
}

void drain_device(int device) {
  for (cudaStream_t s : world().streams) {
    if (s->device == device) drain(s);
  }
  if (auto& n = world().null_streams[device]) drain(n.get());
}

void set_devices(int n) {
  const std::lock_guard lock(world().mutex);
  world().devices = n;
}
void set_memory(std::size_t bytes) {
  const std::lock_guard lock(world().mutex);
  world().memory = bytes;
}
std::uint64_t calls() {
  return call_count;
}
void fail_call(const char* name, cudaError_t code, int nth) {
  const std::lock_guard lock(world().mutex);
  world().failures[name] = {nth, code};
}
bool guards_memory() {
  return world().key >= 0;
}

}  // namespace tandem::cuda::emulation
