// An array whose size is set once; up to N elements need no heap.
#pragma once
#include <cstddef>
#include <memory>
#include <span>

namespace tandem {

/// n elements, made when n is known; a heap block only beyond N. Not copied.
template <class T, std::size_t N>
class InlineArray {
 public:
  InlineArray() = default;
  explicit InlineArray(std::size_t n) { allocate(n); }
  InlineArray(const InlineArray&) = delete;
  InlineArray& operator=(const InlineArray&) = delete;

  /// Elements are value-initialised; what was there is lost.
  void resize(std::size_t n) {
    for (T& x : inline_) x = T();
    heap_.reset();
    allocate(n);
  }
  std::size_t size() const { return size_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  operator std::span<T>() { return {data_, size_}; }
  operator std::span<const T>() const { return {data_, size_}; }

 private:
  void allocate(std::size_t n) {
    size_ = n;
    if (n > N) heap_ = std::make_unique<T[]>(n);
    data_ = n > N ? heap_.get() : inline_;
  }

  T inline_[N] = {};
  std::unique_ptr<T[]> heap_;
  T* data_ = inline_;
  std::size_t size_ = 0;
};

}  // namespace tandem
