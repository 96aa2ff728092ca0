#!/usr/bin/env python3
"""What the Python package costs on tiny tensors: one add, with and without a gradient wanted, and a
call of a compiled function whose program is one add. Nanoseconds per call, one thread.

The last is bench_overhead's replay_unfused/1 with Python around it: three arguments and a result.
It closes over a net and its optimiser, as a training step does. What it takes longer than that one
is what any compiled step with such arguments takes longer from Python.
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
import measure  # noqa: E402


def parse():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=measure.positive(float), default=2.0, help="per case")
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
    for name, ns in record["ns_per_call"].items():
        print(f"{name}: {ns['median']:.0f} ns [{ns['low']:.0f}, {ns['high']:.0f}]",
              file=sys.stderr)


if __name__ == "__main__":
    ARGS = parse()
    sys.exit(measure.run(ARGS, lambda record: body(ARGS, record)))
