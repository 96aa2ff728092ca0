// What the emulated runtime consists of: streams with their work, captures, and the one World that
// all calls share under its lock. Inside emulation/ only.
#pragma once
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cuda/emulation/runtime.h"

namespace tandem::cuda::emulation {

using Clock = std::chrono::steady_clock;

/// A point in a stream that others wait for.
struct Marker {
  cudaStream_t stream = nullptr;
  bool done = false;
  Clock::time_point at;
};
using MarkerPtr = std::shared_ptr<Marker>;

/// What a node of a graph is.
enum class Kind : std::uint8_t { kernel, copy, set, host, other };

/// A piece of work.
struct Op {
  std::function<void()> run;
  Kind kind;
  std::vector<std::size_t> after = {};  // in a graph: the nodes it waits for
};
using Ops = std::vector<Op>;

/// A graph in the making.
struct Capture {
  Ops ops;
  cudaStreamCaptureMode mode;
  bool broken = false;
  std::set<cudaStream_t> streams;
};

}  // namespace tandem::cuda::emulation

struct CUstream_st {
  int device = 0;
  std::deque<tandem::cuda::emulation::Op> work;
  std::shared_ptr<tandem::cuda::emulation::Capture> capture;
  std::vector<std::size_t> last;  // the nodes the next captured one waits for
};
struct CUevent_st {
  int device = 0;
  bool timing = true;
  tandem::cuda::emulation::MarkerPtr marker;
  std::shared_ptr<tandem::cuda::emulation::Capture> capture;  // recorded in it, at the nodes
  std::vector<std::size_t> nodes;
};
struct CUgraph_st {
  tandem::cuda::emulation::Ops ops;
};
struct CUgraphExec_st {
  std::shared_ptr<const tandem::cuda::emulation::Ops> ops;
};

namespace tandem::cuda::emulation {

/// A piece of device memory.
struct Block {
  std::size_t bytes;
  int device;
};

constexpr std::size_t kReserve = std::size_t{64} << 30;  // addresses, not memory

/// The machine: all state that is not one thread's.
struct World {
  std::recursive_mutex mutex;
  int devices = 2;
  std::size_t memory = std::size_t{8} << 30;
  std::map<int, std::size_t> used;
  char* base = nullptr;
  std::map<std::size_t, std::size_t> holes;  // free ranges of addresses: start, length
  std::map<char*, Block> blocks;
  std::map<char*, std::size_t> pinned;
  std::set<cudaStream_t> streams;
  std::map<int, std::unique_ptr<CUstream_st>> null_streams;
  std::set<const void*> large_shared;
  std::map<std::string, std::pair<int, cudaError_t>> failures;
  int key = -1;
  int running = 0;
};

World& world();

inline thread_local int current_device = 0;
inline thread_local cudaError_t last_error = cudaSuccess;
inline thread_local std::uint64_t call_count = 0;
inline thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
inline thread_local std::shared_ptr<Capture> thread_capture;
inline thread_local const Launch* running_launch = nullptr;

/// Running work may touch device memory, the host's own code may not.
class Access {
 public:
  Access();
  ~Access();
};

/// Every function of the runtime starts with one of these: counts it, locks, and says whether a
/// test wants it to fail.
struct Call {
  explicit Call(const char* name);
  std::lock_guard<std::recursive_mutex> lock;
  cudaError_t error = cudaSuccess;
};

/// `e`, kept as the thread's last error if it is one.
cudaError_t result(cudaError_t e);

#define TANDEM_CALL()               \
  const Call tandem_call(__func__); \
  if (tandem_call.error != cudaSuccess) return result(tandem_call.error)

/// The stream itself, in place of what stands for the default stream.
cudaStream_t real(cudaStream_t s);
/// Runs the oldest piece of work; false: there was none.
bool run_one(cudaStream_t s);
void drain(cudaStream_t s);
void drain_device(int device);
void run_until(const MarkerPtr& m);
/// Appends work to a stream, or to the graph it captures.
void put(cudaStream_t s, Op op);
/// Whether this is a call that must not be made while this thread captures; if so, the capture is
/// broken.
bool refused_by_capture();

}  // namespace tandem::cuda::emulation
