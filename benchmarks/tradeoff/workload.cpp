#include "benchmarks/tradeoff/workload.h"

#include "ops/ops.h"

namespace tandem::tradeoff {

namespace {

constexpr Recipe kRecipes[] = {
    {"lenet", 64, "adam", 1e-3, 0, 0},
    {"vgg-cifar", 64, "sgd", 1e-2, 0.9, 0},
    {"resnet18-cifar", 32, "sgd", 1e-2, 0.9, 5e-4},
    {"resnet50", 4, "sgd", 1e-2, 0.9, 1e-4},
};

}  // namespace

std::span<const Recipe> recipes() {
  return kRecipes;
}

const Recipe& find_recipe(std::string_view name) {
  std::string known;
  for (const Recipe& r : kRecipes) {
    if (r.name == name) return r;
    known += (known.empty() ? "" : ", ") + std::string(r.name);
  }
  fail("model", "no model of this name", name, known);
}

optim::Optimizer make_optimiser(std::string_view kind, std::vector<Tensor> parameters, double lr,
                                double momentum, double weight_decay) {
  if (kind == "sgd") {
    optim::SgdOptions o;
    o.lr = lr;
    o.momentum = momentum;
    o.weight_decay = weight_decay;
    return optim::SGD(std::move(parameters), o);
  }
  optim::AdamOptions o;
  o.lr = lr;
  o.weight_decay = weight_decay;
  if (kind == "adam") return optim::Adam(std::move(parameters), o);
  if (kind == "adamw") return optim::AdamW(std::move(parameters), optim::AdamWOptions::of(o));
  fail("optimiser", "no optimiser of this name", kind, "sgd, adam or adamw");
}

optim::GradScaler make_scaler() {
  const AutocastMode mode = autocast_mode();
  return optim::GradScaler({.enabled = mode.on && mode.dtype == DType::f16});
}

Tensor train_step(const nn::Module& net, const optim::Optimizer& optimiser,
                  const optim::GradScaler& scaler, const Tensor& x, const Tensor& y) {
  optimiser.zero_grad();
  const Tensor loss = nn::cross_entropy(net(x), y);
  scaler.scale(loss).backward();
  scaler.step(optimiser);
  scaler.update();
  return loss;
}

StateDict full_state(const nn::Module& net, const optim::Optimizer& optimiser,
                     const optim::GradScaler& scaler) {
  StateDict all;
  for (auto& [name, t] : net.state_dict()) all.emplace_back("net." + name, t);
  for (auto& [name, t] : optimiser.state_dict()) all.emplace_back("optimiser." + name, t);
  for (auto& [name, t] : scaler.state_dict()) all.emplace_back("scaler." + name, t);
  return all;
}

std::string precision_text(DType weights) {
  std::string s = name_of(weights);
  if (autocast_mode().on) s += ", autocast " + autocast_mode().str();
  if (policy().tf32) s += ", TF32";
  return s;
}

Workload make_workload(const WorkloadOptions& o) {
  const Recipe& recipe = find_recipe(o.recipe);
  if (o.batch < 0 || o.batches < 1) {
    fail("workload", "sizes must be positive",
         fmt::format("batch {}, {} batches", o.batch, o.batches));
  }
  const std::int64_t n = o.batch > 0 ? o.batch : recipe.batch;
  models::ModelOptions mo;
  mo.layout = o.layout;
  mo.tensor.dtype = o.dtype;

  Workload w;
  w.name = fmt::format("{}, batch {}, {}{}", recipe.name, n, precision_text(o.dtype),
                       o.layout == MemoryFormat::channels_last ? ", channels-last" : "");
  w.make = [&recipe, mo] {
    const models::Model m = models::make_model(recipe.name, mo);
    const optim::Optimizer opt = make_optimiser(recipe.optimiser, m.net.parameters(), recipe.lr,
                                                recipe.momentum, recipe.weight_decay);
    Subject s;
    const optim::GradScaler scaler = make_scaler();
    s.state = full_state(m.net, opt, scaler);
    s.step = [net = m.net, opt, scaler](std::span<const Tensor> in) {
      return std::vector<Tensor>{train_step(net, opt, scaler, in[0], in[1])};
    };
    return s;
  };

  // Only for what its images look like; dropped at once.
  Generator draws(o.seed + 1, default_device());
  const models::Model m = models::make_model(recipe.name, mo);
  Shape images = {n};
  for (const std::int64_t d : m.input) images.push_back(d);
  for (int i = 0; i < o.batches; ++i) {
    w.batches.push_back({rand(images, {}, &draws).to(o.dtype).to(o.layout),
                         randint(0, m.classes, {n}, {.dtype = DType::i64}, &draws)});
  }
  return w;
}

}  // namespace tandem::tradeoff
