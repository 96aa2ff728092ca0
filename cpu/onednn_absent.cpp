// A build without oneDNN: it has nothing better for any case.
#include "cpu/onednn.h"

namespace tandem::cpu::onednn {

std::string version() {
  return "plain C++";
}
RefPtr<Plan> plan_matmul(const MatmulProblem&) {
  return {};
}
RefPtr<Plan> plan_conv(const ConvProblem&) {
  return {};
}
RefPtr<Plan> plan_average_pool(const AveragePoolProblem&) {
  return {};
}
RefPtr<Plan> plan_layer_norm(const PlanRequest&, double) {
  return {};
}
RefPtr<Plan> plan_layer_norm_grad(const PlanRequest&) {
  return {};
}

}  // namespace tandem::cpu::onednn
