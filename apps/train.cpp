// tandem-train: trains a net of the experiments eagerly, compiled, or both side by side.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "apps/console.h"
#include "benchmarks/tradeoff/draws.h"
#include "benchmarks/tradeoff/report.h"
#include "benchmarks/tradeoff/stats.h"
#include "benchmarks/tradeoff/workload.h"
#include "core/backend.h"
#include "core/clock.h"
#include "core/compare.h"
#include "data/data.h"
#include "graph/compile.h"
#include "ops/ops.h"

namespace {

using namespace tandem;
using nlohmann::json;

struct Options : apps::CommonOptions {
  std::string data_set, dir, mode = "both", optimiser;
  int epochs = 0;  // 0: as many as are usual
  std::int64_t limit_batches = 0;
  double lr = 0, momentum = -1, weight_decay = -1;
  std::string command;
};

// Fills in what was not given.
void settle(Options& o) {
  const tradeoff::Recipe& r = tradeoff::find_recipe(o.model);
  if (o.batch == 0) o.batch = o.model == "resnet50" ? 32 : r.batch;
  if (o.optimiser.empty()) o.optimiser = r.optimiser;
  const bool own = o.optimiser == r.optimiser;
  if (o.lr == 0) o.lr = own ? r.lr : o.optimiser == "sgd" ? 1e-2 : 1e-3;
  if (o.momentum < 0) o.momentum = o.optimiser == "sgd" ? 0.9 : 0;
  if (o.weight_decay < 0) o.weight_decay = own ? r.weight_decay : 0;
  if (o.dir.empty()) {
    if (const char* dir = std::getenv("TANDEM_DATA")) o.dir = dir;
  }
  if (o.data_set.empty()) {
    const bool digits = o.model == "lenet";
    o.data_set = o.dir.empty() ? (digits ? "synthetic-digits" : "synthetic-cifar")
                               : (digits ? "mnist" : "cifar10");
  }
  const bool files = !o.data_set.starts_with("synthetic");
  if (files && o.dir.empty()) {
    fail<DataError>("data", fmt::format("{} needs files", o.data_set), "no folder",
                    "--data DIR or TANDEM_DATA=DIR");
  }
  // What is quick unless it was named.
  if (o.epochs == 0) o.epochs = o.quick ? 1 : 5;
  if (o.limit_batches == 0 && o.quick) o.limit_batches = 40;
}

// One net, trained in one mode.
class Runner {
 public:
  Runner(const Options& o, std::int64_t classes, bool compiled)
      : name_(compiled ? "compiled" : "eager"), draws_(default_device()) {
    manual_seed(o.seed);
    models::ModelOptions mo;
    mo.layout = o.layout;
    mo.tensor.dtype = o.dtype;
    if (o.model.starts_with("resnet")) mo.classes = classes;
    model_ = std::make_unique<models::Model>(models::make_model(o.model, mo));
    optimiser_ = std::make_unique<optim::Optimizer>(tradeoff::make_optimiser(
        o.optimiser, model_->net.parameters(), o.lr, o.momentum, o.weight_decay));
    draws_.pause();

    const auto step = [net = model_->net, opt = *optimiser_, scaler = scaler_](const Tensor& x,
                                                                               const Tensor& y) {
      return tradeoff::train_step(net, opt, scaler, x, y);
    };
    const auto correct = [net = model_->net](const Tensor& x, const Tensor& y) {
      return eq(argmax(net(x), {1}), y).to(DType::i64).sum();
    };
    if (compiled) {
      step_ = [fast = compile(step)](const Tensor& x, const Tensor& y) mutable {
        return fast(x, y);
      };
      correct_ = [fast = compile(correct)](const Tensor& x, const Tensor& y) mutable {
        return fast(x, y);
      };
    } else {
      step_ = step;
      correct_ = correct;
    }
  }

  /// One training step; its loss, and the time it took without reading the loss. The batch's way to
  /// the device is not part of it.
  double step(const data::Batch& b) {
    draws_.resume();
    const Device d = b.x.device();
    Stream& stream = backend(d).stream(d.index);
    stream.synchronize();
    const auto t = Clock::now();
    const Tensor loss = step_(b.x, b.y);
    stream.synchronize();
    step_ms_.push_back(ms_since(t));
    draws_.pause();
    return loss.item<double>();
  }

  struct Accuracy {
    std::int64_t correct = 0, seen = 0;
    double part() const {
      return seen > 0 ? static_cast<double>(correct) / static_cast<double>(seen) : 0;
    }
  };
  Accuracy evaluate(data::DataLoader& loader, std::int64_t most_batches) {
    const NoGrad off;
    model_->net.eval();
    Accuracy a;
    std::int64_t n = 0;
    for (auto& [x, y] : loader) {
      if (apps::interrupted() || (most_batches > 0 && n++ >= most_batches)) break;
      a.correct += correct_(x, y).item<std::int64_t>();
      a.seen += y.numel();
    }
    model_->net.train();
    return a;
  }

  const std::string& name() const { return name_; }
  const models::Model& model() const { return *model_; }
  StateDict state() const { return tradeoff::full_state(model_->net, *optimiser_, scaler_); }
  const std::vector<double>& step_ms() const { return step_ms_; }

 private:
  std::string name_;
  tradeoff::Draws draws_;
  std::unique_ptr<models::Model> model_;
  std::unique_ptr<optim::Optimizer> optimiser_;
  optim::GradScaler scaler_ = tradeoff::make_scaler();
  std::function<Tensor(const Tensor&, const Tensor&)> step_, correct_;
  std::vector<double> step_ms_;
};

// Bits, so that NaN equals itself and -0 does not equal 0.
bool same_bits(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// The first tensor in which two nets differ, and how, or "".
std::string difference(const StateDict& a, const StateDict& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (const auto d = first_difference(a[i].second, b[i].second)) {
      return fmt::format("'{}' DIFFERS at the end (element {}: eager {}, compiled {})", a[i].first,
                         d->index, d->a, d->b);
    }
  }
  return "";
}

class Training {
 public:
  explicit Training(const Options& o) : o_(o), data_(data::load_dataset(o.data_set, o.dir)) {
    for (const char* mode : {"eager", "compiled"}) {
      if (o.mode == mode || o.mode == "both") {
        runners_.push_back(
            std::make_unique<Runner>(o, data_.train->classes(), mode == std::string("compiled")));
      }
    }
    check_fit();
    data::DataLoaderOptions lo;
    lo.batch_size = o.batch;
    lo.seed = o.seed;
    lo.layout = o.layout;
    lo.dtype = o.dtype;
    train_ = std::make_unique<data::DataLoader>(data_.train, lo);
    lo.batch_size = 500;
    lo.shuffle = false;
    test_ = std::make_unique<data::DataLoader>(data_.test, lo);
    per_epoch_ = train_->size();
    if (o.limit_batches > 0) per_epoch_ = std::min(per_epoch_, o.limit_batches);
  }

  int run() {
    introduce();
    int status = 0;
    for (int epoch = 0; epoch < o_.epochs && status == 0; ++epoch) status = run_epoch(epoch);
    progress_.clear();
    if (status == apps::kInterrupted) fmt::print("Stopped after {} steps.\n", losses_[0].size());
    const bool equal = conclude();
    write();
    if (status == 0 && !equal) status = 1;
    return status;
  }

 private:
  bool both() const { return runners_.size() == 2; }

  void check_fit() const {
    const Shape have = data_.train->image_shape();
    const models::Model& m = runners_[0]->model();
    // Residual nets end in an average over the whole image and take any size.
    const bool any_size = o_.model.starts_with("resnet") && have[0] == m.input[0];
    if (!(have == m.input) && !any_size) {
      fail<ShapeError>("train",
                       fmt::format("{} does not take the images of {}", o_.model, o_.data_set),
                       have.str(), m.input.str());
    }
  }

  void introduce() {
    const data::Dataset& d = *data_.train;
    fmt::print("{}\n", tradeoff::machine_text());
    fmt::print("{}: {} parameters, {}, batch {}, {}{}{}, seed {}\n", o_.model,
               runners_[0]->model().net.parameter_count(),
               fmt::format("{} lr {}", o_.optimiser, o_.lr), o_.batch,
               tradeoff::precision_text(o_.dtype),
               o_.layout == MemoryFormat::channels_last ? ", channels-last" : "",
               both() ? ", eager and compiled side by side" : ", " + o_.mode, o_.seed);
    fmt::print("{}: {} training and {} test images of {}\n", d.name(), d.size(), data_.test->size(),
               d.image_shape().str());
    if (d.synthetic()) {
      fmt::print(
          "NOTE: these images are GENERATED (synthetic), not real ones: the accuracy says that "
          "training works, nothing more.\n");
    }
    if (per_epoch_ < train_->size()) {
      fmt::print("Only {} of the {} batches of an epoch are used.\n", per_epoch_, train_->size());
    }
    fmt::print("\n");
    std::fflush(stdout);
  }

  int run_epoch(int epoch) {
    const auto t0 = Clock::now();
    double sum = 0;
    std::int64_t n = 0, images = 0;
    for (auto& batch : *train_) {
      if (n >= per_epoch_) break;
      if (apps::interrupted()) return apps::kInterrupted;
      const double loss = one_step(batch);
      if (!std::isfinite(loss)) {
        progress_.clear();
        fmt::print(stderr, "error: the loss is {} at step {}: try a smaller --lr\n", loss,
                   losses_[0].size());
        return 1;
      }
      sum += loss;
      ++n;
      images += batch.y.numel();
      const double seconds = ms_since(t0) / 1e3;
      const double left =
          seconds / static_cast<double>(n) *
          static_cast<double>(per_epoch_ - n + (o_.epochs - 1 - epoch) * per_epoch_);
      progress_.show(
          fmt::format("epoch {}/{}", epoch + 1, o_.epochs),
          static_cast<double>(n) / static_cast<double>(per_epoch_),
          fmt::format("loss {:.4f}  {:.0f} images/s  {} left", sum / static_cast<double>(n),
                      static_cast<double>(images) / seconds, apps::duration_text(left)));
    }
    const double seconds = ms_since(t0) / 1e3;
    json entry = {{"epoch", epoch + 1},
                  {"loss", sum / static_cast<double>(n)},
                  {"seconds", seconds},
                  {"images_per_second", static_cast<double>(images) / seconds}};
    std::string line =
        fmt::format("epoch {:>2}/{}  loss {:.4f}  {:>6.0f} images/s  {:>5}", epoch + 1, o_.epochs,
                    sum / static_cast<double>(n), static_cast<double>(images) / seconds,
                    apps::duration_text(seconds));
    line += "  test accuracy";
    for (auto& r : runners_) {
      progress_.show("evaluating", 1, r->name());
      const Runner::Accuracy a = r->evaluate(*test_, o_.quick ? 4 : 0);
      if (apps::interrupted()) return apps::kInterrupted;
      line += fmt::format("  {:.2f} % ({})", a.part() * 100, r->name());
      entry["test_accuracy"][r->name()] = a.part();
      entry["test_correct"][r->name()] = a.correct;
      entry["test_images"] = a.seen;
    }
    progress_.clear();
    fmt::print("{}\n", line);
    std::fflush(stdout);
    epochs_.push_back(std::move(entry));
    return 0;
  }

  double one_step(const data::Batch& batch) {
    // Who goes first changes from step to step: the second finds the batch in the cache.
    const std::size_t k = losses_[0].size();
    double loss[2] = {0, 0};
    for (std::size_t i = 0; i < runners_.size(); ++i) {
      const std::size_t r = both() && k % 2 ? 1 - i : i;
      loss[r] = runners_[r]->step(batch);
    }
    for (std::size_t r = 0; r < runners_.size(); ++r) losses_[r].push_back(loss[r]);
    if (both() && !same_bits(loss[0], loss[1]) && first_bad_ == 0) first_bad_ = k + 1;
    return loss[0];
  }

  // What both modes have in common, and not. Whether they were equal.
  bool conclude() {
    std::size_t n = losses_[0].size();
    for (auto& r : runners_) n = std::min(n, r->step_ms().size());
    if (n == 0) return true;
    // Captures and first-time planning are the first steps', and the last batch's of an epoch
    // when it is smaller; the median does not see the latter.
    const std::size_t warm = std::min<std::size_t>(3, n - 1);
    std::vector<std::vector<double>> ms;
    fmt::print("\nTime of a training step (median, 95 % interval; the first {} left out)\n", warm);
    for (auto& r : runners_) {
      ms.emplace_back(r->step_ms().begin() + static_cast<std::ptrdiff_t>(warm), r->step_ms().end());
      const tradeoff::Interval t = tradeoff::median_interval(ms.back());
      fmt::print("  {:<9} {:.3f} ms [{:.3f}, {:.3f}]   first step {:.1f} ms\n", r->name(), t.median,
                 t.low, t.high, r->step_ms()[0]);
      summary_["step_ms"][r->name()] = {{"median", t.median},
                                        {"low", t.low},
                                        {"high", t.high},
                                        {"first", r->step_ms()[0]},
                                        {"steps", t.samples}};
    }
    if (!both()) return true;
    const tradeoff::Interval ratio = tradeoff::paired_ratio(ms[1], ms[0]);
    fmt::print("  compiled takes {:.3f} [{:.3f}, {:.3f}] times as long as eager\n", ratio.median,
               ratio.low, ratio.high);
    summary_["ratio"] = {{"median", ratio.median}, {"low", ratio.low}, {"high", ratio.high}};

    const std::string different =
        first_bad_ ? "" : difference(runners_[0]->state(), runners_[1]->state());
    summary_["losses_equal"] = first_bad_ == 0;
    summary_["states_equal"] = first_bad_ == 0 && different.empty();
    if (first_bad_) {
      summary_["first_difference_at_step"] = first_bad_;
      fmt::print(
          "\nThe losses DIFFER, first at step {}: eager {:.9g}, compiled {:.9g}. This is a "
          "defect.\n",
          first_bad_, losses_[0][first_bad_ - 1], losses_[1][first_bad_ - 1]);
      return false;
    }
    if (!different.empty()) {
      fmt::print("\nAll {} losses were equal bit for bit, but {}. This is a defect.\n", n,
                 different);
      return false;
    }
    fmt::print(
        "\nEager and compiled were equal bit for bit: all {} losses, and at the end every "
        "parameter, buffer and optimiser slot.\n",
        n);
    return true;
  }

  void write() {
    if (o_.json.empty()) return;
    json j = summary_;
    j["command"] = o_.command;
    j["machine"] = tradeoff::machine_json();
    j["model"] = o_.model;
    j["data_set"] = data_.train->name();
    j["synthetic"] = data_.train->synthetic();
    j["batch"] = o_.batch;
    j["optimiser"] = {{"name", o_.optimiser},
                      {"lr", o_.lr},
                      {"momentum", o_.momentum},
                      {"weight_decay", o_.weight_decay}};
    j["seed"] = o_.seed;
    j["steps"] = losses_[0].size();
    j["epochs"] = epochs_;
    for (std::size_t r = 0; r < runners_.size(); ++r) j["losses"][runners_[r]->name()] = losses_[r];
    apps::write_json(o_.json, j);
  }

  const Options& o_;
  data::DatasetPair data_;
  std::vector<std::unique_ptr<Runner>> runners_;
  std::unique_ptr<data::DataLoader> train_, test_;
  std::int64_t per_epoch_ = 0;
  std::vector<double> losses_[2];
  std::size_t first_bad_ = 0;  // step, from 1
  json epochs_ = json::array(), summary_ = json::object();
  apps::Progress progress_;
};

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app(
      "Trains a net of the experiments. With --mode both (the default) it is trained eagerly and "
      "compiled, step by\nstep on the same data from the same seed, and the program fails unless "
      "both give the same losses bit for bit.");
  app.name("tandem-train");
  app.set_version_flag("--version", "tandem-train " TANDEM_VERSION);

  apps::add_common_options(app, o,
                           {.batch = "the experiment's: 64; resnets 32",
                            .seed = "Of weights, order of the data and dropout",
                            .quick = "One epoch of 40 batches, and 2,000 test images"});
  std::vector<std::string> sets;
  for (const auto& n : data::dataset_names()) sets.emplace_back(n);
  app.add_option("--data-set", o.data_set,
                 "What to train on [mnist or cifar10 with --data, else synthetic images]")
      ->check(CLI::IsMember(sets));
  app.add_option("--data", o.dir, "Folder of the data set's files [the environment's TANDEM_DATA]")
      ->check(CLI::ExistingDirectory);
  app.add_option("--mode", o.mode)
      ->check(CLI::IsMember({"eager", "compiled", "both"}))
      ->capture_default_str();
  app.add_option("--epochs", o.epochs, "[5; --quick: 1]")->transform(apps::number(1, 100000));
  app.add_option("--limit-batches", o.limit_batches, "Use only so many batches of each epoch")
      ->transform(apps::number(1, 1 << 30));
  app.add_option("--optimiser,--optimizer", o.optimiser, "[lenet: adam, others: sgd]")
      ->check(CLI::IsMember({"adam", "adamw", "sgd"}));
  app.add_option("--lr", o.lr, "Learning rate [adam 0.001, sgd 0.01]")
      ->transform(apps::number(1e-12, 1e6));
  app.add_option("--momentum", o.momentum, "Of sgd [0.9]")->transform(apps::number(0.0, 1.0));
  app.add_option("--weight-decay", o.weight_decay, "[resnets: 1e-4 to 5e-4]")
      ->transform(apps::number(0.0, 1e6));

  return apps::run_program(app, argc, argv, [&] {
    o.command = apps::command_line(argc, argv);
    apps::apply(o);
    settle(o);
    return Training(o).run();
  });
}
