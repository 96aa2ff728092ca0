// The emulated device: that it computes what a GPU does, and refuses what a GPU would not forgive.
#include "cuda/emulation/runtime.h"
#include "cuda/kernel.h"
#include "tests/cuda/kernels.h"

namespace tandem::cuda::testing {
namespace {

class Emulation : public OnGpu {
 protected:
  LaunchArgs args() { return {nullptr, nullptr, nullptr, s}; }
  std::string run(const std::function<void()>& f) {
    return message_of([&] {
      f();
      s->synchronize();
    });
  }
};

__global__ void block_sum(const int* in, int* out, int n) {
  __shared__ int part[32];
  int v = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) v += in[i];
  for (int by = 16; by > 0; by /= 2) v += __shfl_down_sync(~0u, v, by);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
    for (int by = 16; by > 0; by /= 2) v += __shfl_xor_sync(~0u, v, by);
    if (threadIdx.x == 0) out[blockIdx.x] = v;
  }
}

TEST_F(Emulation, SumsInBlocks) {
  Ints in(1000), out(3);
  std::vector<int> v(1000);
  for (int i = 0; i < 1000; ++i) v[static_cast<std::size_t>(i)] = i;
  in.write(v);
  for (int round = 0; round < 2; ++round) {  // forwards and backwards
    launch(args(), {.blocks = dim3(3), .threads = dim3(256)}, block_sum, in.get(), out.get(), 1000);
    EXPECT_EQ(out.read(), std::vector<int>(3, 499500));
  }
}

__global__ void places(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] +=
      static_cast<int>(blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * threadIdx.x +
                       10000 * threadIdx.y + 100000 * threadIdx.z);
}

TEST_F(Emulation, NumbersThreadsAndBlocks) {
  constexpr int n = 2 * 3 * 2 * 4 * 2 * 3;
  Ints out(n);
  fill(*s, out.get(), 0, n);
  launch(args(), {.blocks = dim3(2, 3, 2), .threads = dim3(4, 2, 3)}, places, out.get());
  std::vector<int> want;
  for (int bz = 0; bz < 2; ++bz) {
    for (int by = 0; by < 3; ++by) {
      for (int bx = 0; bx < 2; ++bx) {
        for (int tz = 0; tz < 3; ++tz) {
          for (int ty = 0; ty < 2; ++ty) {
            for (int tx = 0; tx < 4; ++tx) {
              want.push_back(bx + 10 * by + 100 * bz + 1000 * tx + 10000 * ty + 100000 * tz);
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(out.read(), want);
}

__global__ void votes(int* out) {
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  int* mine = out + 16 * t;
  mine[0] = __syncthreads_count(t % 3 == 0);
  mine[1] = __syncthreads_or(t == 40);
  mine[2] = __syncthreads_and(t != 40);
  mine[3] = static_cast<int>(__ballot_sync(~0u, lane % 2));
  mine[4] = __any_sync(~0u, t == 3);
  mine[5] = __all_sync(~0u, t < 32);
  mine[6] = __shfl_sync(~0u, t, 5);
  mine[7] = __shfl_sync(~0u, t, 5, 8);
  mine[8] = __shfl_up_sync(~0u, t, 2, 16);
  mine[9] = __shfl_down_sync(~0u, t, 3, 8);
  mine[10] = __shfl_xor_sync(~0u, t, 1);
  mine[11] = static_cast<int>(__match_any_sync(~0u, lane / 10));
  // Halves of a warp on their own.
  const unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
  mine[12] = lane < 16 ? __shfl_sync(half, t, 3) : __shfl_sync(half, t, 20);
  mine[13] = static_cast<int>(__shfl_sync(~0u, 0.5 * t, 4) * 2);
  mine[14] = static_cast<int>(__shfl_sync(~0u, (1ll << 40) + t, 4) - (1ll << 40));
  mine[15] = __syncthreads_count(1);
}

TEST_F(Emulation, VotesAndShuffles) {
  Ints out(64 * 16);
  launch(args(), {.blocks = dim3(1), .threads = dim3(64)}, votes, out.get());
  const auto got = out.read();
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32, base = t - lane;
    const int* m = &got[static_cast<std::size_t>(16 * t)];
    int match = 0;
    for (int l = 0; l < 32; ++l) match |= static_cast<int>(unsigned{l / 10 == lane / 10} << l);
    const std::vector<int> want = {22,
                                   1,
                                   0,
                                   static_cast<int>(0xaaaaaaaau),
                                   t < 32,
                                   t < 32,
                                   base + 5,
                                   base + lane / 8 * 8 + 5,
                                   lane % 16 < 2 ? t : t - 2,
                                   lane % 8 + 3 >= 8 ? t : t + 3,
                                   t ^ 1,
                                   match,
                                   base + (lane < 16 ? 3 : 20),
                                   base + 4,
                                   base + 4,
                                   64};
    EXPECT_EQ(std::vector<int>(m, m + 16), want) << "thread " << t;
  }
}

__global__ void some_leave(int* out) {
  __shared__ int sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  if (threadIdx.x >= 40) return;  // the rest does not wait for those who have left
  atomicAdd(&sum, 1);
  __syncthreads();
  out[threadIdx.x] = sum + __popc(__ballot_sync(~0u, 1));
}

TEST_F(Emulation, ThreadsMayLeave) {
  Ints out(40);
  launch(args(), {.blocks = dim3(1), .threads = dim3(100)}, some_leave, out.get());
  std::vector<int> want(40, 40 + 32);
  for (std::size_t i = 32; i < 40; ++i) want[i] = 40 + 8;
  EXPECT_EQ(out.read(), want);
}

__global__ void divergent(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    out[threadIdx.x] = 1;
    __syncthreads();
  }
}
__global__ void crossed(int* out) {
  if (threadIdx.x == 0) {
    __syncthreads();
  } else {
    out[threadIdx.x] = __shfl_sync(~0u, 1, 0);
    __syncthreads();
  }
}
__global__ void not_in_mask(int* out) {
  out[threadIdx.x] = __shfl_sync(0xffffu, 1, 0);
}
__global__ void two_exchanges(int* out) {
  out[threadIdx.x] = threadIdx.x % 2 ? __shfl_sync(~0u, 1, 0) : __shfl_xor_sync(~0u, 1, 1);
}
__global__ void past_the_end(int* out, int n) {
  out[0] = 1;
  dynamic_shared<int>()[n] = 1;
}

TEST_F(Emulation, FindsBarriersThatDoNotMeet) {
  Ints out(64);
  const Grid g{.blocks = dim3(1), .threads = dim3(64)};
  std::string m = run([&] { launch(args(), g, divergent, out.get()); });
  EXPECT_NE(m.find("not all threads reach the same barrier"), std::string::npos) << m;
  EXPECT_NE(m.find("emulation_device.cu:"), std::string::npos) << m;
  m = run([&] { launch(args(), g, crossed, out.get()); });
  EXPECT_NE(m.find("thread 0 in __syncthreads"), std::string::npos) << m;
  EXPECT_NE(m.find("thread 1 in __shfl_*_sync"), std::string::npos) << m;
  m = run([&] { launch(args(), g, not_in_mask, out.get()); });
  EXPECT_NE(m.find("with a mask (0xffff) it is not in"), std::string::npos) << m;
  m = run([&] { launch(args(), g, two_exchanges, out.get()); });
  EXPECT_NE(m.find("meet in different exchanges"), std::string::npos) << m;
  // The device goes on.
  fill(*s, out.get(), 2, 64);
  EXPECT_EQ(out.read(), std::vector<int>(64, 2));
}

TEST_F(Emulation, RefusesWhatNoDeviceLaunches) {
  Ints out(64);
  const auto refused = [&](const Grid& g) {
    return run([&] { launch(args(), g, past_the_end, out.get(), 0); }).find("[emulated launch]") ==
           0;
  };
  EXPECT_TRUE(refused({.blocks = dim3(1), .threads = dim3(1025)}));
  EXPECT_TRUE(refused({.blocks = dim3(1), .threads = dim3(0)}));
  EXPECT_TRUE(refused({.blocks = dim3(0), .threads = dim3(32)}));
  EXPECT_TRUE(refused({.blocks = dim3(1, 65536), .threads = dim3(32)}));
  EXPECT_TRUE(refused({.blocks = dim3(1), .threads = dim3(1), .shared = 50000}));
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(&past_the_end),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, 60000),
        "cudaFuncSetAttribute");
  EXPECT_FALSE(refused({.blocks = dim3(1), .threads = dim3(1), .shared = 50000}));
  EXPECT_TRUE(refused({.blocks = dim3(1), .threads = dim3(1), .shared = 240000}));
}

TEST_F(Emulation, FindsWritesPastSharedMemory) {
  Ints out(64);
  const Grid g{.blocks = dim3(1), .threads = dim3(1), .shared = 40};
  EXPECT_EQ(run([&] { launch(args(), g, past_the_end, out.get(), 9); }), "nothing was thrown");
#if !defined(__SANITIZE_ADDRESS__)
  const std::string m = run([&] { launch(args(), g, past_the_end, out.get(), 10); });
  EXPECT_NE(m.find("past its 40 bytes of dynamic shared memory (byte 40)"), std::string::npos) << m;
#endif
}

__global__ void forgot_a_barrier(int* out, int value) {
  __shared__ int x[64];
  x[threadIdx.x] = value;
  out[threadIdx.x] = x[(threadIdx.x + 1) % 64];
}

TEST_F(Emulation, AMissingBarrierShows) {
  Ints out(64);
  for (int value : {1, 2}) {
    launch(args(), {.blocks = dim3(1), .threads = dim3(64)}, forgot_a_barrier, out.get(), value);
    EXPECT_NE(out.read(), std::vector<int>(64, value));
  }
}

TEST_F(Emulation, WorkWaitsUntilSomebodyWaitsForIt) {
  Allocator& pinned = b->host_allocator();
  auto* p = static_cast<int*>(pinned.allocate(400));
  for (int i = 0; i < 100; ++i) p[i] = 1;
  fill(*s, p, 2, 100);
  EXPECT_EQ(p[50], 1);
  s->synchronize();
  EXPECT_EQ(p[50], 2);
  pinned.deallocate(p, 400);
}

TEST_F(Emulation, AMissingWaitShows) {
  Ints x(100), y(100);
  const auto other = b->make_stream(0);
  fill(*s, x.get(), 1, 100);
  s->synchronize();
  fill(*s, x.get(), 2, 100);
  copy(*other, y.get(), x.get(), 100);
  other->synchronize();
  EXPECT_EQ(y.read(), std::vector<int>(100, 1));
}

TEST_F(Emulation, FreshMemoryIsFullOfGarbage) {
  Ints x(100);
  b->allocator(0).trim();
  Ints fresh(20 << 20);
  for (int v : {fresh.read()[0], fresh.read()[(20 << 20) - 1]}) {
    EXPECT_EQ(v, static_cast<int>(0xCBCBCBCBu));
  }
}

TEST_F(Emulation, OverAndDoubleFreesAreErrors) {
  void* p = nullptr;
  check(cudaMalloc(&p, 100), "cudaMalloc");
  EXPECT_EQ(cudaFree(static_cast<char*>(p) + 8), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaErrorInvalidValue);
  int on_the_stack = 0;
  EXPECT_EQ(cudaFree(&on_the_stack), cudaErrorInvalidValue);
  cudaGetLastError();
}

using EmulationDeathTest = Emulation;

TEST_F(EmulationDeathTest, TheHostCannotTouchDeviceMemory) {
  if (!emulation::guards_memory()) GTEST_SKIP() << "this processor has no protection keys";
  Ints x(100);
  fill(*s, x.get(), 1, 100);
  s->synchronize();
  EXPECT_DEATH({ *static_cast<volatile int*>(x.get()) = 1; }, "the host touches device memory");
}

TEST_F(EmulationDeathTest, ACrashNamesTheLaunch) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer reports it";
#endif
  EXPECT_DEATH(
      {
        fill(*s, nullptr, 1, 100);
        s->synchronize();
      },
      "emulated kernel launched at .*kernels.cu");
}

__global__ void load_vector(const float* from, float* to) {
  *to = reinterpret_cast<const float4*>(from)->y;
}

TEST_F(EmulationDeathTest, AMisalignedVectorEndsTheProgram) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer reports it";
#endif
  Ints x(100);
  auto* p = reinterpret_cast<float*>(x.get());
  launch(args(), {.blocks = dim3(1), .threads = dim3(1)}, load_vector, p + 4, p);
  s->synchronize();
  EXPECT_DEATH(
      {
        launch(args(), {.blocks = dim3(1), .threads = dim3(1)}, load_vector, p + 1, p);
        s->synchronize();
      },
      "misaligned access or trap");
}

TEST(NoGpuDeathTest, SaysThatThereIsNone) {
  // In a process of its own: devices are counted once.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        emulation::set_devices(0);
        const std::string m = message_of([] { backend(DeviceType::cuda); });
        std::fprintf(stderr, "%s %d %d\n", m.c_str(), has_device(DeviceType::cuda),
                     cuda_missing() != nullptr);
        std::exit(0);
      },
      ::testing::ExitedWithCode(0),
      "\\[device\\] there is no usable GPU \\(cudaErrorNoDevice: no CUDA-capable device is "
      "detected\\); got cuda:0; expected cpu 0 0");
}

}  // namespace
}  // namespace tandem::cuda::testing
