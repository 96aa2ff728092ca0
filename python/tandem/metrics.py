"""Metrics: what is reported of a model beside its loss.

A metric gathers what it needs batch by batch (`update`) in tensors on the predictions' device, so
that nothing is waited for, and computes its value when it is asked for (`compute`).
"""

from __future__ import annotations

from typing import Any, Callable

from . import _core
from ._core import Tensor
from ._scopes import no_grad

__all__ = ["Accuracy", "ConfusionMatrix", "Function", "Mean", "MeanAbsoluteError",
           "MeanSquaredError", "Metric", "Precision", "Recall", "TopKAccuracy", "get"]


class Metric:
    """Base of metrics: define update() and compute(), and reset() to start over.

    `name` is what it is called in histories and progress bars.
    """

    name: str = "metric"

    def __init__(self, name: str | None = None):
        if name is not None:
            self.name = name

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Takes in one batch: what the network gave and what it should have given."""
        raise NotImplementedError(f"[{type(self).__name__}] update is not defined")

    def compute(self) -> Any:
        """The value over all batches since reset()."""
        raise NotImplementedError(f"[{type(self).__name__}] compute is not defined")

    def reset(self) -> None:
        """Forgets all batches."""
        raise NotImplementedError(f"[{type(self).__name__}] reset is not defined")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class Mean(Metric):
    """The mean of values, each counted `weight` times; NaN of none. Summed in float64."""

    name = "mean"
    _sum: Any
    _weight: float

    def __init__(self, name: str | None = None):
        super().__init__(name)
        self.reset()

    def update(self, value: Any, weight: float = 1) -> None:  # type: ignore[override]
        """Takes in a number or a tensor of one element."""
        if isinstance(value, Tensor):
            value = value.detach().astype(_core.float64)
        with no_grad():
            self._sum = self._sum + value * weight
        self._weight += weight

    def compute(self) -> float:
        """The mean so far."""
        return float(self._sum) / self._weight if self._weight else float("nan")

    def reset(self) -> None:
        """Forgets all values."""
        self._sum = 0.0
        self._weight = 0


class Function(Metric):
    """The mean over samples of function(pred, target), a tensor of one element per batch (its mean)
    or of one per sample."""

    def __init__(self, function: Callable, name: str | None = None):
        super().__init__(name or getattr(function, "__name__", type(function).__name__))
        self._function = function
        self._mean = Mean()

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Takes in one batch."""
        with no_grad():
            value = self._function(pred, target)
            if isinstance(value, Tensor) and value.ndim > 0:
                value = value.astype(_core.float32).mean()
        self._mean.update(value, target.shape[0] if target.ndim else 1)

    def compute(self) -> float:
        """The mean so far."""
        return self._mean.compute()

    def reset(self) -> None:
        """Forgets all batches."""
        self._mean.reset()


class MeanSquaredError(Function):
    """The mean of (pred - target)^2 over all elements of tensors of one shape, else ShapeError."""

    def __init__(self, name: str = "mse"):
        super().__init__(lambda p, t: _core.mse_loss(p, t), name)


class MeanAbsoluteError(Function):
    """The mean of |pred - target| over all elements."""

    def __init__(self, name: str = "mae"):
        super().__init__(lambda p, t: (p - t).abs().mean(), name)


def _labels(pred: Tensor, target: Tensor, op: str) -> tuple[Tensor, Tensor]:
    # Class scores [N, C, …] and labels [N, …], or scores of one class [N] or [N, 1] (logits).
    pred, target = (_core._tensor(v).detach() for v in (pred, target))
    if pred.ndim == target.ndim + 1 and pred.shape[1] > 1:
        return pred.argmax(1), target
    if pred.ndim == target.ndim + 1:
        pred = pred.squeeze(1)
    if pred.shape != target.shape:
        raise _core.ShapeError(
            f"[{op}] the target must be labels [N, …] for scores [N, C, …]; got {target.shape}; "
            f"expected {(pred.shape[0], *pred.shape[2:])}"
        )
    if pred.dtype.is_floating_point:
        pred = pred > 0
    return pred.astype(_core.int64), target.astype(_core.int64)


class Accuracy(Metric):
    """The part of labels that are right, in [0, 1].

    pred: scores [N, C, …] (the largest counts), or logits [N] or [N, 1] of two classes (positive:
    class 1), or labels; target: labels [N, …]. ShapeError if they do not fit.
    """

    name = "accuracy"
    _count: Any
    _seen: int

    def __init__(self, name: str | None = None):
        super().__init__(name)
        self.reset()

    def _right(self, pred: Tensor, target: Tensor) -> Tensor:
        pred, target = _labels(pred, target, self.name)
        return pred == target

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Takes in one batch."""
        with no_grad():
            right = self._right(pred, target)
            self._count = self._count + right.astype(_core.int64).sum()
        self._seen += right.size

    def compute(self) -> float:
        """The accuracy so far; NaN of nothing."""
        return int(self._count) / self._seen if self._seen else float("nan")

    def reset(self) -> None:
        """Forgets all batches."""
        self._count = 0
        self._seen = 0


class TopKAccuracy(Accuracy):
    """The part of samples whose label is among the `k` largest scores, in [0, 1].

    pred [N, C] with C >= k, else RangeError; target: labels [N]. Source: Russakovsky et al. 2014,
    arXiv:1409.0575.
    """

    def __init__(self, k: int = 5, name: str | None = None):
        super().__init__(name or f"top{k}")
        self.k = k

    def _right(self, pred: Tensor, target: Tensor) -> Tensor:
        pred, target = _core._tensor(pred), _core._tensor(target)
        if pred.ndim != 2 or target.ndim != 1 or pred.shape[1] < self.k:
            raise _core.ShapeError(
                f"[{self.name}] takes scores [N, C] with C >= {self.k} and labels [N]; "
                f"got {pred.shape} and {target.shape}"
            )
        return (_core.topk(pred.detach(), self.k, 1)[1] == target.unsqueeze(1)).any(1)


class ConfusionMatrix(Metric):
    """How often each label (row) was taken for each class (column): int64 [classes, classes].

    pred and target as of Accuracy; labels in [0, classes), else OutOfBoundsError.
    """

    name = "confusion"
    _matrix: Any

    def __init__(self, classes: int, name: str | None = None):
        super().__init__(name)
        self.classes = classes
        self.reset()

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Takes in one batch."""
        n = self.classes
        with no_grad():
            pred, target = _labels(pred, target, self.name)
            # A product of one-hot rows counts pairs; exact in float64 up to 2^53.
            rows, columns = (_core.one_hot(
                (t.astype(_core.int64) if t.dtype is _core.uint8 else t).flatten(), n, _core.float64)
                for t in (target, pred))
            pairs = (rows.T @ columns).astype(_core.int64)
            self._matrix = pairs if self._matrix is None else self._matrix + pairs

    def compute(self) -> Tensor:
        """The counts so far."""
        if self._matrix is None:
            return _core.zeros((self.classes, self.classes), dtype=_core.int64)
        return self._matrix

    def reset(self) -> None:
        """Forgets all batches."""
        self._matrix = None


class _OfConfusion(Metric):
    """A number made of how often each class was right and wrong, averaged over classes."""

    _axis = 0

    def __init__(self, classes: int = 2, name: str | None = None):
        super().__init__(name)
        self._confusion = ConfusionMatrix(classes)

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Takes in one batch."""
        self._confusion.update(pred, target)

    def compute(self) -> float:
        """The value so far. Of two classes that of class 1, else the mean over classes; 0 where a
        class never occurred."""
        import numpy as np

        m = self._confusion.compute().cpu().numpy()
        value = np.diag(m) / np.maximum(m.sum(axis=self._axis), 1)
        return float(value[1] if len(value) == 2 else value.mean())

    def reset(self) -> None:
        """Forgets all batches."""
        self._confusion.reset()


class Precision(_OfConfusion):
    """Of what was taken for a class, the part that is of it, in [0, 1]; see compute(). pred and
    target as of Accuracy. Source: van Rijsbergen, "Information retrieval", 1979."""

    name = "precision"
    _axis = 0


class Recall(_OfConfusion):
    """Of what is of a class, the part that was taken for it, in [0, 1]; see compute(). pred and
    target as of Accuracy. Source: van Rijsbergen, "Information retrieval", 1979."""

    name = "recall"
    _axis = 1


_NAMED: dict[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "acc": lambda: Accuracy("acc"),
    "top5": lambda: TopKAccuracy(5),
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
}


def get(metric: Any) -> Metric:
    """A metric by name ("accuracy", "acc", "top5", "mse", "mae"), of a function(pred, target), or
    itself. RangeError for another name, DTypeError for another thing."""
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in _NAMED:
            raise _core.RangeError(
                f"[metrics] no metric of this name; got {metric!r}; expected {sorted(_NAMED)}"
            )
        return _NAMED[metric]()
    if callable(metric):
        return Function(metric)
    raise _core.DTypeError(
        f"[metrics] takes names, functions and Metrics; got {type(metric).__name__}"
    )
