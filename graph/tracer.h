// Records what a thread's operations would have done, instead of doing it.
#pragma once
#include <unordered_map>

#include "core/trace_guard.h"
#include "graph/program.h"

namespace tandem::graph {

/// Turns the ops of a function into a Program while it runs on symbolic tensors.
class Tracer final : public RefCounted, public Interceptor, public TraceGuards {
 public:
  /// A new argument of the program.
  Tensor input(const TensorDesc& desc, std::string name = {});

  // Interceptor
  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override;
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override;
  bool records() const override { return true; }
  Tensor constant(Tensor t) override;

  // TraceGuards
  void guard(std::string what, std::function<bool()> still_holds) override;
  Tensor read_grad(const Tensor& leaf) override;
  void write_grad(const Tensor& leaf, const Tensor& g) override;
  void gradients_taken(std::span<const Tensor> outputs, std::span<const Tensor> targets) override;
  void refused(const std::string& what) override;

  /// The program so far, with these results.
  Program snapshot(std::span<const Tensor> results);
  /// The same, and the capture is over.
  Program finish(std::span<const Tensor> results);
  /// Whether the program so far writes into tensors or gradients that were there before.
  bool writes_outside() const;
  /// Gives up. Safe to call after finish().
  void abandon() noexcept;

 private:
  struct Buffer {
    ValueId current = -1;       // the value that stands for its newest content,
    TensorDesc desc;            // its description
    std::int64_t offset = 0;    // and its place: bytes from the storage's start
    std::uint32_t version = 0;  // counts writes
    bool external = false;      // a state, an input or a gradient slot: writes are effects
    RefPtr<Storage> alias;      // symbolic stand-in for a concrete storage
    RefPtr<Storage> concrete;
  };
  struct Slot {
    Tensor leaf;
    Tensor now;           // what the slot holds in the program
    Tensor seen;          // the symbolic tensor that stood for it, if it was read
    bool absent = false;  // it was read, and was empty

    /// A slot that was written without being read is a result whatever it holds.
    bool unchanged() const {
      return seen.defined() ? now.defined() && now.same_as(seen) : absent && !now.defined();
    }
  };

  void check_open() const;
  ValueId value_of(const Tensor& t);
  ValueId as_strided(Buffer& b, const TensorDesc& d, std::int64_t offset);
  std::size_t new_buffer(ValueId v, const TensorDesc& d, bool external);
  ValueId new_value(const TensorDesc& d, std::size_t buffer);
  Tensor symbolic(const TensorDesc& d, ValueId v, RefPtr<Storage> storage, std::int64_t offset);
  std::size_t buffer_of(const Tensor& t);
  /// After a node wrote `t`: makes `v` its value.
  void written(const Tensor& t, ValueId v, const char* op, const SrcLoc& loc);
  void check_write(const OpDef& op, const Tensor& t) const;
  Node& add_node(const PreparedOp& op, Inputs in, const SrcLoc& loc);
  Slot& slot_of(const Tensor& leaf, bool& is_new);

  Program program_;
  std::vector<Buffer> buffers_;
  std::vector<std::int32_t> value_buffer_;  // of each value
  std::unordered_map<const Storage*, std::size_t> concrete_;
  std::vector<Slot> slots_;
  // Of tensors from outside that the program writes.
  std::unordered_map<Storage*, std::pair<RefPtr<Storage>, std::uint32_t>> versions_before_;
  std::vector<const TensorImpl*> arguments_;
  std::string refusal_;  // the first
  bool open_ = true;
};

/// Installs a tracer as this thread's interceptor and guard sink for the scope.
class CaptureScope {
 public:
  explicit CaptureScope(Tracer& t);
  ~CaptureScope();

 private:
  dispatch::InterceptorScope scope_;
  TraceGuards* saved_;
};

}  // namespace tandem::graph
