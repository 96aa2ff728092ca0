// The declarative way to write a program, for those who think in static graphs:
//
//   graph::Graph g;
//   auto A = g.variable("A", {10}), B = g.variable("B", {10});
//   auto f = g.compile(B * A);
//   Tensor c = f({{"A", ones({10})}, {"B", full({10}, 2)}});
//
// It writes the same IR as capture does: the same program has the same hash.
#pragma once
#include <map>
#include <memory>

#include "graph/compile.h"
#include "graph/tracer.h"

namespace tandem::graph {

/// Arguments by the names of their variables.
using Feeds = std::map<std::string, Tensor>;

/// A compiled program with named arguments. Copies share it.
class Function {
 public:
  /// Throws ValueError for a name that is missing or unknown, ShapeError, TypeError or DeviceError
  /// for a tensor that does not match its variable; CaptureError inside another program.
  std::vector<Tensor> run(const Feeds& feeds) const;
  /// run() of a function of one result, which it gives. ValueError, before anything runs, if there
  /// are more.
  Tensor operator()(const Feeds& feeds) const;

  // ValueError, as from the calls above, for a Function that no Graph made.

  const CompiledProgram& program() const { return checked(); }
  /// Equal for programs that were written down equal.
  std::uint64_t hash() const { return checked().captured_hash; }
  /// The program as it runs, as text.
  std::string dump() const { return graph::dump(checked().executor->program()); }

 private:
  friend class Graph;
  const CompiledProgram& checked() const;
  std::shared_ptr<CompiledProgram> program_;
};

/// A program declared before it is run: variables, ops on them, compiled functions.
class Graph {
 public:
  Graph();
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// A named argument. Throws ValueError if the name is empty or taken.
  Tensor variable(const std::string& name, const Shape& shape, TensorOptions options = {});
  Tensor variable(const std::string& name, const TensorDesc& desc);

  /// While it lives, every operation of this thread is part of the program: also those that make
  /// tensors (`ones`), and backward(). Expressions over variables need no scope, as long as they
  /// write no tensor from outside (CaptureError).
  [[nodiscard]] std::unique_ptr<CaptureScope> scope();

  /// A program that computes these expressions. CaptureError for a result that does not depend on
  /// what was declared here, or is undefined.
  Function compile(const Tensor& result, const CompileOptions& options = {});
  Function compile(const std::vector<Tensor>& results, const CompileOptions& options = {});

  /// That program as text, before any pass. Throws like compile.
  std::string dump(const std::vector<Tensor>& results);

 private:
  Program snapshot(const std::vector<Tensor>& results) const;

  RefPtr<Tracer> tracer_;
  std::vector<std::string> names_;
};

}  // namespace tandem::graph
