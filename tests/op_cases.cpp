#include "tests/op_cases.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "autograd/autograd.h"
#include "core/compare.h"
#include "core/dispatch.h"

namespace tandem::cases {

std::size_t Array::at(const Dims& i) const {
  std::size_t k = 0;
  for (int a = 0; a < shape.size(); ++a)
    k = k * static_cast<std::size_t>(shape[a]) + static_cast<std::size_t>(i[a]);
  return k;
}

Dims Array::position(std::size_t k) const {
  Dims i(shape.size(), 0);
  for (int a = shape.size() - 1; a >= 0; --a) {
    i[a] = static_cast<std::int64_t>(k % static_cast<std::size_t>(shape[a]));
    k /= static_cast<std::size_t>(shape[a]);
  }
  return i;
}

DType resolve(Type t, DType d) {
  switch (t) {
    case Type::floating: return is_floating(d) ? d : DType::f32;
    case Type::total: return is_floating(d) ? d : DType::i64;
    case Type::wide: return is_low_precision(d) ? DType::f32 : d;
    case Type::boolean: return DType::boolean;
    case Type::i32: return DType::i32;
    case Type::i64: return DType::i64;
    case Type::f32: return DType::f32;
    default: return d;
  }
}

std::vector<DType> operator+(std::vector<DType> a, const std::vector<DType>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Array build(const Shape& s, const std::function<double(const Dims&)>& f) {
  Array r(s);
  for (std::size_t k = 0; k < r.v.size(); ++k) r.v[k] = f(r.position(k));
  return r;
}

Array map(const Array& a, const std::function<double(double)>& f) {
  Array r = a;
  for (double& x : r.v) x = f(x);
  return r;
}

Array broadcast(const Array& a, const Shape& s) {
  return build(s, [&](const Dims& i) {
    Dims j(a.rank(), 0);
    for (int k = 0; k < a.rank(); ++k) {
      j[k] = a.shape[k] == 1 ? 0 : i[i.size() - a.rank() + k];
    }
    return a[j];
  });
}

Array map(const Array& a, const Array& b, const std::function<double(double, double)>& f) {
  Shape s;
  const int rank = std::max(a.rank(), b.rank());
  for (int k = 0; k < rank; ++k) {
    const int i = k - rank + a.rank(), j = k - rank + b.rank();
    const std::int64_t x = i < 0 ? 1 : a.shape[i], y = j < 0 ? 1 : b.shape[j];
    s.push_back(x == 1 ? y : x);
  }
  const Array p = broadcast(a, s), q = broadcast(b, s);
  Array r(s);
  for (std::size_t k = 0; k < r.v.size(); ++k) r.v[k] = f(p.v[k], q.v[k]);
  return r;
}

const CaseTable& all_cases() {
  static const CaseTable cases = [] {
    CaseTable c;
    elementwise_cases(c);
    view_cases(c);
    reduce_cases(c);
    linear_cases(c);
    norm_cases(c);
    index_cases(c);
    random_cases(c);
    return c;
  }();
  return cases;
}

Shapes shapes_of(const OpCase& c) {
  Shapes s;
  for (const Arg& a : c.args) s.push_back(a.shape);
  return s;
}

std::vector<Tensor> make_args(const OpCase& c, DType dtype, const Shapes& shapes,
                              std::uint64_t seed) {
  std::vector<Tensor> args;
  for (std::size_t i = 0; i < c.args.size(); ++i) {
    const Arg& a = c.args[i];
    const DType t = a.dtype ? *a.dtype : a.wide && is_low_precision(dtype) ? DType::f32 : dtype;
    std::mt19937_64 rng(seed * 7919 + i);
    double lo = a.lo, hi = a.hi;
    const bool whole = a.integers || is_integral(t);
    if (whole) {
      lo = std::ceil(lo);
      hi = std::floor(hi);
    }
    if (t == DType::u8 || t == DType::boolean) lo = std::max(lo, 0.0);
    if (t == DType::boolean) hi = std::min(hi, 1.0);
    std::vector<double> v(static_cast<std::size_t>(numel(shapes[i])));
    for (double& x : v) {
      // Not std::uniform_…_distribution: its numbers are the library's own affair.
      const double u = static_cast<double>(rng() >> 11) * 0x1p-53;
      x = whole ? lo + std::floor(u * (hi - lo + 1)) : lo + u * (hi - lo);
    }
    if (a.distinct && !is_integral(t)) {
      std::vector<std::size_t> order(v.size());
      for (std::size_t k = 0; k < order.size(); ++k) order[k] = k;
      for (std::size_t k = order.size(); k > 1; --k) std::swap(order[k - 1], order[rng() % k]);
      for (std::size_t k = 0; k < v.size(); ++k) {
        v[k] =
            lo + (hi - lo) * (static_cast<double>(order[k]) + 0.5) / static_cast<double>(v.size());
      }
    }
    args.push_back(Tensor::from<double>(v, shapes[i]).to(t));
  }
  return args;
}

Array to_array(const Tensor& t) {
  Array r(t.shape(), t.to_vector<double>());
  std::vector<bool> taken(r.v.size(), false);
  for (std::size_t k = 0; k < r.v.size(); ++k) {
    const Dims i = r.position(k);
    std::size_t place = 0;
    for (int a = 0; a < r.rank(); ++a) place += static_cast<std::size_t>(i[a] * t.strides()[a]);
    r.place.push_back(place);
    if (place < taken.size()) taken[place] = true;
  }
  if (std::find(taken.begin(), taken.end(), false) != taken.end()) {
    for (std::size_t k = 0; k < r.v.size(); ++k) r.place[k] = k;
  }
  return r;
}

std::vector<Array> expected(const OpCase& c, const std::vector<Tensor>& args) {
  std::vector<Array> in;
  for (const Tensor& t : args) in.push_back(to_array(t));
  return c.reference(in);
}

std::vector<Tensor> run(const OpCase& c, const std::vector<Tensor>& args) {
  manual_seed(77);
  return c.run(args);
}

namespace {
double unit(DType t) {
  switch (t) {
    case DType::f64: return 0x1p-53;
    case DType::f32: return 0x1p-24;
    case DType::f16: return 0x1p-11;
    case DType::bf16: return 0x1p-8;
    default: return 0;
  }
}
}  // namespace

std::string compare(const OpCase& c, const Tensor& got, const Array& want) {
  if (!(got.shape() == want.shape)) {
    return fmt::format("shape {}, reference {}", got.shape().str(), want.shape.str());
  }
  const auto v = got.to_vector<double>();
  const DType t = got.dtype();
  const DType computed = is_low_precision(t) ? DType::f32 : t;
  for (std::size_t k = 0; k < v.size(); ++k) {
    double w = want.v[k];
    if (t == DType::boolean) w = w != 0;
    double bound = 0;
    if (is_floating(t)) {
      const double size = std::max(std::fabs(w), c.magnitude);
      bound = c.ulps * unit(computed) * size;
      // The last rounding is one of the result, those before are of what it was made of.
      if (is_low_precision(t)) bound += unit(t) * (std::fabs(w) + (c.roundings - 1) * size);
      if (t == DType::f16 && c.roundings > 0) bound += 0x1p-25;  // half of the smallest denormal
      if (t == DType::f32 && c.tf32 && policy().tf32) bound += 4 * 0x1p-11 * size;
    }
    const bool same = v[k] == w || (std::isnan(v[k]) && std::isnan(w));
    if (!same && !(std::fabs(v[k] - w) <= bound)) {
      return fmt::format("element {}: {:.17g}, reference {:.17g}, allowed {:.3g}", k, v[k], w,
                         bound);
    }
  }
  return {};
}

std::string compare_bits(const Tensor& a, const Tensor& b) {
  if (!(a.desc() == b.desc())) {
    return fmt::format("{} {} and {} {}", a.desc().str(), a.strides().str(), b.desc().str(),
                       b.strides().str());
  }
  const auto d = first_difference(a, b);
  return d ? fmt::format("element {}: {} and {}", d->index, d->a, d->b) : "";
}

std::vector<Tensor> call_op(const OpDef& op, const std::vector<Tensor>& in, AttrRef attrs) {
  std::vector<const Tensor*> p;
  for (const Tensor& t : in) p.push_back(&t);
  const Outputs out = dispatch::call(op, p, attrs, SrcLoc::current());
  return {out.begin(), out.end()};
}

OpCase with_epilogue(OpCase c, const OpDef& op, AttrRef attrs, bool residual) {
  c.name += residual ? "_residual_relu" : "_relu";
  if (residual) {
    c.args.push_back(c.args[0]);
    for (Shapes& s : c.more) s.push_back(s[0]);
    if (!c.big.empty()) c.big.push_back(c.big[0]);
    c.roundings += 1;
    c.why += "; what the residual is added to is rounded, as it would be between two operations";
  }
  c.run = [&op, attrs = AttrBox(attrs)](const std::vector<Tensor>& in) {
    return call_op(op, in, attrs.ref());
  };
  c.reference = [reference = c.reference, residual](std::vector<Array> in) {
    Array z;
    if (residual) z = std::move(in.back()), in.pop_back();
    std::vector<Array> r = reference(in);
    if (residual) r[0] = map(r[0], z, [](double a, double b) { return a + b; });
    r[0] = map(r[0], [](double v) { return v > 0 ? v : 0; });
    return r;
  };
  c.differentiable = false;
  return c;
}

}  // namespace tandem::cases
