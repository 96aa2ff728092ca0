// Errors. Every message reads `[op] rule; got …; expected …`.
#pragma once
#ifndef __CUDACC__  // nvcc does not get through it, and kernels have no use for it
#include <fmt/format.h>
#endif

#include <stdexcept>
#include <string>
#include <string_view>

namespace tandem {

/// Base of all errors. `what()` reads `[op] rule; got …; expected … (at file:line)`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A shape, rank, axis or size does not fit.
class ShapeError : public Error {
 public:
  using Error::Error;
};
/// A dtype does not fit.
class TypeError : public Error {
 public:
  using Error::Error;
};
/// A device is missing, or tensors live on different ones.
class DeviceError : public Error {
 public:
  using Error::Error;
};
/// An argument or a tensor's content is out of range.
class ValueError : public Error {
 public:
  using Error::Error;
};
/// An index (a label, an axis, a position) lies outside its range.
class IndexError : public Error {
 public:
  using Error::Error;
};
/// The tape cannot do what was asked (second backward, a mutated saved tensor, …).
class AutogradError : public Error {
 public:
  using Error::Error;
};
/// A program cannot be captured, or a compiled one was used outside its signature. A capture in
/// progress fails by it even if the function catches it: eagerly there would have been none, so
/// what the function did then is not what it does eagerly.
class CaptureError : public Error {
 public:
  explicit CaptureError(const std::string& what);
};
/// A file or a stream of bytes is missing, truncated or not what it says it is.
class DataError : public Error {
 public:
  using Error::Error;
};
/// There is no memory left for a tensor. Says how much was asked for and where the rest is.
class OutOfMemoryError : public Error {
 public:
  using Error::Error;
};
/// A state the program should not be able to reach: a defect of Tandem.
class InternalError : public Error {
 public:
  using Error::Error;
};

namespace detail {
/// " (at train.cpp:41)" while an operation is in progress on this thread, else "".
std::string where();
/// The public function in progress on this thread (FunctionSite), else `op`.
std::string_view function_or(std::string_view op);
std::string error_message(std::string_view op, std::string_view rule, std::string_view got,
                          std::string_view expected);
}  // namespace detail

/// Throws `E("[op] rule; got …; expected …")`; empty `got` or `expected` are left out.
/// While an operation is being dispatched the user's line is added. Within a public function that
/// calls others `op` gives way to that function's name: an `op` the user never wrote would not
/// help.
template <class E = ValueError>
[[noreturn]] void fail(std::string_view op, std::string_view rule, std::string_view got = {},
                       std::string_view expected = {}) {
  throw E(detail::error_message(detail::function_or(op), rule, got, expected));
}

}  // namespace tandem
