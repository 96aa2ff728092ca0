// Headers that sources compiled at run time include: their text, made part of the library by
// cuda/embed.cmake.
#pragma once
#include <span>

namespace tandem::cuda {

struct EmbeddedHeader {
  const char* name;  // as it is included: "core/half.h"
  const char* text;
};
std::span<const EmbeddedHeader> embedded_headers();

}  // namespace tandem::cuda
