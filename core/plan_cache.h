// (op, input descriptions, attributes, policy, threads) -> PreparedOp. One cache for both modes. A
// small table per thread answers nearly every call without a lock; behind it one table is shared.
#pragma once
#include "core/dispatch.h"

namespace tandem::detail {

/// Prepared calls by op, attributes and descriptions of the inputs. Thread-safe; holds no more than
/// two generations of entries.
class PlanCache {
 public:
  static PlanCache& local();  // this thread's

  /// The reference is good until this thread's next get().
  const PreparedOp& get(const OpDef& op, std::span<const TensorDesc* const> in, AttrRef attrs);

 private:
  static constexpr std::size_t kSlots = 1024;
  const PreparedOp& miss(std::size_t slot, std::uint64_t hash, const OpDef& op,
                         std::span<const TensorDesc* const> in, AttrRef attrs);

  RefPtr<const PreparedOp> slots_[kSlots];
  std::uint64_t epoch_ = 0;  // of the shared table when the slots were filled
};

}  // namespace tandem::detail
