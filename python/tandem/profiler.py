"""Which kernels ran, and for how long; which operations were called, and what they cost."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from . import _core

__all__ = ["Call", "Event", "costs", "profile", "recording"]


def recording() -> bool:
    """Whether this thread's launches are being timed."""
    return _core._profiler_recording()


@dataclass
class Event:
    """One launch; times in nanoseconds."""

    op: str
    kernel: str
    start_ns: int
    end_ns: int


class _Open(threading.local):
    """The blocks that a thread is in."""

    def __init__(self) -> None:
        self.all: list[profile] = []

    def hand_out(self) -> None:
        """Ends the record of launches and gives it to all of them."""
        if self.all:
            events = [Event(*e) for e in _core._profiler_stop()]
            for p in self.all:
                p.events.extend(events)

    def leave(self, block: "profile") -> None:
        self.all = [p for p in self.all if p is not block]

    def go_on(self) -> None:
        """Begins a new record where one is wanted."""
        if self.all:
            _core._profiler_start(self.all[-1].device)


_open = _Open()


@dataclass(eq=False)
class profile:
    """Times every launch of this thread inside of a `with` block (which slows it down), in either
    mode: by the host, which waits for each.

    device: have this device time the launches on it instead, with events before and after each, for
    which only the end of the block waits. Times then begin with the first launch, and are good as
    long as the device lags behind the host: else the wait for the host is in them. DeviceError for
    one that is not there.

    Blocks that the host times may be within others, which have the launches of the inner ones, too;
    a block that is entered again starts over.

    with td.profiler.profile() as p:
        step(x, y)
    print(p.table())
    """

    events: list = field(default_factory=list)
    device: Any = None

    def __enter__(self) -> "profile":
        if any(p is self for p in _open.all):
            raise _core.RangeError("[profile] a block cannot be within itself; got one that is "
                                   "open; expected a profile() of its own")
        clocks = {p.device for p in (*_open.all, self)}
        if _open.all and clocks != {None}:  # whose times begin with each record
            raise _core.RangeError(
                "[profile] blocks within each other are timed by the host; got device "
                f"{next(c for c in clocks if c is not None)}; expected none")
        _open.hand_out()
        self.events = []
        _open.all.append(self)
        try:
            _open.go_on()
        except BaseException:
            _open.leave(self)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        _open.hand_out()
        _open.leave(self)
        _open.go_on()

    def table(self) -> str:
        """Time by operation and kernel, longest first."""
        total: dict = defaultdict(lambda: [0, 0])
        for e in self.events:
            entry = total[e.op, e.kernel]
            entry[0] += e.end_ns - e.start_ns
            entry[1] += 1
        lines = [f"{'operation':24}{'kernel':36}{'calls':>7}{'us':>12}"]
        for (op, kernel), (ns, n) in sorted(total.items(), key=lambda i: -i[1][0]):
            lines.append(f"{op:24}{kernel:36}{n:7}{ns / 1e3:12.1f}")
        return "\n".join(lines)

    def save_chrome_trace(self, path: Any) -> None:
        """Writes a timeline that chrome://tracing and ui.perfetto.dev show."""
        begin = min((e.start_ns for e in self.events), default=0)
        events = [
            {"name": e.op, "cat": e.kernel, "ph": "X", "pid": 0, "tid": 0,
             "ts": (e.start_ns - begin) / 1e3, "dur": (e.end_ns - e.start_ns) / 1e3}
            for e in self.events
        ]
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, f)


@dataclass
class Call:
    """One call of an operation. `path` is that of the module of C++ it was made in, or ""."""

    op: str
    path: str
    flops: float
    bytes: float
    outputs: list  # (shape, dtype) of each


class costs:
    """What the operations called on this thread inside of a `with` block cost by the op table,
    forward and backward: floating-point operations (a multiply-add is two) and bytes of memory read
    and written. A compiled function is run eagerly meanwhile, so that there are calls to see.

    with td.profiler.costs() as c:
        loss = nn.cross_entropy(net(x), y)
    print(c.flops, c.bytes, c.table())
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __enter__(self) -> "costs":
        self._recorder = _core._CallRecorder()
        self._recorder.enter()
        return self

    def __exit__(self, *error: Any) -> None:
        self._recorder.exit()
        self.calls = [
            Call(c["op"], c["path"], c["flops"], c["bytes"], c["outputs"])
            for c in self._recorder.calls()
        ]

    @property
    def flops(self) -> float:
        """Floating-point operations of all calls."""
        return sum(c.flops for c in self.calls)

    @property
    def bytes(self) -> float:
        """Bytes read and written by all calls."""
        return sum(c.bytes for c in self.calls)

    def table(self) -> str:
        """Calls, operations and bytes by operation, the most operations first."""
        total: dict = defaultdict(lambda: [0, 0.0, 0.0])
        for c in self.calls:
            entry = total[c.op]
            entry[0] += 1
            entry[1] += c.flops
            entry[2] += c.bytes
        lines = [f"{'operation':28}{'calls':>7}{'MFLOP':>14}{'MB':>12}"]
        for op, (n, flops, size) in sorted(total.items(), key=lambda i: -i[1][1]):
            lines.append(f"{op:28}{n:7}{flops / 1e6:14.3f}{size / 1e6:12.3f}")
        return "\n".join(lines)
