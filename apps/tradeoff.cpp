// tandem-tradeoff: what compiling a training step changes, and where the change comes from.
#include <fmt/format.h>

#include "apps/console.h"
#include "benchmarks/tradeoff/report.h"
#include "benchmarks/tradeoff/workload.h"

namespace {

using namespace tandem;

struct Options {
  apps::CommonOptions common;
  tradeoff::LadderOptions ladder{.seconds = 0};  // 0: as long as is usual
};

int run(const Options& o, const std::string& command) {
  apps::Progress progress;
  const apps::CommonOptions& c = o.common;
  tradeoff::LadderOptions ladder = o.ladder;
  // What is quick unless it was named.
  if (ladder.seconds == 0) ladder.seconds = c.quick ? 4 : 40;
  if (c.quick) ladder.verify_steps = ladder.instrumented_steps = 3;
  ladder.seed = c.seed;
  ladder.stop = apps::interrupted;
  ladder.on_progress = [&](const std::string& what, double part) {
    progress.show("measuring", part, what);
  };
  ladder.on_forecast = [&](const tradeoff::LadderResult& r) {
    progress.clear();
    fmt::print("{}\n", tradeoff::forecast_text(r));
    std::fflush(stdout);
  };

  const tradeoff::Workload w = tradeoff::make_workload(
      {.recipe = c.model, .batch = c.batch, .layout = c.layout, .dtype = c.dtype, .seed = c.seed});
  fmt::print("{}\n{}, random images and labels\n\n", tradeoff::machine_text(), w.name);
  std::fflush(stdout);
  const tradeoff::LadderResult r = tradeoff::run_ladder(w, ladder);
  progress.clear();
  const tradeoff::Summary s = tradeoff::summarise(r);
  fmt::print("{}", tradeoff::text(r, s));
  if (!c.json.empty()) {
    nlohmann::json j = tradeoff::to_json(r, s);
    j["command"] = command;
    j["machine"] = tradeoff::machine_json();
    apps::write_json(c.json, j);
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

  apps::add_common_options(app, o.common,
                           {.batch = "the experiment's: 64; resnet18-cifar 32, resnet50 4",
                            .seed = "Of weights, inputs and the order of the arms",
                            .quick = "A short run: wide intervals"});
  app.add_option("--steps", o.ladder.steps, "Timed steps per arm [as many as fit into --seconds]")
      ->transform(apps::number(1, 1 << 20));
  app.add_option("--seconds", o.ladder.seconds, "Time to spend on timing [40; --quick: 4]")
      ->transform(apps::number(0.1, 86400.0));
  app.add_flag("!--no-leave-outs", o.ladder.leave_out, "Only the ladder: faster, less memory");
  app.add_flag("--inexact", o.ladder.inexact, "Also passes that may change bits");

  return apps::run_program(app, argc, argv, [&] {
    apps::apply(o.common);
    return run(o, apps::command_line(argc, argv));
  });
}
