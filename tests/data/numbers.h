// A data set whose every pixel says which it is.
#pragma once
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "data/dataset.h"

namespace tandem {

/// Image i is [2, 3, 4] of values made from i; label i % 10. Can fail, be slow, and count.
class Numbers final : public data::Dataset {
 public:
  explicit Numbers(std::int64_t n, std::int64_t bad = -1) : n_(n), bad_(bad) {}
  std::string name() const override { return "numbers"; }
  std::int64_t size() const override { return n_; }
  Shape image_shape() const override { return {2, 3, 4}; }
  std::int64_t classes() const override { return 10; }
  void get(std::span<const std::int64_t> indices, float* images,
           std::int64_t* labels) const override {
    ++calls;
    if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    for (const auto i : indices) {
      if (i == bad_) throw std::runtime_error("sample " + std::to_string(i) + " is bad");
      for (int k = 0; k < 24; ++k) *images++ = value(i, k);
      *labels++ = i == mislabelled ? label : i % 10;
    }
  }
  static float value(std::int64_t i, int k) { return static_cast<float>(i * 24 + k) / 65536.0f; }

  mutable std::atomic<int> calls = 0;
  bool slow = false;
  std::int64_t mislabelled = -1, label = 0;  // that sample has this label

 private:
  std::int64_t n_, bad_;
};

}  // namespace tandem
