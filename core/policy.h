// The one switch a kernel sees besides its descriptors. Both modes read the same policy; it is
// part of every plan's key and of every compiled program's signature.
#pragma once
#include <cstdint>
#include <string>

namespace tandem {

/// What kernels may be chosen.
struct Policy {
  /// Only kernels that give the same bits at every run. On the CPU all do, for one number of
  /// threads; the plain kernels (vendor = false) also for any number.
  bool deterministic = true;
  /// Tensor-core TF32 for f32 matrix products and convolutions (CUDA only).
  bool tf32 = false;
  /// f32 products and convolutions may round their operands to bf16 (CPU; tf32 is CUDA's), where
  /// the library and the processor gain by it (oneDNN 3 with AMX; not 2.6). Sums stay f32.
  bool fast_math = false;
  /// Use the vendor library (oneDNN, cuDNN) where there is one; off: the plain reference kernels.
  bool vendor = true;
  /// How many ways to compute a convolution or a batch norm may be timed when its plan is made
  /// (CUDA only); 0: one, chosen by rule. Both modes use what was chosen, another run of the
  /// program may choose otherwise.
  std::uint8_t search = 0;

  std::uint32_t key() const {  // another for every policy
    return deterministic | tf32 << 1 | fast_math << 2 | vendor << 3 | search << 8;
  }
  std::string str() const;
  friend bool operator==(const Policy&, const Policy&) = default;
};

/// This thread's policy.
Policy& policy();

/// Replaces this thread's policy until the end of the scope.
class PolicyScope {
 public:
  explicit PolicyScope(const Policy& p) : saved_(policy()) { policy() = p; }
  ~PolicyScope() { policy() = saved_; }
  PolicyScope(const PolicyScope&) = delete;
  PolicyScope& operator=(const PolicyScope&) = delete;

 private:
  Policy saved_;
};

}  // namespace tandem
