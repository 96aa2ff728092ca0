// Views, creation, and writes in place.
#include <algorithm>
#include <cmath>

#include "tests/op_cases.h"

namespace tandem::cases {
namespace {

const std::vector<DType> kAll = kFloats + kInts + std::vector<DType>{DType::u8, DType::boolean};

using Remap = std::function<Dims(const Dims&)>;

// An op that only moves elements: output position -> input position.
OpCase moves(const char* name, std::function<Tensor(const Tensor&)> f, Shape in,
             std::function<Array(const Array&)> ref, std::vector<Shapes> more = {}) {
  OpCase c;
  c.name = name;
  c.args = {{in}};
  c.run = [f](const std::vector<Tensor>& a) { return std::vector{f(a[0])}; };
  c.reference = [ref](const std::vector<Array>& a) { return std::vector{ref(a[0])}; };
  c.dtypes = kAll;
  c.types = {Type::same};
  c.more = std::move(more);
  c.ulps = c.roundings = 0;
  return c;
}

std::function<Array(const Array&)> reshaped(Shape s) {
  return [s](const Array& a) { return Array(s, a.v); };
}

Shape without(const Shape& s, int axis) {
  Shape r = s;
  r.erase(axis);
  return r;
}

Array sliced(const Array& a, int axis, std::int64_t begin, std::int64_t end, std::int64_t step) {
  Shape s = a.shape;
  s[axis] = end > begin ? (end - begin + step - 1) / step : 0;
  return build(s, [&](Dims i) {
    i[axis] = begin + i[axis] * step;
    return a[i];
  });
}

Array permuted(const Array& a, const Dims& axes) {
  Shape s;
  for (auto x : axes) s.push_back(a.shape[static_cast<int>(x)]);
  return build(s, [&](const Dims& i) {
    Dims j(a.rank(), 0);
    for (int k = 0; k < axes.size(); ++k) j[static_cast<int>(axes[k])] = i[k];
    return a[j];
  });
}

OpCase creation(const char* name, std::function<Tensor(DType)> f, Array want,
                std::vector<DType> dtypes, Type type) {
  OpCase c;
  c.name = name;
  c.args = {{.shape = {}, .grad = false}};
  c.run = [f](const std::vector<Tensor>& a) { return std::vector{f(a[0].dtype())}; };
  c.reference = [want](const std::vector<Array>&) { return std::vector{want}; };
  c.dtypes = std::move(dtypes);
  c.types = {type};
  c.differentiable = false;
  return c;
}

// `write` changes its first argument; the arguments of the case stay as they are.
OpCase writes(const char* name, std::function<void(Tensor&, const std::vector<Tensor>&)> write,
              std::vector<Arg> args, Reference ref, std::vector<DType> dtypes) {
  OpCase c;
  c.name = name;
  c.args = std::move(args);
  c.run = [write](const std::vector<Tensor>& a) {
    Tensor t = a[0].clone();
    write(t, a);
    return std::vector{t};
  };
  c.reference = std::move(ref);
  c.dtypes = std::move(dtypes);
  c.types = {Type::same};
  return c;
}

}  // namespace

void view_cases(CaseTable& out) {
  const auto add_case = [&](OpCase c) -> OpCase& {
    out.push_back(std::move(c));
    return out.back();
  };
  // --- views
  add_case(moves(
      "reshape",
      [](const Tensor& x) {
        return x.reshape({4, -1});
      },
      {2, 3, 4},
      [](const Array& a) {
        return Array({4, static_cast<std::int64_t>(a.v.size()) / 4}, a.v);
      },
      {{{4}}, {{4, 0}}, {{2, 2, 5}}}));
  add_case(moves(
      "reshape_to_scalar", [](const Tensor& x) { return x.reshape({}); }, {1, 1}, reshaped({})));
  add_case(moves(
      "view",
      [](const Tensor& x) {
        return x.contiguous().view({3, 8});
      },
      {2, 3, 4}, reshaped({3, 8})));
  add_case(moves(
      "view_flat", [](const Tensor& x) { return x.contiguous().view({x.numel()}); }, {2, 3},
      [](const Array& a) { return Array({static_cast<std::int64_t>(a.v.size())}, a.v); },
      {{{1, 1}}, {{0, 2}}}));
  add_case(moves(
      "flatten", [](const Tensor& x) { return x.flatten(1); }, {2, 3, 4},
      [](const Array& a) {
        Shape s = {a.shape[0], 1};
        for (int k = 1; k < a.rank(); ++k) s[1] *= a.shape[k];
        return Array(s, a.v);
      },
      {{{2, 3, 2, 2}}, {{0, 3, 2}}, {{1, 1, 1}}}));
  add_case(moves(
      "transpose", [](const Tensor& x) { return x.transpose(0, -1); }, {2, 3, 4},
      [](const Array& a) {
        return permuted(a, {2, 1, 0});
      },
      {{{0, 2, 3}}, {{1, 1, 1}}}));
  add_case(moves(
      "t", [](const Tensor& x) { return x.t(); }, {3, 4},
      [](const Array& a) {
        return permuted(a, {1, 0});
      },
      {{{0, 2}}, {{1, 1}}}));
  add_case(moves(
      "permute",
      [](const Tensor& x) {
        return x.permute({2, 0, 3, 1});
      },
      {2, 3, 4, 2},
      [](const Array& a) {
        return permuted(a, {2, 0, 3, 1});
      },
      {{{1, 1, 1, 1}}, {{2, 0, 1, 3}}}));
  add_case(moves(
      "squeeze", [](const Tensor& x) { return x.squeeze(-2); }, {3, 1, 4},
      [](const Array& a) { return Array(without(a.shape, 1), a.v); }, {{{0, 1, 2}}, {{1, 1, 1}}}));
  add_case(moves(
      "unsqueeze", [](const Tensor& x) { return x.unsqueeze(-1); }, {3, 4},
      [](const Array& a) {
        Shape s = a.shape;
        s.push_back(1);
        return Array(s, a.v);
      },
      {{{}}, {{0}}}));
  add_case(moves(
      "expand",
      [](const Tensor& x) {
        return x.expand({2, 3, 4}) + 0;
      },
      {3, 1},
      [](const Array& a) {
        return broadcast(a, {2, 3, 4});
      },
      {{{}}, {{4}}, {{1, 1, 4}}}));
  out.back().dtypes = kFloats + kInts;
  add_case(moves(
      "expand_none",
      [](const Tensor& x) {
        return x.expand({0, 4}) + 0;
      },
      {0, 1},
      [](const Array& a) {
        return broadcast(a, {0, 4});
      }));
  out.back().dtypes = kFloats + kInts;
  add_case(moves(
      "slice", [](const Tensor& x) { return x.slice(1, 1, 6, 2); }, {3, 7},
      [](const Array& a) { return sliced(a, 1, 1, 6, 2); }, {{{0, 7}}, {{2, 7, 3}}}));
  add_case(moves(
      "slice_one", [](const Tensor& x) { return x.slice(0, 0, 1); }, {1, 1},
      [](const Array& a) { return a; }));
  add_case(moves(
      "slice_negative", [](const Tensor& x) { return x.slice(-1, -3, -1); }, {3, 5},
      [](const Array& a) { return sliced(a, 1, 2, 4, 1); }));
  add_case(moves(
      "slice_empty", [](const Tensor& x) { return x.slice(0, 2, 2); }, {3, 5},
      [](const Array& a) { return sliced(a, 0, 2, 2, 1); }));
  add_case(moves(
      "select", [](const Tensor& x) { return x.select(1, -2); }, {3, 4, 2},
      [](const Array& a) {
        const Array s = sliced(a, 1, 2, 3, 1);
        return Array(without(a.shape, 1), s.v);
      },
      {{{0, 4}}}));
  add_case(moves(
      "select_one", [](const Tensor& x) { return x.select(0, 0); }, {1}, reshaped({})));
  OpCase parts = moves(
      "split", [](const Tensor& x) { return x; }, {7, 3}, reshaped({}));
  parts.run = [](const std::vector<Tensor>& a) { return split(a[0], 3); };
  parts.reference = [](const std::vector<Array>& a) {
    std::vector<Array> r;
    const std::int64_t n = a[0].shape[0];
    for (std::int64_t b = 0; b == 0 || b < n; b += 3) {
      r.push_back(sliced(a[0], 0, b, std::min(n, b + 3), 1));
    }
    return r;
  };
  parts.more = {{{0, 2}}, {{1, 1}}, {{3, 0}}, {{6}}};
  add_case(parts);
  parts.name = "chunk";  // three of three, three and one; of none, one
  parts.run = [](const std::vector<Tensor>& a) { return chunk(a[0], 3); };
  parts.more = {{{0, 2}}, {{9, 0}}};
  add_case(parts);
  parts.name = "chunk_one";
  parts.args[0].shape = {1, 1};
  parts.more = {};
  add_case(parts);
  parts.args[0].shape = {7, 3};
  parts.name = "split_sizes";
  parts.run = [](const std::vector<Tensor>& a) { return split(a[0], {0, 5, 2}, 0); };
  parts.reference = [](const std::vector<Array>& a) {
    return std::vector{sliced(a[0], 0, 0, 0, 1), sliced(a[0], 0, 0, 5, 1),
                       sliced(a[0], 0, 5, 7, 1)};
  };
  parts.more = {{{7, 0}}};
  add_case(parts);

  // --- creation
  for (const auto& [s, suffix] : std::initializer_list<std::pair<Shape, std::string>>{
           {{2, 3}, ""}, {{0, 3}, "_none"}, {{}, "_one"}}) {
    const auto made = [&, s = s, end = suffix](const char* name, auto f, double value) {
      add_case(creation(
                   name, [f, s](DType t) { return f(s, TensorOptions{.dtype = t}); },
                   Array(s, value), kAll, Type::same))
          .name += end;
    };
    made(
        "full", [](const Shape& x, TensorOptions o) { return full(x, 1, o); }, 1);
    made(
        "zeros", [](const Shape& x, TensorOptions o) { return zeros(x, o); }, 0);
    made(
        "ones", [](const Shape& x, TensorOptions o) { return ones(x, o); }, 1);
  }
  for (const auto& [name, f, value] :
       std::initializer_list<std::tuple<const char*, Tensor (*)(const Tensor&), double>>{
           {"full_like", [](const Tensor& x) { return full_like(x, 1); }, 1},
           {"zeros_like", [](const Tensor& x) { return zeros_like(x); }, 0},
           {"ones_like", [](const Tensor& x) { return ones_like(x); }, 1}}) {
    OpCase& c = add_case(moves(name, f, {2, 3, 2, 2},
                               [value = value](const Array& a) { return Array(a.shape, value); },
                               {{{}}, {{5}}, {{2, 0}}, {{2, 1, 3, 3}}}));
    c.differentiable = false;
  }
  OpCase& typed = add_case(moves(
      "full_like_typed", [](const Tensor& x) { return full_like(x, 7, {.dtype = DType::i32}); },
      {2, 3, 2, 2}, [](const Array& a) { return Array(a.shape, 7); }));
  typed.types = {Type::i32};
  typed.differentiable = false;
  add_case(creation(
      "arange", [](DType t) { return arange(2, 11, 3, {.dtype = t}); },
      Array({3}, std::vector<double>{2, 5, 8}), kFloats + kInts + std::vector<DType>{DType::u8},
      Type::same));
  add_case(creation(
      "arange_one", [](DType t) { return arange(2, 3, 1, {.dtype = t}); }, Array({1}, 2),
      kFloats + kInts + std::vector<DType>{DType::u8}, Type::same));
  add_case(creation(
      "arange_down", [](DType t) { return arange(2, 0.5, -0.5, {.dtype = t}); },
      Array({3}, std::vector<double>{2, 1.5, 1}), kFloats, Type::same));
  add_case(creation(
      "arange_default", [](DType) { return arange(0, 4); },
      Array({4}, std::vector<double>{0, 1, 2, 3}), {DType::f32}, Type::i64));
  add_case(creation(
      "arange_empty", [](DType t) { return arange(3, 3, 1, {.dtype = t}); }, Array(Shape{0}),
      kFloats + kInts + std::vector<DType>{DType::u8}, Type::same));
  add_case(creation(
      "linspace", [](DType t) { return linspace(-1, 1, 5, {.dtype = t}); },
      Array({5}, std::vector<double>{-1, -0.5, 0, 0.5, 1}), kFloats, Type::same));
  add_case(creation(
      "linspace_one", [](DType t) { return linspace(3, 7, 1, {.dtype = t}); },
      Array({1}, std::vector<double>{3}), kFloats, Type::same));
  add_case(creation(
      "linspace_none", [](DType t) { return linspace(3, 7, 0, {.dtype = t}); }, Array(Shape{0}),
      kFloats, Type::same));
  add_case(creation(
      "eye", [](DType t) { return eye(2, 3, {.dtype = t}); },
      Array({2, 3}, std::vector<double>{1, 0, 0, 0, 1, 0}), kAll, Type::same));
  add_case(creation(
      "eye_one", [](DType t) { return eye(1, -1, {.dtype = t}); }, Array({1, 1}, 1), kAll,
      Type::same));
  add_case(creation(
      "eye_none", [](DType t) { return eye(0, 3, {.dtype = t}); }, Array({0, 3}), kAll,
      Type::same));

  // --- writes in place
  const std::vector<DType> numbers = kFloats + kInts;
  const Arg x{{2, 3, 2, 3}}, y{{3, 1, 3}};
  const auto two = [](double (*f)(double, double)) {
    return [f](const std::vector<Array>& a) { return std::vector{map(a[0], a[1], f)}; };
  };
  add_case(writes(
      "add_", [](Tensor& t, const std::vector<Tensor>& a) { t.add_(a[1]); }, {x, y},
      two([](double p, double q) { return p + q; }), numbers));
  add_case(writes(
      "sub_", [](Tensor& t, const std::vector<Tensor>& a) { t.sub_(a[1]); }, {x, y},
      two([](double p, double q) { return p - q; }), numbers));
  add_case(writes(
               "mul_", [](Tensor& t, const std::vector<Tensor>& a) { t.mul_(a[1]); }, {x, y},
               two([](double p, double q) { return p * q; }), numbers))
      .differentiable = false;  // y's gradient needs what x was: an error (test_errors.cpp)
  Arg factor = y;
  factor.grad = false;
  add_case(writes(
      "mul_constant_", [](Tensor& t, const std::vector<Tensor>& a) { t.mul_(a[1]); }, {x, factor},
      two([](double p, double q) { return p * q; }), numbers));
  add_case(writes(
      "add_scalar_", [](Tensor& t, const std::vector<Tensor>&) { t.add_(2).mul_(3); }, {x},
      [](const std::vector<Array>& a) {
        return std::vector{map(a[0], [](double p) { return (p + 2) * 3; })};
      },
      numbers));
  out.back().roundings = 2;
  out.back().why = "two operations, each rounded";
  OpCase& self = add_case(writes(
      "add_self_", [](Tensor& t, const std::vector<Tensor>&) { t.add_(t); }, {x},
      [](const std::vector<Array>& a) {
        return std::vector{map(a[0], [](double p) { return p + p; })};
      },
      numbers));
  self.more = {{{}}, {{0}}};
  add_case(writes(
               "copy_", [](Tensor& t, const std::vector<Tensor>& a) { t.copy_(a[1]); }, {x, y},
               two([](double, double q) { return q; }), kAll))
      .differentiable = false;
  OpCase& assigned = add_case(writes(
      "assign",
      [](Tensor& t, const std::vector<Tensor>& a) {
        Tensor half = t.slice(1, 0, 3, 2);
        assign(half, a[1]);
      },
      {x, {{3}}},
      [](const std::vector<Array>& a) {
        return std::vector{build(
            a[0].shape, [&](const Dims& i) { return i[1] % 2 == 0 ? a[1][Dims{i[3]}] : a[0][i]; })};
      },
      kAll));
  assigned.differentiable = false;
  OpCase& mixed = add_case(writes(
      "assign_converts",
      [](Tensor& t, const std::vector<Tensor>& a) { assign(t, a[1].to(DType::f32)); }, {x, y},
      two([](double, double q) { return q; }), kAll));
  mixed.more = {{{1}, {}}, {{0, 2}, {2}}};
  mixed.differentiable = false;
  mixed.ulps = 0x1p31;
  mixed.why = "the values passed through f32";
  OpCase& filled = add_case(writes(
      "fill_", [](Tensor& t, const std::vector<Tensor>&) { t.fill_(1); }, {x},
      [](const std::vector<Array>& a) {
        return std::vector{map(a[0], [](double) { return 1.0; })};
      },
      kAll));
  filled.more = {{{}}, {{0}}};
  filled.differentiable = false;
  add_case(
      writes(
          "fill_view",
          [](Tensor& t, const std::vector<Tensor>&) { t.select(1, 1).slice(2, 0, 3, 2).zero_(); },
          {x},
          [](const std::vector<Array>& a) {
            return std::vector{build(a[0].shape, [&](const Dims& i) {
              return i[1] == 1 && i[3] % 2 == 0 ? 0.0 : a[0][i];
            })};
          },
          kAll))
      .differentiable = false;
  OpCase fill_op = writes(
      "fill", [](Tensor& t, const std::vector<Tensor>&) { fill(t, 1); }, {x}, filled.reference,
      kAll);
  fill_op.more = {{{}}, {{0}}};
  fill_op.differentiable = false;
  add_case(fill_op);
}

}  // namespace tandem::cases
