#!/usr/bin/env python3
"""Training steps of Tandem (eager, compiled) and of PyTorch (eager) side by side on the CPU.

Runs A B A B …: in each round tandem-tradeoff and PyTorch's best layouts once, so that what drifts
meets both. Ratios are taken within rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
sys.path.insert(0, PEERS)
import measure  # noqa: E402


def run(command, path):
    done = subprocess.run([*command, "--json", path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-3000:]}")
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tradeoff", required=True, help="the program tandem-tradeoff")
    p.add_argument("--models", nargs="+", default=["lenet", "vgg"])
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=float, default=3, help="of timed steps, per side and round")
    p.add_argument("--json", required=True)
    args = p.parse_args()

    record = {"machine": measure.machine(), "command": " ".join(sys.argv), "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        for model in args.models:
            ms = {}
            for r in range(args.rounds):
                for layout, torch_layout in (("nchw", "nchw"), ("channels_last", "nhwc")):
                    t = run([args.tradeoff, "--model", model, "--layout", layout,
                             "--no-leave-outs", "--seconds", str(args.seconds)], path)
                    # The ladder's last rung is everything on.
                    compiled = [a for a in t["arms"] if a["kind"] == "step"][-1]
                    ms.setdefault(f"tandem eager {layout}", []).append(
                        t["arms"][0]["step_ms"]["median"])
                    ms.setdefault(f"tandem compiled {layout}", []).append(
                        compiled["step_ms"]["median"])
                    record["tandem_machine"] = t["machine"]
                    t = run([sys.executable, os.path.join(PEERS, "torch_step.py"), "--model",
                             model, "--layout", torch_layout, "--seconds", str(args.seconds)], path)
                    ms.setdefault(f"torch eager {layout}", []).append(t["ms"]["median"])
                    record["torch"] = t["torch"]
                    if "warning" in t:
                        record["warning"] = t["warning"]
                print(f"{model} round {r + 1}: " +
                      "  ".join(f"{k} {v[-1]:.2f}" for k, v in ms.items()), file=sys.stderr)
            # PyTorch is compared at its better layout, whichever that is in the median.
            best = min((k for k in ms if k.startswith("torch")),
                       key=lambda k: measure.interval(ms[k])["median"])
            record["models"][model] = {
                "ms": {k: {**measure.interval(v), "rounds": v} for k, v in ms.items()},
                "torch_best": best,
                "over_torch": {k: measure.interval([a / b for a, b in zip(v, ms[best])])
                               for k, v in ms.items()},
            }
            measure.write(args.json, record)


if __name__ == "__main__":
    main()
