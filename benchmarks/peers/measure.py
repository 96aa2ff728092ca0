"""How every peer is timed and how its figures are written: no framework is imported here."""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
import traceback


def positive(kind):
    """An argparse type: a finite number above 0."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
        return value

    return parse


def interval(samples):
    """Median and its distribution-free 95 % interval (order statistics of the binomial)."""
    s = sorted(samples)
    n = len(s)
    half = 1.96 * math.sqrt(n) / 2
    low = s[max(0, math.floor(n / 2 - half))]
    high = s[min(n - 1, math.ceil(n / 2 + half))]
    return {"median": statistics.median(s), "low": low, "high": high, "min": s[0], "max": s[-1],
            "samples": n}


def time_step(step, sync, warmup_seconds=1.0, seconds=5.0, sample_seconds=0.05,
              min_samples=15, max_samples=400, blocks=None, after_first=lambda: None):
    """Times `step()`, for `seconds` or over so many `blocks`.

    A sample is a block of steps between two synchronisations, long enough that the
    synchronisation itself does not count; the device may run behind the host inside a block, as it
    does in training. The first call (compilation, algorithm search) and the warm-up are reported
    apart. Milliseconds, unless a name says otherwise.
    """
    clock = time.perf_counter
    t0 = clock()
    step()
    sync()
    first = clock() - t0
    after_first()

    steps, t0 = 0, clock()
    while steps < 3 or clock() - t0 < warmup_seconds:
        step()
        steps += 1
        if steps % 10 == 0:
            sync()
    sync()
    warm = clock() - t0

    # The block's length from a short run after the warm-up.
    t0 = clock()
    for _ in range(3):
        step()
    sync()
    inner = max(1, math.ceil(sample_seconds * 3 / (clock() - t0)))

    if blocks:
        min_samples = max_samples = blocks
    wall, issue = [], []
    end = clock() + seconds
    while len(wall) < max_samples and (clock() < end or len(wall) < min_samples):
        t0 = clock()
        for _ in range(inner):
            step()
        t1 = clock()
        sync()
        t2 = clock()
        wall.append((t2 - t0) * 1e3 / inner)
        issue.append((t1 - t0) * 1e3 / inner)
    return {"ms": interval(wall), "issue_ms": interval(issue), "first_step_s": first,
            "warmup_s": warm, "warmup_steps": steps, "steps_per_sample": inner}


def machine():
    cpu = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            cpu = next(l.split(":", 1)[1].strip() for l in f if l.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": cpu, "cpus": os.cpu_count(), "python": platform.python_version()}


def write(path, record):
    """Writes atomically, so that a run cut short leaves the last whole record."""
    if not path:
        return
    path = os.path.realpath(path)  # a link stays one
    whole = not os.path.exists(path) or os.path.isfile(path)  # /dev/stdout cannot be replaced
    tmp = f"{path}.{os.getpid()}" if whole else path
    with open(tmp, "w", encoding="utf-8") as f:
        json.dump(record, f, indent=1)
        f.write("\n")
    if whole:
        os.replace(tmp, path)


def run(args, body):
    """Runs `body(record)`, which fills the record; a failure is recorded, too. Exit status."""
    record = {"case": {k: v for k, v in vars(args).items() if k != "json"},
              "command": " ".join(sys.argv), "machine": machine()}
    status = 0
    try:
        body(record)
    except Exception as e:  # whatever the framework throws is the result of this case
        record["error"] = f"{type(e).__name__}: {e}"[:2000]
        traceback.print_exc()
        status = 1
    write(args.json, record)
    if not args.json:
        print(json.dumps(record, indent=1))
    return status
