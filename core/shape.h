// Sizes and strides: short inline lists, no heap.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/error.h"

namespace tandem {

inline constexpr int kMaxRank = 8;

/// Up to eight 64-bit integers: a shape, strides, or a list of axes.
class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<std::int64_t> v) { assign(v.begin(), v.size()); }
  explicit Dims(const std::vector<std::int64_t>& v) { assign(v.data(), v.size()); }
  Dims(int n, std::int64_t value) {
    resize(n);
    for (int i = 0; i < n; ++i) v_[i] = value;
  }

  int size() const { return n_; }
  bool empty() const { return n_ == 0; }
  std::int64_t operator[](int i) const { return v_[i]; }
  std::int64_t& operator[](int i) { return v_[i]; }
  std::int64_t back() const { return v_[n_ - 1]; }
  const std::int64_t* begin() const { return v_; }
  const std::int64_t* end() const { return v_ + n_; }
  std::int64_t* begin() { return v_; }
  std::int64_t* end() { return v_ + n_; }

  void resize(int n) {  // what is new is 0
    if (n < 0 || n > kMaxRank) too_long(n);
    for (int i = n_; i < n; ++i) v_[i] = 0;
    n_ = n;
  }
  void push_back(std::int64_t x) {
    resize(n_ + 1);
    v_[n_ - 1] = x;
  }
  void insert(int at, std::int64_t x) {
    push_back(0);
    for (int i = n_ - 1; i > at; --i) v_[i] = v_[i - 1];
    v_[at] = x;
  }
  void erase(int at) {
    for (int i = at; i + 1 < n_; ++i) v_[i] = v_[i + 1];
    --n_;
  }

  friend bool operator==(const Dims& a, const Dims& b) {
    if (a.n_ != b.n_) return false;
    for (int i = 0; i < a.n_; ++i) {
      if (a.v_[i] != b.v_[i]) return false;
    }
    return true;
  }

  std::vector<std::int64_t> vec() const { return {begin(), end()}; }
  std::string str() const;  // "[2, 3]"

 private:
  void assign(const std::int64_t* p, std::size_t n) {
    if (n > kMaxRank) too_long(static_cast<int>(n));
    n_ = static_cast<int>(n);
    for (int i = 0; i < n_; ++i) v_[i] = p[i];
  }
  [[noreturn]] static void too_long(int n);

  int n_ = 0;
  std::int64_t v_[kMaxRank] = {};
};

using Shape = Dims;
using Strides = Dims;

/// Product of the sizes (1 for rank 0). Throws ShapeError on a negative size or on overflow.
std::int64_t checked_numel(const Shape& s, std::string_view op);

/// Product of the sizes of a shape already known to be valid.
inline std::int64_t numel(const Shape& s) {
  std::int64_t n = 1;
  for (auto d : s) n *= d;
  return n;
}

/// `axis` in [-rank, rank) -> [0, rank). Throws IndexError naming `op`.
int wrap_axis(std::int64_t axis, int rank, std::string_view op);

/// NumPy broadcasting of two shapes. Throws ShapeError naming `op`.
Shape broadcast_shapes(const Shape& a, const Shape& b, std::string_view op);

/// Order of the elements of a new [N, C, H, W] tensor in memory; other ranks are row-major.
enum class MemoryFormat : std::uint8_t {
  contiguous,     // row-major
  channels_last,  // logical NCHW, the channel varies fastest in memory (rank 4)
  preserve        // whatever the input has
};
const char* name_of(MemoryFormat f);

/// Strides of a dense tensor: row-major, channels-last (ShapeError unless rank 4), or as `f` says,
/// `preserve` being row-major.
Strides contiguous_strides(const Shape& s);
Strides channels_last_strides(const Shape& s);  // rank 4
Strides strides_for(const Shape& s, MemoryFormat f);

}  // namespace tandem
