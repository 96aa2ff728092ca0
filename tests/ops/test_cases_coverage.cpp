// The table is complete: every op of the op list is dispatched by some case, forward or backward.
#include <set>

#include "autograd/autograd.h"
#include "core/dispatch.h"
#include "tests/ops/cases_fixture.h"

namespace tandem::cases {
namespace {

/// Notes which ops are called, and which with a tensor without elements and with tensors of one.
class Observer final : public Interceptor {
 public:
  std::set<std::string> seen, empty, one;
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
    seen.insert(op.op->name);
    if (none) empty.insert(op.op->name);
    if (single) one.insert(op.op->name);
  }
};

/// Runs a case and its gradients, twice: some ops appear in gradients of gradients only.
void run_with_gradients(const OpCase& c, const Shapes& shapes) {
  auto args = make_args(c, c.dtypes[0], shapes);
  if (c.differentiable) args = with_grad(c, args);
  auto out = run(c, args);
  std::vector<Tensor> wanted;
  for (const Tensor& t : args) {
    if (t.requires_grad()) wanted.push_back(t);
  }
  for (int order = 0; order < 2 && c.differentiable; ++order) {
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
      run_with_gradients(c, shapes_of(c));
      for (const Shapes& s : c.more) run_with_gradients(c, s);
    }
  }
  // Made by the graph only.
  const std::set<std::string> elsewhere = {"fused_elementwise", "as_strided"};
  // A variance needs two values: refused, as test_errors.cpp says.
  const std::set<std::string> never_one = {"batch_norm_train", "batch_norm_grad"};
  for (const OpDef* op : all_ops()) {
    if (elsewhere.contains(op->name)) continue;
    EXPECT_TRUE(observer.seen.contains(op->name)) << "no case dispatches " << op->name;
    EXPECT_TRUE(observer.empty.contains(op->name))
        << "no case dispatches " << op->name << " with a tensor without elements";
    EXPECT_NE(observer.one.contains(op->name), never_one.contains(op->name))
        << "no case dispatches " << op->name << " with tensors of one element, or one that "
        << "should be refused does";
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
