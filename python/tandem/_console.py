"""What the programs (python -m tandem.train, tandem.tradeoff) share: how they talk, stop and fail.

The same rules as those of the programs in C++: apps/console.h.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from typing import Any, Callable

from . import _core
from ._files import part_of, whole_file

INTERRUPTED = 130  # exit status of a program that Ctrl-C or SIGTERM stopped
USAGE = 2  # … of what the user can set right: flags, values, files


class Progress:
    """A line on stderr that is written over again and again; nothing where it is no terminal."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        self._drawn = False
        self._last = 0.0

    def show(self, label: str, part: float, text: str) -> None:
        """`part` of the work is done, in [0, 1]. Redrawn at most ten times a second."""
        now = time.monotonic()
        if not self._tty or (self._drawn and now - self._last < 0.1):
            return
        self._last, self._drawn = now, True
        full = int(min(1.0, max(0.0, part)) * 24)
        bar = "=" * full + " " * (24 - full)
        print(f"\r\033[K{label} [{bar}] {part * 100:3.0f} %  {text}", end="", file=sys.stderr,
              flush=True)

    def clear(self) -> None:
        """Takes the line away, so that something else may be printed."""
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = False


def duration(seconds: float) -> str:
    """"1:05", "2:03:04"."""
    s = int(seconds + 0.5)
    if s < 3600:
        return f"{s // 60}:{s % 60:02}"
    return f"{s // 3600}:{s // 60 % 60:02}:{s % 60:02}"


_stop_asked = False


def interrupted() -> bool:
    """Whether Ctrl-C was pressed (or SIGTERM came) since run_program() began."""
    return _stop_asked


def _on_signal(number: int, frame: Any) -> None:
    global _stop_asked
    _stop_asked = True
    signal.signal(number, signal.SIG_DFL)  # the next one ends the program at once


def number(kind: Callable, low: float, high: float) -> Callable[[str], Any]:
    """An argparse type: a number from `low` to `high`, which NaN is not."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low} to {high}")
        return value

    return parse


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """--layout, --dtype, --autocast, --tf32, --search, --threads, --device, --seed, --json."""
    parser.add_argument("--layout", choices=["nchw", "channels_last"], default="nchw",
                        help="of images and weights [%(default)s]")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--dtype", choices=["f32", "bf16"], default="f32",
                      help="of images and weights [%(default)s]")
    kind.add_argument("--autocast", choices=["bf16", "f16"],
                      help="products and convolutions in 16 bits, weights in f32; f16 with loss "
                      "scaling")
    parser.add_argument("--tf32", action="store_true",
                        help="products and convolutions of f32 in TF32 (GPUs only)")
    parser.add_argument("--search", type=number(int, 0, 255), default=0,
                        help="time so many ways to compute a convolution [0: go by rule]")
    parser.add_argument("--threads", type=number(int, 1, 1024), default=0,
                        help="of the kernels [all cores]")
    parser.add_argument("--device", help="where to run: cpu, cuda, cuda:1 [cpu]")
    parser.add_argument("--seed", type=number(int, 0, 2**64 - 1), default=0,
                        help="of weights, inputs and their order [%(default)s]")
    parser.add_argument("--json", default="", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_core.__version__}")


def apply_common_options(o: argparse.Namespace) -> None:
    """Makes threads, device and policy so, and layout and types what Tandem takes."""
    if o.threads:
        _core.set_num_threads(o.threads)
    if o.device:
        device = _core.Device(o.device)
        _core.synchronize(device)  # throws if there is none
        _core.set_default_device(device)
    last = o.layout == "channels_last"
    o.layout = _core.MemoryFormat.channels_last if last else _core.MemoryFormat.contiguous
    kinds = {"f32": _core.float32, "bf16": _core.bfloat16, "f16": _core.float16, None: None}
    o.dtype, o.autocast = kinds[o.dtype], kinds[o.autocast]
    now = _core.get_policy()
    now.tf32, now.search = o.tf32, o.search
    _core.set_policy(now)


def check_writable(path: str) -> None:
    """DataError if write_json() would not be able to write there; an empty path is fine."""
    if not path:
        return
    place, part = part_of(path)
    try:
        with open(part, "a"):  # an error of a folder's, too
            pass
        if part != place:
            os.remove(part)
    except OSError as e:
        raise _core.DataError(f"[json] the file cannot be written; got {path}: {e.strerror}")


def write_json(path: str, value: Any) -> None:
    """Writes the whole file or leaves what was there; nothing for an empty path."""
    if not path:
        return
    with whole_file(path) as part, open(part, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def run_program(body: Callable[[], int]) -> int:
    """Runs `body` with Ctrl-C caught. Every error becomes one line on stderr: status USAGE for what
    Tandem says of values and files, 1 for the rest."""
    global _stop_asked
    _stop_asked = False
    before = {n: signal.signal(n, _on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        return body()
    except Exception as e:
        print("error: " + " ".join(str(e).split()), file=sys.stderr)
        usage = isinstance(e, (_core.Error, OSError)) and not isinstance(e, _core.InternalError)
        return USAGE if usage else 1
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
