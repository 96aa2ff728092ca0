#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/op_cases.h"

namespace tandem::cases {
namespace {

using Values = std::vector<double>;
using Fold = std::function<double(const Values&)>;

// The values along the reduced axes, in row-major order, for each place of the rest.
Array reduced(const Array& a, Dims axes, bool keepdim, const Fold& f) {
  bool on[kMaxRank] = {};
  for (int k = 0; k < a.rank(); ++k) on[k] = axes.empty();
  for (auto x : axes) on[x < 0 ? x + a.rank() : x] = true;
  Shape kept = a.shape, dropped;
  for (int k = 0; k < a.rank(); ++k) {
    if (on[k])
      kept[k] = 1;
    else
      dropped.push_back(a.shape[k]);
  }
  std::vector<Values> lists(static_cast<std::size_t>(numel(kept)));
  const Array index(kept);
  for (std::size_t k = 0; k < a.v.size(); ++k) {
    Dims i = a.position(k);
    for (int d = 0; d < a.rank(); ++d) {
      if (on[d]) i[d] = 0;
    }
    lists[index.at(i)].push_back(a.v[k]);
  }
  Array r(keepdim ? kept : dropped);
  for (std::size_t k = 0; k < lists.size(); ++k) r.v[k] = f(lists[k]);
  return r;
}

double sum_of(const Values& v) {
  double s = 0;
  for (double x : v) s += x;
  return s;
}
double var_of(const Values& v, double n) {
  const double m = sum_of(v) / static_cast<double>(v.size());
  double s = 0;
  for (double x : v) s += (x - m) * (x - m);
  return s / n;
}

}  // namespace

void reduce_cases(CaseTable& out) {
  struct Kind {
    const char* name;
    std::function<Tensor(const Tensor&, const Dims&, bool)> f;
    Fold ref;
    std::vector<DType> dtypes;
    Type type;
    bool differentiable, empty;
  };
  const std::vector<DType> numbers = kFloats + kInts + std::vector<DType>{DType::u8};
  const std::vector<DType> all = numbers + std::vector<DType>{DType::boolean};
  const Kind kinds[] = {
      {"sum", [](const Tensor& x, const Dims& a, bool k) { return sum(x, a, k); }, sum_of, all,
       Type::total, true, true},
      {"mean", [](const Tensor& x, const Dims& a, bool k) { return mean(x, a, k); },
       [](const Values& v) { return sum_of(v) / static_cast<double>(v.size()); }, kFloats,
       Type::same, true, true},
      {"prod", [](const Tensor& x, const Dims& a, bool k) { return prod(x, a, k); },
       [](const Values& v) {
         double p = 1;
         for (double x : v) p *= x;
         return p;
       },
       all, Type::total, true, true},
      {"max", [](const Tensor& x, const Dims& a, bool k) { return max(x, a, k); },
       [](const Values& v) { return *std::max_element(v.begin(), v.end()); }, all, Type::same, true,
       false},
      {"min", [](const Tensor& x, const Dims& a, bool k) { return min(x, a, k); },
       [](const Values& v) { return *std::min_element(v.begin(), v.end()); }, all, Type::same, true,
       false},
      {"var", [](const Tensor& x, const Dims& a, bool k) { return var(x, a, k); },
       [](const Values& v) { return var_of(v, static_cast<double>(v.size()) - 1); }, kFloats,
       Type::same, true, false},
      {"var_biased", [](const Tensor& x, const Dims& a, bool k) { return var(x, a, k, false); },
       [](const Values& v) { return var_of(v, static_cast<double>(v.size())); }, kFloats,
       Type::same, true, false},
      {"any", [](const Tensor& x, const Dims& a, bool k) { return any(x, a, k); },
       [](const Values& v) {
         return static_cast<double>(
             std::any_of(v.begin(), v.end(), [](double x) { return x != 0; }));
       },
       all, Type::boolean, false, true},
      {"all", [](const Tensor& x, const Dims& a, bool k) { return tandem::all(x, a, k); },
       [](const Values& v) {
         return static_cast<double>(
             std::all_of(v.begin(), v.end(), [](double x) { return x != 0; }));
       },
       all, Type::boolean, false, true},
  };
  struct Where {
    const char* name;
    Dims axes;
    bool keepdim;
  };
  const Where places[] = {
      {"", {}, false},          {"_keep", {}, true},        {"_last", {-1}, false},
      {"_first", {0}, false},   {"_middle", {1}, true},     {"_outer", {0, 2}, false},
      {"_tail", {2, 3}, false}, {"_nchw", {0, 2, 3}, true}, {"_rows", {2}, true}};
  for (const Kind& k : kinds) {
    for (const Where& w : places) {
      OpCase c;
      c.name = std::string(k.name) + w.name;
      Arg x{{2, 3, 4, 2}};
      x.distinct = true;
      x.lo = std::string(k.name) == "prod" ? 0.4 : -2;
      c.args = {x};
      const bool logic = k.type == Type::boolean;
      if (logic) {
        // Mostly ones for all(), mostly zeros for any().
        c.args[0].integers = true;
        c.args[0].distinct = false;
        c.args[0].lo = std::string(k.name) == "all" ? 0 : -1;
        c.args[0].hi = std::string(k.name) == "all" ? 3 : 0.5;
      }
      c.run = [f = k.f, w](const std::vector<Tensor>& a) {
        return std::vector{f(a[0], w.axes, w.keepdim)};
      };
      c.reference = [f = k.ref, w](const std::vector<Array>& a) {
        return std::vector{reduced(a[0], w.axes, w.keepdim, f)};
      };
      c.dtypes = k.dtypes;
      if (std::string(k.name) == "prod") {
        // 3^48 does not fit into i64 (and bools are covered by all).
        c.dtypes = kFloats;
        if (w.axes.size() == 1) c.dtypes = kFloats + kInts;
      }
      c.types = {k.type};
      c.differentiable = k.differentiable;
      if (w.axes.empty()) {
        c.more = {{{37}}, {{2, 3}}};
        // The unbiased variance of one number is NaN.
        if (std::string(k.name) != "var") c.more.push_back({{}}), c.more.push_back({{1}});
        if (k.empty) c.more.push_back({{0}}), c.more.push_back({{3, 0}});
        c.big = {{300, 1111}};
      } else if (w.axes.size() == 1 && w.axes[0] == -1) {
        c.more = {{{7}}, {{0, 3}}, {{2, 1000}}};
        if (k.empty) c.more.push_back({{3, 0}});
        c.big = {{300, 1111}};
        if (std::string(k.name) == "prod") c.more[2] = {{2, 30}};
        if (std::string(k.name) != "var") c.more.push_back({{1}});
      } else if (w.axes.size() == 1 && w.axes[0] == 0) {
        c.more = {{{7}}, {{3, 0}}, {{100, 3}}};
        if (k.empty) c.more.push_back({{0, 3}});
        c.big = {{1111, 300}};
        if (std::string(k.name) == "prod") c.more[2] = {{30, 3}};
      } else if (w.axes.size() == 3) {
        c.more = {{{4, 0, 2, 2}}, {{2, 5, 1, 1}}};
        c.big = {{16, 24, 30, 31}};
      }
      const std::string name = k.name;
      if (name == "max" || name == "min" || logic) {
        c.ulps = c.roundings = 0;
      } else if (name == "prod") {
        c.ulps = 128;
        c.why = "a rounding for each factor";
      } else {
        c.ulps = 64;
        c.magnitude = 8;
        c.why = "partial sums are larger than the sum, and formed in another order";
      }
      out.push_back(std::move(c));
    }
  }
  for (const bool largest : {true, false}) {
    for (const Where& w : {Where{"", {}, false}, Where{"_keep", {}, true},
                           Where{"_last", {-1}, false}, Where{"_axis", {1}, true}}) {
      OpCase c;
      c.name = std::string(largest ? "argmax" : "argmin") + w.name;
      c.args = {{.shape = {2, 3, 4, 2}, .integers = true}};  // so the first of several is asked for
      c.run = [=](const std::vector<Tensor>& a) {
        return std::vector{largest ? argmax(a[0], w.axes, w.keepdim)
                                   : argmin(a[0], w.axes, w.keepdim)};
      };
      c.reference = [=](const std::vector<Array>& a) {
        return std::vector{reduced(a[0], w.axes, w.keepdim, [=](const Values& v) {
          const auto it =
              largest ? std::max_element(v.begin(), v.end()) : std::min_element(v.begin(), v.end());
          return static_cast<double>(it - v.begin());
        })};
      };
      c.dtypes = numbers;
      c.types = {Type::i64};
      c.more = w.axes.empty()   ? std::vector<Shapes>{{{}}, {{5}}}
               : w.axes[0] == 1 ? std::vector<Shapes>{{{0, 3}}, {{2, 1}}}
                                : std::vector<Shapes>{{{0, 3}}, {{1}}};
      c.big = {{50, 30, 120}};
      c.differentiable = false;
      out.push_back(std::move(c));
    }
  }
  for (int axis : {0, 1, -1}) {
    OpCase c;
    c.name = "cumsum_" + std::string(axis < 0 ? "last" : std::to_string(axis));
    c.args = {{{3, 4, 5}}};
    c.run = [axis](const std::vector<Tensor>& a) { return std::vector{cumsum(a[0], axis)}; };
    c.reference = [axis](const std::vector<Array>& a) {
      const int k = axis < 0 ? axis + a[0].rank() : axis;
      return std::vector{build(a[0].shape, [&](Dims i) {
        double s = 0;
        for (std::int64_t n = i[k]; n >= 0; --n) {
          i[k] = n;
          s += a[0][i];
        }
        return s;
      })};
    };
    c.dtypes = all;
    c.types = {Type::total};
    c.more = {{{3, 0}}, {{0, 3}}, {{2, 1}}, {{1, 1}}, {{2, 3, 2, 2}}};
    c.big = {{60, 70, 80}};
    c.ulps = 64;
    c.magnitude = 8;
    c.why = "partial sums are larger than the sum";
    out.push_back(std::move(c));
  }
}

}  // namespace tandem::cases
