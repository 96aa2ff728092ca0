"""A result as a page that stands alone: its charts are drawn here, as SVG."""

from __future__ import annotations

import json
import math
from html import escape
from typing import Any, Iterable, Sequence

_STYLE = """
.tandem-report { --ink: #1b1f24; --soft: #5b6570; --line: #d9dee3; --back: #ffffff;
  --eager: #6b7280; --step: #2563a8; --other: #c2701c; --tile: #f4f6f8;
  color: var(--ink); background: var(--back); font: 15px/1.5 system-ui, sans-serif;
  max-width: 1000px; margin: 0 auto; padding: 24px; }
@media (prefers-color-scheme: dark) { .tandem-report { --ink: #e6e9ed; --soft: #9aa4af;
  --line: #363d45; --back: #15181c; --eager: #9aa4af; --step: #6fa8e6; --other: #e2a15c;
  --tile: #1f242a; } }
.tandem-report h1 { font-size: 24px; margin: 0 0 4px; }
.tandem-report h2 { font-size: 17px; margin: 32px 0 8px; }
.tandem-report .soft { color: var(--soft); margin: 0; }
.tandem-report .tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.tandem-report .tile { background: var(--tile); border-radius: 8px; padding: 12px 16px;
  flex: 1 1 180px; }
.tandem-report .tile b { display: block; font-size: 22px; }
.tandem-report .wide { overflow-x: auto; }
.tandem-report table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: 13px; width: 100%; }
.tandem-report th, .tandem-report td { padding: 4px 8px; text-align: right;
  border-bottom: 1px solid var(--line); white-space: nowrap; background: none; }
.tandem-report th { color: var(--soft); font-weight: 600; white-space: normal;
  vertical-align: bottom; }
.tandem-report th:first-child, .tandem-report td:first-child { text-align: left; }
.tandem-report .text.text { text-align: left; white-space: normal; }
.tandem-report svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.tandem-report svg text { fill: var(--ink); }
.tandem-report svg .tick { fill: var(--soft); }
.tandem-report li { margin: 4px 0; }
"""


_COLOURS = {"eager": "eager", "control": "eager", "by_hand": "other", "leave_out": "other"}


def _digits(x: float) -> str:
    a = abs(x)
    return f"{x:.{0 if a >= 1000 else 1 if a >= 100 else 2 if a >= 10 else 3 if a >= 0.1 else 4}f}"


def _interval(i: dict, sign: str = "") -> str:
    plus = "+" if sign and i["median"] >= 0 else ""
    return f"{plus}{_digits(i['median'])} [{_digits(i['low'])}, {_digits(i['high'])}]"


def _ticks(low: float, high: float) -> list[float]:
    # The smallest of 1, 2, 5, 10, 20, … that cuts the span into at most eight.
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    first = -(-low // step) * step
    return [first + k * step for k in range(int((high - first) / step + 1e-9) + 1)]


def _chart(rows: "Sequence[tuple[str, list[tuple[dict, str, bool]], str]]", mark: float,
           unit: str) -> str:
    """Rows of (label, [(interval, colour, hollow)], note): medians with their intervals."""
    every = [i for _, dots, _ in rows for i, _, _ in dots]
    low = min([mark, *(i["low"] for i in every)])
    high = max([mark, *(i["high"] for i in every)])
    pad = (high - low or abs(high) or 1.0) * 0.04
    low, high = low - pad, high + pad
    left, width, row = 190, 960, 24
    height = len(rows) * row + 44

    def at(x: float) -> float:
        return left + (x - low) / (high - low) * (width - left - 20)

    out = [f'<svg viewBox="0 0 {width} {height}" role="img">']
    bottom = len(rows) * row + 8
    for t in _ticks(low, high):
        out.append(f'<line x1="{at(t):.1f}" x2="{at(t):.1f}" y1="4" y2="{bottom}" '
                   'stroke="var(--line)"/>')
        out.append(f'<text class="tick" x="{at(t):.1f}" y="{bottom + 15}" text-anchor="middle">'
                   f'{t:.6g}</text>')
    out.append(f'<text class="tick" x="{width - 20}" y="{bottom + 31}" text-anchor="end">'
               f'{escape(unit)}</text>')
    out.append(f'<line x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="4" y2="{bottom}" '
               'stroke="var(--eager)" stroke-dasharray="4 3"/>')
    for k, (label, dots, note) in enumerate(rows):
        middle = k * row + row / 2 + 4
        out.append(f'<text x="{left - 12}" y="{middle + 4}" text-anchor="end">{escape(label)}'
                   '</text>')
        if note:
            out.append(f'<text class="tick" x="{at(mark) + 8:.1f}" y="{middle + 4}">'
                       f'{escape(note)}</text>')
        for j, (i, colour, hollow) in enumerate(dots):
            y = middle + (j - (len(dots) - 1) / 2) * 8
            fill = "var(--back)" if hollow else f"var(--{colour})"
            out.append(
                f'<g stroke="var(--{colour})" stroke-width="2">'
                f"<title>{escape(label)}: {_interval(i)} {escape(unit)}</title>"
                f'<line x1="{at(i["low"]):.1f}" x2="{at(i["high"]):.1f}" y1="{y}" y2="{y}"/>'
                f'<circle cx="{at(i["median"]):.1f}" cy="{y}" r="4" fill="{fill}"/></g>')
    out.append("</svg>")
    return "".join(out)


def _table(head: Sequence[str], rows: "Iterable[Sequence[str]]", text: Sequence[int] = ()) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag}{" class=text" if i in text else ""}>{escape(c)}</{tag}>'
            for i, c in enumerate(row))

    body = "".join(f"<tr>{cells(r, 'td')}</tr>" for r in rows)
    return f'<div class="wide"><table><tr>{cells(head, "th")}</tr>{body}</table></div>'


def _words(table: str) -> list[str]:
    # The sentences under "In words", each over one or more lines.
    out: list[str] = []
    for line in table.partition("\nIn words\n")[2].splitlines():
        if line.startswith("- "):
            out.append(line[2:])
        elif line.strip() and out:
            out[-1] += " " + line.strip()
    return out


def _pays_off(arm: dict) -> str:
    b = arm.get("break_even")
    if b is None or b["kind"] == "none":
        return ""
    return f"{b['steps']:.0f} steps" if b["kind"] == "after" else b["kind"]


# What is paid once; a recording is of devices with graphs of launches.
_COSTS = ("capture_ms", "compile_ms", "record_ms")


def _arm_row(arm: dict) -> list[str]:
    ratio = arm["ratio_to_eager"]
    return [
        arm["name"],
        f"= {arm['same_program_as']}" if "same_program_as" in arm else _interval(arm["step_ms"]),
        f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]",
        f"{arm['host_ms'] * 1e3:.0f}",
        f"{arm['launches']:.0f}",
        f"{arm['allocations']:.0f}",
        f"{arm['peak_bytes'] / 1e6:.1f}",
        f"{sum(arm.get(k, 0.0) for k in _COSTS):.2f}" if "break_even" in arm else "",
        _pays_off(arm),
    ]


def body(result: Any) -> str:
    """The report as a piece of a page."""
    j = result.json
    arms, factors, forecast = result.arms, result.factors, j["forecast"]
    machine = j.get("machine", {})
    median, low, high = result.ratio
    eager, best = arms[0]["step_ms"], result.all_on
    # A device that works by itself: what the host does beside it is no part of the step.
    device = "busy_from" in j
    rest = "idle_ms" if device else "host_ms"
    tiles = [
        (f"{median:.3f} ×", f"compiled, in times of eager [{low:.3f}, {high:.3f}]"),
        (f"{_digits(eager['median'])} ms", "an eager step"),
        (f"{_digits(best['step_ms']['median'])} ms", "a compiled step"),
        (f"{forecast['host_part'] * 100:.1f} %",
         f"of the eager step {'the device is idle' if device else 'outside of kernels'}: "
         f"{forecast['bound']}"),
    ]
    ladder = []
    for a in arms:
        colour = _COLOURS.get(a["kind"], "step")
        ladder.append((a["name"], [(a["step_ms"], colour, "same_program_as" in a)], ""))
    worth = []
    for f in factors:
        dots = [(f["saved_by_adding_ms"], "step", False)]
        if "lost_by_leaving_out_ms" in f:
            dots.append((f["lost_by_leaving_out_ms"], "other", False))
        nothing = f["found_nothing"]
        worth.append((f["name"], [] if nothing else dots, "nothing to do here" if nothing else ""))
    kernels = j.get("eager_kernels") or []
    total = forecast["kernel_ms"] + forecast[rest] or 1.0
    stopped = " (stopped early)" if result.stopped else ""
    about = ", ".join(escape(str(machine[k])) for k in ("cpu", "backend") if k in machine)
    words = "".join(f"<li>{escape(w)}</li>" for w in _words(result.table))
    return "".join([
        f"<style>{_STYLE}</style><div class=tandem-report>",
        f"<h1>One training step of {escape(j['workload'])}</h1>",
        f"<p class=soft>{about}; {machine.get('threads', '?')} threads; "
        f"Tandem {escape(str(machine.get('tandem', '')))}</p><div class=tiles>",
        *(f"<div class=tile><b>{escape(a)}</b>{escape(b)}</div>" for a, b in tiles),
        f"</div><h2>In words</h2><ul>{words}</ul>",
        "<h2>Time of a step</h2><p class=soft>Median and 95 % interval. Hollow: the program turned "
        "out to be the same as an earlier one, whose times stand for both.</p>",
        _chart(ladder, eager["median"], "ms a step"),
        "<h2>What each factor is worth</h2><p class=soft>Blue: saved by adding it to the arm "
        "before. Orange: missed when it alone is left out. Right of the line is faster.</p>",
        _chart(worth, 0.0, "ms a step saved"),
        _table(["factor", "saved by adding, ms", "told from noise", "lost by leaving out, ms",
                "what it does"],
               [[f["name"],
                 "nothing to do here" if f["found_nothing"]
                 else _interval(f["saved_by_adding_ms"], "+"),
                 "" if f["found_nothing"] else "yes" if f["beyond_noise"] else "no",
                 _interval(f["lost_by_leaving_out_ms"], "+")
                 if "lost_by_leaving_out_ms" in f and not f["found_nothing"] else "",
                 f["meaning"]] for f in factors], text=[4]),
        "<h2>All arms</h2>",
        _table(["", "step, ms", "times eager", "host, µs", "launches", "allocations", "peak, MB",
                "capture and compile, ms", "pays off after"], map(_arm_row, arms)),
        "<h2>Where the eager step's time goes</h2>",
        _table(["kernels of", "launches", "ms", "part of the step"],
               [[k["op"], f"{k['calls']:.0f}", f"{k['ms']:.3f}", f"{k['ms'] / total * 100:.1f} %"]
                for k in kernels]
               + [["idle" if device else "outside of kernels", "", f"{forecast[rest]:.3f}",
                   f"{forecast[rest] / total * 100:.1f} %"]]),
        "<h2>How it was measured</h2>",
        *(f"<p>{escape(note)}</p>" for note in j.get("notes", [])),
        f"<p>{j['rounds']} rounds{stopped}; each times every arm once, "
        f"{j['steps_per_sample']} steps a time, in random order, so that what drifts meets all of "
        f"them. Before the timing all arms ran {j['checked_steps']} steps with losses and "
        "parameters equal bit for bit, and after it the parameters were equal still"
        + ("." if all(a["compared"] for a in arms) else
           "; arms with inexact passes were not compared.")
        + "</p></div>",
    ])


def page(result: Any) -> str:
    """The report as a whole page."""
    # "</" would end the element it stands in.
    data = json.dumps(result.json).replace("</", "<\\/")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Tradeoff: {escape(result.json['workload'])}</title>"
        "<style>body { margin: 0; background: #fff } "
        "@media (prefers-color-scheme: dark) { body { background: #15181c } }</style></head>"
        f'<body>{body(result)}<script type="application/json" id="result">{data}</script>'
        "</body></html>\n"
    )
