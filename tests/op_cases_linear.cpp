// Matrix products, convolution, pooling.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/op_list.h"
#include "tests/op_cases.h"

namespace tandem::cases {
namespace {

Array matmul_of(Array a, Array b) {
  const bool row = a.rank() == 1, column = b.rank() == 1;
  if (row) a.shape = {1, a.shape[0]};
  if (column) b.shape = {b.shape[0], 1};
  const int ra = a.rank(), rb = b.rank(), rank = std::max(ra, rb);
  Shape s;
  for (int k = 0; k < rank - 2; ++k) {
    const int i = k - rank + ra, j = k - rank + rb;
    const std::int64_t x = i < 0 ? 1 : a.shape[i], y = j < 0 ? 1 : b.shape[j];
    s.push_back(x == 1 ? y : x);
  }
  s.push_back(a.shape[ra - 2]);
  s.push_back(b.shape[rb - 1]);
  const std::int64_t inner = a.shape[ra - 1];
  const auto at = [&](const Array& t, const Dims& i, std::int64_t m, std::int64_t n) {
    Dims j(t.rank(), 0);
    for (int k = 0; k < t.rank() - 2; ++k) {
      j[k] = t.shape[k] == 1 ? 0 : i[rank - t.rank() + k];
    }
    j[t.rank() - 2] = m;
    j[t.rank() - 1] = n;
    return t[j];
  };
  Array r = build(s, [&](const Dims& i) {
    double sum = 0;
    for (std::int64_t k = 0; k < inner; ++k) {
      sum += at(a, i, i[rank - 2], k) * at(b, i, k, i[rank - 1]);
    }
    return sum;
  });
  if (column) r.shape.erase(rank - 1);
  if (row) r.shape.erase(rank - 2);
  return r;
}

struct Conv {
  std::int64_t sh = 1, sw = 1, ph = 0, pw = 0, dh = 1, dw = 1, groups = 1;
  Conv2dOptions options() const { return {{sh, sw}, {ph, pw}, {dh, dw}, groups}; }
};

// Calls f(n, o, oh, ow, c, h, w, ci, kh, kw) for every product in a convolution.
template <class F>
void each_product(const Conv& o, const Shape& x, const Shape& w, const Shape& y, F f) {
  const std::int64_t per = w[0] / o.groups;
  for (std::int64_t n = 0; n < y[0]; ++n) {
    for (std::int64_t k = 0; k < y[1]; ++k) {
      for (std::int64_t i = 0; i < y[2]; ++i) {
        for (std::int64_t j = 0; j < y[3]; ++j) {
          for (std::int64_t c = 0; c < w[1]; ++c) {
            for (std::int64_t p = 0; p < w[2]; ++p) {
              for (std::int64_t q = 0; q < w[3]; ++q) {
                const std::int64_t h = i * o.sh - o.ph + p * o.dh, v = j * o.sw - o.pw + q * o.dw;
                if (h < 0 || v < 0 || h >= x[2] || v >= x[3]) continue;
                f(Dims{n, k / per * w[1] + c, h, v}, Dims{k, c, p, q}, Dims{n, k, i, j});
              }
            }
          }
        }
      }
    }
  }
}

Shape conv_shape(const Conv& o, const Shape& x, const Shape& w) {
  return {x[0], w[0], (x[2] + 2 * o.ph - o.dh * (w[2] - 1) - 1) / o.sh + 1,
          (x[3] + 2 * o.pw - o.dw * (w[3] - 1) - 1) / o.sw + 1};
}

Array conv_of(const Conv& o, const Array& x, const Array& w, const Array* b) {
  Array y(conv_shape(o, x.shape, w.shape));
  if (b) y = build(y.shape, [&](const Dims& i) { return (*b)[Dims{i[1]}]; });
  each_product(o, x.shape, w.shape, y.shape,
               [&](const Dims& i, const Dims& k, const Dims& r) { y[r] += x[i] * w[k]; });
  return y;
}

struct Pool {
  std::int64_t kh = 2, kw = 2, sh = 2, sw = 2, ph = 0, pw = 0;
  bool ceil = false, include_pad = true;
  Pool2dOptions options() const { return {{kh, kw}, {sh, sw}, {ph, pw}, ceil, include_pad}; }
};

std::int64_t pooled_size(std::int64_t n, std::int64_t k, std::int64_t s, std::int64_t p,
                         bool ceil) {
  std::int64_t out = (n + 2 * p - k + (ceil ? s - 1 : 0)) / s + 1;
  // A window must begin inside the input or its left padding.
  if (ceil && (out - 1) * s >= n + p) --out;
  return out;
}

Shape pool_shape(const Pool& o, const Shape& x) {
  return {x[0], x[1], pooled_size(x[2], o.kh, o.sh, o.ph, o.ceil),
          pooled_size(x[3], o.kw, o.sw, o.pw, o.ceil)};
}

// f(value, h, w) for each element of the window of output position i.
template <class F>
void window(const Pool& o, const Array& x, const Dims& i, F f) {
  for (std::int64_t p = 0; p < o.kh; ++p) {
    for (std::int64_t q = 0; q < o.kw; ++q) {
      const std::int64_t h = i[2] * o.sh - o.ph + p, w = i[3] * o.sw - o.pw + q;
      if (h < 0 || w < 0 || h >= x.shape[2] || w >= x.shape[3]) continue;
      f(x[Dims{i[0], i[1], h, w}], h, w);
    }
  }
}

Array max_pool_of(const Pool& o, const Array& x, bool index) {
  return build(pool_shape(o, x.shape), [&](const Dims& i) {
    double best = -std::numeric_limits<double>::infinity(), where = -1;
    window(o, x, i, [&](double v, std::int64_t h, std::int64_t w) {
      if (v > best || where < 0) {
        best = v;
        where = static_cast<double>(h * x.shape[3] + w);
      }
    });
    return index ? where : best;
  });
}

Array avg_pool_of(const Pool& o, const Array& x) {
  return build(pool_shape(o, x.shape), [&](const Dims& i) {
    double sum = 0, n = 0;
    window(o, x, i, [&](double v, std::int64_t, std::int64_t) {
      sum += v;
      n += 1;
    });
    if (o.include_pad) {
      // What ceil_mode lets hang over the padding does not count.
      const std::int64_t h0 = i[2] * o.sh - o.ph, w0 = i[3] * o.sw - o.pw;
      n = static_cast<double>((std::min(h0 + o.kh, x.shape[2] + o.ph) - h0) *
                              (std::min(w0 + o.kw, x.shape[3] + o.pw) - w0));
    }
    return sum / n;
  });
}

/// A convolution that normalises what it reads.
OpCase with_norm(OpCase c, const ConvAttrs& attrs) {
  c.name += "_normed";
  const std::size_t given = c.args.size();
  const auto with_vectors = [](Shapes s) {
    s.insert(s.end(), 4, Shape{s[0][1]});
    return s;
  };
  const Shape one{c.args[0].shape[1]};
  for (const bool positive : {true, false, false, true}) {
    Arg a{.shape = one, .wide = true};
    if (positive) a.lo = 0.5, a.hi = 2;
    c.args.push_back(a);
  }
  for (Shapes& s : c.more) s = with_vectors(s);
  if (!c.big.empty()) c.big = with_vectors(c.big);
  c.run = [attrs](const std::vector<Tensor>& in) { return call_op(op::conv2d, in, attrs); };
  c.reference = [reference = c.reference, given, eps = attrs.eps](std::vector<Array> in) {
    const Array &w = in[given], &b = in[given + 1], &mean = in[given + 2], &var = in[given + 3];
    in[0] = build(in[0].shape, [&, x = in[0]](const Dims& i) {
      const Dims c{i[1]};
      return std::max(0.0, (x[i] - mean[c]) / std::sqrt(var[c] + eps) * w[c] + b[c]);
    });
    in.resize(given);
    return reference(in);
  };
  c.roundings += 4;
  c.why += "; what is convolved is rounded first";
  c.differentiable = false;
  return c;
}

/// A convolution with the sums of its result, which are compared with what is summed up from that
/// result as it was stored: the difference, as a share of the sum of absolute values.
OpCase with_sums(OpCase c, const ConvAttrs& attrs) {
  c.name += "_sums";
  c.run = [attrs](const std::vector<Tensor>& in) {
    const std::vector<Tensor> out = call_op(op::conv2d, in, attrs);
    const Tensor y = out[0].to(out[1].dtype()), squares = square(y);
    const auto off = [](const Tensor& got, const Tensor& of) {
      return (got - sum(of, {0, 2, 3})) / (sum(abs(of), {0, 2, 3}) + 1.0);
    };
    return std::vector<Tensor>{out[0], off(out[1], y), off(out[2], squares)};
  };
  c.reference = [reference = c.reference](const std::vector<Array>& in) {
    std::vector<Array> r = reference(in);
    for (int i = 0; i < 2; ++i) r.emplace_back(Shape{r[0].shape[1]});
    return r;
  };
  c.types = {Type::same, Type::wide};
  c.differentiable = false;
  return c;
}

}  // namespace

void linear_cases(CaseTable& out) {
  const std::size_t before = out.size();
  // --- products
  struct Product {
    const char* name;
    Shape a, b;
    std::vector<Shapes> more;
    Shapes big;
  };
  for (const Product& p :
       std::initializer_list<Product>{{"matmul",
                                       {3, 4},
                                       {4, 5},
                                       {{{1, 1}, {1, 1}},
                                        {{0, 4}, {4, 5}},
                                        {{3, 0}, {0, 5}},
                                        {{3, 4}, {4, 0}},
                                        {{17, 33}, {33, 19}}},
                                       {{130, 70}, {70, 150}}},
                                      {"matmul_vector", {4}, {4}, {{{1}, {1}}, {{0}, {0}}}, {}},
                                      {"matmul_row", {4}, {4, 3}, {{{4}, {2, 4, 3}}}, {}},
                                      {"matmul_column", {3, 4}, {4}, {{{2, 3, 4}, {4}}}, {}},
                                      {"matmul_batched",
                                       {2, 3, 4},
                                       {2, 4, 2},
                                       {{{0, 3, 4}, {0, 4, 2}}},
                                       {{8, 60, 40}, {8, 40, 50}}},
                                      {"matmul_broadcast",
                                       {2, 1, 3, 2},
                                       {3, 2, 4},
                                       {{{3, 2}, {2, 2, 2}}, {{2, 2, 3}, {3, 2}}},
                                       {}}}) {
    OpCase c;
    c.name = p.name;
    c.args = {{p.a}, {p.b}};
    c.run = [](const std::vector<Tensor>& in) { return std::vector{matmul(in[0], in[1])}; };
    c.reference = [](const std::vector<Array>& in) { return std::vector{matmul_of(in[0], in[1])}; };
    c.dtypes = kFloats + kInts + std::vector<DType>{DType::u8, DType::boolean};
    c.types = {Type::same};
    c.more = p.more;
    c.big = p.big;
    c.ulps = 64;
    c.magnitude = 16;
    c.why = "sums in another order";
    out.push_back(std::move(c));
  }
  for (const bool bias : {true, false}) {
    OpCase c;
    c.name = bias ? "linear" : "linear_no_bias";
    c.args = {{{3, 4}}, {{5, 4}}};
    if (bias) c.args.push_back({{5}});
    c.run = [bias](const std::vector<Tensor>& in) {
      return std::vector{linear(in[0], in[1], bias ? in[2] : Tensor{})};
    };
    c.reference = [bias](const std::vector<Array>& in) {
      const Array &x = in[0], &w = in[1];
      Shape s = x.shape;
      s[x.rank() - 1] = w.shape[0];
      return std::vector{build(s, [&](Dims i) {
        const std::int64_t o = i[x.rank() - 1];
        double sum = bias ? in[2][Dims{o}] : 0;
        for (std::int64_t k = 0; k < w.shape[1]; ++k) {
          i[x.rank() - 1] = k;
          sum += x[i] * w[Dims{o, k}];
        }
        return sum;
      })};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    for (Shapes s : {Shapes{{4}, {5, 4}, {5}},
                     {{2, 3, 4}, {2, 4}, {2}},
                     {{1}, {1, 1}, {1}},
                     {{0, 4}, {5, 4}, {5}},
                     {{2, 0}, {3, 0}, {3}},
                     {{33, 65}, {17, 65}, {17}}}) {
      if (!bias) s.pop_back();
      c.more.push_back(s);
    }
    c.big = {{130, 70}, {150, 70}, {150}};
    if (!bias) c.big.pop_back();
    c.ulps = 64;
    c.magnitude = 16;
    c.why = "sums in another order";
    out.push_back(with_epilogue(c, op::linear, LinearAttrs{.relu = true}));
    out.push_back(std::move(c));
  }

  // --- convolution
  struct ConvCase {
    const char* name;
    Shape x, w;
    bool bias;
    Conv o;
    std::vector<Shapes> more;
    Shapes big;
  };
  const std::initializer_list<ConvCase> convolutions = {
      {"conv2d",
       {2, 3, 5, 4},
       {4, 3, 3, 3},
       true,
       {},
       {{{0, 3, 5, 4}, {4, 3, 3, 3}, {4}},
        {{1, 1, 1, 1}, {1, 1, 1, 1}, {1}},
        {{2, 17, 9, 9}, {18, 17, 3, 3}, {18}}},
       {{4, 16, 20, 21}, {24, 16, 3, 3}, {24}}},
      {"conv2d_padded", {2, 2, 4, 5}, {3, 2, 3, 3}, false, {.ph = 1, .pw = 1}, {}, {}},
      {"conv2d_strided",
       {1, 2, 6, 7},
       {2, 2, 3, 2},
       true,
       {.sh = 2, .sw = 3, .ph = 1, .pw = 0},
       {},
       {}},
      {"conv2d_dilated",
       {1, 2, 7, 6},
       {2, 2, 3, 2},
       true,
       {.ph = 2, .pw = 1, .dh = 2, .dw = 3},
       {},
       {}},
      {"conv2d_groups",
       {2, 4, 4, 4},
       {6, 2, 2, 3},
       true,
       {.groups = 2},
       {},
       {{4, 8, 20, 20}, {16, 4, 3, 3}, {16}}},
      {"conv2d_depthwise",
       {2, 3, 4, 4},
       {3, 1, 3, 3},
       false,
       {.ph = 1, .pw = 1, .groups = 3},
       {},
       {}},
      {"conv2d_1x1", {2, 5, 3, 3}, {4, 5, 1, 1}, true, {}, {}, {}},
      {"conv2d_1x1_strided", {1, 3, 5, 5}, {2, 3, 1, 1}, false, {.sh = 2, .sw = 2}, {}, {}},
      {"conv2d_one_channel", {2, 1, 6, 6}, {2, 1, 5, 5}, true, {.ph = 2, .pw = 2}, {}, {}},
      {"conv2d_one", {1, 1, 1, 1}, {1, 1, 1, 1}, false, {}, {}, {}},
      {"conv2d_none", {0, 2, 3, 3}, {2, 2, 2, 2}, false, {}, {}, {}},
  };
  for (const ConvCase& v : convolutions) {
    OpCase c;
    c.name = v.name;
    c.args = {{v.x}, {v.w}};
    if (v.bias) c.args.push_back({{v.w[0]}});
    c.run = [v](const std::vector<Tensor>& in) {
      return std::vector{conv2d(in[0], in[1], v.bias ? in[2] : Tensor{}, v.o.options())};
    };
    c.reference = [v](const std::vector<Array>& in) {
      return std::vector{conv_of(v.o, in[0], in[1], v.bias ? &in[2] : nullptr)};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    c.more = v.more;
    c.big = v.big;
    c.ulps = 128;
    c.magnitude = 16;
    c.why = "sums in another order";
    out.push_back(c);
    if (c.name == "conv2d" || c.name == "conv2d_groups") {
      ConvAttrs attrs{.stride = {1, 1},
                      .padding = {0, 0},
                      .dilation = {1, 1},
                      .groups = v.o.options().groups,
                      .size = {},
                      .relu = true};
      out.push_back(with_epilogue(c, op::conv2d, attrs));
      attrs.relu = false;
      attrs.sums = true;
      out.push_back(with_sums(c, attrs));
      attrs.sums = false;
      attrs.normed = true;
      attrs.eps = 1e-3;
      out.push_back(with_norm(c, attrs));
    }

    // The two gradients, as functions of their own.
    const Shape y = conv_shape(v.o, v.x, v.w);
    c.more = {};
    c.big = {};
    c.name = std::string("grad_input_") + v.name;
    c.args = {{y}, {v.w}};
    c.run = [v](const std::vector<Tensor>& in) {
      return std::vector{conv2d_grad_input(in[0], in[1], v.x, v.o.options())};
    };
    c.reference = [v](const std::vector<Array>& in) {
      Array g(v.x);
      each_product(v.o, v.x, v.w, in[0].shape, [&](const Dims& i, const Dims& k, const Dims& r) {
        g[i] += in[0][r] * in[1][k];
      });
      return std::vector{g};
    };
    out.push_back(c);
    c.name = std::string("grad_weight_") + v.name;
    c.args = {{v.x}, {y}};
    c.run = [v](const std::vector<Tensor>& in) {
      return std::vector{conv2d_grad_weight(in[0], in[1], v.w, v.o.options())};
    };
    c.reference = [v](const std::vector<Array>& in) {
      Array g(v.w);
      each_product(v.o, v.x, v.w, in[1].shape, [&](const Dims& i, const Dims& k, const Dims& r) {
        g[k] += in[1][r] * in[0][i];
      });
      return std::vector{g};
    };
    c.magnitude = 32;
    out.push_back(c);
  }
  struct TransposeCase {
    const char* name;
    Shape x, w;
    bool bias;
    Conv o;
    std::int64_t extra_h, extra_w;
  };
  for (const TransposeCase& v : std::initializer_list<TransposeCase>{
           {"conv_transpose2d", {2, 3, 3, 4}, {3, 2, 3, 3}, true, {}, 0, 0},
           {"conv_transpose2d_strided",
            {1, 2, 3, 3},
            {2, 3, 3, 2},
            true,
            {.sh = 2, .sw = 3, .ph = 1},
            1,
            2},
           {"conv_transpose2d_groups",
            {1, 4, 3, 3},
            {4, 2, 2, 2},
            false,
            {.dh = 2, .groups = 2},
            0,
            0}}) {
    OpCase c;
    c.name = v.name;
    c.args = {{v.x}, {v.w}};
    if (v.bias) c.args.push_back({{v.w[1] * v.o.groups}});
    c.run = [v](const std::vector<Tensor>& in) {
      return std::vector{conv_transpose2d(in[0], in[1], v.bias ? in[2] : Tensor{},
                                          {.stride = {v.o.sh, v.o.sw},
                                           .padding = {v.o.ph, v.o.pw},
                                           .output_padding = {v.extra_h, v.extra_w},
                                           .groups = v.o.groups,
                                           .dilation = {v.o.dh, v.o.dw}})};
    };
    c.reference = [v](const std::vector<Array>& in) {
      const Shape &x = in[0].shape, &w = in[1].shape;
      Array y(Shape{x[0], w[1] * v.o.groups,
                    (x[2] - 1) * v.o.sh - 2 * v.o.ph + v.o.dh * (w[2] - 1) + v.extra_h + 1,
                    (x[3] - 1) * v.o.sw - 2 * v.o.pw + v.o.dw * (w[3] - 1) + v.extra_w + 1});
      if (v.bias) y = build(y.shape, [&](const Dims& i) { return in[2][Dims{i[1]}]; });
      // Each input element throws its share of the kernel onto the output.
      each_product(v.o, y.shape, w, x, [&](const Dims& big, const Dims& k, const Dims& small) {
        y[big] += in[0][small] * in[1][k];
      });
      return std::vector{y};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    Shape none = v.x;
    none[0] = 0;
    c.more = {{none, v.w}};
    if (v.bias) c.more[0].push_back({v.w[1]});
    if (c.name == "conv_transpose2d") c.more.push_back({{1, 1, 1, 1}, {1, 1, 1, 1}, {1}});
    c.ulps = 128;
    c.magnitude = 8;
    c.roundings = 2;
    c.why = "sums in another order; the bias is added to a rounded result";
    out.push_back(c);
  }

  for (std::size_t i = before; i < out.size(); ++i) {
    out[i].tf32 = !out[i].name.ends_with("_sums");  // these compare a result with itself
  }

  // --- pooling
  struct PoolCase {
    const char* name;
    Shape x;
    Pool o;
    std::vector<Shapes> more;
    Shapes big;
  };
  for (const PoolCase& v : std::initializer_list<PoolCase>{
           {"",
            {2, 3, 4, 6},
            {},
            {{{0, 3, 4, 4}}, {{1, 1, 2, 2}}, {{2, 17, 5, 5}}},
            {{8, 32, 30, 30}}},
           {"_overlapping", {2, 2, 5, 6}, {.kh = 3, .kw = 2, .sh = 1, .sw = 2}, {}, {}},
           {"_padded",
            {1, 2, 5, 4},
            {.kh = 3, .kw = 3, .sh = 2, .sw = 2, .ph = 1, .pw = 1},
            {{{1, 1, 1, 1}}, {{1, 0, 5, 4}}},
            {}},
           {"_ceil",
            {1, 2, 6, 7},
            {.kh = 3, .kw = 2, .sh = 2, .sw = 2, .ph = 1, .pw = 1, .ceil = true},
            {},
            {}}}) {
    OpCase c;
    c.name = std::string("max_pool2d") + v.name;
    c.args = {{.shape = v.x, .distinct = true}};
    c.run = [v](const std::vector<Tensor>& in) {
      return std::vector{max_pool2d(in[0], v.o.options())};
    };
    c.reference = [v](const std::vector<Array>& in) {
      return std::vector{max_pool_of(v.o, in[0], false)};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    c.more = v.more;
    c.big = v.big;
    c.ulps = c.roundings = 0;
    out.push_back(c);
    c.name = std::string("max_pool2d_indices") + v.name;
    c.run = [v](const std::vector<Tensor>& in) {
      const auto [y, i] = max_pool2d_with_indices(in[0], v.o.options());
      return std::vector{y, i};
    };
    c.reference = [v](const std::vector<Array>& in) {
      return std::vector{max_pool_of(v.o, in[0], false), max_pool_of(v.o, in[0], true)};
    };
    c.types = {Type::same, Type::i32};
    out.push_back(c);
    c.types = {Type::same};
    c.ulps = 64;
    c.why = "a sum in another order";
    c.roundings = 1;
    for (const bool include : {true, false}) {
      Pool o = v.o;
      o.include_pad = include;
      c.name = std::string(include ? "avg_pool2d" : "avg_pool2d_no_pad") + v.name;
      c.run = [o](const std::vector<Tensor>& in) {
        return std::vector{avg_pool2d(in[0], o.options())};
      };
      c.reference = [o](const std::vector<Array>& in) {
        return std::vector{avg_pool_of(o, in[0])};
      };
      out.push_back(c);
    }
  }
  for (const Dims& size : {Dims{1, 1}, Dims{2, 3}, Dims{3, 5}}) {
    OpCase c;
    c.name = fmt::format("adaptive_avg_pool2d_{}x{}", size[0], size[1]);
    c.args = {{{2, 3, 5, 4}}};
    c.run = [size](const std::vector<Tensor>& in) {
      return std::vector{adaptive_avg_pool2d(in[0], size)};
    };
    c.reference = [size](const std::vector<Array>& in) {
      const Shape& x = in[0].shape;
      return std::vector{build({x[0], x[1], size[0], size[1]}, [&](const Dims& i) {
        double sum = 0, n = 0;
        for (std::int64_t h = i[2] * x[2] / size[0];
             h < (i[2] + 1) * x[2] / size[0] || h * size[0] < (i[2] + 1) * x[2]; ++h) {
          for (std::int64_t w = i[3] * x[3] / size[1]; w * size[1] < (i[3] + 1) * x[3]; ++w) {
            sum += in[0][Dims{i[0], i[1], h, w}];
            n += 1;
          }
        }
        return sum / n;
      })};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    c.more = {{{0, 3, 5, 4}}, {{1, 1, 1, 1}}, {{2, 5, 7, 7}}};
    c.big = {{8, 32, 30, 30}};
    c.ulps = 64;
    c.why = "a sum in another order";
    out.push_back(c);
  }
}

}  // namespace tandem::cases
