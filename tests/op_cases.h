// The one table of op cases. A case is an op applied to arguments of given shapes, with a reference
// written from the definition: loops over doubles that use nothing of Tandem's kernels. What is
// done with each case (dtypes, gradients, layouts, compilation, …) stands in
// tests/ops/test_cases_*.cpp, once for all of them.
#pragma once
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace tandem::cases {

/// A row-major array of doubles: all the reference knows.
struct Array {
  Shape shape;
  std::vector<double> v;
  /// What is drawn for an element of a tensor without gaps goes by its place in memory: the place
  /// of each element, and its number in `v` for a tensor with gaps.
  std::vector<std::size_t> place = {};

  Array() = default;
  explicit Array(const Shape& s, double fill = 0)
      : shape(s), v(static_cast<std::size_t>(numel(s)), fill) {}
  Array(const Shape& s, std::vector<double> values) : shape(s), v(std::move(values)) {}

  std::size_t at(const Dims& i) const;
  double operator[](const Dims& i) const { return v[at(i)]; }
  double& operator[](const Dims& i) { return v[at(i)]; }
  int rank() const { return shape.size(); }
  /// Position of element `k` in every axis.
  Dims position(std::size_t k) const;
};

/// How one argument is drawn.
struct Arg {
  Shape shape;
  double lo = -2, hi = 2;
  bool integers = false;  // whole numbers also for floating dtypes (so that some are equal)
  bool distinct = false;  // evenly spaced, in irregular order: no ties, no kinks in between
  std::optional<DType> dtype = {};  // whatever the dtype of the case
  bool wide = false;                // f32 where the case is f16 or bf16
  bool grad = true;                 // gradients are checked (floating arguments only)
};

/// The dtype of a result, given the dtype of the case.
enum class Type : std::uint8_t {
  same,
  floating,  // integers become f32
  total,     // integers become i64
  wide,      // f32 for f16 and bf16
  boolean,
  i32,
  i64,
  f32,
  any,  // not checked
};
DType resolve(Type t, DType of_case);

using Fn = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;
using Reference = std::function<std::vector<Array>(const std::vector<Array>&)>;
using Shapes = std::vector<Shape>;

struct OpCase {
  std::string name;
  std::vector<Arg> args;
  Fn run;
  Reference reference;

  std::vector<DType> dtypes;
  std::vector<Type> types;        // of the results; the last counts for the rest
  std::vector<Shapes> more = {};  // other shapes of the arguments: empty, one element, …
  Shapes big = {};                // shapes at which kernels use several threads; none: not tried
  bool differentiable = true;
  bool differences = true;  // f64 throughout, so that finite differences mean something
  bool by_place = false;    // elements are numbered as they lie in memory: Array::place
  std::size_t differentiable_results = 0;  // how many of the first results; 0: all

  // A result may differ from the reference by `roundings` roundings to its own dtype and `ulps`
  // units of the dtype it is computed in, relative to the larger of its size and `magnitude`.
  double roundings = 1, ulps = 16, magnitude = 1;
  std::string why = {};  // for more than that
  bool tf32 = false;     // sums of products: with Policy::tf32 those of f32 may differ by more
};

/// A deque: what is added later moves no case that somebody still refers to.
using CaseTable = std::deque<OpCase>;

const CaseTable& all_cases();

/// Arguments of the case in that dtype, contiguous. The same for the same seed.
std::vector<Tensor> make_args(const OpCase& c, DType dtype, const Shapes& shapes,
                              std::uint64_t seed = 1);
Shapes shapes_of(const OpCase& c);
/// What the case must give for these arguments (values as they are after rounding to the dtype).
std::vector<Array> expected(const OpCase& c, const std::vector<Tensor>& args);
Array to_array(const Tensor& t);
/// The program with the default generator where it always starts: random ops repeat themselves.
std::vector<Tensor> run(const OpCase& c, const std::vector<Tensor>& args);

/// "" or the first element that differs by more than the case allows.
std::string compare(const OpCase& c, const Tensor& got, const Array& want);
/// "" or the first difference: description, then bits (NaNs are all equal).
std::string compare_bits(const Tensor& a, const Tensor& b);

// --- for those who write cases

inline const std::vector<DType> kFloats = {DType::f64, DType::f32, DType::f16, DType::bf16};
inline const std::vector<DType> kInts = {DType::i32, DType::i64};
std::vector<DType> operator+(std::vector<DType> a, const std::vector<DType>& b);

void elementwise_cases(CaseTable& out);
void view_cases(CaseTable& out);  // and creation, and writes in place
void reduce_cases(CaseTable& out);
void linear_cases(CaseTable& out);  // matmul, convolution, pooling
void norm_cases(CaseTable& out);    // normalisation, softmax, losses
void index_cases(CaseTable& out);   // and sorting
void random_cases(CaseTable& out);  // and optimisers

/// The results of one call.
std::vector<Tensor> call_op(const OpDef& op, const std::vector<Tensor>& in, AttrRef attrs);

/// `c` as one call of `op`, whose `attrs` say that the first result goes through a ReLU; with
/// `residual` after the last argument, of the first one's shape, has been added to it.
OpCase with_epilogue(OpCase c, const OpDef& op, AttrRef attrs, bool residual = false);

/// f at every position of the broadcast shape.
Array map(const Array& a, const std::function<double(double)>& f);
Array map(const Array& a, const Array& b, const std::function<double(double, double)>& f);
Array broadcast(const Array& a, const Shape& s);
/// Output element at each position of `s`.
Array build(const Shape& s, const std::function<double(const Dims&)>& f);

}  // namespace tandem::cases
