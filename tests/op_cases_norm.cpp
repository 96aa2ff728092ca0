// Normalisation, softmax, losses.
#include <algorithm>
#include <cmath>

#include "ops/op_list.h"
#include "tests/op_cases.h"

namespace tandem::cases {
namespace {

// f on each line of `a` along `axis`.
Array along(const Array& a, int axis,
            const std::function<std::vector<double>(const std::vector<double>&)>& f) {
  if (axis < 0) axis += a.rank();
  Array r(a.shape);
  for (std::size_t k = 0; k < a.v.size(); ++k) {
    Dims i = a.position(k);
    if (i[axis] != 0) continue;
    std::vector<double> line;
    for (std::int64_t n = 0; n < a.shape[axis]; ++n) {
      i[axis] = n;
      line.push_back(a[i]);
    }
    line = f(line);
    for (std::int64_t n = 0; n < a.shape[axis]; ++n) {
      i[axis] = n;
      r[i] = line[static_cast<std::size_t>(n)];
    }
  }
  return r;
}

Array log_softmax_of(const Array& a, int axis) {
  return along(a, axis, [](std::vector<double> v) {
    const double m = *std::max_element(v.begin(), v.end());
    double s = 0;
    for (double x : v) s += std::exp(x - m);
    for (double& x : v) x -= m + std::log(s);
    return v;
  });
}

struct Moments {
  Array mean, var;  // biased, of each channel
  double n = 0;
};
Moments channel_moments(const Array& x) {
  Moments m{Array({x.shape[1]}), Array({x.shape[1]})};
  m.n = static_cast<double>(x.v.size()) / static_cast<double>(x.shape[1]);
  const auto channel = [&](std::size_t k) { return static_cast<std::size_t>(x.position(k)[1]); };
  for (std::size_t k = 0; k < x.v.size(); ++k) m.mean.v[channel(k)] += x.v[k] / m.n;
  for (std::size_t k = 0; k < x.v.size(); ++k) {
    const double d = x.v[k] - m.mean.v[channel(k)];
    m.var.v[channel(k)] += d * d / m.n;
  }
  return m;
}

Array normalised(const Array& x, const Array& mean, const Array& var, double eps, const Array* w,
                 const Array* b) {
  return build(x.shape, [&](const Dims& i) {
    const Dims c{i[1]};
    const double z = (x[i] - mean[c]) / std::sqrt(var[c] + eps);
    return z * (w ? (*w)[c] : 1) + (b ? (*b)[c] : 0);
  });
}

// The classes' axis taken out, and per sample: f(position of the sample).
Array reduce_loss(const Array& each, Reduction r, double count) {
  if (r == Reduction::none) return each;
  double s = 0;
  for (double x : each.v) s += x;
  return Array(Shape{}, r == Reduction::mean ? s / count : s);
}

Dims with_class(const Dims& sample, std::int64_t c) {
  Dims i = sample;
  i.insert(sample.empty() ? 0 : 1, c);
  return i;
}

// Gradients of x, w and b from x, w, mean, 1 / std and that of y.
std::vector<Array> batch_norm_grads(const Array& gy, const Array& x, const Array& w,
                                    const Array& mean, const Array& invstd) {
  Array sum(w.shape), dot(w.shape);
  for (std::size_t k = 0; k < x.v.size(); ++k) {
    const auto c = static_cast<std::size_t>(x.position(k)[1]);
    sum.v[c] += gy.v[k];
    dot.v[c] += gy.v[k] * (x.v[k] - mean.v[c]) * invstd.v[c];
  }
  const double n = static_cast<double>(x.v.size()) / static_cast<double>(x.shape[1]);
  const Array gx = build(x.shape, [&](const Dims& i) {
    const Dims c{i[1]};
    const double z = (x[i] - mean[c]) * invstd[c];
    return (gy[i] - sum[c] / n - z * dot[c] / n) * w[c] * invstd[c];
  });
  return {gx, dot, sum};
}

/// The same with one class, so that every label is 0, and one of each shape of one element.
OpCase one_label(OpCase c) {
  c.name += "_one";
  c.args[0].shape = {1, 1};
  c.args[1].shape = {1};
  c.args[1].hi = 0;
  c.more = {{{1}, {}}};
  c.big = {};
  return c;
}

/// batch_norm_train of x, weight, bias and running statistics, given the sums of x and of its
/// squares; with `residual` it goes on with that and a ReLU.
OpCase with_sums(OpCase c, bool residual) {
  const BatchNormAttrs attrs{.momentum = 0.2, .eps = 1e-3, .relu = residual, .sums = true};
  if (residual) c = with_epilogue(c, op::batch_norm_train, attrs, true);
  c.name += "_sums";
  // The others have two values a channel, of whose variance the difference of sums may leave
  // little.
  c.more.erase(c.more.begin());
  c.run = [attrs](const std::vector<Tensor>& in) {
    const Tensor x = in[0].to(in[1].dtype());
    const Tensor mean = in[3].clone(), var = in[4].clone(), sums = sum(x, {0, 2, 3}),
                 squares = sum(square(x), {0, 2, 3});
    std::vector<Tensor> p = {in[0], in[1], in[2], mean, var, sums, squares};
    if (attrs.relu) p.push_back(in[5]);
    const std::vector<Tensor> r = call_op(op::batch_norm_train, p, attrs);
    return std::vector<Tensor>{r[0], mean, var};
  };
  c.differentiable = false;
  return c;
}

}  // namespace

void norm_cases(CaseTable& out) {
  // --- batch_norm
  struct Bn {
    const char* name;
    Shape x;
    bool affine, stats;
  };
  for (const Bn& v : std::initializer_list<Bn>{{"", {3, 4, 2, 3}, true, true},
                                               {"_plain", {3, 4, 2, 3}, false, false},
                                               {"_rank2", {6, 4}, true, true},
                                               {"_rank3", {3, 4, 5}, true, true}}) {
    const Shape one{v.x[1]};
    OpCase c;
    c.name = std::string("batch_norm_train") + v.name;
    c.args = {{v.x}};
    if (v.affine) {
      c.args.push_back({.shape = one, .lo = 0.5, .hi = 2, .wide = true});
      c.args.push_back({.shape = one, .wide = true});
    }
    const std::size_t s = c.args.size();
    if (v.stats) {
      c.args.push_back({.shape = one, .wide = true, .grad = false});
      c.args.push_back({.shape = one, .lo = 0.5, .hi = 2, .wide = true, .grad = false});
    }
    c.run = [v, s](const std::vector<Tensor>& in) {
      Tensor mean, var;
      if (v.stats) mean = in[s].clone(), var = in[s + 1].clone();
      std::vector<Tensor> r = {batch_norm(in[0], v.affine ? in[1] : Tensor{},
                                          v.affine ? in[2] : Tensor{}, mean, var, true, 0.2, 1e-3)};
      if (v.stats) r.push_back(mean), r.push_back(var);
      return r;
    };
    c.reference = [v, s](const std::vector<Array>& in) {
      const Moments m = channel_moments(in[0]);
      std::vector<Array> r = {normalised(in[0], m.mean, m.var, 1e-3, v.affine ? &in[1] : nullptr,
                                         v.affine ? &in[2] : nullptr)};
      if (v.stats) {
        r.push_back(map(in[s], m.mean, [](double a, double b) { return 0.8 * a + 0.2 * b; }));
        r.push_back(map(in[s + 1], m.var,
                        [&](double a, double b) { return 0.8 * a + 0.2 * b * m.n / (m.n - 1); }));
      }
      return r;
    };
    c.dtypes = kFloats;
    c.types = {Type::same, Type::wide};
    c.differentiable_results = 1;
    c.ulps = 128;
    c.magnitude = 4;
    c.why = "mean and variance are sums in another order";
    if (v.x.size() == 4 && v.affine) {
      c.more = {{{2, 1, 1, 1}, {1}, {1}, {1}, {1}},
                {{2, 17, 3, 3}, {17}, {17}, {17}, {17}},
                {{2, 16, 2, 4}, {16}, {16}, {16}, {16}},  // 16 bytes at a time
                {{3, 0, 2, 2}, {0}, {0}, {0}, {0}}};
      c.big = {{8, 24, 30, 31}, {24}, {24}, {24}, {24}};
    }
    out.push_back(c);
    const auto with_epilogues = [&](const OpDef& op, bool running) {
      for (const bool residual : {false, true}) {
        OpCase e = with_epilogue(c, op, BatchNormAttrs{.momentum = 0.2, .eps = 1e-3, .relu = true},
                                 residual);
        e.run = [run = e.run, s, running](std::vector<Tensor> in) {
          for (auto i : {s, s + 1}) in[i] = in[i].clone();
          std::vector<Tensor> r = run(in);
          r.resize(1);
          if (running) r.push_back(in[s]), r.push_back(in[s + 1]);
          return r;
        };
        out.push_back(e);
      }
    };
    if (v.affine) with_epilogues(op::batch_norm_train, true);
    if (v.affine && v.x.size() == 4) {
      for (const bool residual : {false, true}) out.push_back(with_sums(c, residual));
    }

    if (!v.stats) continue;
    c.name = std::string("batch_norm_eval") + v.name;
    for (auto i : {s, s + 1}) c.args[i].grad = true;
    c.run = [v, s](const std::vector<Tensor>& in) {
      Tensor mean = in[s], var = in[s + 1];
      return std::vector{batch_norm(in[0], v.affine ? in[1] : Tensor{}, v.affine ? in[2] : Tensor{},
                                    mean, var, false, 0.2, 1e-3)};
    };
    c.reference = [v, s](const std::vector<Array>& in) {
      return std::vector{normalised(in[0], in[s], in[s + 1], 1e-3, v.affine ? &in[1] : nullptr,
                                    v.affine ? &in[2] : nullptr)};
    };
    c.types = {Type::same};
    if (v.x.size() == 4) {
      c.more.push_back({{0, 4, 2, 2}, {4}, {4}, {4}, {4}});
      c.more.push_back({{1, 1, 1, 1}, {1}, {1}, {1}, {1}});
    }
    out.push_back(c);
    with_epilogues(op::batch_norm_eval, false);
  }

  // --- batch_norm_grad; plain it is what the gradients of batch_norm are checked with
  for (const Shape& x : {Shape{3, 4, 2, 3}, Shape{6, 4}}) {
    for (const bool residual : {false, true}) {
      const Shape one{x[1]};
      OpCase c;
      c.name = std::string("batch_norm_grad") + (x.size() == 2 ? "_rank2" : "") +
               (residual ? "_residual_relu" : "_relu");
      c.args = {{x},
                {x},
                {.shape = one, .lo = 0.5, .hi = 2, .wide = true},
                {.shape = one, .wide = true},
                {.shape = one, .lo = 0.5, .hi = 2, .wide = true},
                {x}};
      c.run = [residual](const std::vector<Tensor>& in) {
        return call_op(op::batch_norm_grad, in,
                       BatchNormGradAttrs{.relu = true, .residual = residual});
      };
      c.reference = [residual](const std::vector<Array>& in) {
        const Array g = map(in[0], in[5], [](double g, double y) { return y > 0 ? g : 0; });
        std::vector<Array> r = batch_norm_grads(g, in[1], in[2], in[3], in[4]);
        if (residual) r.push_back(g);
        return r;
      };
      c.dtypes = kFloats;
      c.types = {Type::same, Type::wide, Type::wide, Type::same};
      c.differentiable = false;
      c.ulps = 128;
      c.magnitude = 4;
      c.why = "sums in another order";
      const auto shapes = [](const Shape& s) {
        const Shape one{s[1]};
        return Shapes{s, s, one, one, one, s};
      };
      c.more = {shapes({2, 1}), shapes({3, 0})};
      if (x.size() == 4) {
        c.more = {shapes({1, 1, 1, 1}), shapes({2, 17, 3, 3}), shapes({2, 16, 2, 4}),
                  shapes({0, 4, 2, 2})};
        c.big = shapes({8, 24, 30, 31});
      }
      out.push_back(c);
    }
  }

  // --- layer_norm
  struct Ln {
    const char* name;
    Shape x;
    int axes;
    bool affine;
  };
  for (const Ln& v : std::initializer_list<Ln>{{"", {3, 5}, 1, true},
                                               {"_two_axes", {2, 3, 4}, 2, true},
                                               {"_plain", {2, 3, 4}, 1, false}}) {
    OpCase c;
    c.name = std::string("layer_norm") + v.name;
    Shape norm;
    for (int k = v.x.size() - v.axes; k < v.x.size(); ++k) norm.push_back(v.x[k]);
    c.args = {{v.x}};
    if (v.affine) {
      c.args.push_back({.shape = norm, .lo = 0.5, .hi = 2, .wide = true});
      c.args.push_back({.shape = norm, .wide = true});
    }
    c.run = [v](const std::vector<Tensor>& in) {
      Shape n;
      for (int k = in[0].rank() - v.axes; k < in[0].rank(); ++k) n.push_back(in[0].shape()[k]);
      return std::vector{
          layer_norm(in[0], n, v.affine ? in[1] : Tensor{}, v.affine ? in[2] : Tensor{}, 1e-3)};
    };
    c.reference = [v](const std::vector<Array>& in) {
      const Array& x = in[0];
      std::int64_t inner = 1;
      for (int k = x.rank() - v.axes; k < x.rank(); ++k) inner *= x.shape[k];
      Array flat({inner ? static_cast<std::int64_t>(x.v.size()) / inner : 0, inner}, x.v);
      flat = along(flat, 1, [](std::vector<double> l) {
        double m = 0, s = 0;
        const double n = static_cast<double>(l.size());
        for (double a : l) m += a / n;
        for (double a : l) s += (a - m) * (a - m) / n;
        for (double& a : l) a = (a - m) / std::sqrt(s + 1e-3);
        return l;
      });
      for (std::size_t k = 0; v.affine && k < flat.v.size(); ++k) {
        const std::size_t i = k % static_cast<std::size_t>(inner);
        flat.v[k] = flat.v[k] * in[1].v[i] + in[2].v[i];
      }
      return std::vector{Array(x.shape, flat.v)};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    if (v.axes == 1 && v.affine) {
      c.more = {
          {{1}, {1}, {1}}, {{0, 4}, {4}, {4}}, {{2, 300}, {300}, {300}}, {{2, 3, 2, 4}, {4}, {4}}};
      // Long enough for the library's kernel; with rows that are no whole vectors; of four axes.
      for (const Shape& s : {Shape{64, 128}, Shape{5, 12, 100}, Shape{4, 16, 4, 32}}) {
        c.more.push_back({s, {s.back()}, {s.back()}});
      }
      c.big = {{400, 300}, {300}, {300}};
    }
    if (v.axes == 2) c.more = {{{64, 4, 32}, {4, 32}, {4, 32}}};
    c.ulps = 128;
    c.magnitude = 4;
    c.why = "mean and variance are sums in another order";
    out.push_back(c);
  }

  // --- softmax
  for (int axis : {-1, 1, 0}) {
    OpCase c;
    c.name = axis < 0 ? "softmax_last" : fmt::format("softmax_{}", axis);
    c.args = {{{2, 3, 4}, -4, 4}};
    c.run = [axis](const std::vector<Tensor>& in) { return std::vector{softmax(in[0], axis)}; };
    c.reference = [axis](const std::vector<Array>& in) {
      return std::vector{map(log_softmax_of(in[0], axis), [](double x) { return std::exp(x); })};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    c.more = {{{3, 1}}, {{0, 3}}, {{2, 300}}, {{1, 1}}, {{2, 3, 2, 2}}};
    if (axis == -1) c.more.push_back({{5}});
    c.big = {{90, 80, 70}};
    c.ulps = 64;
    c.why = "polynomials for the exponential, and a sum in another order";
    out.push_back(c);
    c.name = "log_" + c.name;
    c.run = [axis](const std::vector<Tensor>& in) { return std::vector{log_softmax(in[0], axis)}; };
    c.reference = [axis](const std::vector<Array>& in) {
      return std::vector{log_softmax_of(in[0], axis)};
    };
    c.magnitude = 8;
    out.push_back(c);
  }

  // --- losses
  for (const Reduction r : {Reduction::none, Reduction::mean, Reduction::sum}) {
    const std::vector<Shapes> others = {
        {{2, 3, 4}, {2, 4}}, {{2, 3, 2, 2}, {2, 2, 2}}, {{3}, {}}, {{1, 3}, {1}}};
    OpCase c;
    c.name = std::string("nll_loss_") + name_of(r);
    // One class more than there are labels: the last is asked for nowhere.
    c.args = {{{5, 4}}, {.shape = {5}, .lo = 0, .hi = 2, .dtype = DType::i64}};
    c.run = [r](const std::vector<Tensor>& in) {
      return std::vector{nll_loss(in[0], in[1], r, 1)};
    };
    c.reference = [r](const std::vector<Array>& in) {
      double count = 0;
      const Array each = build(in[1].shape, [&](const Dims& i) {
        const auto label = static_cast<std::int64_t>(in[1][i]);
        count += label != 1;
        return label == 1 ? 0.0 : -in[0][with_class(i, label)];
      });
      return std::vector{reduce_loss(each, r, count)};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    c.more = others;
    c.more.push_back({{0, 4}, {0}});
    c.big = {{30000, 5}, {30000}};
    c.ulps = 64;
    c.magnitude = 8;
    c.why = "sums in another order";
    out.push_back(c);
    out.push_back(one_label(c));
    for (const double smoothing : {0.0, 0.3}) {
      c.name = std::string("cross_entropy_") + name_of(r) + (smoothing > 0 ? "_smooth" : "");
      c.run = [=](const std::vector<Tensor>& in) {
        return std::vector{cross_entropy(
            in[0], in[1], {.label_smoothing = smoothing, .reduction = r, .ignore_index = 1})};
      };
      c.reference = [=](const std::vector<Array>& in) {
        const int axis = in[0].rank() == 1 ? 0 : 1;
        const Array logp = log_softmax_of(in[0], axis);
        const std::int64_t classes = in[0].shape[axis];
        double count = 0;
        const Array each = build(in[1].shape, [&](const Dims& i) {
          const auto label = static_cast<std::int64_t>(in[1][i]);
          if (label == 1) return 0.0;
          count += 1;
          double s = -(1 - smoothing) * logp[with_class(i, label)];
          for (std::int64_t k = 0; k < classes; ++k) {
            s -= smoothing / static_cast<double>(classes) * logp[with_class(i, k)];
          }
          return s;
        });
        return std::vector{reduce_loss(each, r, count)};
      };
      out.push_back(c);
      out.push_back(one_label(c));

      OpCase p = c;
      p.name = std::string("cross_entropy_probabilities_") + name_of(r) +
               (smoothing > 0 ? "_smooth" : "");
      p.args = {{{5, 4}}, {{5, 4}, 0, 1}};
      p.run = [=](const std::vector<Tensor>& in) {
        return std::vector{
            cross_entropy(in[0], in[1], {.label_smoothing = smoothing, .reduction = r})};
      };
      p.reference = [=](const std::vector<Array>& in) {
        const int axis = in[0].rank() == 1 ? 0 : 1;
        const Array logp = log_softmax_of(in[0], axis);
        const std::int64_t classes = in[0].shape[axis];
        Shape s = in[0].shape;
        s.erase(axis);
        const Array each = build(s, [&](const Dims& i) {
          double sum = 0;
          for (std::int64_t k = 0; k < classes; ++k) {
            const Dims at = with_class(i, k);
            sum -=
                ((1 - smoothing) * in[1][at] + smoothing / static_cast<double>(classes)) * logp[at];
          }
          return sum;
        });
        return std::vector{reduce_loss(each, r, static_cast<double>(each.v.size()))};
      };
      p.more = {{{2, 3, 4}, {2, 3, 4}},
                {{2, 3, 2, 2}, {2, 3, 2, 2}},
                {{3}, {3}},
                {{1, 3}, {1, 3}},
                {{1, 1}, {1, 1}},
                {{0, 4}, {0, 4}}};
      p.big = {};
      p.roundings = 8;
      p.why = "a composition of several operations, each rounded";
      out.push_back(p);
    }
    OpCase m;
    m.name = std::string("mse_loss_") + name_of(r);
    m.args = {{{2, 3, 4}}, {{2, 3, 4}}};
    m.run = [r](const std::vector<Tensor>& in) { return std::vector{mse_loss(in[0], in[1], r)}; };
    m.reference = [r](const std::vector<Array>& in) {
      const Array each = map(in[0], in[1], [](double a, double b) { return (a - b) * (a - b); });
      return std::vector{reduce_loss(each, r, static_cast<double>(each.v.size()))};
    };
    m.dtypes = kFloats;
    m.types = {Type::same};
    m.more = {{{}, {}}, {{0, 3}, {0, 3}}, {{2, 3, 2, 2}, {2, 3, 2, 2}}};
    m.ulps = 64;
    m.roundings = 4;
    m.why = "difference, square and sum, each rounded";
    out.push_back(m);
  }
}

}  // namespace tandem::cases
