// The experiments' nets, each with the optimiser it is trained with.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "benchmarks/tradeoff/ladder.h"
#include "nn/nn.h"

namespace tandem::tradeoff {

/// How a net of the experiments is trained.
struct Recipe {
  std::string_view name;  // of models::make_model, and on the command line
  std::int64_t batch;     // of the experiment; resnet50's is smaller here, for a CPU
  std::string_view optimiser;
  double lr, momentum, weight_decay;
};

/// "lenet" (E1), "vgg-cifar" (E2), "resnet18-cifar" (32x32), "resnet50" (224x224).
std::span<const Recipe> recipes();
/// Throws ValueError naming those there are.
const Recipe& find_recipe(std::string_view name);

/// "sgd", "adam" or "adamw"; momentum is for sgd only. Throws ValueError for another name.
optim::Optimizer make_optimiser(std::string_view kind, std::vector<Tensor> parameters, double lr,
                                double momentum, double weight_decay);

/// A loss scaler that does something only where this thread autocasts to f16.
optim::GradScaler make_scaler();

/// One step: cross-entropy of the net's result (scaled), gradients, the optimiser. The loss,
/// unscaled.
Tensor train_step(const nn::Module& net, const optim::Optimizer& optimiser,
                  const optim::GradScaler& scaler, const Tensor& x, const Tensor& y);

/// Parameters and buffers of a net and what optimiser and scaler keep, under "net.", "optimiser."
/// and "scaler.".
StateDict full_state(const nn::Module& net, const optim::Optimizer& optimiser,
                     const optim::GradScaler& scaler);

/// "f32", "f32, autocast bf16, TF32": what a net of such weights is computed in on this thread.
std::string precision_text(DType weights);

struct WorkloadOptions {
  std::string recipe = "lenet";
  std::int64_t batch = 0;  // 0: the recipe's
  MemoryFormat layout = MemoryFormat::contiguous;
  DType dtype = DType::f32;
  std::uint64_t seed = 0;
  int batches = 4;  // different ones
};

/// Forward, backward and optimiser step on random images and labels (never zeros: kernels and
/// memory can be faster on those).
Workload make_workload(const WorkloadOptions& options);

}  // namespace tandem::tradeoff
