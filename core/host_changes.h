// Changes of the host side that programs may depend on and do not guard one by one.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tandem {

/// A thing of the host side that may change, by a number of its own; 0: no particular one.
using Subject = std::uint64_t;

/// For a thing of C++; even. Python's objects have odd ones.
Subject new_subject();

/// That such a thing changed; `what` people call it.
struct HostChange {
  Subject subject = 0;
  std::string what;
  bool toggle = false;  // one of two states became the other: after two of these it is as it was
};

/// Counts changes: a captured tensor begins or ceases to require a gradient, a hook or a layer is
/// added. A compiled function that finds it moved records itself again and compares, unless it
/// knows of each of the changes that nothing comes of it.
std::uint64_t host_epoch();
void note_host_change(HostChange change);
/// What was noted since host_epoch() was `epoch`, each thing once, and what was toggled back not at
/// all. Of changes of long ago only that there were some is known.
std::vector<HostChange> host_changes_since(std::uint64_t epoch);

}  // namespace tandem
