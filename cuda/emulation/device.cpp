#include "cuda/emulation/device.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/emulation/fiber.h"
#include "cuda/emulation/runtime.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace tandem::cuda::emulation {

namespace {

enum class State : std::uint8_t { fresh, running, warp_wait, block_wait, done };

struct Thread {
  State state;
  Exchange kind;
  unsigned mask;
  int source;
  std::uint64_t in, out;
  const Where* where;
  Fiber* fiber;
  uint3 place;
};

std::string text(const Where& w) {
  std::string_view f = w.file_name();
  if (const auto at = f.rfind("cuda/"); at != f.npos) f = f.substr(at);
  return fmt::format("{}:{}", f, w.line());
}

// Names of files are not compared: a kernel is seldom more than one.
bool same_place(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column();
}

const char* name_of(Exchange k) {
  switch (k) {
    case Exchange::sync: return "__syncwarp";
    case Exchange::shuffle: return "__shfl_*_sync";
    case Exchange::ballot: return "__ballot_sync";
    case Exchange::match: return "__match_any_sync";
    case Exchange::block_sync: return "__syncthreads";
    case Exchange::block_count: return "__syncthreads_count";
    case Exchange::none: break;
  }
  return "nothing";
}

// Runs the blocks of one launch. There is one: kernels run one at a time.
class Engine {
 public:
  void run(const Launch& l, const std::function<void()>& call) {
    launch_ = &l;
    call_ = &call;
    blockDim = l.threads;
    gridDim = l.blocks;
    threads_.resize(static_cast<std::size_t>(l.threads.x) * l.threads.y * l.threads.z);
    shared_.resize(l.shared + kGuard + kAlign);
    backward_ = !backward_;
    const std::uint64_t blocks = static_cast<std::uint64_t>(l.blocks.x) * l.blocks.y * l.blocks.z;
    for (std::uint64_t k = 0; k < blocks; ++k) {
      const std::uint64_t b = backward_ ? blocks - 1 - k : k;
      blockIdx.x = static_cast<unsigned>(b % l.blocks.x);
      blockIdx.y = static_cast<unsigned>(b / l.blocks.x % l.blocks.y);
      blockIdx.z = static_cast<unsigned>(b / l.blocks.x / l.blocks.y);
      try {
        run_block();
      } catch (...) {
        // Fibers in the middle of a call are of no use any more.
        fibers_.clear();
        idle_.clear();
        ready_.clear();
        throw;
      }
    }
  }

  void* shared() {
    const auto p = reinterpret_cast<std::uintptr_t>(shared_.data());
    return shared_.data() + (kAlign - p % kAlign) % kAlign;
  }

  std::uint64_t exchange(Exchange kind, unsigned mask, std::uint64_t in, int source,
                         const Where& where) {
    Thread& t = threads_[current_];
    if (!(mask >> (current_ % 32) & 1)) {
      throw_in_kernel(fmt::format("thread {} calls {} with a mask ({:#x}) it is not in", current_,
                                  name_of(kind), mask),
                      where);
    }
    t.kind = kind;
    t.mask = mask;
    t.in = in;
    t.source = source;
    t.where = &where;
    t.state = State::warp_wait;
    const std::size_t me = current_;
    if (complete_warp(me)) {
      // The last one goes on at once.
      ready_.erase(std::find(ready_.begin(), ready_.end(), me));
      t.state = State::running;
      return t.out;
    }
    suspend(me);
    return threads_[me].out;
  }

  int block_exchange(Exchange kind, bool in, const Where& where) {
    const std::size_t me = current_;
    Thread& t = threads_[me];
    t.kind = kind;
    t.in = in;
    t.where = &where;
    t.state = State::block_wait;
    suspend(me);
    return static_cast<int>(threads_[me].out);
  }

  unsigned active_lanes() const {
    unsigned m = 0;
    for (std::size_t i = current_ / 32 * 32, n = std::min(i + 32, threads_.size()); i < n; ++i) {
      if (threads_[i].state != State::done) m |= 1u << (i % 32);
    }
    return m;
  }
  int lane() const { return static_cast<int>(current_ % 32); }

 private:
  static constexpr std::size_t kAlign = 128, kGuard = 128;
  static constexpr unsigned char kPoison = 0xCB, kGuardByte = 0xA5;

  void run_block() {
    const dim3 d = launch_->threads;
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      const auto n = static_cast<unsigned>(i);
      threads_[i] = Thread{};
      threads_[i].place = {n % d.x, n / d.x % d.y, n / d.x / d.y};
    }
    auto* shared_memory = static_cast<unsigned char*>(shared());
    std::memset(shared_memory, kPoison, launch_->shared);
    std::memset(shared_memory + launch_->shared, kGuardByte, kGuard);
    started_ = done_ = 0;
    while (done_ < threads_.size()) {
      if (!ready_.empty()) {
        const std::size_t i = ready_.back();
        ready_.pop_back();
        resume(i);
      } else if (started_ < threads_.size()) {
        start_more();
      } else if (!release()) {
        stuck();
      }
      if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    }
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (shared_memory[launch_->shared + i] == kGuardByte) continue;
      fail_launch(fmt::format("wrote past its {} bytes of dynamic shared memory (byte {})",
                              launch_->shared, launch_->shared + i));
    }
  }

  // One fiber runs threads until one of them waits; then another fiber takes over.
  static void fiber_body(void* engine) {
    auto& e = *static_cast<Engine*>(engine);
    Fiber* self = e.running_;
    for (;;) {
      while (e.started_ < e.threads_.size() && !e.error_) {
        const std::size_t k = e.started_++;
        const std::size_t i = e.backward_ ? e.threads_.size() - 1 - k : k;
        Thread& t = e.threads_[i];
        t.fiber = self;
        t.state = State::running;
        e.current_ = i;
        threadIdx = t.place;
        try {
          (*e.call_)();  // may leave, and come back later
        } catch (...) {
          e.error_ = std::current_exception();
        }
        t.state = State::done;
        ++e.done_;
      }
      e.idle_.push_back(self);
      self->leave();
    }
  }

  void start_more() {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>(&Engine::fiber_body, this));
      idle_.push_back(fibers_.back().get());
    }
    Fiber* f = idle_.back();
    idle_.pop_back();
    running_ = f;
    f->enter();
  }

  void resume(std::size_t i) {
    Thread& t = threads_[i];
    t.state = State::running;
    current_ = i;
    threadIdx = t.place;
    running_ = t.fiber;
    t.fiber->enter();
  }

  void suspend(std::size_t me) { threads_[me].fiber->leave(); }

  unsigned existing(std::size_t warp) const {
    const std::size_t n = std::min<std::size_t>(32, threads_.size() - warp * 32);
    return n == 32 ? ~0u : (1u << n) - 1;
  }

  // Whether all that thread i's exchange names have come; if so, they get their results.
  bool complete_warp(std::size_t i) {
    const Thread& t = threads_[i];
    const std::size_t first = i / 32 * 32;
    unsigned members = 0;
    for (unsigned m = t.mask & existing(i / 32); m; m &= m - 1) {
      const Thread& u = threads_[first + static_cast<std::size_t>(std::countr_zero(m))];
      if (u.state == State::done) continue;
      if (u.state != State::warp_wait) return false;
      members |= m & -m;
    }
    std::uint64_t ballot = 0;
    for (unsigned m = members; m; m &= m - 1) {
      const int l = std::countr_zero(m);
      const Thread& u = threads_[first + static_cast<std::size_t>(l)];
      if (u.kind != t.kind || u.mask != t.mask || !same_place(*u.where, *t.where)) {
        throw_in_kernel(
            fmt::format("lanes of a warp meet in different exchanges: thread {} in {} (mask "
                        "{:#x}), thread {} in {} at {} (mask {:#x})",
                        i, name_of(t.kind), t.mask, first + static_cast<std::size_t>(l),
                        name_of(u.kind), text(*u.where), u.mask),
            *t.where);
      }
      if (u.in) ballot |= std::uint64_t{1} << l;
    }
    for (unsigned m = members; m; m &= m - 1) {
      Thread& u = threads_[first + static_cast<std::size_t>(std::countr_zero(m))];
      switch (u.kind) {
        case Exchange::shuffle:
          // What a lane that takes no part would give is not defined.
          u.out = members >> u.source & 1 ? threads_[first + static_cast<std::size_t>(u.source)].in
                                          : 0xCBCBCBCBCBCBCBCBu;
          break;
        case Exchange::ballot: u.out = ballot; break;
        case Exchange::match:
          u.out = 0;
          for (unsigned k = members; k; k &= k - 1) {
            const int l = std::countr_zero(k);
            if (threads_[first + static_cast<std::size_t>(l)].in == u.in) u.out |= 1u << l;
          }
          break;
        default: u.out = 0;
      }
    }
    for (unsigned m = members; m;) {
      // The last to be pushed goes first.
      const int l = backward_ ? std::countr_zero(m) : 31 - std::countl_zero(m);
      m &= ~(1u << l);
      threads_[first + static_cast<std::size_t>(l)].state = State::running;
      ready_.push_back(first + static_cast<std::size_t>(l));
    }
    return true;
  }

  // When no thread can go on: whom do those that returned meanwhile set free?
  bool release() {
    bool some = false;
    std::size_t waiting = 0;
    int count = 0;
    const Thread* first = nullptr;
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      const Thread& t = threads_[i];
      if (t.state == State::warp_wait) some = complete_warp(i) || some;
      if (t.state != State::block_wait) continue;
      if (!first) first = &t;
      ++waiting;
      count += t.in != 0;
    }
    if (some || waiting + done_ < threads_.size()) return some;
    for (std::size_t k = 0; k < threads_.size(); ++k) {
      // The last to be pushed goes first.
      const std::size_t i = backward_ ? k : threads_.size() - 1 - k;
      Thread& t = threads_[i];
      if (t.state != State::block_wait) continue;
      if (t.kind != first->kind || !same_place(*t.where, *first->where)) {
        stuck();
      }
      t.out = static_cast<std::uint64_t>(count);
      ready_.push_back(i);
    }
    return true;
  }

  [[noreturn]] void stuck() const {
    std::string s = "not all threads reach the same barrier:";
    const Where* last = nullptr;
    int shown = 0;
    for (std::size_t i = 0; i < threads_.size() && shown < 6; ++i) {
      const Thread& t = threads_[i];
      const bool waits = t.state == State::warp_wait || t.state == State::block_wait;
      const Where* w = waits ? t.where : nullptr;
      if (i > 0 && (w == last || (w && last && same_place(*w, *last)))) continue;
      last = w;
      ++shown;
      s += w ? fmt::format(" thread {} in {} at {};", i, name_of(t.kind), text(*w))
             : fmt::format(" thread {} has returned;", i);
    }
    s.pop_back();
    fail_launch(s);
  }

  [[noreturn]] void fail_launch(std::string_view what) const {
    fail<InternalError>("emulated kernel",
                        fmt::format("launched at {}, block ({}, {}, {}): {}", str(launch_->where),
                                    blockIdx.x, blockIdx.y, blockIdx.z, what));
  }
  [[noreturn]] void throw_in_kernel(const std::string& what, const Where& where) const {
    fail_launch(fmt::format("{}: {}", text(where), what));
  }

  const Launch* launch_ = nullptr;
  const std::function<void()>* call_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<unsigned char> shared_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::vector<std::size_t> ready_;
  std::size_t started_ = 0, done_ = 0, current_ = 0;
  Fiber* running_ = nullptr;
  bool backward_ = true;
  std::exception_ptr error_;
};

Engine& engine() {
  static auto* e = new Engine;
  return *e;
}

}  // namespace

void run_kernel(const Launch& l, const std::function<void()>& call) {
  engine().run(l, call);
}
void* dynamic_shared() {
  return engine().shared();
}
std::uint64_t exchange(Exchange kind, unsigned mask, std::uint64_t in, int source,
                       const Where& where) {
  return engine().exchange(kind, mask, in, source, where);
}
int block_exchange(Exchange kind, bool in, const Where& where) {
  return engine().block_exchange(kind, in, where);
}
unsigned active_lanes() {
  return engine().active_lanes();
}
int lane() {
  return engine().lane();
}

}  // namespace tandem::cuda::emulation
