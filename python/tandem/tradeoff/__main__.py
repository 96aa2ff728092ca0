"""python -m tandem.tradeoff: as the program tandem-tradeoff, and writes an HTML page as well."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Sequence

from .. import _core
from .._console import (INTERRUPTED, Progress, add_common_options, apply_common_options,
                        check_writable, interrupted, number, run_program, write_json)
from .._scopes import autocast
from . import recipes, run


def _parser() -> argparse.ArgumentParser:
    names = [r["name"] for r in recipes()]
    p = argparse.ArgumentParser(
        prog="python -m tandem.tradeoff",
        description="Runs one training step eagerly and compiled, adding one factor of the "
        "compiled mode at a time and leaving out one at a time, and says what each is worth. All "
        "arms are shown to compute the same bits before any is timed.")
    p.add_argument("--model", choices=names, default="lenet", help="the net [%(default)s]")
    p.add_argument("--batch-size", "--batch", type=number(int, 1, 1 << 20), default=0,
                   help="images per step [the experiment's]")
    p.add_argument("--steps", type=number(int, 1, 1 << 20), default=0,
                   help="timed steps per arm [as many as fit into --seconds]")
    p.add_argument("--seconds", type=number(float, 0.1, 86400),
                   help="time to spend on timing [40; --quick: 4]")
    add_common_options(p)
    p.add_argument("--no-leave-outs", action="store_true",
                   help="only the ladder: faster, less memory")
    p.add_argument("--inexact", action="store_true", help="also passes that may change bits")
    p.add_argument("--quick", action="store_true", help="a short run: wide intervals")
    p.add_argument("--html", default="", metavar="FILE", help="write the report as a page")
    return p


def main(argv: "Sequence[str] | None" = None) -> int:
    """Runs the program; its exit status."""
    o = _parser().parse_args(argv)

    def body() -> int:
        check_writable(o.json)
        check_writable(o.html)
        apply_common_options(o)
        checked: dict[str, Any] = {}
        if o.quick:
            checked = {"verify_steps": 3, "instrumented_steps": 3}
        progress = Progress()

        def on_forecast(text: str) -> None:
            progress.clear()
            print(text, flush=True)

        print(_core._tradeoff.machine_text() + "\n", flush=True)
        with autocast(o.autocast or _core.bfloat16, enabled=o.autocast is not None):
            result = run(o.model, batch_size=o.batch_size, layout=o.layout, dtype=o.dtype,
                         seconds=o.seconds or (4 if o.quick else 40), steps=o.steps,
                         seed=o.seed, leave_out=not o.no_leave_outs, inexact=o.inexact,
                         on_forecast=on_forecast, stop=interrupted,
                         on_progress=lambda what, part: progress.show("measuring", part, what),
                         **checked)
        progress.clear()
        print(result.table, end="")
        command = " ".join(["python -m tandem.tradeoff", *(sys.argv[1:] if argv is None else argv)])
        write_json(o.json, {**result.json, "command": command})
        if o.html:
            result.to_html(o.html)
        return INTERRUPTED if result.stopped else 0

    return run_program(body)


if __name__ == "__main__":
    sys.exit(main())
