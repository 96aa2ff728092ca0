"""Which kernels ran, and for how long."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from . import _core


@dataclass
class Event:
    """One launch; times in nanoseconds."""

    op: str
    kernel: str
    start_ns: int
    end_ns: int


@dataclass
class profile:
    """Times every launch of this thread inside of a `with` block (which slows it down).

    with td.profiler.profile() as p:
        step(x, y)
    print(p.table())
    """

    events: list = field(default_factory=list)

    def __enter__(self) -> "profile":
        _core._profiler_start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.events = [Event(*e) for e in _core._profiler_stop()]

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
