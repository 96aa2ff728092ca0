// What the programs share: how they talk, stop and fail.
#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "core/autocast.h"
#include "core/desc.h"

namespace tandem::apps {

/// A line on stderr that is written over again and again; nothing where stderr is no terminal.
class Progress {
 public:
  Progress();
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `part` of the work is done, in [0, 1]. Redrawn at most ten times a second.
  void show(const std::string& label, double part, const std::string& text);
  /// Takes the line away, so that something else may be printed.
  void clear();
  bool visible() const { return tty_; }

 private:
  bool tty_, drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

/// "1:05", "2:03:04".
std::string duration_text(double seconds);

/// From now on Ctrl-C (and SIGTERM) only sets a flag; a second one ends the program at once.
void catch_interrupts();
bool interrupted();
/// The exit status of a program that was stopped that way.
inline constexpr int kInterrupted = 130;

/// Exit status for what the user can set right: flags, values, files.
inline constexpr int kUsage = 2;

/// DataError if write_json would not be able to write there: better known before the work than
/// after it. An empty path is fine.
void check_writable(const std::string& path);
/// Writes the whole file or leaves what was there. DataError when it cannot be written.
void write_json(const std::string& path, const nlohmann::json& j);

/// What both programs can be told.
struct CommonOptions {
  std::string model = "lenet";  // of tradeoff::recipes()
  std::int64_t batch = 0;       // 0: the recipe's
  MemoryFormat layout = MemoryFormat::contiguous;
  DType dtype = DType::f32;
  AutocastMode autocast;
  bool tf32 = false;
  int search = 0;  // Policy::search
  std::uint64_t seed = 0;
  int threads = 0;  // 0: as many as there are cores
  bool quick = false;
  std::string json;  // "": none is written
};
/// `--model`, `--batch-size`, `--layout`, `--dtype`, `--autocast`, `--tf32`, `--search`, `--seed`,
/// `--threads`, `--device` (the device everything is made on; a usage error where there is no such
/// device), `--quick` and `--json`. The help's words differ: what batches there are by default,
/// what the seed is of, and what is different when it is quick.
struct OptionWords {
  std::string batch, seed, quick;
};
void add_common_options(CLI::App& app, CommonOptions& o, const OptionWords& words);
/// Sets the threads, and this thread's policy and autocast mode; DataError if the JSON file could
/// not be written.
void apply(const CommonOptions& o);

/// For transform() of an option: a decimal number from `low` to `high`. CLI::Range lets NaN through
/// and shows small bounds as 0, and CLI11 reads -1 as a large unsigned number and 010 as 8.
template <class T>
CLI::Validator number(T low, T high) {
  const auto range = fmt::format("{} to {}", low, high);
  return {[=](std::string& text) -> std::string {
            const char* const end = text.data() + text.size();
            T value{};
            const auto [at, error] = std::from_chars(text.data(), end, value);
            if (error != std::errc() || at != end || !(value >= low && value <= high)) {
              return fmt::format("{} is not a number from {}", text, range);
            }
            text = fmt::format("{}", value);
            return {};
          },
          range};
}

/// The command line as typed.
std::string command_line(int argc, char** argv);

/// Parses and runs `body`. Every error becomes one line on stderr: status kUsage for flags and for
/// what Tandem says of values and files, 1 for the rest.
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

}  // namespace tandem::apps
