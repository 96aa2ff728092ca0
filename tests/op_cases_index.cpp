// Joining, padding, picking, sorting.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/op_cases.h"

namespace tandem::cases {
namespace {

const std::vector<DType> kNumbers = kFloats + kInts + std::vector<DType>{DType::u8};
const std::vector<DType> kAll = kNumbers + std::vector<DType>{DType::boolean};

Array concat_of(const std::vector<Array>& xs, int axis) {
  Shape s = xs[0].shape;
  s[axis] = 0;
  for (const Array& x : xs) s[axis] += x.shape[axis];
  return build(s, [&](Dims i) {
    for (const Array& x : xs) {
      if (i[axis] < x.shape[axis]) return x[i];
      i[axis] -= x.shape[axis];
    }
    return 0.0;
  });
}

OpCase exact(const char* name, std::vector<Arg> args, Fn run, Reference ref,
             std::vector<DType> dtypes = kAll) {
  OpCase c;
  c.name = name;
  c.args = std::move(args);
  c.run = std::move(run);
  c.reference = std::move(ref);
  c.dtypes = std::move(dtypes);
  c.types = {Type::same};
  c.ulps = c.roundings = 0;
  return c;
}

/// The same with tensors of one element, into which only index 0 leads.
OpCase one_element(OpCase c, const Shapes& shapes) {
  c.name += "_one";
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    c.args[i].shape = shapes[i];
    if (c.args[i].dtype) c.args[i].hi = 0;
  }
  c.more = {};
  c.big = {};
  return c;
}

Arg indices(Shape s, double size, DType t = DType::i64) {
  return {.shape = s, .lo = 0, .hi = size - 1, .dtype = t};
}

// The places of a line's elements in order; equal ones as they were.
std::vector<std::size_t> order_of(const std::vector<double>& v, bool descending) {
  std::vector<std::size_t> o(v.size());
  std::iota(o.begin(), o.end(), 0);
  std::stable_sort(o.begin(), o.end(), [&](std::size_t a, std::size_t b) {
    return descending ? v[a] > v[b] : v[a] < v[b];
  });
  return o;
}

std::vector<Array> sorted(const Array& x, int axis, bool descending, std::int64_t keep) {
  if (axis < 0) axis += x.rank();
  Shape s = x.shape;
  s[axis] = keep < 0 ? s[axis] : keep;
  std::vector<Array> r = {Array(s), Array(s)};
  const Array base(s);
  for (std::size_t k = 0; k < base.v.size(); ++k) {
    Dims i = base.position(k);
    if (i[axis] != 0) continue;
    std::vector<double> line;
    for (std::int64_t n = 0; n < x.shape[axis]; ++n) {
      i[axis] = n;
      line.push_back(x[i]);
    }
    const auto o = order_of(line, descending);
    for (std::int64_t n = 0; n < s[axis]; ++n) {
      i[axis] = n;
      r[0][i] = line[o[static_cast<std::size_t>(n)]];
      r[1][i] = static_cast<double>(o[static_cast<std::size_t>(n)]);
    }
  }
  return r;
}

}  // namespace

void index_cases(CaseTable& out) {
  for (int axis : {0, 1}) {
    OpCase c = exact(
        axis ? "concat_1" : "concat_0", {{{2, 3, 2, 2}}, {{2, 3, 2, 2}}, {{2, 3, 2, 2}}},
        [axis](const std::vector<Tensor>& in) { return std::vector{concat(in, axis)}; },
        [axis](const std::vector<Array>& in) { return std::vector{concat_of(in, axis)}; });
    c.more = axis ? std::vector<Shapes>{{{2, 1}, {2, 0}, {2, 4}},
                                        {{0, 1}, {0, 2}, {0, 0}},
                                        {{1, 1}, {1, 1}, {1, 1}}}
                  : std::vector<Shapes>{{{1}, {0}, {3}}, {{0, 2}, {3, 2}, {1, 2}}, {{1}, {1}, {1}}};
    c.big = {{90, 800}, {90, 800}, {90, 800}};
    out.push_back(c);
  }
  OpCase joined = exact(
      "stack", {{{2, 3}}, {{2, 3}}},
      [](const std::vector<Tensor>& in) { return std::vector{stack(in, 1)}; },
      [](std::vector<Array> in) {
        for (Array& a : in) a.shape.insert(1, 1);
        return std::vector{concat_of(in, 1)};
      });
  joined.more = {{{4}, {4}}, {{0, 2}, {0, 2}}, {{1}, {1}}};
  out.push_back(joined);

  OpCase padded = exact(
      "pad", {{{2, 3}}},
      [](const std::vector<Tensor>& in) {
        return std::vector{pad(in[0], {1, 0, 2, 1}, 1)};
      },
      [](const std::vector<Array>& in) {
        const Shape& s = in[0].shape;
        return std::vector{build({s[0] + 1, s[1] + 3}, [&](const Dims& i) {
          const std::int64_t a = i[0] - 1, b = i[1] - 2;
          return a >= 0 && b >= 0 && b < s[1] ? in[0][Dims{a, b}] : 1.0;
        })};
      });
  padded.more = {{{0, 3}}, {{1, 1}}};
  padded.big = {{300, 700}};
  out.push_back(padded);
  OpCase nhwc = exact(
      "pad_images", {{{2, 3, 2, 4}}},
      [](const std::vector<Tensor>& in) {
        return std::vector{pad(in[0], {0, 0, 0, 0, 1, 1, 2, 0})};
      },
      [](const std::vector<Array>& in) {
        const Shape& s = in[0].shape;
        return std::vector{build({s[0], s[1], s[2] + 2, s[3] + 2}, [&](const Dims& i) {
          const std::int64_t a = i[2] - 1, b = i[3] - 2;
          return a >= 0 && a < s[2] && b >= 0 ? in[0][Dims{i[0], i[1], a, b}] : 0.0;
        })};
      });
  out.push_back(nhwc);
  OpCase flipped = exact(
      "flip", {{{2, 3, 4}}},
      [](const std::vector<Tensor>& in) {
        return std::vector{flip(in[0], {0, -1})};
      },
      [](const std::vector<Array>& in) {
        const Shape& s = in[0].shape;
        const int last = s.size() - 1;
        return std::vector{build(s, [&](Dims i) {
          i[0] = s[0] - 1 - i[0];
          i[last] = s[last] - 1 - i[last];
          return in[0][i];
        })};
      });
  flipped.more = {{{0, 3}}, {{1, 1}}, {{5, 2}}, {{2, 3, 2, 2}}};
  flipped.big = {{50, 60, 70}};
  out.push_back(flipped);
  OpCase rolled = exact(
      "roll", {{{3, 4}}},
      [](const std::vector<Tensor>& in) {
        return std::vector{roll(in[0], {1, -6}, {0, 1})};
      },
      [](const std::vector<Array>& in) {
        const Shape& s = in[0].shape;
        return std::vector{build(s, [&](Dims i) {
          i[0] = (i[0] + s[0] - 1) % s[0];
          i[1] = (i[1] + 6) % s[1];
          return in[0][i];
        })};
      });
  rolled.more = {{{1, 1}}, {{3, 0}}, {{2, 3, 2, 2}}};
  rolled.big = {{300, 700}};
  out.push_back(rolled);

  // --- picking
  for (const DType t : {DType::i64, DType::i32}) {
    const std::string suffix = t == DType::i64 ? "" : "_i32";
    OpCase c = exact(
        "gather", {{{3, 4, 2}}, indices({2, 5, 2}, 4, t)},
        [](const std::vector<Tensor>& in) { return std::vector{gather(in[0], 1, in[1])}; },
        [](const std::vector<Array>& in) {
          return std::vector{build(in[1].shape, [&](Dims i) {
            i[1] = static_cast<std::int64_t>(in[1][i]);
            return in[0][i];
          })};
        });
    c.name += suffix;
    c.more = {{{3, 4}, {0, 5}}, {{2, 4}, {2, 0}}, {{1, 4}, {1, 1}}, {{2, 4, 2, 2}, {2, 3, 2, 2}}};
    c.big = {{40, 50, 60}, {40, 50, 60}};
    out.push_back(c);
    out.push_back(one_element(c, {{1, 1}, {1, 1}}));

    c = exact(
        "scatter_add", {{{3, 4, 2}}, indices({2, 5, 2}, 4, t), {{2, 5, 2}}},
        [](const std::vector<Tensor>& in) {
          return std::vector{scatter_add(in[0], 1, in[1], in[2])};
        },
        [](const std::vector<Array>& in) {
          Array r = in[0];
          for (std::size_t k = 0; k < in[1].v.size(); ++k) {
            Dims i = in[1].position(k);
            i[1] = static_cast<std::int64_t>(in[1].v[k]);
            r[i] += in[2].v[k];
          }
          return std::vector{r};
        },
        kNumbers);
    c.name += suffix;
    c.more = {{{3, 4}, {2, 0}, {2, 0}},
              {{1, 4}, {1, 1}, {1, 1}},
              {{2, 4, 2, 2}, {2, 3, 2, 2}, {2, 3, 2, 2}}};
    c.big = {{40, 50, 60}, {40, 50, 60}, {40, 50, 60}};
    c.ulps = 16;
    c.magnitude = 8;
    c.roundings = 5;
    c.why = "sums of up to six numbers";
    out.push_back(c);
    out.push_back(one_element(c, {{1, 1}, {1, 1}, {1, 1}}));

    c = exact(
        "index_select", {{{3, 4, 2}}, indices({5}, 4, t)},
        [](const std::vector<Tensor>& in) { return std::vector{index_select(in[0], 1, in[1])}; },
        [](const std::vector<Array>& in) {
          Shape s = in[0].shape;
          s[1] = in[1].shape[0];
          return std::vector{build(s, [&](Dims i) {
            i[1] = static_cast<std::int64_t>(in[1].v[static_cast<std::size_t>(i[1])]);
            return in[0][i];
          })};
        });
    c.name += suffix;
    c.more = {{{3, 4}, {0}}, {{0, 4}, {2}}, {{1, 4}, {1}}, {{2, 4, 2, 2}, {3}}};
    c.big = {{40, 50, 60}, {50}};
    out.push_back(c);
    out.push_back(one_element(c, {{1, 1}, {1}}));

    c = exact(
        "index_add", {{{3, 4, 2}}, indices({5}, 4, t), {{3, 5, 2}}},
        [](const std::vector<Tensor>& in) {
          return std::vector{index_add(in[0], 1, in[1], in[2])};
        },
        [](const std::vector<Array>& in) {
          Array r = in[0];
          for (std::size_t k = 0; k < in[2].v.size(); ++k) {
            Dims i = in[2].position(k);
            i[1] = static_cast<std::int64_t>(in[1].v[static_cast<std::size_t>(i[1])]);
            r[i] += in[2].v[k];
          }
          return std::vector{r};
        },
        kNumbers);
    c.name += suffix;
    c.more = {{{3, 4}, {0}, {3, 0}}, {{1, 4}, {1}, {1, 1}}, {{2, 4, 2, 2}, {3}, {2, 3, 2, 2}}};
    c.big = {{40, 50, 60}, {50}, {40, 50, 60}};
    c.ulps = 16;
    c.magnitude = 8;
    c.roundings = 5;
    c.why = "sums of up to six numbers";
    out.push_back(c);
    out.push_back(one_element(c, {{1, 1}, {1}, {1, 1}}));

    c = exact(
        "embedding", {{{4, 3}}, indices({2, 3}, 4, t)},
        [](const std::vector<Tensor>& in) { return std::vector{embedding(in[0], in[1])}; },
        [](const std::vector<Array>& in) {
          Shape s = in[1].shape;
          s.push_back(in[0].shape[1]);
          return std::vector{build(s, [&](const Dims& i) {
            Dims id = i;
            id.resize(i.size() - 1);
            return in[0][Dims{static_cast<std::int64_t>(in[1][id]), i[i.size() - 1]}];
          })};
        });
    c.name += suffix;
    c.more = {{{4, 3}, {}}, {{4, 3}, {0}}, {{4, 0}, {2}}};
    out.push_back(c);
    out.push_back(one_element(c, {{1, 1}, {}}));

    // The second argument only says of which type the result is.
    OpCase h = exact(
        "one_hot", {indices({2, 3}, 4, t), {.shape = {}, .grad = false}},
        [](const std::vector<Tensor>& in) { return std::vector{one_hot(in[0], 4, in[1].dtype())}; },
        [](const std::vector<Array>& in) {
          Shape s = in[0].shape;
          s.push_back(4);
          return std::vector{build(s, [&](const Dims& i) {
            Dims id = i;
            id.resize(i.size() - 1);
            return static_cast<double>(in[0][id] == static_cast<double>(i[i.size() - 1]));
          })};
        });
    h.name += suffix;
    h.more = {{{}, {}}, {{0}, {}}};
    h.differentiable = false;
    out.push_back(h);
    h.name += "_default";
    h.run = [](const std::vector<Tensor>& in) { return std::vector{one_hot(in[0], 4)}; };
    h.dtypes = {DType::f32};
    h.types = {Type::i64};
    out.push_back(h);
  }

  // --- order
  for (const bool descending : {false, true}) {
    for (const int axis : {-1, 0}) {
      // Whole numbers: many are equal, and must stay in their order.
      for (const bool ties : {false, true}) {
        OpCase c = exact(
            "", {{.shape = {3, 5, 2}, .lo = -3, .hi = 3, .integers = ties, .distinct = !ties}},
            [=](const std::vector<Tensor>& in) {
              const auto [v, i] = sort(in[0], axis, descending);
              return std::vector{v, i};
            },
            [=](const std::vector<Array>& in) { return sorted(in[0], axis, descending, -1); },
            kNumbers);
        c.name = fmt::format("sort{}{}{}", axis ? "_last" : "_first", descending ? "_down" : "",
                             ties ? "_ties" : "");
        c.types = {Type::same, Type::i64};
        c.more = {{{1}}, {{0, 3}}, {{3, 0}}, {{300}}, {{2, 3, 2, 2}}};
        c.big = {{500, 700}};
        c.differentiable = !ties;  // the gradient is right, but differences cannot show it
        out.push_back(c);

        c.name = fmt::format("topk{}{}{}", axis ? "_last" : "_first", descending ? "_down" : "",
                             ties ? "_ties" : "");
        c.run = [=](const std::vector<Tensor>& in) {
          const auto [v, i] = topk(in[0], 2, axis, descending);
          return std::vector{v, i};
        };
        c.reference = [=](const std::vector<Array>& in) {
          return sorted(in[0], axis, descending, 2);
        };
        c.more = {{{2}}, {{300}}, {{2, 3, 2, 2}}};
        c.more.push_back(axis ? Shapes{{0, 3}} : Shapes{{3, 0}});
        out.push_back(c);
        if (ties) continue;

        c.name = fmt::format("topk_one{}{}", axis ? "_last" : "_first", descending ? "_down" : "");
        c.run = [=](const std::vector<Tensor>& in) {
          const auto [v, i] = topk(in[0], 1, axis, descending);
          return std::vector{v, i};
        };
        c.reference = [=](const std::vector<Array>& in) {
          return sorted(in[0], axis, descending, 1);
        };
        c.more = {{{1}}, {{1, 1}}};
        c.big = {};
        out.push_back(c);
      }
    }
  }
}

}  // namespace tandem::cases
