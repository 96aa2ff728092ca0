// Random numbers, drawn here by a Philox of the reference's own; and optimiser steps.
#include <array>
#include <cmath>

#include "tests/op_cases.h"

namespace tandem::cases {
namespace {

// Philox4x32-10 after the paper: two multiplications and four exclusive ors a round.
std::array<std::uint32_t, 4> philox_block(std::uint64_t seed, std::uint64_t counter) {
  std::array<std::uint32_t, 4> c = {static_cast<std::uint32_t>(counter),
                                    static_cast<std::uint32_t>(counter >> 32), 0, 0};
  std::array<std::uint32_t, 2> key = {static_cast<std::uint32_t>(seed),
                                      static_cast<std::uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0], b = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return c;
}

// Word k of what one op draws, `blocks` after the start of the sequence run() seeds.
std::uint32_t word(std::size_t k, std::uint64_t blocks = 0) {
  return philox_block(77, blocks + k / 4)[k % 4];
}
double unit24(std::uint32_t w) {
  return static_cast<double>(w >> 8) * 0x1p-24;
}

double unit32(std::uint32_t w) {
  return static_cast<double>(w) * 0x1p-32;
}
// Box and Muller: words 2i and 2i + 1 make numbers 2i and 2i + 1.
double normal_number(std::size_t k) {
  const double a = word(k & ~std::size_t{1}), b = word(k | 1);
  const double u = std::floor(a / 2) * 0x1p-31 + 0x1p-32;
  const double r = std::sqrt(-2 * std::log(u)), t = b * 0x1p-32 * 2 * M_PI;
  return k % 2 ? r * std::sin(t) : r * std::cos(t);
}

OpCase drawing(std::string name, std::function<Tensor(DType)> f, Shape s,
               std::function<double(std::size_t)> value, std::vector<DType> dtypes) {
  OpCase c;
  c.name = std::move(name);
  c.args = {{.shape = {}, .grad = false}};
  c.run = [f](const std::vector<Tensor>& a) { return std::vector{f(a[0].dtype())}; };
  c.reference = [s, value](const std::vector<Array>&) {
    Array r(s);
    for (std::size_t k = 0; k < r.v.size(); ++k) r.v[k] = value(k);
    return std::vector{r};
  };
  c.dtypes = std::move(dtypes);
  c.types = {Type::same};
  c.differentiable = false;
  return c;
}

}  // namespace

void random_cases(CaseTable& out) {
  const std::vector<DType> narrow = {DType::f32, DType::f16, DType::bf16}, wide = {DType::f64};
  const std::vector<DType> integers = kInts + std::vector<DType>{DType::u8};
  for (const auto& [size, suffix] : std::initializer_list<std::pair<Shape, std::string>>{
           {{3, 5}, ""}, {{0, 4}, "_none"}, {{1, 1}, "_one"}}) {
    const auto add_case = [&, s = size, end = suffix](const char* name, auto f, auto value,
                                                      const std::vector<DType>& dtypes) -> OpCase& {
      out.push_back(drawing(
          name + end, [f, s](DType t) { return f(s, TensorOptions{.dtype = t}); }, s, value,
          dtypes));
      return out.back();
    };
    const auto add_normal = [&](const char* name, auto f, double mean, double std) {
      const auto value = [=](std::size_t k) { return mean + std * normal_number(k); };
      OpCase& c = add_case(name, f, value, narrow);
      c.ulps = 64;
      c.magnitude = 4;
      c.why = "polynomials for logarithm, sine and cosine";
      OpCase& precise = add_case((std::string(name) + "_f64").c_str(), f, value, wide);
      precise.ulps = 0x1p36;
      precise.magnitude = 4;
      precise.why = "drawn in f32 for every dtype";
    };
    const auto unit = [](const Shape& s, TensorOptions o) { return rand(s, o); };
    const auto wider = [](const Shape& s, TensorOptions o) { return uniform(s, -3, 5, o); };
    add_case(
        "rand", unit, [](std::size_t k) { return unit24(word(k)); }, narrow);
    add_case(
        "rand_f64", unit, [](std::size_t k) { return unit32(word(k)); }, wide);
    add_case(
        "uniform", wider, [](std::size_t k) { return -3 + 8 * unit24(word(k)); }, narrow)
        .magnitude = 8;
    add_case(
        "uniform_f64", wider, [](std::size_t k) { return -3 + 8 * unit32(word(k)); }, wide)
        .magnitude = 8;
    add_normal(
        "randn", [](const Shape& s, TensorOptions o) { return randn(s, o); }, 0, 1);
    add_normal(
        "normal", [](const Shape& s, TensorOptions o) { return normal(s, 2, 0.5, o); }, 2, 0.5);
    const auto below = [](std::uint64_t n) {
      return [n](std::size_t k) { return static_cast<double>(word(k) * n >> 32); };
    };
    add_case(
        "randint", [](const Shape& s, TensorOptions o) { return randint(3, 13, s, o); },
        [=](std::size_t k) { return 3 + below(10)(k); }, integers);
    add_case("randint_bool", [](const Shape& s, TensorOptions o) { return randint(0, 2, s, o); },
             below(2), {DType::boolean});
  }
  out.push_back(drawing(
      "uniform_second",  // the first op of this program used ceil(5 / 4) blocks
      [](DType t) {
        rand({5}, {.dtype = t});
        return rand({0}, {.dtype = t}).numel() == 0 ? rand({6}, {.dtype = t}) : Tensor{};
      },
      {6}, [](std::size_t k) { return unit24(word(k, 2)); }, {DType::f32}));

  for (const bool precise : {false, true}) {
    OpCase b;
    b.name = precise ? "bernoulli_f64" : "bernoulli";
    b.args = {{.shape = {4, 5}, .lo = 0, .hi = 1, .grad = false}};
    b.run = [](const std::vector<Tensor>& in) { return std::vector{bernoulli(in[0])}; };
    b.reference = [precise](const std::vector<Array>& in) {
      Array r = in[0];
      for (std::size_t k = 0; k < r.v.size(); ++k) {
        r.v[k] = (precise ? unit32(word(k)) : unit24(word(k))) < in[0].v[k];
      }
      return std::vector{r};
    };
    b.dtypes = precise ? wide : narrow;
    b.types = {Type::same};
    b.more = {{{}}, {{0, 2}}, {{2, 3, 2, 2}}};
    b.differentiable = false;
    out.push_back(b);
  }

  for (const double p : {0.3, 1.0}) {
    OpCase c;
    c.name = p < 1 ? "dropout" : "dropout_all";
    c.args = {{{4, 5}}};
    c.run = [p](const std::vector<Tensor>& in) { return std::vector{dropout(in[0], p)}; };
    c.reference = [p](const std::vector<Array>& in) {
      Array r = in[0];
      for (std::size_t k = 0; k < r.v.size(); ++k) {
        const bool kept = p < 1 && (word(in[0].place[k]) >> 8) >= p * 0x1p24;
        r.v[k] = kept ? in[0].v[k] / (1 - p) : 0;
      }
      return std::vector{r};
    };
    c.dtypes = kFloats;
    c.types = {Type::same};
    c.more = {{{}}, {{0}}, {{3, 2, 2, 3}}};
    c.big = {{300, 500}};
    c.by_place = true;
    out.push_back(c);
  }
  OpCase twice;
  twice.name = "dropout_twice";
  twice.args = {{{4, 5}}};
  twice.run = [](const std::vector<Tensor>& in) {
    return std::vector{dropout(in[0], 0.5) + dropout(in[0], 0.5), dropout(in[0], 0, true),
                       dropout(in[0], 0.9, false)};
  };
  twice.reference = [](const std::vector<Array>& in) {
    Array r = in[0];
    for (std::size_t k = 0; k < r.v.size(); ++k) {
      const std::size_t i = in[0].place[k];
      const int kept = (word(i) >> 31) + (word(i, (r.v.size() + 3) / 4) >> 31);
      r.v[k] = 2 * kept * in[0].v[k];
    }
    return std::vector{r, in[0], in[0]};
  };
  twice.dtypes = kFloats;
  twice.types = {Type::same};
  twice.by_place = true;
  out.push_back(twice);

  // --- optimiser steps: two, on two parameters
  struct Sgd {
    const char* name;
    SgdAttrs a;
    bool late = false;  // the second parameter gets its first gradient at the second step
  };
  const auto clones = [](const std::vector<Tensor>& in, std::size_t from, std::size_t n) {
    std::vector<Tensor> r;
    for (std::size_t k = 0; k < n; ++k) r.push_back(in[from + k].clone());
    return r;
  };
  const Arg p1{.shape = {2, 3}, .grad = false}, p2{.shape = {4}, .grad = false};
  const Arg lr{.shape = {}, .lo = 0.05, .hi = 0.2, .dtype = DType::f32, .grad = false};
  for (const Sgd& v : std::initializer_list<Sgd>{
           {"sgd", {}},
           {"sgd_decay", {.weight_decay = 0.1}},
           {"sgd_momentum", {.momentum = 0.9, .weight_decay = 0.1}},
           {"sgd_nesterov", {.momentum = 0.9, .weight_decay = 0.1, .nesterov = true}},
           {"sgd_dampening", {.momentum = 0.9, .dampening = 0.25}},
           {"sgd_dampening_late", {.momentum = 0.9, .dampening = 0.25}, true}}) {
    OpCase c;
    c.name = v.name;
    c.args = {p1, p2, p1, p2, lr};
    c.run = [=](const std::vector<Tensor>& in) {
      std::vector<Tensor> p = clones(in, 0, 2), g = clones(in, 2, 2), m;
      Tensor step;
      if (v.a.has_momentum()) {
        for (const Tensor& t : p) {
          m.push_back(
              zeros(t.shape(), {.dtype = is_low_precision(t.dtype()) ? DType::f32 : t.dtype()}));
        }
      }
      if (v.a.counts_steps()) step = zeros({2}, {.dtype = DType::i64});
      if (v.late) {
        SgdAttrs first = v.a;
        first.positions = {0};
        sgd_step({{p[0]}}, {{g[0]}}, {{m[0]}}, in[4], first, step);
      } else {
        sgd_step(p, g, m, in[4], v.a, step);
      }
      sgd_step(p, g, m, in[4], v.a, step);
      p.insert(p.end(), m.begin(), m.end());
      return p;
    };
    c.reference = [=](const std::vector<Array>& in) {
      std::vector<Array> r = {in[0], in[1]};
      if (v.a.has_momentum()) {
        r.emplace_back(in[0].shape);
        r.emplace_back(in[1].shape);
      }
      for (std::size_t t = 0; t < 2; ++t) {
        for (int step = 0; step < (v.late && t == 1 ? 1 : 2); ++step) {
          for (std::size_t k = 0; k < in[t].v.size(); ++k) {
            double& p = r[t].v[k];
            const double g = in[2 + t].v[k] + v.a.weight_decay * p;
            double move = g;
            if (v.a.has_momentum()) {
              double& u = r[2 + t].v[k];
              const double share = v.a.counts_steps() && step == 0 ? 1 : 1 - v.a.dampening;
              u = v.a.momentum * u + share * g;
              move = v.a.nesterov ? g + v.a.momentum * u : u;
            }
            p -= in[4].v[0] * move;
          }
        }
      }
      return r;
    };
    c.dtypes = kFloats;
    c.types = {Type::same, Type::same, Type::wide};
    c.differentiable = false;
    c.more = {{{}, {0}, {}, {0}, {1}}, {{1}, {}, {1}, {}, {}}};
    c.big = {{300, 500}, {7}, {300, 500}, {7}, {}};
    c.ulps = 64;
    c.roundings = 2;
    c.magnitude = 4;
    c.why = "a low-precision parameter is rounded at each of two steps";
    if (v.a.has_momentum()) {
      // With weight decay the rounded parameter enters the wide momentum.
      c.ulps = v.a.weight_decay > 0 ? 0x1p18 : 64;
      c.why += ", which with weight decay enters the momentum";
      OpCase precise = c;
      precise.name += "_precise";
      precise.dtypes = {DType::f64, DType::f32};
      precise.ulps = 64;
      out.push_back(precise);
      c.dtypes = {DType::f16, DType::bf16};
    }
    out.push_back(c);
  }
  struct Adam {
    const char* name;
    AdamAttrs a;
    bool late = false;
  };
  for (const Adam& v : std::initializer_list<Adam>{
           {"adam", {}},
           {"adam_decay", {.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .weight_decay = 0.1}},
           {"adamw", {.eps = 1e-3, .weight_decay = 0.1, .decoupled = true}},
           {"adam_eps_hat", {.eps = 1e-3, .eps_hat = true}},
           {"adam_late", {}, true}}) {
    OpCase c;
    c.name = v.name;
    // Gradients well away from 0: there the step is g / |g|, as ill-conditioned as can be.
    Arg g1 = p1, g2 = p2;
    g1.lo = g2.lo = 0.5;
    c.args = {p1, p2, g1, g2, lr};
    c.run = [=](const std::vector<Tensor>& in) {
      std::vector<Tensor> p = clones(in, 0, 2), g = clones(in, 2, 2), m, u;
      for (const Tensor& t : p) {
        const DType d = is_low_precision(t.dtype()) ? DType::f32 : t.dtype();
        m.push_back(zeros(t.shape(), {.dtype = d}));
        u.push_back(zeros(t.shape(), {.dtype = d}));
      }
      // A count more than there are parameters: of one that has no gradient here.
      const Tensor step = zeros({3}, {.dtype = DType::i64});
      AdamAttrs a = v.a;
      if (v.late) {
        a.positions = {0};
        adam_step({{p[0]}}, {{g[0]}}, {{m[0]}}, {{u[0]}}, in[4], step, a);
        a.positions = {0, 2};
      } else {
        a.positions = {0, 2};
        adam_step(p, g, m, u, in[4], step, a);
      }
      adam_step(p, g, m, u, in[4], step, a);
      p.push_back(step);
      return p;
    };
    c.reference = [=](const std::vector<Array>& in) {
      std::vector<Array> r = {in[0], in[1], Array(Shape{3}, {2, 0, v.late ? 1.0 : 2.0})};
      const double rate = in[4].v[0];
      for (std::size_t t = 0; t < 2; ++t) {
        for (std::size_t k = 0; k < in[t].v.size(); ++k) {
          double &p = r[t].v[k], m = 0, u = 0;
          for (int step = 1; step <= (v.late && t == 1 ? 1 : 2); ++step) {
            double g = in[2 + t].v[k];
            if (v.a.decoupled)
              p -= rate * v.a.weight_decay * p;
            else
              g += v.a.weight_decay * p;
            m = v.a.beta1 * m + (1 - v.a.beta1) * g;
            u = v.a.beta2 * u + (1 - v.a.beta2) * g * g;
            const double c1 = 1 - std::pow(v.a.beta1, step), c2 = 1 - std::pow(v.a.beta2, step);
            if (v.a.eps_hat)
              p -= rate * std::sqrt(c2) / c1 * m / (std::sqrt(u) + v.a.eps);
            else
              p -= rate / c1 * m / (std::sqrt(u / c2) + v.a.eps);
          }
        }
      }
      return r;
    };
    c.dtypes = kFloats;
    c.types = {Type::same, Type::same, Type::i64};
    c.differentiable = false;
    c.more = {{{}, {0}, {}, {0}, {1}}, {{1}, {}, {1}, {}, {}}};
    c.big = {{300, 500}, {7}, {300, 500}, {7}, {}};
    c.ulps = 256;
    c.roundings = 3;
    c.magnitude = 2;
    c.why = "a low-precision parameter is rounded at each of two steps";
    out.push_back(c);
  }
}

}  // namespace tandem::cases
