#!/usr/bin/env python3
"""What the Python package costs on tiny tensors: one add, with and without a gradient wanted, and a
call of a compiled function whose program is one add, in nanoseconds per call on one thread.

The last is bench_overhead's replay_unfused/1 with Python around it: three arguments and a result.
It closes over a net and its optimiser, as a training step does.

And a compiled training step of E1 (LeNet on MNIST's shapes, batch 64, Adam): how long it takes from the
end of a replay to the start of the next in a plain loop, in turn with bench_overhead, which measures the
same from C++ (between_replays_of_e1); the difference is what the step costs more from Python. And what
the comparisons with fresh recordings take.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
import measure  # noqa: E402


def parse():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=measure.positive(float), default=2.0, help="per case")
    p.add_argument("--rounds", type=measure.positive(int), default=15,
                   help="40 steps of E1 from C++ and 40 from Python each")
    p.add_argument("--bench", help="the program bench_overhead; without it, nothing from C++")
    p.add_argument("--json", help="write the result here (default: print it)")
    return p.parse_args()


def per_call(f, seconds, calls=1000):
    """Blocks of some 0.3 ms; their median, and an interval for it."""
    for _ in range(200):
        f()
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 30:
        t0 = time.perf_counter_ns()
        for _ in range(calls):
            f()
        samples.append((time.perf_counter_ns() - t0) / calls)
    return measure.interval(samples)


def gap_from_cpp(bench):
    """Microseconds: the median of 40 steps."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as out:
        subprocess.run([bench, "--benchmark_filter=^between_replays_of_e1",
                        f"--benchmark_out={out.name}", "--benchmark_out_format=json"],
                       check=True, stdout=subprocess.DEVNULL)
        return json.load(out)["benchmarks"][0]["gap_us"]


def e1(td, args):
    """Microseconds between replays, and for each recording."""
    import numpy as np

    batch = 64
    net = td.nn.models.make_model("lenet")
    opt = td.optim.Adam(net.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    x = td.asarray(rng.random((batch, 1, 28, 28), np.float32))
    y = td.asarray(rng.integers(0, 10, batch))

    def step(x, y):
        opt.zero_grad()
        loss = td.nn.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    replayed = td.compile(step, check_capture=False)
    replayed(x, y)

    def gap_from_python():
        replayed._gaps()
        for _ in range(41):
            replayed(x, y)
        return statistics.median(replayed._gaps())

    found = {"between replays, from Python": [], "recording": []}
    if args.bench:
        found |= {"between replays, from C++": [], "more from Python": []}
    for n in range(args.rounds):
        # Whoever comes first in a round comes last in the next.
        if args.bench and n % 2 == 0:
            cpp = gap_from_cpp(args.bench)
        gap = gap_from_python()
        if args.bench and n % 2 == 1:
            cpp = gap_from_cpp(args.bench)
        found["between replays, from Python"].append(gap)
        if args.bench:
            found["between replays, from C++"].append(cpp)
            found["more from Python"].append(gap - cpp)
        for _ in range(4):  # records twice, and compares
            captured = td.compile(step)
            captured(x, y)
            found["recording"].append(captured.ledger()[0]["capture_ms"] * 1e3 / 2)
    return {name: measure.interval(us) for name, us in found.items()}


def body(args, record):
    import tandem as td
    from tandem import nn, optim
    record["tandem"] = td.__version__
    td.set_num_threads(1)
    a, b, c = td.rand(4), td.rand(4), td.rand(4)
    w = td.rand(4)
    w.requires_grad = True
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    opt = optim.Adam(net.parameters())

    def step(x, y, z):
        if net is None or opt is None or y is None:
            return x
        return x + z

    compiled = td.compile(step)
    record["ns_per_call"] = {
        "an empty function of Python's": per_call(lambda: None, args.seconds),
        "add": per_call(lambda: a + b, args.seconds),
        "add_with_tape": per_call(lambda: w + b, args.seconds),
        "compiled_call": per_call(lambda: compiled(a, b, c), args.seconds),
    }
    record["e1_us"] = e1(td, args)
    record["check_interval"] = td._core._CHECK_INTERVAL
    for kind, unit in (("ns_per_call", "ns"), ("e1_us", "us")):
        for name, t in record[kind].items():
            print(f"{name}: {t['median']:.1f} {unit} [{t['low']:.1f}, {t['high']:.1f}]",
                  file=sys.stderr)


if __name__ == "__main__":
    ARGS = parse()
    sys.exit(measure.run(ARGS, lambda record: body(ARGS, record)))
