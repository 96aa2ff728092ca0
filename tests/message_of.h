// What errors say.
#pragma once
#include <exception>
#include <string>

namespace tandem::test {

/// The message of the error that `f` throws. One of another type than E goes on its way.
template <class E = std::exception, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace tandem::test
