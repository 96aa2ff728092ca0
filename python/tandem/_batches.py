"""What Model's loops run over: batches, of whatever they were given."""

from __future__ import annotations

from typing import Any, Iterator

from . import _core
from ._core import Tensor
from .data import ArrayLoader, DataLoader, Dataset


def _is_array(x: Any) -> bool:
    return isinstance(x, Tensor) or hasattr(x, "__array__")


def _is_batch(x: Any) -> bool:
    return isinstance(x, (tuple, list)) and len(x) == 2 and all(
        _is_array(part) or isinstance(part, (tuple, dict)) for part in x)


def _is_pair(x: Any) -> bool:
    """Whether it is (x, y), and not batches of such."""
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        return False
    return isinstance(x, tuple) or not all(map(_is_batch, x))


def _has_samples(x: Any) -> bool:
    """Whether it has samples to make batches of, and is not made for running over batches."""
    if isinstance(x, Dataset):
        return True
    by_number = hasattr(x, "__getitem__") and hasattr(x, "__len__")
    return by_number and not hasattr(x, "__iter__")


def batches_of(who: str, x: Any, y: Any, batch_size: int | None, usual_size: int,
               shuffle: bool = False, seed: int = 0) -> Any:
    """Batches (x, y) of arrays x and y, of the samples (x, y) of a data set, or what gives batches
    already. A batch_size says that a list has samples; without one it has batches."""
    size = usual_size if batch_size is None else batch_size
    samples = isinstance(x, list) and batch_size is not None and all(
        isinstance(e, tuple) for e in x)
    if y is None and not samples and _is_pair(x):
        x, y = x
    elif y is not None and (_has_samples(x) or not (_is_array(x) or isinstance(
            x, (list, tuple, dict)))):
        raise _core.DTypeError(f"[{who}] samples and batches have their y with them; got y beside "
                               f"{type(x).__name__}; expected no y, or an array x")
    if y is not None:
        return ArrayLoader(x, y, batch_size=size, shuffle=shuffle, seed=seed)
    if _has_samples(x) or (batch_size is not None and isinstance(x, (list, tuple))):
        return DataLoader(x, batch_size=size, shuffle=shuffle, seed=seed)
    if not hasattr(x, "__iter__") or _is_array(x) or isinstance(x, (str, dict)):
        raise _core.DTypeError(
            f"[{who}] takes arrays x and y, a data set, or batches; got {type(x).__name__} alone; "
            "expected y as well, a Dataset, or a DataLoader or another iterable of (x, y)")
    if batch_size is not None:
        raise _no_size(who, batch_size, x)
    return x


def _no_size(who: str, batch_size: Any, x: Any) -> Exception:
    return _core.RangeError(
        f"[{who}] batch_size is for arrays and samples, and this gives batches already; got "
        f"{batch_size} with {type(x).__name__}; expected no batch_size, or "
        f"DataLoader(samples, batch_size={batch_size})")


def inputs_of(x: Any, batch_size: int | None, usual_size: int) -> Iterator[Any]:
    """Batches of x alone: of arrays, of the samples of a data set, or of what gives batches x or
    (x, y)."""
    size = usual_size if batch_size is None else batch_size
    numbers = isinstance(x, list) and not any(_is_array(e) or isinstance(e, (tuple, dict))
                                              or _is_batch(e) for e in x)
    if _is_array(x) or isinstance(x, (tuple, dict)) or numbers:
        yield from (b for (b,) in ArrayLoader(x, batch_size=size, shuffle=False))
        return
    if _has_samples(x):
        x = DataLoader(x, batch_size=size, shuffle=False)
    elif not hasattr(x, "__iter__") or isinstance(x, str):
        raise _core.DTypeError(f"[predict] takes an array x, a data set, or batches; got "
                               f"{type(x).__name__}; expected a DataLoader, say")
    elif batch_size is not None:
        raise _no_size("predict", batch_size, x)
    for batch in x:
        yield batch[0] if isinstance(batch, (tuple, list)) else batch


def split(who: str, batch: Any) -> tuple[Any, Any]:
    """x and y of a batch."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise _core.ShapeError(
        f"[{who}] a batch must be (x, y); got {type(batch).__name__}"
        + (f" of {len(batch)}" if hasattr(batch, "__len__") else "") + "; expected a tuple of two")


class Source:
    """Batches for one epoch after the other."""

    def __init__(self, data: Any, steps: int | None):
        self.data = data
        self._limit = steps
        # An iterator cannot start over: epochs take turns at it.
        self._once = data if hasattr(data, "__next__") else None
        self.steps: int | None = steps
        if hasattr(data, "__len__"):
            self.steps = len(data) if steps is None else min(steps, len(data))

    def epoch(self) -> Iterator[Any]:
        """The batches of the next epoch."""
        it = self._once if self._once is not None else iter(self.data)
        if self._limit is None:
            yield from it
            return
        for _ in range(self._limit):
            try:
                yield next(it)
            except StopIteration:
                return
