#!/usr/bin/env python3
"""Runs two commands in turn, A B A B …, and compares the times they report: what drifts (clocks,
temperature, neighbours) then meets both alike.

Each command writes a JSON file to the place that stands as {json} in it. The time is at --key in it
(or at --key-a, --key-b), such as ms.median. Example, from the top of the tree:

  benchmarks/peers/interleave.py --rounds 7 --key ms.median \\
    "benchmarks/peers/torch_step.py --layout nchw --seconds 3 --json {json}" \\
    "benchmarks/peers/torch_step.py --layout nhwc --seconds 3 --json {json}"
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile

import measure


def value(path, key):
    with open(path, encoding="utf-8") as f:
        v = json.load(f)
    for part in key.split("."):
        v = v[int(part)] if isinstance(v, list) else v[part]
    return float(v)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("a")
    p.add_argument("b")
    p.add_argument("--rounds", type=measure.positive(int), default=5)
    p.add_argument("--key", default="ms.median")
    p.add_argument("--key-a")
    p.add_argument("--key-b")
    p.add_argument("--json", help="write the result here")
    args = p.parse_args()
    sides = [(args.a, args.key_a or args.key), (args.b, args.key_b or args.key)]
    times = [[], []]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        for r in range(args.rounds):
            for side, (command, key) in enumerate(sides):
                if os.path.exists(path):
                    os.remove(path)
                words = [w.replace("{json}", path) for w in shlex.split(command)]
                done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, check=False)
                if done.returncode != 0:
                    sys.exit(f"{command}: exit status {done.returncode}\n{done.stdout[-3000:]}")
                times[side].append(value(path, key))
            print(f"round {r + 1}: A {times[0][-1]:.4g}  B {times[1][-1]:.4g}", file=sys.stderr)
    ratio = measure.interval([a / b for a, b in zip(*times)])
    result = {"a": {"command": args.a, **measure.interval(times[0])},
              "b": {"command": args.b, **measure.interval(times[1])},
              "a_over_b": ratio, "machine": measure.machine()}
    print(f"A {result['a']['median']:.4g}  B {result['b']['median']:.4g}  "
          f"A/B {ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]")
    measure.write(args.json, result)


if __name__ == "__main__":
    main()
