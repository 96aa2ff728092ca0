"""What compiling a training step changes, and where the change comes from.

result = td.tradeoff.run("lenet")
print(result.table)
result.plot()
result.to_html("tradeoff.html")

The step is run eagerly and by compiled programs that differ in one factor at a time: replay, the
memory plan, each pass. All are shown to compute the same bits before any is timed. On the command
line: python -m tandem.tradeoff --model lenet.
"""

from __future__ import annotations

import json as _json
from typing import Any, Callable, Sequence

from .. import _core
from .._arguments import whole
from .._core import Tensor
from .._core._tradeoff import median_interval, paired_difference, paired_ratio
from .._optional import optional

__all__ = ["Result", "median_interval", "paired_difference", "paired_ratio", "recipes", "run"]


def recipes() -> list[dict]:
    """The nets of the experiments by name (of nn.model_names()), each with how it is trained:
    batch_size, optimizer, lr, momentum, weight_decay."""
    return _core._tradeoff.recipes()


class Result:
    """What an experiment gave.

    json: everything, with all samples; times in milliseconds, sizes in bytes. `arms` lists the
        ways the step was run, `factors` what each difference between them is worth.
    table: the report in words, as the program tandem-tradeoff prints it.
    stopped: it was stopped before all rounds were timed.
    """

    def __init__(self, json: dict, table: str):
        self.json = json
        self.table = table

    @property
    def stopped(self) -> bool:
        """Whether it was stopped before all rounds were timed."""
        return bool(self.json["stopped_early"])

    @property
    def arms(self) -> list[dict]:
        """The ways the step was run: eager first, then the ladder, then all on but one factor."""
        return self.json["arms"]

    @property
    def factors(self) -> list[dict]:
        """What each factor saves in milliseconds a step when it is added, and is missed by when it
        is left out: medians with 95 % intervals."""
        return self.json["factors"]

    @property
    def all_on(self) -> dict:
        """The arm with every factor: what compile() does."""
        return [a for a in self.arms if a["kind"] == "step"][-1]

    @property
    def ratio(self) -> tuple[float, float, float]:
        """(median, low, high) of the compiled step's time in times of the eager one's."""
        r = self.all_on["ratio_to_eager"]
        return r["median"], r["low"], r["high"]

    def plot(self) -> Any:
        """The step's time by arm, and what each factor saves, with intervals: a matplotlib Figure.
        ImportError without matplotlib."""
        optional("matplotlib", "tradeoff", "plot")
        from ._plot import plot

        return plot(self)

    def to_html(self, path: Any = None) -> str:
        """The report as one page that needs nothing else (no network, no scripts); also written to
        `path`, if one is given."""
        from ._html import page

        text = page(self)
        if path is not None:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        return text

    def save(self, path: Any) -> None:
        """Writes `json` and `table` to a JSON file, which load() reads."""
        with open(path, "w", encoding="utf-8") as f:
            _json.dump({**self.json, "table": self.table}, f, indent=1)

    @staticmethod
    def load(path: Any) -> "Result":
        """Reads what save() wrote. DataError for another file."""
        try:
            with open(path, encoding="utf-8") as f:
                json = _json.load(f)
        except ValueError:  # of no JSON, of no UTF-8
            json = None
        if not isinstance(json, dict) or not {"arms", "factors", "table"} <= set(json):
            raise _core.DataError(f"[tradeoff] not a saved result; got {path}; expected a file "
                                  "that Result.save() wrote")
        return Result(json, json.pop("table"))

    def _repr_html_(self) -> str:
        from ._html import body

        return body(self)

    def __str__(self) -> str:
        return self.table

    def __repr__(self) -> str:
        median, low, high = self.ratio
        return (f"<tradeoff of {self.json['workload']}: compiled takes {median:.3f} "
                f"[{low:.3f}, {high:.3f}] times eager>")


def _subject(made: Any) -> tuple[Callable, dict]:
    from ..model import Model

    if isinstance(made, Model):
        return made._plain_train, made.state_dict()
    if isinstance(made, tuple) and len(made) == 2 and callable(made[0]):
        return made[0], dict(made[1])
    if callable(made):
        return made, {}
    raise _core.DTypeError(
        "[tradeoff] make() must give a step, (step, state) or a Model; got "
        f"{type(made).__name__}"
    )


def run(what: Any, batches: "Sequence[Sequence[Any]] | int | None" = None, *,
        name: str | None = None,
        batch_size: int = 0, layout: Any = None, dtype: Any = None, seconds: float = 40,
        steps: int = 0, seed: int = 0, leave_out: bool = True, inexact: bool = False,
        verify_steps: int = 5, instrumented_steps: int = 5, least_rounds: int = 7,
        most_rounds: int = 200,
        on_forecast: "Callable[[str], Any] | None" = None,
        on_progress: "Callable[[str, float], Any] | None" = None,
        stop: "Callable[[], bool] | None" = None) -> Result:
    """Runs the experiment on this thread; takes `seconds` and the time to set up.

    what: a name of recipes() (random images and labels; `batch_size`, 0: the recipe's; `layout`,
        `dtype`), or a function make() of your own that gives a step, or (step, state), or a Model.
        It is called once for each arm, with the default generator freshly seeded, and must make
        everything anew. step(*batch) is an ordinary eager function of tensors that gives a tensor
        or several; `state`, tensors by name, is what is compared between arms besides.
    batches: of make()'s step, one after the other: tuples of arrays or tensors. Of a recipe: how
        many different ones there are, 4 if not given.
    steps: timed steps per arm; 0: as many as fit into `seconds`, in `least_rounds` to `most_rounds`
        rounds, each of which times every arm.
    verify_steps: over which arms must agree before they are timed, 2 or more; instrumented_steps:
        besides, with the profiler on.
    leave_out: also time all on without each factor. inexact: also passes that may change bits.
    on_forecast(text): once, when eager has been profiled. on_progress(what, part in [0, 1]).
    stop(): asked between rounds; True ends it with what was timed by then.

    RangeError for an unknown name, options that make no sense, or too little memory;
    InternalError when an arm computes other bits than eager. KeyboardInterrupt (Ctrl-C) ends it.
    """
    named = isinstance(what, str)
    if not named and not callable(what):
        raise _core.DTypeError(
            f"[tradeoff] takes the name of a recipe or a function; got {type(what).__name__}"
        )
    random_batches = 4
    if named:
        if hasattr(batches, "__len__"):
            raise _core.RangeError("[tradeoff] batches are for steps of one's own, which need them; "
                                   "got batches for a recipe; expected how many")
        if batches is not None:
            random_batches = whole("tradeoff", "batches", batches)
        batches = ()
    elif batches is None:
        raise _core.RangeError("[tradeoff] batches are for steps of one's own, which need them; got "
                               "none; expected tuples of arrays")
    elif not hasattr(batches, "__iter__"):
        raise _core.DTypeError(f"[tradeoff] batches do not fit; got {batches!r}; expected tuples of "
                               "arrays")
    given = [
        [b if isinstance(b, Tensor) else _core._tensor(b, device=_core.get_default_device())
         for b in batch]
        for batch in batches
    ]
    json, table = _core._tradeoff.run(
        recipe=what if named else None,
        make=None if named else lambda: _subject(what()),
        name=name or getattr(what, "__name__", "a step"),
        batches=given, random_batches=random_batches, batch_size=batch_size,
        layout=_core.MemoryFormat.contiguous if layout is None else layout,
        dtype=_core.float32 if dtype is None else dtype, steps=steps, seconds=seconds, seed=seed,
        leave_out=leave_out, inexact=inexact, verify_steps=verify_steps,
        instrumented_steps=instrumented_steps, least_rounds=least_rounds, most_rounds=most_rounds,
        on_forecast=on_forecast, on_progress=on_progress, stop=stop)
    return Result(_json.loads(json), table)
