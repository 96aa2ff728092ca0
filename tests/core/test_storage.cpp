// Memory that several storages reach: they know of each other, whatever the order they came in.
#include <gtest/gtest.h>

#include <vector>

#include "autograd/autograd.h"
#include "ops/ops.h"

namespace tandem {
namespace {

class SharedMemory : public ::testing::Test {
 protected:
  /// Elements [from, to).
  Tensor import(std::int64_t from, std::int64_t to) {
    const Shape shape{to - from};
    return Tensor(make_ref<TensorImpl>(
        Storage::import(memory_.data() + from, 4 * static_cast<std::size_t>(to - from), kCPU,
                        nullptr),
        TensorDesc(DType::f32, kCPU, shape, contiguous_strides(shape)), 0));
  }
  static bool same(const Tensor& a, const Tensor& b) {
    return a.impl()->storage->same_memory(*b.impl()->storage);
  }

  std::vector<float> memory_ = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
};

TEST_F(SharedMemory, OverlapsAreKnown) {
  const Tensor a = import(0, 4), b = import(3, 6), c = import(6, 8);
  EXPECT_TRUE(same(a, b));
  EXPECT_FALSE(same(b, c));
  EXPECT_FALSE(same(a, zeros({4})));
  EXPECT_TRUE(same(a, import(0, 4)));
}

TEST_F(SharedMemory, OneThatBridgesJoinsTwo) {
  const Tensor a = import(0, 2), b = import(4, 6);
  EXPECT_FALSE(same(a, b));
  const Tensor all = import(1, 5);
  EXPECT_TRUE(same(a, b));
  EXPECT_TRUE(same(a, all));
}

TEST_F(SharedMemory, WhatIsGoneIsForgotten) {
  Tensor a = import(0, 4);
  { const Tensor wide = import(2, 10); }
  a = Tensor();
  const Tensor b = import(0, 3), c = import(5, 8);
  EXPECT_FALSE(same(b, c));
}

TEST_F(SharedMemory, UpdatesReadBeforeTheyWrite) {
  Tensor a = import(0, 9), b = import(1, 10);
  b.add_(a);
  EXPECT_EQ(b.to_vector<int>(), (std::vector<int>{1, 3, 5, 7, 9, 11, 13, 15, 17}));
  memory_ = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  b.copy_(a);
  EXPECT_EQ(b.to_vector<int>(), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST_F(SharedMemory, TheTapeSeesWritesThroughTheOther) {
  Tensor w = ones({4}).set_requires_grad();
  Tensor a = import(0, 4), b = import(2, 6);
  const Tensor loss = sum(w * a);
  b.fill_(100);
  EXPECT_THROW(loss.backward(), AutogradError);
}

// What a tensor's own memory is when it comes back after it was shown to somebody.
TEST_F(SharedMemory, OwnMemoryIsKnownOnceShown) {
  const Tensor t = arange(0, 8).to(DType::f32);
  t.impl()->storage->share();
  const Shape shape{4};
  const Tensor back(
      make_ref<TensorImpl>(Storage::import(static_cast<float*>(t.raw_data()) + 2, 16, kCPU,
                                           RefPtr<RefCounted>(t.impl())),
                           TensorDesc(DType::f32, kCPU, shape, contiguous_strides(shape)), 0));
  EXPECT_TRUE(same(t, back));
  EXPECT_EQ(back.impl()->storage->version(), t.impl()->storage->version());
}

}  // namespace
}  // namespace tandem
