#!/usr/bin/env python3
"""What PyTorch's Python interface costs on tiny tensors: one add, with and without a gradient
wanted, and a chain of 16 adds forward and backward. Nanoseconds per add.

On the CPU: one thread, the whole cost. On CUDA: what the host spends to issue the work.
"""

import argparse
import math
import sys
import time

import measure


def parse():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--seconds", type=measure.positive(float), default=2.0, help="per case")
    p.add_argument("--json", help="write the result here (default: print it)")
    return p.parse_args()


def per_call(f, sync, adds, seconds):
    """ns per add. Blocks stay short, so that on CUDA the launch queue never fills and blocks."""
    clock = time.perf_counter_ns
    for _ in range(200):
        f()
    sync()
    inner = max(1, 256 // adds)
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 30:
        t0 = clock()
        for _ in range(inner):
            f()
        t1 = clock()
        sync()
        samples.append((t1 - t0) / inner / adds)
    # Blocks of some 0.2 ms: thousands of samples, of which the interval takes every k-th.
    return measure.interval(samples[::math.ceil(len(samples) / 2000)])


def body(args, record):
    import torch
    record["torch"] = torch.__version__
    torch.set_num_threads(1)
    sync = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    a, b = torch.ones(4, device=args.device), torch.ones(4, device=args.device)
    w = torch.ones(4, device=args.device, requires_grad=True)
    seed = torch.ones(4, device=args.device)

    def chain():
        y = w
        for _ in range(16):
            y = y + b
        return y

    def chain_backward():
        w.grad = None
        chain().backward(seed)

    def plain():
        with torch.no_grad():
            chain()

    record["ns_per_add"] = {
        "add": per_call(lambda: a + b, sync, 1, args.seconds),
        "add_grad": per_call(lambda: w + b, sync, 1, args.seconds),
        "chain16_no_grad": per_call(plain, sync, 16, args.seconds),
        "chain16_forward_backward": per_call(chain_backward, sync, 16, args.seconds),
    }
    for name, ns in record["ns_per_add"].items():
        print(f"{args.device} {name}: {ns['median']:.0f} ns [{ns['low']:.0f}, {ns['high']:.0f}]",
              file=sys.stderr)


if __name__ == "__main__":
    ARGS = parse()
    sys.exit(measure.run(ARGS, lambda record: body(ARGS, record)))
