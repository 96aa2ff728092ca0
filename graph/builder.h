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

using Feeds = std::map<std::string, Tensor>;

/// A compiled program with named arguments. Copies share it.
class Function {
 public:
  /// Throws ValueError for a name that is missing or unknown, ShapeError, TypeError or DeviceError
  /// for a tensor that does not match its variable.
  Tensor operator()(const Feeds& feeds) const;  // the one result
  std::vector<Tensor> run(const Feeds& feeds) const;

  const CompiledProgram& program() const { return *program_; }
  std::uint64_t hash() const { return program_->captured_hash; }
  std::string dump() const { return graph::dump(program_->executor->program()); }

 private:
  friend class Graph;
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
  /// tensors (`ones`), and backward(). Expressions over variables need no scope.
  [[nodiscard]] std::unique_ptr<CaptureScope> scope();

  /// Programs that compute these expressions. Results must depend on what was declared here.
  Function compile(const Tensor& result, const CompileOptions& options = {});
  Function compile(const std::vector<Tensor>& results, const CompileOptions& options = {});

  std::string dump(const std::vector<Tensor>& results);

 private:
  RefPtr<Tracer> tracer_;
  std::vector<std::string> names_;
};

}  // namespace tandem::graph
