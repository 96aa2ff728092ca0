#include "apps/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <new>

#include "benchmarks/tradeoff/workload.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/signal_stack.h"

namespace tandem::apps {

namespace {

volatile std::sig_atomic_t stop_asked = 0;

extern "C" void on_signal(int signal) {
  stop_asked = 1;
  // The next one has its usual effect.
  std::signal(signal, SIG_DFL);
}

int complain(const std::string& what, int status) {
  std::string line = what;
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  fmt::print(stderr, "error: {}\n", line);
  return status;
}

}  // namespace

Progress::Progress() : tty_(isatty(STDERR_FILENO) != 0) {}

void Progress::show(const std::string& label, double part, const std::string& text) {
  if (!tty_) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  constexpr int kWidth = 24;
  const int full = static_cast<int>(std::min(1.0, std::max(0.0, part)) * kWidth);
  fmt::print(stderr, "\r\033[K{} [{}{}] {:3.0f} %  {}", label, std::string(full, '='),
             std::string(kWidth - full, ' '), part * 100, text);
  std::fflush(stderr);
}

void Progress::clear() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
  drawn_ = false;
}

std::string duration_text(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

void catch_interrupts() {
  use_signal_stack();
  struct sigaction a {};
  a.sa_handler = on_signal;
  a.sa_flags = SA_ONSTACK | SA_RESTART;
  sigaction(SIGINT, &a, nullptr);
  sigaction(SIGTERM, &a, nullptr);
}

bool interrupted() {
  return stop_asked != 0;
}

namespace {

// A file is written beside itself and then replaced as a whole, where links lead to. What is no
// file (a pipe, a terminal, whatever stands behind /dev) is written itself, and only at the end: to
// open a pipe and close it again would tell its reader that this was all.
struct Target {
  explicit Target(std::string given) : path(std::move(given)) {
    std::error_code ignored;
    const auto status = std::filesystem::status(path, ignored);
    in_place = path.starts_with("/dev/") ||
               (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status));
    // Not by canonical(), which needs the file to be there.
    for (int links = 0; !in_place && links < 40 && std::filesystem::is_symlink(path, ignored);
         ++links) {
      const std::filesystem::path at(path);
      path = (at.parent_path() / std::filesystem::read_symlink(at, ignored)).string();
    }
    part = in_place ? path : path + ".part" + std::to_string(getpid());
  }
  std::string path, part;
  bool in_place;
};

}  // namespace

void check_writable(const std::string& path) {
  if (path.empty()) return;
  const Target t(path);
  bool fine = !std::filesystem::is_directory(t.path);
  if (t.in_place) {
    fine = fine && access(t.path.c_str(), W_OK) == 0;
  } else {
    fine = fine && std::ofstream(t.part, std::ios::app).good();
    std::error_code ignored;
    std::filesystem::remove(t.part, ignored);
  }
  if (!fine) fail<DataError>("json", "the file cannot be written", path);
}

void write_json(const std::string& path, const nlohmann::json& j) {
  const Target t(path);
  {
    std::ofstream f(t.part, t.in_place ? std::ios::app : std::ios::trunc);
    f << j.dump(1) << '\n';
    f.flush();
    if (!f) fail<DataError>("json", "the file cannot be written", path);
  }
  if (t.in_place) return;
  std::error_code error;
  std::filesystem::rename(t.part, t.path, error);
  if (error) fail<DataError>("json", "the file cannot be written", path + ": " + error.message());
}

namespace {

void add_device_option(CLI::App& app) {
  const auto usable = [](const std::string& name) -> std::string {
    try {
      const Device d = Device::parse(name, SrcLoc::foreign());
      backend(d).stream(d.index);  // throws if there is none
      return {};
    } catch (const Error& e) {
      return e.what();
    }
  };
  app.add_option_function<std::string>(
         "--device",
         [](const std::string& name) {
           set_default_device(Device::parse(name, SrcLoc::foreign()));
         },
         "Where to run: cpu, cuda, cuda:1 [cpu]")
      ->check(CLI::Validator(usable, ""));
}

}  // namespace

void add_common_options(CLI::App& app, CommonOptions& o, const OptionWords& words) {
  static const std::map<std::string, MemoryFormat> layouts{
      {"nchw", MemoryFormat::contiguous}, {"channels_last", MemoryFormat::channels_last}};
  static const std::map<std::string, DType> dtypes{{"f32", DType::f32}, {"bf16", DType::bf16}};
  std::vector<std::string> models;
  for (const auto& r : tradeoff::recipes()) models.emplace_back(r.name);
  app.add_option("--model", o.model, "The net")
      ->check(CLI::IsMember(models))
      ->capture_default_str();
  app.add_option("--batch-size,--batch", o.batch, "Images per step [" + words.batch + "]")
      ->transform(number(1, 1 << 20));
  app.add_option("--layout", o.layout, "Of images and weights: nchw, channels_last [nchw]")
      ->transform(CLI::CheckedTransformer(layouts).description(""));
  CLI::Option* const dtype =
      app.add_option("--dtype", o.dtype, "Of images and weights: f32, bf16 [f32]")
          ->transform(CLI::CheckedTransformer(dtypes).description(""));
  app.add_option_function<std::string>(
         "--autocast",
         [&o](const std::string& name) {
           o.autocast = {true, name == "f16" ? DType::f16 : DType::bf16};
         },
         "Products and convolutions in 16 bits, weights in f32: bf16, f16 (with loss scaling)")
      ->check(CLI::IsMember({"bf16", "f16"}).description(""))
      ->excludes(dtype);
  app.add_flag("--tf32", o.tf32, "Products and convolutions of f32 in TF32 (GPUs only)");
  app.add_option("--search", o.search, "Time so many ways to compute a convolution [0: go by rule]")
      ->transform(number(0, 255));
  app.add_option("--seed", o.seed, words.seed)
      ->transform(number<std::uint64_t>(0, std::numeric_limits<std::uint64_t>::max()))
      ->capture_default_str();
  app.add_option("--threads", o.threads, "Of the kernels [all cores]")->transform(number(1, 1024));
  add_device_option(app);
  app.add_flag("--quick", o.quick, words.quick);
  app.add_option("--json", o.json, "Write all figures to this file");
}

void apply(const CommonOptions& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  policy().tf32 = o.tf32;
  policy().search = static_cast<std::uint8_t>(o.search);
  set_autocast_mode(o.autocast);
  check_writable(o.json);
}

std::string command_line(int argc, char** argv) {
  std::string s;
  for (int i = 0; i < argc; ++i) s += (i ? " " : "") + std::string(argv[i]);
  return s;
}

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return complain(std::string(e.what()) + " (--help says what there is)", kUsage);
  }
  try {
    catch_interrupts();
    return body();
  } catch (const InternalError& e) {
    return complain(e.what(), 1);
  } catch (const Error& e) {
    return complain(e.what(), kUsage);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", 1);
  } catch (const std::exception& e) {
    return complain(e.what(), 1);
  }
}

}  // namespace tandem::apps
