// Enumerations are spelled as strings in Python.
#pragma once
#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace tandem::python {

/// What `text` stands for. ValueError "[op] no such `what`; got …; expected 'a', 'b' or 'c'".
template <class E>
E choice(const char* op, const char* what, std::string_view text,
         std::initializer_list<std::pair<std::string_view, E>> known) {
  std::string names;
  for (auto k = known.begin(); k != known.end(); ++k) {
    if (k->first == text) return k->second;
    const char* before = k == known.begin() ? "" : k + 1 == known.end() ? " or " : ", ";
    names += fmt::format("{}'{}'", before, k->first);
  }
  fail<ValueError>(op, fmt::format("no such {}", what), text, names);
}

}  // namespace tandem::python
