// What the tests that go through the table of op cases share.
#pragma once
#include <gtest/gtest.h>

#include "core/dispatch.h"
#include "tests/op_cases.h"

namespace tandem::cases {

class OpCases : public ::testing::TestWithParam<std::size_t> {
 protected:
  const OpCase& c() const { return all_cases()[GetParam()]; }
  /// The shapes of the case and the other ones: empty, one element, …
  std::vector<Shapes> every_shape() const {
    std::vector<Shapes> s = {shapes_of(c())};
    s.insert(s.end(), c().more.begin(), c().more.end());
    return s;
  }
  bool takes(DType t) const {
    return std::find(c().dtypes.begin(), c().dtypes.end(), t) != c().dtypes.end();
  }
};

inline std::string case_name(const ::testing::TestParamInfo<std::size_t>& i) {
  return all_cases()[i.param].name;
}
#define TANDEM_EVERY_CASE(Fixture)                                                               \
  INSTANTIATE_TEST_SUITE_P(Table, Fixture, ::testing::Range<std::size_t>(0, all_cases().size()), \
                           case_name)

inline std::string str(const Shapes& shapes) {
  std::string s;
  for (const Shape& x : shapes) s += x.str();
  return s;
}

/// The layouts an argument may come in. Values stay what they are.
enum class Layout : std::uint8_t { contiguous, reversed_axes, sliced, channels_last, count };
inline const char* name_of(Layout l) {
  constexpr const char* names[] = {"contiguous", "reversed axes", "sliced", "channels last"};
  return names[static_cast<int>(l)];
}

inline Tensor in_layout(const Tensor& t, Layout l) {
  const NoGrad no_grad;
  const int rank = t.rank();
  switch (l) {
    case Layout::reversed_axes: {
      if (rank < 2) return t;
      Dims reverse;
      for (int k = rank - 1; k >= 0; --k) reverse.push_back(k);
      return t.permute(reverse).contiguous().permute(reverse);
    }
    case Layout::sliced: {
      // Every other element of the last axis, from the second, in a buffer full of something else.
      if (rank == 0) return full({3}, 1, {.dtype = t.dtype()}).select(0, 1).copy_(t);
      Shape s = t.shape();
      s[rank - 1] = 2 * s[rank - 1] + 1;
      s[0] = rank > 1 ? s[0] + 2 : s[0];
      Tensor v = full(s, 1, {.dtype = t.dtype()}).slice(rank - 1, 1, s[rank - 1], 2);
      if (rank > 1) v = v.slice(0, 1, s[0] - 1);
      assign(v, t);
      return v;
    }
    case Layout::channels_last: return rank == 4 ? t.to(MemoryFormat::channels_last) : t;
    default: return t;
  }
}

/// Those of `args` a gradient is wanted of, marked as such (in fresh handles of the same memory).
inline std::vector<Tensor> with_grad(const OpCase& c, const std::vector<Tensor>& args) {
  std::vector<Tensor> r;
  for (std::size_t i = 0; i < args.size(); ++i) {
    r.push_back(args[i].detach());
    if (c.args[i].grad && is_floating(args[i].dtype())) r.back().set_requires_grad();
  }
  return r;
}

}  // namespace tandem::cases
