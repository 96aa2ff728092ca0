#include <string_view>

#include "ops/op_list.h"

namespace tandem {

namespace {

constexpr const OpDef* kOps[kNumOps] = {
#define TANDEM_ADDRESS(name) &op::name,
    TANDEM_OPS(TANDEM_ADDRESS)
#undef TANDEM_ADDRESS
};

}  // namespace

std::span<const OpDef* const> all_ops() {
  return kOps;
}

const OpDef* find_op(std::string_view name) {
  for (const OpDef* op : kOps) {
    if (name == op->name) return op;
  }
  return nullptr;
}

}  // namespace tandem
