#include "python/src/op_docs.h"

#include <deque>
#include <map>

#include "ops/op_list.h"

namespace tandem::python {
namespace {

struct Sections {
  const char* shapes;
  const char* errors;
};

// Families that share both.
constexpr Sections kNumbers{"x of any shape; the result has x's.", "DTypeError for bool."};
constexpr Sections kReal{"x of any shape; the result has x's. Integers and bool give float32.",
                         "CaptureError for a value of another capture."};
constexpr Sections kTruths{"x of any shape; the result has x's.",
                           "CaptureError for a value of another capture."};
constexpr Sections kArithmetic{
    "a and b broadcast, and their types promote (docs/types.md); one of them may be a number, a "
    "list "
    "or an array.",
    "ShapeError unless the shapes broadcast; DTypeError for two bool tensors where that has no "
    "meaning; DeviceError for tensors on two devices."};
constexpr Sections kComparison{"a and b broadcast; either may be a number, a list or an array.",
                               "ShapeError unless the shapes broadcast; DeviceError for tensors on "
                               "two devices."};
constexpr const char* kReduced =
    "x of any shape; the result lacks the axes, or has them with size 1 if keepdims.";
constexpr const char* kAxes =
    "OutOfBoundsError for an axis x lacks; RangeError for one named twice.";
constexpr Sections kReduction{kReduced, kAxes};
constexpr Sections kStatistic{
    kReduced,
    "DTypeError unless floating; OutOfBoundsError for an axis x lacks; RangeError for one named "
    "twice."};
constexpr Sections kExtremum{kReduced,
                             "ShapeError where an axis of size 0 is reduced; OutOfBoundsError for "
                             "an axis x lacks; RangeError "
                             "for one named twice."};
constexpr Sections kPosition{
    "x of any shape; the result lacks the axis, or has it with size 1 if keepdims.",
    "ShapeError where the axis has size 0; RangeError for more than one axis; OutOfBoundsError for "
    "one x lacks."};
constexpr Sections kFilled{"The result has `shape`: a tuple, or a number for one axis.",
                           "ShapeError for negative sizes, more than 8 axes or too many elements; "
                           "DTypeError where what is no float wants a gradient; OutOfMemoryError."};
constexpr Sections kLike{"x of any shape; the result has its shape and memory format.",
                         "OutOfMemoryError."};
constexpr Sections kDrawn{
    "The result has `shape`: a tuple, or a number for one axis.",
    "DTypeError unless floating; RangeError for bounds in the wrong order, a "
    "negative deviation, or what is not finite; ShapeError for negative sizes."};
constexpr Sections kOneAxis{"x of any shape; the result has x's.",
                            "OutOfBoundsError for an axis x lacks."};
constexpr Sections kSoftmax{"x of any shape; the result has x's.",
                            "DTypeError unless floating; OutOfBoundsError for an axis x lacks."};
constexpr Sections kPool{
    "x [N, C, H, W] gives [N, C, OH, OW], OH = (H + 2 padding - kernel) / stride + 1, rounded down "
    "(up if ceil_mode).",
    "ShapeError unless x has rank 4 and the kernel fits into the padded input, or for padding "
    "above "
    "half the kernel; RangeError for a stride below 1; DTypeError unless floating."};

const std::map<std::string_view, Sections>& table() {
  static const std::map<std::string_view, Sections> t = {
      // elementwise
      {"negative", kNumbers},
      {"abs", kNumbers},
      {"sign", kNumbers},
      {"floor", kNumbers},
      {"ceil", kNumbers},
      {"round", kNumbers},
      {"square", kNumbers},
      {"relu", kNumbers},
      {"reciprocal", kReal},
      {"exp", kReal},
      {"log", kReal},
      {"log1p", kReal},
      {"sqrt", kReal},
      {"rsqrt", kReal},
      {"sin", kReal},
      {"cos", kReal},
      {"acos", kReal},
      {"asin", kReal},
      {"atan", kReal},
      {"erf", kReal},
      {"tanh", kReal},
      {"sigmoid", kReal},
      {"gelu", kReal},
      {"silu", kReal},
      {"softplus", kReal},
      {"leaky_relu", kReal},
      {"logical_not", kTruths},
      {"isnan", kTruths},
      {"clamp",
       {"x of any shape; the result has x's. Bounds of a higher kind promote the type.",
        "CaptureError for a value of another capture."}},
      {"add", kArithmetic},
      {"subtract", kArithmetic},
      {"multiply", kArithmetic},
      {"divide", kArithmetic},
      {"floor_divide", kArithmetic},
      {"remainder", kArithmetic},
      {"pow",
       {kArithmetic.shapes,
        "ShapeError unless the shapes broadcast; DTypeError for two bool tensors; RangeError for "
        "integers to a negative number."}},
      {"maximum", kArithmetic},
      {"minimum", kArithmetic},
      {"equal", kComparison},
      {"not_equal", kComparison},
      {"less", kComparison},
      {"less_equal", kComparison},
      {"greater", kComparison},
      {"greater_equal", kComparison},
      {"logical_and", kComparison},
      {"logical_or", kComparison},
      {"where",
       {"All three broadcast; a and b may be numbers, lists or arrays.",
        "DTypeError unless the condition is bool; ShapeError unless the shapes broadcast."}},
      // reductions
      {"sum", kReduction},
      {"prod", kReduction},
      {"any", kReduction},
      {"all", kReduction},
      {"mean", kStatistic},
      {"var", kStatistic},
      {"std", kStatistic},
      {"max", kExtremum},
      {"min", kExtremum},
      {"argmax", kPosition},
      {"argmin", kPosition},
      {"cumulative_sum", kOneAxis},
      // creation
      {"full", kFilled},
      {"zeros", kFilled},
      {"ones", kFilled},
      {"empty", kFilled},
      {"zeros_like", kLike},
      {"ones_like", kLike},
      {"full_like", kLike},
      {"arange", {"One axis.", "RangeError for a step of 0."}},
      {"linspace", {"The result is [num].", "RangeError for a negative `num`."}},
      {"eye",
       {"The result is [n_rows, n_cols]; n_cols is n_rows by default.",
        "ShapeError for negative sizes."}},
      {"rand", kDrawn},
      {"uniform", kDrawn},
      {"randn", kDrawn},
      {"normal", kDrawn},
      {"randint",
       {kDrawn.shapes,
        "DTypeError unless integers or bool; RangeError unless low < high, at most 2^32 apart."}},
      {"bernoulli", {"p of any shape; the result has p's.", "DTypeError unless p is floating."}},
      {"dropout",
       {"x of any shape; the result has x's.",
        "RangeError unless 0 <= p <= 1; DTypeError unless x is floating."}},
      // shapes
      {"reshape",
       {"x of any shape; the result has `shape`, with as many elements.",
        "ShapeError where the number of elements would change, or for more than one -1."}},
      {"flatten",
       {"[a, b, c] of axes 0 … 1 gives [a b, c].", "OutOfBoundsError for an axis x lacks."}},
      {"transpose",
       {"The sizes of the two axes change places.", "OutOfBoundsError for an axis x lacks."}},
      {"permute_dims",
       {"Axis i of the result is axis axes[i] of x.",
        "ShapeError unless every axis is named once; OutOfBoundsError for one x lacks."}},
      {"squeeze",
       {"The result lacks the axes.",
        "ShapeError unless they have size 1; OutOfBoundsError for one x lacks; RangeError for one "
        "named twice."}},
      {"expand_dims",
       {"The result has size 1 at `axis`.",
        "OutOfBoundsError for an axis the result lacks; ShapeError beyond 8 axes."}},
      {"broadcast_to", {"x broadcasts to `shape`.", "ShapeError unless x broadcasts to `shape`."}},
      {"concat",
       {"Tensors of equal sizes but for the axis, where the result has their sum.",
        "RangeError for no tensors; ShapeError unless the other axes agree."}},
      {"stack",
       {"n tensors of one shape; the result has n at `axis`.",
        "RangeError for no tensors; ShapeError unless of one shape."}},
      {"split",
       {"Each part has x's sizes but for the axis.",
        "RangeError for a size below 1; ShapeError unless the sizes add up to the axis."}},
      {"chunk",
       {"Each part has x's sizes but for the axis.",
        "RangeError for a count below 1; OutOfBoundsError for an axis x lacks."}},
      {"pad",
       {"Axis i grows by before_after[2 i] + before_after[2 i + 1].",
        "ShapeError unless there are two counts for each axis, none negative."}},
      {"flip", kReduction},
      {"roll",
       {"x of any shape; the result has x's.",
        "ShapeError unless there is a shift for each axis; OutOfBoundsError for an axis x lacks."}},
      {"gather",
       {"index has x's rank and does not exceed it but along the axis; the result has index's "
        "shape.",
        "ShapeError for another index; DTypeError unless int32 or int64; OutOfBoundsError for a "
        "position outside (negative ones are)."}},
      {"scatter_add",
       {"index and src have one shape, of x's rank; the result has x's.",
        "ShapeError for other shapes; DTypeError unless int32 or int64; OutOfBoundsError for a "
        "position outside."}},
      {"take",
       {"index [n]; the result has n on the axis.",
        "ShapeError unless the index has rank 1; DTypeError unless int32 or int64; "
        "OutOfBoundsError "
        "for a position outside (negative ones are)."}},
      {"index_add",
       {"index [n], src with x's sizes but n on the axis; the result has x's shape.",
        "ShapeError for other shapes; DTypeError unless int32 or int64; OutOfBoundsError for a "
        "position outside."}},
      {"embedding",
       {"weight [V, D], ids [...] give [..., D].",
        "DTypeError unless ids are int32 or int64; OutOfBoundsError for an id outside [0, V)."}},
      {"one_hot",
       {"x [...] gives [..., classes].",
        "DTypeError unless int32 or int64; OutOfBoundsError for an id outside [0, classes)."}},
      {"sort", {"Both results have x's shape.", "OutOfBoundsError for an axis x lacks."}},
      {"argsort", kOneAxis},
      {"topk",
       {"Both results have k on the axis, x's sizes else.",
        "RangeError for a k above the size of the axis; OutOfBoundsError for an axis x lacks."}},
      // networks
      {"matmul",
       {"[..., M, K] and [..., K, N] give [..., M, N]; a rank of 1 is a row or a column that is "
        "dropped again.",
        "ShapeError unless the inner sizes agree and the others broadcast; DeviceError for tensors "
        "on two devices."}},
      {"linear",
       {"x [..., in], weight [out, in], bias [out] give [..., out].",
        "ShapeError for other shapes; DTypeError unless all are of one floating dtype."}},
      {"conv2d",
       {"x [N, C, H, W], weight [O, C / groups, kh, kw], bias [O] give [N, O, OH, OW]. Sizes are "
        "numbers or pairs, in pixels.",
        "ShapeError for other shapes or a kernel that does not fit into the padded input; "
        "RangeError "
        "for stride, dilation or groups below 1 or negative padding; DTypeError unless all are of "
        "one floating dtype."}},
      {"conv_transpose2d",
       {"x [N, I, H, W], weight [I, O / groups, kh, kw], bias [O] give [N, O, OH, OW].",
        "ShapeError for other shapes; RangeError for stride, dilation or groups below 1 or "
        "negative "
        "padding; DTypeError unless all are of one floating dtype."}},
      {"max_pool2d", kPool},
      {"max_pool2d_with_indices", kPool},
      {"avg_pool2d", kPool},
      {"adaptive_avg_pool2d",
       {"x [N, C, H, W] gives [N, C, OH, OW].",
        "ShapeError unless x has rank 4 and the size is positive; DTypeError unless floating."}},
      {"batch_norm",
       {"x [N, C, ...], all others [C]; the result has x's shape.",
        "ShapeError for other shapes, or for training with one value per channel; RangeError for "
        "evaluation without running statistics; DTypeError unless floating."}},
      {"layer_norm",
       {"x [..., *normalized_shape], weight and bias of normalized_shape; the result has x's "
        "shape.",
        "ShapeError for other shapes; DTypeError unless floating."}},
      {"softmax", kSoftmax},
      {"log_softmax", kSoftmax},
      {"cross_entropy",
       {"logits [N, C, ...], target [N, ...] of int32, int64 or uint8, or probabilities like "
        "logits; the "
        "result has no axes, or target's with reduction 'none'. In nats.",
        "ShapeError for other shapes; OutOfBoundsError for a label that is no class; RangeError "
        "for "
        "a label smoothing outside [0, 1] or an unknown reduction."}},
      {"nll_loss",
       {"log_probabilities [N, C, ...], target [N, ...]; the result has no axes, or target's with "
        "reduction 'none'. In nats.",
        "ShapeError for other shapes; OutOfBoundsError for a label that is no class; RangeError "
        "for "
        "an unknown reduction."}},
      {"mse_loss",
       {"a and b of one shape; the result has no axes, or theirs with reduction 'none'.",
        "ShapeError unless the shapes are equal; RangeError for an unknown reduction; DTypeError "
        "for "
        "the mean of integers."}},
  };
  return t;
}

constexpr const char* kPhilox =
    "Salmon et al., \"Parallel random numbers: as easy as 1, 2, 3\", 2011 (Philox4x32-10).";
constexpr const char* kBoxMuller =
    "Box and Muller, \"A note on the generation of random normal deviates\", 1958, of "
    "Philox4x32-10 "
    "(Salmon et al. 2011).";

// Where the definition of an operation is from.
const std::map<std::string_view, const char*>& sources() {
  static const std::map<std::string_view, const char*> known = [] {
    std::map<std::string_view, const char*> s = {
        {"adaptive_avg_pool2d",
         "He et al. 2014, arXiv:1406.4729; to one value per channel: Lin, Chen and Yan 2013, "
         "arXiv:1312.4400."},
        {"avg_pool2d",
         "LeCun et al., \"Gradient-based learning applied to document recognition\", 1998; sizes: "
         "Dumoulin and Visin 2016, arXiv:1603.07285."},
        {"batch_norm", "Ioffe and Szegedy 2015, arXiv:1502.03167."},
        {"clamp", "Python array API standard 2023.12, clip."},
        {"conv2d",
         "LeCun et al., \"Gradient-based learning applied to document recognition\", 1998; sizes: "
         "Dumoulin and Visin 2016, arXiv:1603.07285."},
        {"conv_transpose2d", "Dumoulin and Visin 2016, arXiv:1603.07285, 4."},
        {"cross_entropy",
         "Bishop, \"Pattern recognition and machine learning\", 2006, 4.3.4; label smoothing: "
         "Szegedy et al. 2016, arXiv:1512.00567."},
        {"dropout", "Srivastava et al., \"Dropout\", 2014."},
        {"embedding", "Bengio et al., \"A neural probabilistic language model\", 2003."},
        {"erf", "Abramowitz and Stegun, \"Handbook of mathematical functions\", 1964, 7.1."},
        {"gelu", "Hendrycks and Gimpel 2016, arXiv:1606.08415."},
        {"layer_norm", "Ba, Kiros and Hinton 2016, arXiv:1607.06450."},
        {"leaky_relu",
         "Maas, Hannun and Ng, \"Rectifier nonlinearities improve neural network acoustic "
         "models\", 2013."},
        {"linear",
         "Rumelhart, Hinton and Williams, \"Learning representations by back-propagating errors\", "
         "1986."},
        {"log_softmax",
         "Bridle, \"Probabilistic interpretation of feedforward classification network outputs\", "
         "1990."},
        {"max_pool2d",
         "Scherer, Müller and Behnke, \"Evaluation of pooling operations\", 2010; sizes: Dumoulin "
         "and Visin 2016, arXiv:1603.07285."},
        {"max_pool2d_with_indices", "As max_pool2d."},
        {"mse_loss", "Bishop, \"Pattern recognition and machine learning\", 2006, 3.1.1."},
        {"nll_loss", "Bishop, \"Pattern recognition and machine learning\", 2006, 4.3.4."},
        {"relu",
         "Nair and Hinton, \"Rectified linear units improve restricted Boltzmann machines\", "
         "2010."},
        {"rsqrt", "IEEE 754-2019, 9.2 (rSqrt)."},
        {"sigmoid",
         "Rumelhart, Hinton and Williams, \"Learning representations by back-propagating errors\", "
         "1986."},
        {"silu", "Elfwing, Uchibe and Doya 2018, arXiv:1702.03118."},
        {"softmax",
         "Bridle, \"Probabilistic interpretation of feedforward classification network outputs\", "
         "1990."},
        {"softplus",
         "Dugas et al., \"Incorporating second-order functional knowledge for better option "
         "pricing\", 2000."},
        {"square", "Python array API standard 2023.12."},
        {"rand", kPhilox},
        {"uniform", kPhilox},
        {"randint", kPhilox},
        {"bernoulli", kPhilox},
        {"randn", kBoxMuller},
        {"normal", kBoxMuller},
        {"reciprocal", "Python array API standard 2024.12."},
        {"pad", "NumPy's pad, with constants."},
    };
    for (const char* name : {"abs",           "acos",         "add",        "all",
                             "any",           "arange",       "argmax",     "argmin",
                             "argsort",       "asin",         "atan",       "broadcast_to",
                             "ceil",          "concat",       "cos",        "cumulative_sum",
                             "divide",        "empty",        "equal",      "exp",
                             "expand_dims",   "eye",          "flip",       "floor",
                             "floor_divide",  "full",         "full_like",  "greater",
                             "greater_equal", "isnan",        "less",       "less_equal",
                             "linspace",      "log",          "log1p",      "logical_and",
                             "logical_not",   "logical_or",   "matmul",     "max",
                             "maximum",       "mean",         "min",        "minimum",
                             "multiply",      "negative",     "not_equal",  "ones",
                             "ones_like",     "permute_dims", "pow",        "prod",
                             "remainder",     "reshape",      "roll",       "round",
                             "sign",          "sin",          "sort",       "sqrt",
                             "squeeze",       "stack",        "std",        "subtract",
                             "sum",           "take",         "tanh",       "var",
                             "where",         "zeros",        "zeros_like", "from_dlpack"}) {
      s.emplace(name, "Python array API standard 2023.12.");
    }
    for (const char* name : {"chunk", "flatten", "gather", "index_add", "one_hot", "scatter_add",
                             "split", "topk", "transpose"}) {
      s.emplace(name, "the function of this name in PyTorch.");
    }
    return s;
  }();
  return known;
}

const char* kind_name(OpKind k) {
  switch (k) {
    case OpKind::elementwise: return "elementwise";
    case OpKind::view: return "view";
    default: return "compute";
  }
}

}  // namespace

const char* with_sections(const char* name, const char* doc) {
  const auto it = table().find(name);
  if (it == table().end()) return doc;
  static std::deque<std::string> texts;  // its elements never move
  texts.push_back(std::string(doc) + "\n\nShapes: " + it->second.shapes +
                  "\n\nErrors: " + it->second.errors);
  if (const auto from = sources().find(name); from != sources().end()) {
    texts.back() += std::string("\n\nSource: ") + from->second;
  }
  return texts.back().c_str();
}

void bind_op_docs(py::module_& m) {
  m.def("_op_info", [] {
    py::list r;
    for (const OpDef* op : all_ops()) {
      py::dict d;
      d["name"] = op->name;
      d["doc"] = op->doc;
      d["kind"] = kind_name(op->traits.kind);
      d["differentiable"] = op->vjp != nullptr;
      d["random"] = op->traits.random;
      r.append(d);
    }
    return r;
  });
  m.def("_documented_operations", [] {
    std::vector<std::string> names;
    for (const auto& [name, sections] : table()) names.emplace_back(name);
    return names;
  });
}

}  // namespace tandem::python
