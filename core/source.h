// Where in the user's program a call was made.
#pragma once
#include <cstdint>
#include <string>

namespace tandem {

/// A line of a program, like std::source_location, which can only name lines of C++.
class SrcLoc {
 public:
  static constexpr SrcLoc current(const char* file = __builtin_FILE(),
                                  std::uint32_t line = __builtin_LINE()) {  // where it is called
    return {file, line};
  }
  /// The line of the caller in another language. Finding it takes longer than a small operation, so
  /// it is looked up where somebody wants to know: by `resolved`, before the call returns.
  static constexpr SrcLoc foreign() { return {nullptr, 0}; }
  constexpr SrcLoc() = default;  // no line at all
  /// `file` must outlive everything.
  constexpr SrcLoc(const char* file, std::uint32_t line) : file_(file), line_(line) {}

  constexpr const char* file_name() const { return file_; }
  constexpr std::uint32_t line() const { return line_; }
  constexpr bool is_foreign() const { return file_ == nullptr; }

 private:
  const char* file_ = "";
  std::uint32_t line_ = 0;
};

/// Sets who finds the caller's line (or foreign(), if there is none) for SrcLoc::foreign().
void set_foreign_locator(SrcLoc (*locate)());
/// The line itself, if `loc` is foreign and its call still running.
SrcLoc resolved(const SrcLoc& loc);

/// "train.cpp:41" (file name without its folders).
std::string str(const SrcLoc& loc);

/// Whom an operation is attributed to, as a captured program keeps it.
struct CallSource {
  SrcLoc loc;               // the user's line
  std::string function;     // the public function written there, or "": the operation itself
  std::string gradient_of;  // the operation whose gradient it belongs to, or ""
  std::string module;       // path of the module being run ("features.0"), or ""
  /// Of an operation written at `loc` and called now, on this thread.
  static CallSource of(const SrcLoc& loc);
};

/// The outermost call site on this thread: a module's forward opens one, so that the operations
/// inside it are attributed to the line that called the module, and `path` to the module.
class CallSite {
 public:
  explicit CallSite(const SrcLoc& loc, const std::string* path = nullptr);
  ~CallSite();
  CallSite(const CallSite&) = delete;
  CallSite& operator=(const CallSite&) = delete;

  /// The line to blame for an operation written at `loc`: the outermost open site, or `loc`.
  static SrcLoc blame(const SrcLoc& loc);
  /// Path of the innermost module being run ("features.0"), or "".
  static std::string path();

 private:
  const CallSite* outer_;
  SrcLoc loc_;
  const std::string* path_;
};

/// Names the user's line in what is thrown in this scope, unless an inner scope (a dispatched
/// operation) names its own.
class ErrorSite {
 public:
  explicit ErrorSite(const SrcLoc& loc);
  ~ErrorSite();
  ErrorSite(const ErrorSite&) = delete;
  ErrorSite& operator=(const ErrorSite&) = delete;

 private:
  const SrcLoc* outer_;
};

/// A public function that is made of several operations, or of one of another name: what happens in
/// this scope is attributed to its caller's line, and errors bear its name instead of an
/// operation's. Of nested ones the outermost counts: that is the one the user wrote.
class FunctionSite {
 public:
  /// Both must outlive the scope.
  FunctionSite(const char* name, const SrcLoc& loc);
  ~FunctionSite();
  FunctionSite(const FunctionSite&) = delete;
  FunctionSite& operator=(const FunctionSite&) = delete;

 private:
  CallSite site_;
  ErrorSite error_;
  const char* outer_;
};

/// What happens in this scope belongs to the gradient of `op`, called at `loc`.
class GradientSite {
 public:
  /// `op` must outlive the scope.
  GradientSite(const char* op, const SrcLoc& loc);
  ~GradientSite();
  GradientSite(const GradientSite&) = delete;
  GradientSite& operator=(const GradientSite&) = delete;

 private:
  CallSite site_;
  const char* outer_;
};

/// While a program runs, errors bear the names and lines of its operations.
class ReplaySite {
 public:
  ReplaySite();
  ~ReplaySite();
  ReplaySite(const ReplaySite&) = delete;
  ReplaySite& operator=(const ReplaySite&) = delete;
  /// Whose turn it is (must outlive that turn); null: nobody's.
  void set(const CallSource* source) { *now_ = source; }

 private:
  const CallSource** now_;
  const CallSource* outer_;
};

}  // namespace tandem
