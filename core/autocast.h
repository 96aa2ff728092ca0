// Mixed precision: inside an Autocast scope every op runs in the type its class asks for
// (OpTraits::autocast), and the casts are ordinary ops: taped, captured, fused.
//
//   gains speed     conv2d, linear, matmul                    -> the scope's 16-bit type
//   needs range     softmax, losses, exp, log, pow, sums, ... -> f32
//   anything else   as the promotion rules say (batch norm keeps its statistics in f32)
//
// Weights stay f32 (the "master" copy) and so do their gradients and the optimiser's state.
// Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018, arXiv:1710.03740.
#pragma once
#include <string>

#include "core/dtype.h"

namespace tandem {

/// What an op wants of its floating inputs while autocasting.
enum class AutocastClass : std::uint8_t { none, low, f32 };

/// What autocast does on this thread: nothing, or casts to `dtype` (f16 or bf16).
struct AutocastMode {
  bool on = false;
  DType dtype = DType::bf16;  // bf16 or f16

  std::string str() const;  // "off", "bf16"
  friend bool operator==(const AutocastMode&, const AutocastMode&) = default;
};

/// This thread's mode. Both run modes read it; it is part of every compiled program's signature.
AutocastMode autocast_mode();
/// TypeError if it is on with a dtype other than bf16 and f16. Autocast does it for a scope.
void set_autocast_mode(AutocastMode mode);

/// Autocasting for a scope; `on` = false suspends it in a part of one. The backward pass is not
/// autocast wherever it is called: each gradient has the type of its forward op. f64 tensors are
/// left alone. Throws TypeError unless `dtype` is bf16 or f16.
class Autocast {
 public:
  explicit Autocast(DType dtype = DType::bf16, bool on = true);
  explicit Autocast(AutocastMode mode) : saved_(autocast_mode()) { set_autocast_mode(mode); }
  ~Autocast() { set_autocast_mode(saved_); }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  AutocastMode saved_;
};

}  // namespace tandem
