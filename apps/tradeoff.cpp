// tandem-tradeoff: what compiling a training step changes, and where the change comes from.
#include <fmt/format.h>

#include "apps/console.h"
#include "benchmarks/tradeoff/report.h"
#include "benchmarks/tradeoff/workload.h"
#include "core/parallel.h"

namespace {

using namespace tandem;

struct Options {
  tradeoff::WorkloadOptions workload;
  tradeoff::LadderOptions ladder;
  int threads = 0;
  bool quick = false;
  std::string json;
};

int run(const Options& o, const std::string& command) {
  if (o.threads > 0) set_num_threads(o.threads);
  apps::Progress progress;
  tradeoff::LadderOptions ladder = o.ladder;
  ladder.seed = o.workload.seed;
  ladder.stop = apps::interrupted;
  ladder.on_progress = [&](const std::string& what, double part) {
    progress.show("measuring", part, what);
  };
  ladder.on_forecast = [&](const tradeoff::LadderResult& r) {
    progress.clear();
    fmt::print("{}\n", tradeoff::forecast_text(r));
    std::fflush(stdout);
  };

  const tradeoff::Workload w = tradeoff::make_workload(o.workload);
  fmt::print("{}\n{}, random images and labels\n\n", tradeoff::machine_text(), w.name);
  std::fflush(stdout);
  const tradeoff::LadderResult r = tradeoff::run_ladder(w, ladder);
  progress.clear();
  const tradeoff::Summary s = tradeoff::summarise(r);
  fmt::print("{}", tradeoff::text(r, s));
  if (!o.json.empty()) {
    nlohmann::json j = tradeoff::to_json(r, s);
    j["command"] = command;
    j["machine"] = tradeoff::machine_json();
    apps::write_json(o.json, j);
  }
  return r.stopped ? apps::kInterrupted : 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app(
      "Runs one training step eagerly and compiled, adding one factor of the compiled mode at a "
      "time and leaving\nout one at a time, and says what each is worth. All arms are shown to "
      "compute the same bits before any\nis timed.");
  app.name("tandem-tradeoff");
  app.set_version_flag("--version", "tandem-tradeoff " TANDEM_VERSION);

  std::vector<std::string> names;
  for (const auto& r : tradeoff::recipes()) names.emplace_back(r.name);
  app.add_option("--model", o.workload.recipe, "The net")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  app.add_option("--batch-size,--batch", o.workload.batch,
                 "Images per step [the experiment's: lenet 64, vgg 64, resnet18 32, resnet50 4]")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--steps", o.ladder.steps, "Timed steps per arm [as many as fit into --seconds]")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--seconds", o.ladder.seconds, "Time to spend on timing")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  const std::map<std::string, MemoryFormat> layouts{{"nchw", MemoryFormat::contiguous},
                                                    {"channels_last", MemoryFormat::channels_last}};
  app.add_option("--layout", o.workload.layout, "Of images and weights: nchw, channels_last [nchw]")
      ->transform(CLI::CheckedTransformer(layouts).description(""));
  const std::map<std::string, DType> dtypes{{"f32", DType::f32}, {"bf16", DType::bf16}};
  app.add_option("--dtype", o.workload.dtype, "Of everything: f32, bf16 [f32]")
      ->transform(CLI::CheckedTransformer(dtypes).description(""));
  app.add_option("--threads", o.threads, "Of the kernels [all cores]")->check(CLI::Range(1, 1024));
  apps::add_device_option(app);
  app.add_option("--seed", o.workload.seed, "Of weights, inputs and the order of the arms")
      ->capture_default_str();
  app.add_flag("!--no-leave-outs", o.ladder.leave_out, "Only the ladder: faster, less memory");
  app.add_flag("--inexact", o.ladder.inexact, "Also passes that may change bits");
  app.add_flag("--quick", o.quick, "A short run: wide intervals");
  app.add_option("--json", o.json, "Write all figures and samples to this file");

  return apps::run_program(app, argc, argv, [&] {
    apps::check_writable(o.json);
    if (o.quick) {
      o.ladder.seconds = std::min(o.ladder.seconds, 4.0);
      o.ladder.verify_steps = 3;
      o.ladder.instrumented_steps = 3;
    }
    return run(o, apps::command_line(argc, argv));
  });
}
