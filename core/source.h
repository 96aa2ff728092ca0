// Where in the user's program a call was made.
#pragma once
#include <source_location>
#include <string>

namespace tandem {

using SrcLoc = std::source_location;

/// "train.cpp:41" (file name without its folders).
std::string str(const SrcLoc& loc);

/// The outermost call site on this thread: a module's forward opens one, so that the operations
/// inside it are attributed to the line that called the module, and `path` to the module.
class CallSite {
 public:
  explicit CallSite(const SrcLoc& loc, const std::string* path = nullptr);
  ~CallSite();
  CallSite(const CallSite&) = delete;
  CallSite& operator=(const CallSite&) = delete;

  /// The line to blame for an operation written at `loc`: the outermost open site, or `loc`.
  static const SrcLoc& blame(const SrcLoc& loc);
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

}  // namespace tandem
