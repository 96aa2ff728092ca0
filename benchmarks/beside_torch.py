#!/usr/bin/env python3
"""Training steps of Tandem (eager, compiled) and of PyTorch (eager) side by side on the CPU.

Both sides are timed alike: one net alone in its process, a second of warm-up, then --blocks blocks of
steps, each of 50 ms or more without a pause, over the same number of batches in turn; its time is
the median over the blocks. Tandem's are the benchmarks of bench_step, PyTorch's peers/torch_step.py.
The sides run A B C …, then … C B A, and so on: what drifts meets all of them, and ratios are taken
within rounds.

The file has one entry per net, with the command that made it; those of other nets stay as they are.
One run on a noisy machine may be too short to tell: --add counts the rounds of earlier runs as well, of
the same versions on the same machine, --added-only measures no others.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
sys.path.insert(0, PEERS)
import measure  # noqa: E402

LAYOUTS = {"nchw": "nchw", "channels_last": "nhwc"}  # by Tandem's name, PyTorch's
BLOCK_SECONDS = 0.05
BATCHES = 4  # as bench_step's


def run(command, path):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-3000:]}")
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def tandem_step(bench, model, layout, mode, blocks, path):
    """(milliseconds, what was measured) of a benchmark of bench_step."""
    name = f"{model}/{layout}/{mode}/real_time"
    r = run([bench, f"--benchmark_filter=^{name}$",
             f"--benchmark_min_time={BLOCK_SECONDS}", f"--benchmark_repetitions={blocks}",
             f"--benchmark_out={path}", "--benchmark_out_format=json"], path)
    ms = [b["real_time"] for b in r["benchmarks"] if b.get("run_type") == "iteration"]
    if len(ms) != blocks:
        sys.exit(f"{bench} has measured {len(ms)} blocks of {name}, not {blocks}")
    return statistics.median(ms), r["context"]["tandem"]


def torch_step(model, layout, blocks, path):
    """(milliseconds, the record) of peers/torch_step.py."""
    r = run([sys.executable, os.path.join(PEERS, "torch_step.py"), "--model", model, "--layout",
             LAYOUTS[layout], "--batches", str(BATCHES), "--blocks", str(blocks), "--json", path],
            path)
    return r["ms"]["median"], r


def entry(model, rounds, measure_one, command, earlier=()):
    """All rounds of a net, after those of `earlier` entries. measure_one(side, mode, layout) gives
    milliseconds and a dictionary of what is to be known of the side."""
    sides = [(side, mode, layout) for layout in LAYOUTS
             for side, mode in (("tandem", "eager"), ("tandem", "compiled"), ("torch", "eager"))]
    ms = {" ".join(s): [t for e in earlier for t in e["ms"][" ".join(s)]["rounds"]] for s in sides}
    about = {}

    def note(known):
        for key, value in known.items():
            if about.setdefault(key, value) != value:
                sys.exit(f"{model}: rounds of different {key} cannot be added up; got {value!r}, "
                         f"expected {about[key]!r}")

    note({"machine": measure.machine()})
    for e in earlier:
        note({k: e[k] for k in ("machine", "tandem", "torch", "threads", "warning") if k in e})
    runs = [len(next(iter(e["ms"].values()))["rounds"]) for e in earlier] + [rounds] * (rounds > 0)
    for r in range(rounds):
        for s in sides if r % 2 == 0 else sides[::-1]:
            time, known = measure_one(*s)
            ms[" ".join(s)].append(time)
            note(known)
        print(f"{model} round {r + 1}: " + "  ".join(f"{k} {v[-1]:.2f}" for k, v in ms.items()),
              file=sys.stderr)
    # PyTorch is compared at its better layout, whichever that is in the median of the rounds.
    torch = [k for k in ms if k.startswith("torch")]
    best = min(torch, key=lambda k: statistics.median(a / b for a, b in zip(ms[k], ms[torch[0]])))
    return {
        "command": command, **about, "runs": runs,
        "ms": {k: {**measure.interval(v), "rounds": v} for k, v in ms.items()},
        "torch_best": best,
        "over_torch": {k: measure.interval([a / b for a, b in zip(v, ms[best])])
                       for k, v in ms.items()},
    }


def main(argv):
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bench", required=True, help="the program bench_step")
    p.add_argument("--models", nargs="+", default=["lenet", "vgg-cifar"])
    p.add_argument("--rounds", type=measure.positive(int), default=7)
    p.add_argument("--blocks", type=measure.positive(int), default=40,
                   help="of steps, per side and round")
    p.add_argument("--add", nargs="+", default=[], metavar="FILE", help="of earlier runs")
    p.add_argument("--added-only", action="store_true", help="measure nothing")
    p.add_argument("--json", required=True)
    args = p.parse_args(argv)
    if args.added_only and not args.add:
        p.error("--added-only needs --add")
    options = {k: v for k, v in vars(args).items() if k in ("rounds", "blocks")}
    added = []
    for path in args.add:
        with open(path, encoding="utf-8") as f:
            added.append(json.load(f)["models"])

    record = {"models": {}}
    if os.path.exists(args.json):
        with open(args.json, encoding="utf-8") as f:
            record = json.load(f)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        for model in args.models:

            def measure_one(side, mode, layout, model=model):
                if side == "tandem":
                    ms, machine = tandem_step(args.bench, model, layout, mode, args.blocks, path)
                    return ms, {"tandem": machine}
                ms, r = torch_step(model, layout, args.blocks, path)
                return ms, {k: r[k] for k in ("torch", "threads", "warning") if k in r}

            # As one would type it for this net alone.
            command = " ".join(["benchmarks/beside_torch.py --bench build/benchmarks/bench_step",
                                "--json beside-torch.json --models", model,
                                *(f"--{k} {v}" for k, v in options.items())])
            earlier = [models[model] for models in added if model in models]
            if args.added_only:
                if not earlier:
                    sys.exit(f"--add: no file has rounds of {model}")
                command = earlier[-1]["command"]
            record["models"][model] = entry(model, 0 if args.added_only else args.rounds,
                                            measure_one, command, earlier)
            measure.write(args.json, record)


if __name__ == "__main__":
    main(sys.argv[1:])
