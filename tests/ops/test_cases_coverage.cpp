// The table is complete: every op of the op list is dispatched by some case, forward or backward.
#include <set>

#include "autograd/autograd.h"
#include "core/dispatch.h"
#include "tests/ops/cases_fixture.h"

namespace tandem::cases {
namespace {

class Observer final : public Interceptor {
 public:
  std::set<std::string> seen;
  Outputs call(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    seen.insert(op.op->name);
    const RefPtr<const PreparedOp> keep(&op);
    return dispatch::execute(*keep, in, loc);
  }
  void call_inplace(const PreparedOp& op, Inputs in, const SrcLoc& loc) override {
    seen.insert(op.op->name);
    const RefPtr<const PreparedOp> keep(&op);
    dispatch::execute_inplace(*keep, in, loc);
  }
};

TEST(OpCaseTable, CoversEveryOp) {
  Observer observer;
  {
    const dispatch::InterceptorScope scope(&observer);
    for (const OpCase& c : all_cases()) {
      auto args = make_args(c, c.dtypes[0], shapes_of(c));
      if (c.differentiable) args = with_grad(c, args);
      auto out = run(c, args);
      std::vector<Tensor> wanted;
      for (const Tensor& t : args) {
        if (t.requires_grad()) wanted.push_back(t);
      }
      // Twice: some ops appear in gradients of gradients only.
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
  }
  // Made by the graph only.
  const std::set<std::string> elsewhere = {"fused_elementwise", "as_strided"};
  for (const OpDef* op : all_ops()) {
    EXPECT_TRUE(observer.seen.contains(op->name) || elsewhere.contains(op->name))
        << "no case dispatches " << op->name;
  }
}

TEST(OpCaseTable, HasUniqueNamesAndReasons) {
  std::set<std::string> names;
  for (const OpCase& c : all_cases()) {
    EXPECT_TRUE(names.insert(c.name).second) << c.name << " twice";
    EXPECT_FALSE(c.dtypes.empty()) << c.name;
    EXPECT_EQ(c.big.empty() ? c.args.size() : c.big.size(), c.args.size()) << c.name;
    for (const Shapes& s : c.more) EXPECT_EQ(s.size(), c.args.size()) << c.name;
    if (c.ulps > 64 || c.roundings > 1) {
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
