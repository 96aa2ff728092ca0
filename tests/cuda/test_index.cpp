// Joining, padding, picking and adding at indices on the GPU: units of several elements and where
// they do not fit, more pieces than one launch takes, few and many indices, and faults.
#include "tests/cuda/both_devices.h"

namespace tandem::cases {
namespace {

using IndexOnGpu = OnGpu;

Tensor integers(std::int64_t lo, std::int64_t hi, const Shape& shape, Generator& g) {
  return randint(lo, hi, shape, {.dtype = DType::i64}, &g);
}

const std::vector<DType> kMoved = kFloats + kInts + std::vector<DType>{DType::u8, DType::boolean};

Tensor values(const Shape& shape, DType t, Generator& g) {
  return t == DType::boolean ? gt(uniform(shape, -1, 1, {}, &g), 0)
                             : uniform(shape, 0, 100, {}, &g).to(t);
}

// With a last axis of that many elements, in a buffer that begins `offset` elements before.
Tensor rows(std::int64_t rows, std::int64_t n, std::int64_t offset, DType t, Generator& g) {
  return values({rows * n + offset}, t, g).slice(0, offset, rows * n + offset).reshape({rows, n});
}

TEST_F(IndexOnGpu, UnitsOfAnySize) {
  for (const DType t : kMoved) {
    SCOPED_TRACE(name_of(t));
    expect_same_bits([t](Generator& g) {
      std::vector<Tensor> r;
      const Tensor ids = integers(0, 6, {9}, g);
      for (const std::int64_t n : {1, 2, 4, 6, 8, 16, 48, 51}) {
        for (const std::int64_t offset : {0, 1, 4}) {
          const Tensor x = rows(6, n, offset, t, g), y = rows(6, 16, offset, t, g);
          r.push_back(concat({x, y, x}, 1));
          r.push_back(concat({x, x.slice(0, 1, 3)}, 0));
          r.push_back(pad(x, {1, 2, 16, 32}, 1));
          r.push_back(pad(x, {1, 2, 0, 3}, 1));
          r.push_back(pad(x, {3, 0, 0, 0}, 1));
          r.push_back(roll(x, {4, 2}, {1, 0}));
          r.push_back(flip(x, {0}));
          r.push_back(flip(x, {1}));
          r.push_back(index_select(x, 0, ids));
          r.push_back(gather(x, 0, ids.unsqueeze(1).expand({9, n})));
          r.push_back(gather(x, 1, integers(0, n, {6, 3}, g)));
        }
      }
      return r;
    });
  }
}

TEST_F(IndexOnGpu, ManyPieces) {
  expect_same_bits([](Generator& g) {
    std::vector<Tensor> r, parts;
    for (int i = 0; i < 19; ++i) parts.push_back(values({3, i * 37 % 11, 4}, DType::f32, g));
    r.push_back(concat(parts, 1));
    parts[13] = values({3, 700, 4}, DType::f32, g);  // several blocks
    r.push_back(concat(parts, 1));
    const Tensor x = values({3, 4, 5, 2, 3}, DType::f32, g);
    r.push_back(roll(x, {1, 2, 3, 1, -1}, {0, 1, 2, 3, 4}));
    r.push_back(flip(x, {4, 0, 2}));
    r.push_back(flip(x.permute({1, 0, 4, 3, 2}), {1, 2}));
    r.push_back(roll(x.slice(2, 0, 5, 2), {-1, 7}, {2, 0}));
    return r;
  });
}

TEST_F(IndexOnGpu, Borders) {
  expect_same_bits([](Generator& g) {
    std::vector<Tensor> r;
    const Tensor x = values({2, 3, 4, 5}, DType::f32, g);
    // Neighbouring axes may be taken together only if the inner one has no border.
    r.push_back(pad(x, {0, 0, 0, 0, 1, 2, 0, 0}, 7));
    r.push_back(pad(x, {1, 1, 0, 0, 0, 0, 2, 1}, 7));
    r.push_back(pad(x.to(MemoryFormat::channels_last), {0, 0, 0, 0, 1, 2, 3, 4}, 7));
    r.push_back(pad(x.permute({3, 1, 0, 2}), {0, 1, 0, 0, 2, 0, 0, 0}, 7));
    // x's axis of size 1 looks as if it went on evenly.
    const Tensor column = values({4, 3}, DType::f32, g).slice(1, 0, 1);
    r.push_back(pad(column, {0, 0, 0, 2}, 7));
    r.push_back(pad(column, {0, 0, 1, 1}, 7));
    r.push_back(pad(column, {2, 0, 2, 0}, 7));
    // Nothing but border.
    r.push_back(pad(values({0}, DType::f32, g), {1, 0}, 7));
    r.push_back(pad(values({4, 0}, DType::f32, g), {0, 0, 5, 3}, 7));
    r.push_back(pad(values({0, 2}, DType::i64, g), {3, 3, 0, 0}, 7));
    return r;
  });
}

TEST_F(IndexOnGpu, OneHot) {
  for (const DType t : kMoved) {
    SCOPED_TRACE(name_of(t));
    expect_same_bits([t](Generator& g) {
      std::vector<Tensor> r;
      for (const std::int64_t classes : {1, 2, 3, 10, 16, 33, 700}) {
        const Tensor ids = integers(0, classes, {5, 9}, g);
        r.push_back(one_hot(ids, classes, t));
        r.push_back(one_hot(ids.permute({1, 0}).slice(0, 1, 9, 2).to(DType::i32), classes, t));
      }
      return r;
    });
  }
}

// Sums of equal indices are formed in their order, so they are the CPU's.
TEST_F(IndexOnGpu, FewAndManyIndices) {
  for (const DType t : kFloats + kInts + std::vector<DType>{DType::u8}) {
    SCOPED_TRACE(name_of(t));
    expect_same_bits([t](Generator& g) {
      std::vector<Tensor> r;
      for (const std::int64_t n : {1, 31, 32, 33, 100, 2048, 2049}) {
        for (const std::int64_t size : {1, 7, 500}) {
          const Tensor x = values({size, 3}, t, g), src = values({n, 3}, t, g);
          const Tensor ids = integers(0, size, {n}, g), own = integers(0, size, {n, 3}, g);
          r.push_back(index_add(x, 0, ids, src));
          r.push_back(scatter_add(x, 0, own, src));
        }
      }
      return r;
    });
  }
}

TEST_F(IndexOnGpu, AddsInAnyLayout) {
  for (const DType t : {DType::f32, DType::bf16, DType::i64}) {
    SCOPED_TRACE(name_of(t));
    expect_same_bits([t](Generator& g) {
      std::vector<Tensor> r;
      for (const std::int64_t n : {20, 70}) {
        const Tensor ids = integers(0, 6, {n}, g);
        for (const std::int64_t width : {1, 2, 4, 7, 8, 32}) {
          for (const std::int64_t offset : {0, 1}) {
            const Tensor x = rows(6, width, offset, t, g), src = rows(n, width, offset, t, g);
            r.push_back(index_add(x, 0, ids.to(DType::i32), src));
            r.push_back(scatter_add(x, 0, ids.unsqueeze(1).expand({n, width}), src));
            r.push_back(index_add(x.permute({1, 0}), 1, ids, src.permute({1, 0})));
          }
        }
        const Tensor x = values({4, 6, 8}, t, g), src = values({4, n, 8}, t, g);
        const Tensor own = integers(0, 6, {3, n, 5}, g);
        r.push_back(index_add(x, 1, ids, src));
        r.push_back(index_add(x.permute({2, 1, 0}), 1, ids, src.permute({2, 1, 0})));
        r.push_back(scatter_add(x, 1, own, src.slice(0, 1, 4).slice(2, 2, 7)));
        r.push_back(scatter_add(x.permute({0, 2, 1}), 2, own.permute({0, 2, 1}),
                                src.slice(0, 1, 4).slice(2, 2, 7).permute({0, 2, 1})));
        r.push_back(
            scatter_add(x.select(0, 0).select(1, 0), 0, ids, src.select(0, 0).select(1, 0)));
      }
      return r;
    });
  }
}

TEST_F(IndexOnGpu, RefusesIndices) {
  const DefaultDevice scope({DeviceType::cuda, 0});
  const PolicyScope own({.vendor = false});
  const NoGrad no_grad;
  for (const std::int64_t n : {3, 100}) {  // few and many
    for (const std::int64_t bad : {-1, 5}) {
      SCOPED_TRACE(std::to_string(n) + " indices, one of them " + std::to_string(bad));
      const Tensor x = ones({5, 4}), src = ones({n, 4});
      const Tensor ids = zeros({n}, {.dtype = DType::i64});
      ids.slice(0, 2, 3).fill_(static_cast<double>(bad));
      const Tensor each = ids.unsqueeze(1).expand({n, 4}).contiguous();
      const auto refused = [&](const std::function<Tensor()>& f) {
        try {
          f().to(kCPU);
          ADD_FAILURE() << "no error";
        } catch (const IndexError& e) {
          EXPECT_NE(std::string(e.what()).find(std::to_string(bad)), std::string::npos) << e.what();
        }
        EXPECT_EQ(add(x, x).to(kCPU).data<float>()[0], 2) << "the device goes on";
      };
      refused([&] { return gather(x, 0, each); });
      refused([&] { return index_select(x, 0, ids); });
      refused([&] { return index_add(x, 0, ids, src); });
      refused([&] { return scatter_add(x, 0, each, src); });
      refused([&] { return one_hot(ids, 5); });
      // What a bad index would add is left out, and nothing else is touched.
      const auto left_out = [&](const std::function<Tensor()>& f) {
        Tensor y;
        refused([&] { return y = f(); });
        const Array got = to_array(y.to(kCPU));
        for (std::int64_t i = 0; i < 4; ++i) {
          for (std::int64_t k = 0; k < 5; ++k) {
            EXPECT_EQ(got[Dims({i, k})], k == 0 ? static_cast<double>(n) : 1) << i << ", " << k;
          }
        }
      };
      left_out([&] { return index_add(ones({4, 5}), 1, ids, ones({4, n})); });
      left_out([&] {
        return scatter_add(ones({4, 5}), 1, each.permute({1, 0}).contiguous(), ones({4, n}));
      });
    }
  }
}

}  // namespace
}  // namespace tandem::cases
