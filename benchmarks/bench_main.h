// What the programs made with Google Benchmark share: the device they run on, and its time.
#pragma once
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "benchmarks/tradeoff/device_clock.h"
#include "tandem/tandem.h"

namespace tandem {

/// Times work on the default device: on the CPU by the clock, elsewhere between two events that the
/// device reaches after the host has put in all of it.
class DeviceTimer {
 public:
  DeviceTimer() {
    const Device d = default_device();
    if (d.is_cpu()) return;
    head_start_.emplace(d);
    stream_ = &backend(d).stream(d.index);
    begin_ = backend(d).make_event(d.index);
    end_ = backend(d).make_event(d.index);
  }
  template <class F>
  double seconds(const F& work) {
    if (!head_start_) {
      const auto start = std::chrono::steady_clock::now();
      work();
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    head_start_->put(0.2);
    begin_->record(*stream_);
    work();
    end_->record(*stream_);
    return std::max(end_->milliseconds_since(*begin_) * 1e-3 - head_start_->event_ns() * 1e-9,
                    1e-9);
  }

 private:
  std::optional<tradeoff::HeadStart> head_start_;
  Stream* stream_ = nullptr;
  std::unique_ptr<Event> begin_, end_;
};

/// Lets a device catch up now and then, outside of what is timed: what is timed is the host, which
/// would have to wait where a stream is full.
class CatchUp {
 public:
  explicit CatchUp(benchmark::State& state) : state_(state) {}
  void operator()() {
    if (default_device().is_cpu() || ++launches_ % kEvery != 0) return;
    state_.PauseTiming();
    const Device d = default_device();
    backend(d).stream(d.index).synchronize();
    state_.ResumeTiming();
  }

 private:
  static constexpr int kEvery = 256;  // a stream takes about a thousand launches
  benchmark::State& state_;
  int launches_ = 0;
};

/// A main function: Google Benchmark's options, and `--device cpu|cuda|cuda:1`. `add` registers
/// what is made for a device. Status 2 where there is no such device or option.
inline int run_benchmarks(int argc, char** argv, const std::function<void()>& add = {}) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--device") == 0 && i + 1 < argc) {
      try {
        const Device d = Device::parse(argv[++i], SrcLoc::foreign());
        backend(d).stream(d.index);  // throws if there is none
        set_default_device(d);
      } catch (const Error& e) {
        std::fprintf(stderr, "error: --device: %s\n", e.what());
        return 2;
      }
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  benchmark::AddCustomContext("device", default_device().str());
  if (add) add();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace tandem
