"""Callbacks: what Model.fit() calls at certain moments."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import re
import sys
import time
from typing import Any, Callable, Iterable, Mapping

from . import _core
from ._arguments import between
from ._core import Tensor
from ._optional import optional

__all__ = ["CSVLogger", "Callback", "EarlyStopping", "History", "LambdaCallback",
           "LearningRateScheduler", "ModelCheckpoint", "ProgressBar", "ReduceLROnPlateau",
           "TensorBoard"]


# What looks like a moment, which nobody would call if it is none.
_MOMENT = re.compile(r"on_(\w+_)?(begin|end)")


class Callback:
    """Base of callbacks: override what you need. RangeError for a class with a method that is named
    like a moment and is none of these: nobody would call Keras's on_train_batch_end.

    `self.model` is the Model; `self.model.stop_training = True` ends the training after the batch.
    `self.params` has "epochs" and "steps" (batches of an epoch; None if not known).
    `logs` has what is known by then, by name: "loss", the metrics, at the end of an epoch also
    "seconds" and, with "val_" before it, what validation gave. The logs of a batch are means over
    the epoch so far, worked out when they are read (which waits for the device).
    """

    model: Any = None
    params: Mapping[str, Any] = {}

    def __init_subclass__(cls) -> None:
        for name in vars(cls):
            if _MOMENT.fullmatch(name) and not hasattr(Callback, name):
                raise _no_moment(cls.__name__, name)

    def set_model(self, model: Any, params: Mapping[str, Any]) -> None:
        """Called before on_train_begin()."""
        self.model, self.params = model, params

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_train_end(self) -> None:
        """After the last epoch, also of a training that was interrupted or failed."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch (the first is 0)."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """After an epoch and its validation."""

    def on_batch_begin(self, batch: int) -> None:
        """Before the training step of a batch (the first of each epoch is 0)."""

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """After the training step of a batch."""


def _no_moment(who: str, name: str) -> Exception:
    moments = ", ".join(n for n in vars(Callback) if _MOMENT.fullmatch(n))
    return _core.RangeError(f"[{who}] there is no such moment; got {name!r}; expected {moments}")


class _CallbackList:
    """Calls all of them in turn."""

    def __init__(self, callbacks: "Iterable[Callback]", model: Any, verbose: int,
                 params: Mapping[str, Any]):
        self._all = list(callbacks)
        shown = any(isinstance(c, (ProgressBar, _Lines)) for c in self._all)
        if verbose and not shown:
            self._all.append(_default_progress(verbose))
        for c in self._all:
            c.set_model(model, params)

    def end(self, failed: bool) -> None:
        """on_train_end of each, whatever another one throws: files are to be closed. The first
        error is thrown, unless the training itself `failed`: that error is the one to see."""
        with contextlib.ExitStack() as turns:
            if failed:
                turns.enter_context(contextlib.suppress(Exception))
            for c in reversed(self._all):
                turns.callback(c.on_train_end)

    def __getattr__(self, moment: str) -> Callable:
        calls = [getattr(c, moment) for c in self._all]

        def call(*args: Any) -> None:
            for f in calls:
                f(*args)

        setattr(self, moment, call)
        return call


class History(Callback):
    """What every epoch gave: `history["loss"]`, a list with an entry per epoch of `epoch`."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list] = {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list:
        return self.history[name]

    def __contains__(self, name: object) -> bool:
        return name in self.history

    def __repr__(self) -> str:
        return f"History({len(self.epoch)} epochs: {', '.join(self.history)})"


class LambdaCallback(Callback):
    """Functions as a callback: LambdaCallback(on_epoch_end=lambda epoch, logs: print(logs))."""

    def __init__(self, **moments: Callable):
        for name, function in moments.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise _no_moment("LambdaCallback", name)
            setattr(self, name, function)


class _Monitor(Callback):
    """Watches a number of the logs for getting better."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise _core.RangeError(
                f"[{type(self).__name__}] no such mode; got {mode!r}; expected auto, min or max"
            )
        self.monitor = monitor
        if mode == "auto":
            up = ("accuracy", "acc", "top", "precision", "recall", "auc", "f1")
            mode = "max" if any(u in monitor for u in up) else "min"
        self._sign = 1.0 if mode == "max" else -1.0
        self._delta = abs(min_delta)
        self.best: float | None = None

    def _value(self, logs: Mapping[str, Any]) -> float:
        if self.monitor not in logs:
            raise _core.RangeError(
                f"[{type(self).__name__}] nothing of this name is logged; got {self.monitor!r}; "
                f"expected one of {sorted(logs)}"
            )
        return float(logs[self.monitor])

    def _better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        return self.best is None or self._sign * (value - self.best) > self._delta


class EarlyStopping(_Monitor):
    """Ends the training when `monitor` got better by more than `min_delta` in none of the last
    `patience` epochs (of 0: in the last one), as Keras does.

    mode: "min", "max" or "auto" (max for accuracies and the like).
    restore_best: puts the network's values of the best epoch back at the end, whatever ended it.
    `stopped_epoch` is the epoch it ended after, or None. RangeError for a name that is not logged.
    Source: Prechelt, "Early stopping — but when?", 1998.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 0, min_delta: float = 0.0,
                 mode: str = "auto", restore_best: bool = True):
        super().__init__(monitor, mode, min_delta)
        self.patience = int(between("EarlyStopping", "patience", patience, 0, math.inf))
        self.restore_best = restore_best
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._state: dict[str, Tensor] | None = None

    def on_train_begin(self) -> None:
        self.best = self.best_epoch = self.stopped_epoch = self._state = None
        self._bad = 0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        value = self._value(logs)
        if self._better(value):
            self.best, self.best_epoch, self._bad = value, epoch, 0
            if self.restore_best:
                state = self.model.net.state_dict()
                self._state = {k: t.detach().clone() for k, t in state.items()}
            return
        self._bad += 1
        if self._bad >= self.patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self) -> None:
        if self._state is not None:
            self.model.net.load_state_dict(self._state)
            self._state = None


class ModelCheckpoint(_Monitor):
    """Saves the model (network and optimiser, see Model.save) after every epoch.

    path: may have {epoch} (from 1) and names of the logs in it, with formats:
        "lenet-{epoch:02}-{val_loss:.3f}.td". Its folder is made.
    save_best_only: only when `monitor` got better than ever. A file is written whole or not at
        all, so an interrupted training leaves the last whole one.
    `last_path` is the file written last. RangeError for a name that is not logged.
    """

    def __init__(self, path: Any, monitor: str = "val_loss", save_best_only: bool = False,
                 mode: str = "auto"):
        super().__init__(monitor, mode)
        self.path = os.fspath(path)
        self.save_best_only = save_best_only
        self.last_path: str | None = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        if self.save_best_only:
            value = self._value(logs)
            if not self._better(value):
                return
            self.best = value
        try:
            path = self.path.format(epoch=epoch + 1, **logs)
        except KeyError as e:
            raise _core.RangeError(
                f"[ModelCheckpoint] nothing of the name in the path is logged; got {e}; "
                f"expected epoch or one of {sorted(logs)}"
            ) from None
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self.model.save(path)
        self.last_path = path


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch: to schedule(epoch, rate so far), or, of one of
    optim's schedules, by its step() after every epoch (or every batch with every="batch")."""

    def __init__(self, schedule: Any, every: str = "epoch"):
        if every not in ("epoch", "batch"):
            raise _core.RangeError(
                f"[LearningRateScheduler] every must be 'epoch' or 'batch'; got {every!r}"
            )
        self._schedule, self._every = schedule, every
        self._steps = isinstance(schedule, _core.Schedule)
        if every == "batch" and not self._steps:
            raise _core.DTypeError(
                "[LearningRateScheduler] every='batch' takes a schedule of tandem.optim; "
                f"got {type(schedule).__name__}"
            )

    def on_epoch_begin(self, epoch: int) -> None:
        if not self._steps:
            optimizer = self.model.optimizer
            optimizer.lr = float(self._schedule(epoch, optimizer.lr))

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        if self._steps and self._every == "batch":
            self._schedule.step()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        if self._steps and self._every == "epoch":
            self._schedule.step()


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by `factor`, down to `min_lr`, when `monitor` got better by more
    than `min_delta` in none of the last `patience` epochs, as in Keras (PyTorch waits for one more).
    After that `cooldown` epochs do not count.

    mode: as of EarlyStopping. RangeError for a factor that is not between 0 and 1 and for a name
    that is not logged.
    """

    def __init__(self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10,
                 min_delta: float = 1e-4, mode: str = "auto", cooldown: int = 0,
                 min_lr: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        self.factor = between("ReduceLROnPlateau", "factor", factor, 0, 1)
        if self.factor in (0, 1):
            raise _core.RangeError(f"[ReduceLROnPlateau] factor must make the rate smaller; got "
                                   f"{factor!r}; expected a number between 0 and 1")
        self.patience = int(between("ReduceLROnPlateau", "patience", patience, 0, math.inf))
        self.cooldown = int(between("ReduceLROnPlateau", "cooldown", cooldown, 0, math.inf))
        self.min_lr = between("ReduceLROnPlateau", "min_lr", min_lr, 0, math.inf)

    def on_train_begin(self) -> None:
        self.best = None
        self._bad = self._rest = 0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        value = self._value(logs)
        resting = self._rest > 0
        self._rest -= resting
        if self._better(value):
            self.best, self._bad = value, 0
            return
        self._bad += not resting
        optimizer = self.model.optimizer
        if self._bad >= max(self.patience, 1) and optimizer.lr > self.min_lr:
            optimizer.lr = max(optimizer.lr * self.factor, self.min_lr)
            self._bad, self._rest = 0, self.cooldown


def _scalars(logs: Mapping[str, Any]) -> dict[str, float]:
    # A metric may be more than a number (a confusion matrix).
    return {k: float(v) for k, v in logs.items() if isinstance(v, (int, float))}


class CSVLogger(Callback):
    """Writes a line per epoch to a CSV file: "epoch" (from 0), then the logged numbers by name.

    append: goes on with the file if there is one (whose columns stay).
    """

    def __init__(self, path: Any, append: bool = False):
        self.path = os.fspath(path)
        self.append = append
        self._file: Any = None

    def on_train_begin(self) -> None:
        self._columns: list[str] | None = None
        if self.append and os.path.exists(self.path):
            with open(self.path, newline="") as f:
                self._columns = next(csv.reader(f), None)
        self._file = open(self.path, "a" if self._columns else "w", newline="")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        row = {"epoch": epoch, **_scalars(logs)}
        if self._columns is None:
            self._columns = list(row)
            csv.writer(self._file).writerow(self._columns)
        csv.writer(self._file).writerow([row.get(c, "") for c in self._columns])
        self._file.flush()

    def on_train_end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _line(logs: Mapping[str, Any]) -> str:
    return "  ".join(f"{k} {v:.4g}" for k, v in _scalars(logs).items() if k != "seconds")


class _Lines(Callback):
    """A line per epoch."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        width = len(str(self.params["epochs"]))
        print(f"epoch {epoch + 1:{width}}/{self.params['epochs']}  {logs['seconds']:.1f} s  "
              f"{_line(logs)}", flush=True)


class ProgressBar(Callback):
    """A bar of tqdm's for every epoch, with the loss and metrics so far; ImportError without tqdm.

    interval: seconds between two looks at the numbers.
    """

    def __init__(self, interval: float = 0.1):
        self._tqdm = optional("tqdm.auto", "ProgressBar", "train").tqdm
        self._interval = interval
        self._bar: Any = None

    def on_epoch_begin(self, epoch: int) -> None:
        self._bar = self._tqdm(total=self.params["steps"], unit="step", file=sys.stderr,
                               desc=f"epoch {epoch + 1}/{self.params['epochs']}",
                               mininterval=self._interval)
        self._looked = 0.0

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self._looked >= self._interval:
            self._looked = now
            self._bar.set_postfix_str(_line(logs), refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self._bar.set_postfix_str(_line(logs))
        self._close()

    def on_train_end(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _default_progress(verbose: int) -> Callback:
    if verbose == 1:
        try:
            return ProgressBar()
        except ImportError:
            pass
    return _Lines()


class TensorBoard(Callback):
    """Writes what training gives to a folder that TensorBoard shows (tensorboard --logdir log_dir).

    Every epoch: the logged numbers and the learning rate; every `histograms` epochs (0: never) how
    the parameters and their gradients of the last batch are distributed. Once, where `graph` is an
    example input x (a batch [N, …]) or True (for one like the first batch), the network's graph.
    every: with "batch", also the loss after each batch.

    `writer` is the SummaryWriter (see tandem.tensorboard), for images and whatever else.
    ImportError without the package tensorboard.
    """

    def __init__(self, log_dir: Any = "runs", histograms: int = 1, graph: Any = False,
                 every: str = "epoch"):
        from .tensorboard import SummaryWriter

        self.writer = SummaryWriter(log_dir)
        self._histograms, self._graph, self._every = histograms, graph, every
        self._step = 0

    def on_train_begin(self) -> None:
        self._add_graph()

    def _add_graph(self) -> None:
        if self._graph is False:
            return
        model = self.model
        x = model._example(1) if self._graph is True else model._place(self._graph)
        if x is not None:  # else the first batch will tell
            self.writer.add_graph(model.net, x)
            self._graph = False

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        self._add_graph()
        if self._every == "batch":
            self.writer.add_scalar("batch/loss", logs["loss"], self._step)
        self._step += 1

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        for name, value in _scalars(logs).items():
            self.writer.add_scalar(f"epoch/{name}", value, epoch)
        self.writer.add_scalar("epoch/learning_rate", self.model.optimizer.lr, epoch)
        if self._histograms and (epoch + 1) % self._histograms == 0:
            for name, p in self.model.net.named_parameters():
                self.writer.add_histogram(f"weights/{name}", p, epoch)
                if p.grad is not None:
                    self.writer.add_histogram(f"gradients/{name}", p.grad, epoch)
        self.writer.flush()

    def on_train_end(self) -> None:
        self.writer.close()
