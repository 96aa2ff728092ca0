// The places a compiled function reads besides its arguments, and what stands there.
#pragma once
#include "python/src/tree.h"

namespace tandem::python {

/// Variables of closures, globals, and attributes of what those hold: _reads.py finds them. A place
/// that the function itself changes says something else after each trace, and nothing of what a
/// program depends on; it is not looked at any more.
class Places {
 public:
  /// What stands at each place.
  using Spelled = std::vector<std::vector<Piece>>;

  /// Triples of what people call a place, a name, and where it is looked up. What was found out
  /// about places of `old` holds on.
  Places(py::handle triples, const Places& old);
  Places() = default;

  /// Appends to flat.watch what stands there. Objects that it names by address go to flat.kept.
  void watch(Flat& flat) const;
  Spelled spelled(std::vector<py::object>& kept) const;
  /// Takes note of what a trace changed. What changes in a second trace is left out from then on:
  /// once it may have been another thread. `at_once`: there is no second trace to ask.
  void note_changes(const Spelled& before, const Spelled& after, bool at_once);
  /// What watch() would have said then.
  std::string joined(const Spelled& then) const;

  int visit(visitproc visit, void* arg) const;  // for Python's garbage collector

 private:
  struct Place {
    py::object label, name, where;
    std::set<std::string> without;  // keys of pieces
    bool changed = false;           // by a trace
  };
  std::vector<Place> places_;
};

}  // namespace tandem::python
