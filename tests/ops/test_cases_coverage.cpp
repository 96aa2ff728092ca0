// The table is complete: every op of the op list is dispatched by some case, forward or backward,
// in each of its types without elements and with one, and every public function has cases that are.
#include <set>

#include "autograd/autograd.h"
#include "core/dispatch.h"
#include "tests/ops/cases_fixture.h"

namespace tandem::cases {
namespace {

/// Notes which ops are called, and which with a tensor without elements and with tensors of one; as
/// "op" and "op in dtype".
class Observer final : public Interceptor {
 public:
  std::set<std::string> seen, empty, one;
  DType of_case = DType::f32;
  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    note(op);
    const RefPtr<const PreparedOp> keep(&op);
    return dispatch::execute(*keep, in, loc);
  }
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    note(op);
    const RefPtr<const PreparedOp> keep(&op);
    dispatch::execute_inplace(*keep, in, loc);
  }

 private:
  void note(const PreparedOp& op) {
    // The inputs; of an op without any, the results. Generators and step counts do not count: they
    // have the size they have.
    std::vector<TensorDesc> tensors;
    for (std::size_t i = 0; i < op.in.size(); ++i) {
      const bool written = std::count(op.mutated.begin(), op.mutated.end(), i) > 0;
      const bool state = written && (op.op->traits.random || op.in.size() > 2);
      if (!state || op.in[i].dtype != DType::i64) tensors.push_back(op.in[i]);
    }
    if (tensors.empty()) tensors.assign(op.out.begin(), op.out.end());
    bool none = false, single = true;
    for (const TensorDesc& d : tensors) {
      none = none || d.numel() == 0;
      single = single && d.numel() == 1;
    }
    const std::string name = op.op->name, typed = name + " in " + tandem::name_of(of_case);
    seen.insert({name, typed});
    if (none) empty.insert({name, typed});
    if (single) one.insert({name, typed});
  }
};

/// Runs a case and its gradients, twice: some ops appear in gradients of gradients only.
void run_with_gradients(const OpCase& c, DType t, const Shapes& shapes) {
  auto args = make_args(c, t, shapes);
  if (c.differentiable && is_floating(t)) args = with_grad(c, args);
  auto out = run(c, args);
  std::vector<Tensor> wanted;
  for (const Tensor& t : args) {
    if (t.requires_grad()) wanted.push_back(t);
  }
  for (int order = 0; order < 2 && c.differentiable && !wanted.empty(); ++order) {
    std::vector<Tensor> outputs, seeds;
    for (const Tensor& t : out) {
      if (!t.defined() || !is_floating(t.dtype()) || !t.requires_grad()) continue;
      outputs.push_back(t);
      seeds.push_back(full_like(t, 0.5));
      if (order == 0) seeds.back().set_requires_grad();
    }
    if (outputs.empty()) break;
    out = autograd::grad(outputs, wanted, seeds, {.create_graph = true, .allow_unused = true});
    // The second time by the seeds as well: in those every gradient is linear.
    if (order == 0) wanted.insert(wanted.end(), seeds.begin(), seeds.end());
  }
}

TEST(OpCaseTable, CoversEveryOp) {
  Observer observer;
  {
    const dispatch::InterceptorScope scope(&observer);
    for (const OpCase& c : all_cases()) {
      for (const DType t : c.dtypes) {
        observer.of_case = t;
        run_with_gradients(c, t, shapes_of(c));
        for (const Shapes& s : c.more) run_with_gradients(c, t, s);
      }
    }
  }
  // Made by the graph only.
  const std::set<std::string> elsewhere = {"fused_elementwise", "as_strided"};
  // A variance needs two values: refused, as test_errors.cpp says.
  const std::set<std::string> never_one = {"batch_norm_train"};
  for (const OpDef* op : all_ops()) {
    if (elsewhere.contains(op->name)) continue;
    EXPECT_TRUE(observer.seen.contains(op->name)) << "no case dispatches " << op->name;
  }
  for (const std::string& op : observer.seen) {
    const std::string name = op.substr(0, op.find(' '));
    EXPECT_TRUE(observer.empty.contains(op))
        << "no case dispatches " << op << " with a tensor without elements";
    EXPECT_NE(observer.one.contains(op), never_one.contains(name))
        << "no case dispatches " << op << " with tensors of one element, or one that "
        << "should be refused does";
  }
}

// ------------------------------------------------------------------------- by public function

/// What cases are named after: functions (in the long run more than ops, of which several share
/// one), and some ops that are public under another name.
const std::set<std::string>& functions() {
  static const std::set<std::string> all = [] {
    std::set<std::string> names = {
        // made of other ops, or of one of another name
        "adaptive_avg_pool2d",
        "add_",
        "arange",
        "assign",
        "batch_norm_eval",
        "batch_norm_train",
        "bernoulli",
        "chunk",
        "conv_transpose2d",
        "copy_",
        "cross_entropy",
        "cross_entropy_probabilities",
        "embedding",
        "eye",
        "fill_",
        "flatten",
        "full_like",
        "layer_norm",
        "linspace",
        "max_pool2d_indices",
        "mse_loss",
        "mul_",
        "nll_loss",
        "normal",
        "ones",
        "ones_like",
        "rand",
        "randint",
        "randn",
        "reshape",
        "select",
        "split",
        "squeeze",
        "stack",
        "sub_",
        "t",
        "transpose",
        "uniform",
        "unsqueeze",
        "view",
        "zeros",
        "zeros_like",
        // gradients that are public; optimisers
        "adam",
        "adamw",
        "grad_input",
        "grad_weight",
        "sgd",
    };
    for (const OpDef* op : all_ops()) names.insert(op->name);
    return names;
  }();
  return all;
}

/// The longest name of a function that the name of the case begins with, or "". What begins with
/// "scalar_" has the scalar on the left.
std::string function_of(std::string name) {
  if (name.starts_with("scalar_")) name = name.substr(7);
  for (std::size_t n = name.size(); n > 0; --n) {
    const bool whole = n == name.size() || name[n] == '_' || name[n - 1] == '_';
    if (whole && functions().contains(name.substr(0, n))) return name.substr(0, n);
  }
  return {};
}

TEST(OpCaseTable, CoversEveryFunction) {
  std::set<std::string> seen, empty, one, images;
  for (const OpCase& c : all_cases()) {
    if (c.name == "chain") continue;
    const std::string f = function_of(c.name);
    EXPECT_NE(f, "") << c.name << " names no function: list it";
    // In the type of the case on; of creation the argument says nothing but that.
    const bool creates = c.args.size() == 1 && c.args[0].shape.empty() && !c.args[0].grad;
    for (const DType t : c.dtypes) {
      const std::string typed = f + " in " + tandem::name_of(t);
      std::vector<Shapes> every = {shapes_of(c)};
      every.insert(every.end(), c.more.begin(), c.more.end());
      for (const Shapes& shapes : every) {
        const auto args = make_args(c, t, shapes), results = run(c, args);
        bool none = false, single = true, image = false;
        for (const Tensor& x : creates ? results : args) {
          none = none || x.numel() == 0;
          single = single && x.numel() == 1;
        }
        image = shapes[0].size() == 4 && shapes[0][1] > 1 && shapes[0][2] * shapes[0][3] > 1 &&
                shapes[0][0] > 0;
        seen.insert({f, typed});
        if (none) empty.insert({f, typed});
        if (single) one.insert({f, typed});
        if (image) images.insert(f);
      }
    }
  }
  // A variance needs two values: refused, as test_errors.cpp says.
  const std::set<std::string> never_one = {"batch_norm_train"};
  // Results of four axes have no first argument of four, or are written where they are, or views
  // (which keep the memory as it is), or matrix products (which are row-major).
  const std::set<std::string> never_images = {
      "adam",   "adamw",     "arange",  "chunk",     "embedding", "expand", "eye",     "full",
      "linear", "linspace",  "matmul",  "normal",    "one_hot",   "ones",   "rand",    "randint",
      "randn",  "reshape",   "select",  "sgd",       "slice",     "split",  "squeeze", "stack",
      "t",      "transpose", "uniform", "unsqueeze", "view",      "zeros"};
  for (const std::string& typed : seen) {
    const std::string f = typed.substr(0, typed.find(' '));
    EXPECT_TRUE(empty.contains(typed)) << "empty: " << typed;
    EXPECT_NE(one.contains(typed), never_one.contains(f)) << "one element: " << typed;
    if (typed == f) {
      EXPECT_NE(images.contains(f), never_images.contains(f)) << "four axes: " << f;
    }
  }
}

TEST(OpCaseTable, HasUniqueNamesAndReasons) {
  std::set<std::string> names;
  for (const OpCase& c : all_cases()) {
    EXPECT_TRUE(names.insert(c.name).second) << c.name << " twice";
    EXPECT_FALSE(c.dtypes.empty()) << c.name;
    EXPECT_EQ(c.big.empty() ? c.args.size() : c.big.size(), c.args.size()) << c.name;
    for (const Shapes& s : c.more) EXPECT_EQ(s.size(), c.args.size()) << c.name;
    if (c.ulps > OpCase().ulps || c.roundings > OpCase().roundings) {
      EXPECT_NE(c.why, "") << c.name << " tolerates much";
    }
  }
}

TEST(OpList, IsConsistent) {
  int id = 0;
  for (const OpDef* op : all_ops()) {
    EXPECT_EQ(op->id, id++) << op->name;
    EXPECT_EQ(find_op(op->name), op);
    EXPECT_NE(op->infer, nullptr) << op->name;
    EXPECT_STRNE(op->doc, "") << op->name << " is not documented";
  }
  EXPECT_EQ(find_op("no such op"), nullptr);
}

}  // namespace
}  // namespace tandem::cases
