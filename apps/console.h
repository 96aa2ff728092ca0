// What the programs share: how they talk, stop and fail.
#pragma once
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

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

/// `--device NAME`: the device everything is made on. A usage error where there is no such device.
void add_device_option(CLI::App& app);

/// The command line as typed.
std::string command_line(int argc, char** argv);

/// Parses and runs `body`. Every error becomes one line on stderr: status kUsage for flags and for
/// what Tandem says of values and files, 1 for the rest.
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

}  // namespace tandem::apps
