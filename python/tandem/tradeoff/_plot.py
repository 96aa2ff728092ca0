"""A result as a figure."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

_EAGER, _STEP, _OTHER = "#6b7280", "#2563a8", "#c2701c"
_COLORS = {"eager": _EAGER, "control": _EAGER, "by_hand": _OTHER, "leave_out": _OTHER}


def _errors(i: dict) -> list:
    return [[i["median"] - i["low"]], [i["high"] - i["median"]]]


class _Figure(Figure):
    """Shown by a notebook even where nothing of matplotlib was set up; pyplot would keep it."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=100)
        return data.getvalue()


def plot(result: Any) -> Figure:
    """Left: the step's time by arm. Right: what each factor saves."""
    arms, factors = result.arms, result.factors
    rows = max(len(arms), len(factors) + 1)
    figure = _Figure(figsize=(11, 1.6 + 0.34 * rows), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="#e5e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)

    for y, arm in enumerate(arms):
        i = arm["step_ms"]
        color = _COLORS.get(arm["kind"], _STEP)
        # Hollow: its program turned out to be an earlier one's, whose times stand for both.
        face = "white" if "same_program_as" in arm else color
        left.errorbar(i["median"], y, xerr=_errors(i), fmt="o", color=color, mfc=face,
                      markersize=6, capsize=3, linewidth=1.6)
    left.axvline(arms[0]["step_ms"]["median"], color=_EAGER, linestyle="--", linewidth=1)
    left.set_yticks(range(len(arms)), [a["name"] for a in arms])
    left.invert_yaxis()
    left.set_xlabel("ms a step (median, 95 % interval; hollow: same program as above)")
    left.set_title(f"Time of a step: {result.json['workload']}", loc="left", fontsize=11)

    for y, factor in enumerate(factors):
        if factor["found_nothing"]:
            right.annotate("nothing to do here", (0, y), textcoords="offset points", xytext=(6, 0),
                           va="center", fontsize=8, color=_EAGER)
            continue
        for key, shift, color in (("saved_by_adding_ms", -0.12, _STEP),
                                  ("lost_by_leaving_out_ms", 0.12, _OTHER)):
            i = factor.get(key)
            if i is not None:
                right.errorbar(i["median"], y + shift, xerr=_errors(i), fmt="o", color=color,
                               markersize=6, capsize=3, linewidth=1.6)
    right.axvline(0, color=_EAGER, linewidth=1)
    right.set_yticks(range(len(factors)), [f["name"] for f in factors])
    right.set_ylim(len(factors) - 0.4, -0.6)
    right.set_xlabel("ms a step saved (right of 0 is faster)")
    right.set_title("What each factor is worth", loc="left", fontsize=11)
    for label, color in (("when added", _STEP), ("missed when left out", _OTHER)):
        right.plot([], [], "o", color=color, label=label)
    right.legend(frameon=False, fontsize=9, loc="best")
    return figure
